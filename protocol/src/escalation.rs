//! An action that the sandbox does not permit, with what is needed to judge it.
//!
//! Made from a [`SubmitReview`] at the server's door. Invariant: the digest is the server's own, the action is well
//! formed, and no entry of the transcript is trusted unless its channel may speak for the user.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::action::{Action, ActionDigest, InvalidAction};
use crate::api::{ClientDescription, EnvironmentDescription, SessionReference, SubmitReview};
use crate::signing::Nonce;
use crate::transcript::Transcript;

/// Names one escalation across retries of its submission: the client's nonce.
pub type EscalationId = Nonce;

/// What made an action an escalation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Trigger {
    /// The kind.
    pub kind: TriggerKind,
    /// More of it, where there is more.
    #[serde(default)]
    pub detail: Option<String>,
}

/// The kind of a [`Trigger`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum TriggerKind {
    /// The agent asked to leave the walls.
    EscalationRequested,
    /// The walls stopped something the command tried.
    SandboxDenied,
    /// The door does not know a host.
    NetworkBlocked,
    /// A rule asks for approval.
    RulePrompt,
    /// The approval policy asks for approval of this command.
    UntrustedCommand,
    /// The agent asked for more permissions.
    PermissionRequested,
    /// A tool has side effects.
    ToolSideEffect,
    /// A skill's script wants to run.
    SkillApproval,
}

/// A fact about the action that the runner gathered itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// What kind of fact, for example `git_remote`.
    pub kind: String,
    /// The fact.
    pub value: serde_json::Value,
    /// How it was obtained.
    pub obtained: String,
}

/// An action that the sandbox does not permit, with what is needed to judge it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Escalation {
    /// Names it.
    pub id: EscalationId,
    /// Who asks.
    pub client: ClientDescription,
    /// In which conversation.
    pub session: SessionReference,
    /// Where.
    pub environment: EnvironmentDescription,
    /// What.
    pub action: Action,
    /// Its digest.
    pub action_digest: ActionDigest,
    /// Why it is an escalation.
    pub trigger: Trigger,
    /// Why it is asked again.
    pub retry_reason: Option<String>,
    /// What was said.
    pub transcript: Transcript,
    /// What the runner found out.
    pub evidence: Vec<Evidence>,
    /// Whether only a person may decide.
    pub must_be_human: bool,
}

/// Why a body is not an escalation.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidEscalation {
    /// Another version of the body.
    #[error("`version` is {0}; this server reads version 1")]
    Version(u32),
    /// The action breaks a rule.
    #[error(transparent)]
    Action(#[from] InvalidAction),
    /// The client's digest is not the action's.
    #[error("`action_digest` is not the digest of `action`")]
    Digest,
    /// The channel may not speak for the user.
    #[error("channel `{0}` may not mark an entry of the transcript as trusted")]
    Trust(String),
}

impl Escalation {
    /// Reads a submission. `speaks_for_user` says whether its channel may mark text as the user's.
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn from_submission(
        id: EscalationId,
        body: SubmitReview,
        speaks_for_user: impl Fn(&str) -> bool,
    ) -> Result<Self, InvalidEscalation> {
        if body.version != 1 {
            return Err(InvalidEscalation::Version(body.version));
        }
        if body.transcript.claims_trust() && !speaks_for_user(&body.client.channel) {
            return Err(InvalidEscalation::Trust(
                crate::Printable(&body.client.channel).to_string(),
            ));
        }
        let action = body.action.checked()?;
        let action_digest = action.digest();
        if action_digest != body.action_digest {
            return Err(InvalidEscalation::Digest);
        }
        Ok(Self {
            id,
            client: body.client,
            session: body.session,
            environment: body.environment,
            action,
            action_digest,
            trigger: body.trigger,
            retry_reason: body.retry_reason,
            transcript: body.transcript,
            evidence: body.evidence,
            must_be_human: body.must_be_human,
        })
    }
}
