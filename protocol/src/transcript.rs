//! What the user and the agent said, each entry with its author and its trust.
//!
//! Trust follows from the channel an entry came by (design D15), never from its text.

use serde::{Deserialize, Serialize};

use crate::assessment::UserAuthorization;

/// What was said before the action, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Transcript {
    /// Whether nothing was left out.
    pub complete: bool,
    /// How many entries were left out.
    #[serde(default)]
    pub omitted: u64,
    /// What was kept.
    pub entries: Vec<Entry>,
}

/// One thing that was said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its number in the whole conversation, from 1.
    pub n: u64,
    /// Who said it.
    pub author: Author,
    /// Whether it can authorize anything.
    pub trust: Trust,
    /// The tool's name, where a tool spoke.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The text.
    pub text: String,
}

/// Who said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Author {
    /// The person.
    User,
    /// The harness's own instructions.
    Developer,
    /// The agent.
    Assistant,
    /// A tool call that the agent made.
    ToolCall,
    /// What a tool returned.
    ToolOutput,
}

/// Whether an entry can authorize anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Trust {
    /// It came by a channel that may speak for the user.
    Trusted,
    /// It is evidence.
    Untrusted,
}

impl Transcript {
    /// The highest authorization that anything said here can carry.
    ///
    /// Without a trusted entry of a person, all is evidence and evidence authorizes `low` at most (design D15).
    #[must_use]
    pub fn authorization_ceiling(&self) -> UserAuthorization {
        let spoken_for = self.entries.iter().any(|entry| {
            entry.trust == Trust::Trusted
                && matches!(entry.author, Author::User | Author::Developer)
        });
        if spoken_for {
            UserAuthorization::High
        } else {
            UserAuthorization::Low
        }
    }

    /// Whether any entry claims to be trusted.
    #[must_use]
    pub fn claims_trust(&self) -> bool {
        self.entries
            .iter()
            .any(|entry| entry.trust == Trust::Trusted)
    }
}

impl Author {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Developer => "developer",
            Self::Assistant => "assistant",
            Self::ToolCall => "tool_call",
            Self::ToolOutput => "tool_output",
        }
    }
}
