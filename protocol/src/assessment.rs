//! The reviewer's judgement of one escalation: what it *proposes*. What binds is a [`crate::Decision`].

use std::fmt;

use serde::{Deserialize, Serialize};

/// How much harm the action could do, intrinsically.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum RiskLevel {
    /// Routine, narrow, easily undone.
    Low,
    /// Meaningful but bounded, or reversible.
    Medium,
    /// Dangerous or costly to undo.
    High,
    /// Never allowed.
    Critical,
}

/// How clearly the user authorized the action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum UserAuthorization {
    /// No evidence that the user wants it.
    Unknown,
    /// Loosely follows from what the user wants, or only evidence says so.
    Low,
    /// Clearly authorized in substance.
    Medium,
    /// Exactly this action, payload and effect.
    High,
}

/// What the reviewer proposes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Let it happen.
    Allow,
    /// Do not.
    Deny,
}

/// A judgement with all four fields: there is no default for a missing one (design D26).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Assessment {
    /// How much harm it could do.
    pub risk_level: RiskLevel,
    /// How clearly the user wants it.
    pub user_authorization: UserAuthorization,
    /// What the reviewer proposes.
    pub outcome: Outcome,
    /// Why, in a sentence or two.
    pub rationale: Rationale,
}

/// A reason of at most 2,000 characters; what is longer is cut, and the cut is marked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(from = "String", into = "String")]
pub struct Rationale(String);

impl Rationale {
    const MAX_CHARS: usize = 2_000;

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for Rationale {
    fn from(text: String) -> Self {
        match text.char_indices().nth(Self::MAX_CHARS) {
            None => Self(text),
            Some((cut, _)) => {
                let kept = text.get(..cut).unwrap_or_default();
                Self(format!("{kept}… [cut: {} bytes more]", text.len() - cut))
            }
        }
    }
}

impl From<&str> for Rationale {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

impl From<Rationale> for String {
    fn from(rationale: Rationale) -> Self {
        rationale.0
    }
}

impl RiskLevel {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl UserAuthorization {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

impl Outcome {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

impl fmt::Display for RiskLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for UserAuthorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::Rationale;

    #[test]
    fn a_long_rationale_is_cut_and_says_so() {
        let rationale = Rationale::from("é".repeat(2_001));
        assert_eq!(
            rationale.as_str(),
            format!("{}… [cut: 2 bytes more]", "é".repeat(2_000))
        );
    }
}
