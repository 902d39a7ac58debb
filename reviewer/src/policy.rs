//! The policy: our fixed template and the team's section, and the hash of both.
//!
//! Apart from the prompt because a review stores the revision it was judged under (design D8). Invariant: two policies
//! that read differently have different revisions.

use std::fmt;
use std::sync::Arc;

use protocol::Canonical;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The template: the contract between this program and a model. Not the team's to change.
const TEMPLATE: &str = include_str!("template.md");
/// Where the section goes.
const PLACE: &str = "{{policy_section}}";
/// The shipped section, `policy.md` at the root of the repository.
pub const SHIPPED_SECTION: &str = include_str!("../../policy.md");
/// The longest section, in bytes: about 16,000 tokens.
const MAX_SECTION_BYTES: usize = 64 * 1024;

/// What a reviewer judges by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    shipped: bool,
    section: String,
    /// What the team denies in code: no model reads it, and another list is another policy.
    denials: Vec<String>,
    /// Template and section, made once: every prompt that waits for its answer holds it.
    text: Arc<str>,
    revision: PolicyRevision,
}

/// How a team's section stands to the shipped one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SectionMode {
    /// It stands behind the shipped section; where the two differ the stricter holds.
    Extend,
    /// It stands in the shipped section's place.
    Replace,
}

/// Names a policy by its content: `sha256:` and 64 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct PolicyRevision(String);

/// Why a section cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidPolicy {
    /// It has no text. An empty policy would let everything through.
    #[error("the policy section is empty\nhint: remove the setting to use the shipped section")]
    Empty,
    /// It is too long.
    #[error("the policy section is {0} bytes long; {MAX_SECTION_BYTES} are read")]
    TooLong(usize),
}

impl Policy {
    /// The shipped policy.
    #[must_use]
    pub fn shipped() -> Self {
        Self::of(SHIPPED_SECTION.to_owned())
    }

    /// A policy with a team's section.
    ///
    /// # Errors
    /// The section has no text or is too long.
    pub fn with_section(section: &str, mode: SectionMode) -> Result<Self, InvalidPolicy> {
        if section.trim().is_empty() {
            return Err(InvalidPolicy::Empty);
        }
        if section.len() > MAX_SECTION_BYTES {
            return Err(InvalidPolicy::TooLong(section.len()));
        }
        Ok(Self::of(match mode {
            SectionMode::Replace => section.to_owned(),
            SectionMode::Extend => format!(
                "{SHIPPED_SECTION}\n## The team's own rules\n\nWhere these and the rules above differ, the stricter holds.\n\n{section}"
            ),
        }))
    }

    /// The same with what the team trusts written behind its rules; nothing to write leaves it as it is.
    pub(crate) fn with_team(self, text: &str) -> Self {
        if text.is_empty() {
            return self;
        }
        let shipped = self.shipped;
        let section = format!("{}\n## What the team trusts\n{text}\n", self.section);
        let mut policy = Self::made(section, self.denials);
        policy.shipped = shipped;
        policy
    }

    /// The same with what the team denies in code; an empty list leaves it as it is.
    pub(crate) fn with_denials(self, denials: &[String]) -> Self {
        if denials.is_empty() {
            return self;
        }
        let shipped = self.shipped;
        let mut policy = Self::made(self.section, denials.to_vec());
        policy.shipped = shipped;
        policy
    }

    fn of(section: String) -> Self {
        Self::made(section, Vec::new())
    }

    fn made(section: String, denials: Vec<String>) -> Self {
        let mut bytes = Canonical::new("auto-review policy v1");
        bytes.text(TEMPLATE).text(&section);
        for denial in &denials {
            bytes.text(denial);
        }
        let revision = protocol::Sha256Hex::of(&bytes.sha256());
        Self {
            shipped: section == SHIPPED_SECTION,
            text: TEMPLATE.replacen(PLACE, section.trim(), 1).into(),
            section,
            denials,
            revision: PolicyRevision(format!("sha256:{}", revision.as_str())),
        }
    }

    /// Its revision.
    #[must_use]
    pub fn revision(&self) -> &PolicyRevision {
        &self.revision
    }

    /// Whether its section is the shipped one, word for word, whatever destinations are trusted beside it.
    #[must_use]
    pub fn is_shipped(&self) -> bool {
        self.shipped
    }

    /// The whole text as people compare it: what a model gets, and behind it what code denies.
    #[must_use]
    pub fn document(&self) -> String {
        let mut text = self.text.to_string();
        if !self.denials.is_empty() {
            text.push_str("\n## Denied by code\n\n");
        }
        for denial in &self.denials {
            text.push_str(&format!("- `{denial}`\n"));
        }
        text
    }

    /// The whole text, as a model gets it.
    #[must_use]
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }
}

impl PolicyRevision {
    /// The text that is stored and shown.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PolicyRevision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{InvalidPolicy, PLACE, Policy, SHIPPED_SECTION, SectionMode, TEMPLATE};

    #[test]
    fn the_section_stands_in_the_template_once() {
        assert_eq!(TEMPLATE.matches(PLACE).count(), 1);
        let policy = Policy::with_section("only {{policy_section}} mine", SectionMode::Replace)
            .expect("a policy");
        assert!(policy.text().contains("only {{policy_section}} mine"));
        assert!(!policy.text().contains("## Destructive actions"));
    }

    #[test]
    fn extending_keeps_the_shipped_rules_and_replacing_drops_them() {
        let extended =
            Policy::with_section("No deploys on Friday.", SectionMode::Extend).expect("a policy");
        assert!(extended.text().contains(SHIPPED_SECTION.trim()));
        assert!(extended.text().contains("No deploys on Friday."));
        assert!(!extended.is_shipped());
        let replaced =
            Policy::with_section("No deploys on Friday.", SectionMode::Replace).expect("a policy");
        assert_ne!(extended.revision(), replaced.revision());
        assert_ne!(replaced.revision(), Policy::shipped().revision());
        assert!(Policy::shipped().is_shipped());
    }

    #[test]
    fn an_empty_or_endless_section_is_refused() {
        assert_eq!(
            Policy::with_section(" \n", SectionMode::Replace),
            Err(InvalidPolicy::Empty)
        );
        let long = "x".repeat(64 * 1024 + 1);
        assert_eq!(
            Policy::with_section(&long, SectionMode::Extend),
            Err(InvalidPolicy::TooLong(64 * 1024 + 1))
        );
    }

    #[test]
    fn the_shipped_policy_names_each_of_its_sections_by_id() {
        for id in [
            "environment",
            "data-exfiltration",
            "credential-probing",
            "persistent-weakening",
            "destructive-actions",
            "authorization",
            "risk",
            "outcome",
        ] {
            assert!(
                SHIPPED_SECTION.contains(&format!("{{#{id}}}")),
                "no section {id}"
            );
        }
    }
}
