//! The values of the shared settings files, and which of two is stricter.
//!
//! The order of strictness (design D28) is the order of the variants, strictest first, so that `min` narrows.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What a command may do technically.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SandboxMode {
    /// Read everything, write nothing but a private `/tmp`.
    ReadOnly,
    /// Write inside the workspace.
    WorkspaceWrite,
    /// No walls.
    DangerFullAccess,
}

/// When somebody is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ApprovalPolicy {
    /// Nobody is asked; what would need it is refused.
    Never,
    /// Everything but known-safe reads is asked of the person.
    Untrusted,
    /// By category; a category that is off refuses.
    Granular(Granular),
    /// What leaves the walls is asked.
    OnRequest,
    /// An older name: as `on-request`.
    OnFailure,
}

/// Which categories may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the documented table: one switch a category"
)]
pub(crate) struct Granular {
    /// Leaving the walls.
    pub(crate) sandbox_approval: bool,
    /// What a rule asks about.
    pub(crate) rules: bool,
    /// What a tool server asks.
    pub(crate) mcp_elicitations: bool,
    /// Requests for more permissions.
    #[serde(default)]
    pub(crate) request_permissions: bool,
    /// Scripts of skills.
    #[serde(default)]
    pub(crate) skill_approval: bool,
}

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ApprovalsReviewer {
    /// The person at the terminal.
    User,
    /// The reviewer service.
    #[serde(alias = "guardian_subagent")]
    AutoReview,
}

/// `[sandbox_workspace_write]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_excessive_bools, reason = "the documented table")]
pub(crate) struct WorkspaceWrite {
    /// Folders beside the workspace that may be written.
    pub(crate) writable_roots: Vec<PathBuf>,
    /// Whether commands reach the network directly.
    pub(crate) network_access: bool,
    /// Leave the folder that `TMPDIR` names out.
    pub(crate) exclude_tmpdir_env_var: bool,
    /// Leave `/tmp` out.
    pub(crate) exclude_slash_tmp: bool,
}

/// Where web searches go. A decision for the agent: no command's network hangs on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WebSearch {
    /// Nowhere.
    Disabled,
    /// To an index of pages fetched before.
    Cached,
    /// To an index, and to pages that it names.
    Indexed,
    /// To live pages.
    Live,
}

impl WebSearch {
    /// The name in the settings.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Cached => "cached",
            Self::Indexed => "indexed",
            Self::Live => "live",
        }
    }
}

impl SandboxMode {
    /// The name in the settings.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::ReadOnly => "read-only",
            Self::WorkspaceWrite => "workspace-write",
            Self::DangerFullAccess => "danger-full-access",
        }
    }
}

impl ApprovalPolicy {
    /// The name in the settings.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Untrusted => "untrusted",
            Self::Granular(_) => "granular",
            Self::OnRequest => "on-request",
            Self::OnFailure => "on-failure",
        }
    }

    /// The stricter of the two, in the order of design D28.
    pub(crate) fn stricter(self, other: Self) -> Self {
        if self.rank() <= other.rank() {
            self
        } else {
            other
        }
    }

    /// Whether `allowed`, an entry of the managed list, lets this be in force: the same policy, and of the granular one
    /// no switch that is off there.
    pub(crate) fn is_within(self, allowed: Self) -> bool {
        match (self, allowed) {
            (Self::Granular(own), Self::Granular(most)) => {
                (!own.sandbox_approval || most.sandbox_approval)
                    && (!own.rules || most.rules)
                    && (!own.mcp_elicitations || most.mcp_elicitations)
                    && (!own.request_permissions || most.request_permissions)
                    && (!own.skill_approval || most.skill_approval)
            }
            (own, most) => own.rank() == most.rank(),
        }
    }

    fn rank(self) -> u8 {
        match self {
            Self::Never => 0,
            Self::Untrusted => 1,
            Self::Granular(_) => 2,
            Self::OnRequest => 3,
            Self::OnFailure => 4,
        }
    }
}

impl ApprovalsReviewer {
    /// The name in the settings.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::AutoReview => "auto_review",
        }
    }
}
