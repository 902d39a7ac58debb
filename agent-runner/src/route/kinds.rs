//! Which kinds of question a policy lets be asked at all: the granular policy's five categories, and what stands beside
//! them.
//!
//! Apart from the commands' procedure because patches, hosts, tools, permissions and skills ask by the same table.

use serde::Serialize;

use super::Refusal;
use crate::config::ApprovalPolicy;

/// A kind of question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Category {
    /// Leaving the walls: escalations, retries, forced removals, edits outside.
    Sandbox,
    /// What a command rule asks about.
    Rules,
    /// What a tool server asks by itself.
    ToolServer,
    /// A request for more permissions.
    Permissions,
    /// A skill's script.
    Skill,
    /// A call of a tool with side effects, which no category switches off.
    ToolCall,
    /// A host that the door does not know, which no category switches off.
    Host,
}

/// Whether `policy` lets somebody be asked about `category`.
///
/// # Errors
/// It is refused instead.
pub(crate) fn may_ask(policy: ApprovalPolicy, category: Category) -> Result<(), Refusal> {
    let granular = match policy {
        ApprovalPolicy::Never => return Err(Refusal::NobodyMayBeAsked),
        ApprovalPolicy::Untrusted | ApprovalPolicy::OnRequest | ApprovalPolicy::OnFailure => {
            return Ok(());
        }
        ApprovalPolicy::Granular(granular) => granular,
    };
    let on = match category {
        Category::Sandbox => granular.sandbox_approval,
        Category::Rules => granular.rules,
        Category::ToolServer => granular.mcp_elicitations,
        Category::Permissions => granular.request_permissions,
        Category::Skill => granular.skill_approval,
        Category::ToolCall | Category::Host => true,
    };
    if on {
        Ok(())
    } else {
        Err(Refusal::CategoryOff(category))
    }
}

impl Category {
    /// That it is off, in words.
    pub(super) fn off(self) -> &'static str {
        match self {
            Self::Sandbox => "it asks to leave the walls, and `granular.sandbox_approval` is off",
            Self::Rules => "a rule asks for approval, and `granular.rules` is off",
            Self::ToolServer => "a tool server asks, and `granular.mcp_elicitations` is off",
            Self::Permissions => {
                "it asks for more permissions, and `granular.request_permissions` is off"
            }
            Self::Skill => "a skill's script asks, and `granular.skill_approval` is off",
            Self::ToolCall | Self::Host => "it would need approval",
        }
    }
}
