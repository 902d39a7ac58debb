//! What a model is asked: the policy as the system text, and one message with sections in a fixed order.
//!
//! Apart, because this is where evidence could try to leave its place (P6). Invariant: every byte that came from outside
//! stands inside a JSON string on a line of its own, and the characters that mark sections are escaped in it, so no text
//! can open or close a section. What judges is last, so that a provider's prompt cache keeps the rest.

mod budget;
mod conversation;
mod json;

use std::sync::Arc;

use protocol::{Action, Escalation, Trust};
use serde::{Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use self::budget::{Kept, select};
use crate::policy::Policy;

pub(crate) use self::budget::PromptBudget;
pub use self::conversation::Conversation;
pub(crate) use self::conversation::Round;

/// How many bytes count as one token. Byte-based, so that the count needs no provider's tokenizer.
pub(crate) const BYTES_PER_TOKEN: usize = 4;
/// The most that the surroundings may take, in tokens.
const MAX_SURROUNDINGS_TOKENS: usize = 8_000;
/// The longest retry reason, in tokens; what is longer is cut, and the cut is marked.
const MAX_REASON_TOKENS: usize = 512;

/// A model request, as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Prompt {
    /// Shared with the policy and every other prompt by it.
    #[serde(serialize_with = "shared")]
    system: Arc<str>,
    /// What was asked and answered before in the same session, oldest first.
    earlier: Vec<Round>,
    user: String,
    entries_kept: u64,
    entries_omitted: u64,
}

/// Why a prompt cannot be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PromptError {
    /// The action does not fit.
    #[error("the action takes {takes} tokens and {most} can be shown")]
    ActionTooLarge {
        /// What it takes, in tokens.
        takes: usize,
        /// What there is room for.
        most: usize,
    },
    /// The runner's evidence does not fit.
    #[error("the evidence takes {takes} tokens and {most} can be shown")]
    EvidenceTooLarge {
        /// What it takes, in tokens.
        takes: usize,
        /// What there is room for.
        most: usize,
    },
    /// The surroundings do not fit.
    #[error("the surroundings take {0} tokens and {MAX_SURROUNDINGS_TOKENS} can be shown")]
    SurroundingsTooLarge(usize),
    /// A value that JSON cannot spell.
    #[error("a value cannot be written as JSON")]
    NotJson,
}

impl PromptError {
    /// The stable name.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::ActionTooLarge { .. } => "action_too_large",
            Self::EvidenceTooLarge { .. } => "evidence_too_large",
            Self::SurroundingsTooLarge(_) => "surroundings_too_large",
            Self::NotJson => "not_json",
        }
    }
}

#[derive(Serialize)]
struct Surroundings<'e> {
    client: &'e str,
    channel: &'e str,
    #[serde(flatten)]
    environment: &'e protocol::EnvironmentDescription,
}

#[derive(Serialize)]
struct Why<'e> {
    trigger: protocol::TriggerKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    justification: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cut_bytes: Option<usize>,
}

#[derive(Serialize)]
struct Omitted {
    omitted: u64,
}

impl Prompt {
    /// Builds the request for one escalation, with everything in it.
    ///
    /// # Errors
    /// Something that has to be shown whole does not fit.
    pub(crate) fn build(
        policy: &Policy,
        budget: &PromptBudget,
        escalation: &Escalation,
    ) -> Result<Self, PromptError> {
        Self::of(policy, budget, escalation, (&[], 0))
    }

    /// The same in a session: where `before` goes on, only the entries that are new in it, behind what was asked before.
    ///
    /// # Errors
    /// As [`Prompt::build`].
    pub(crate) fn following(
        policy: &Policy,
        budget: &PromptBudget,
        escalation: &Escalation,
        before: Option<&Conversation>,
    ) -> Result<Self, PromptError> {
        let followed = before.and_then(|before| {
            let seen = before.continues(policy.revision(), &escalation.transcript)?;
            Some((before.rounds(), seen))
        });
        Self::of(policy, budget, escalation, followed.unwrap_or((&[], 0)))
    }

    fn of(
        policy: &Policy,
        budget: &PromptBudget,
        escalation: &Escalation,
        (earlier, seen): (&[Round], usize),
    ) -> Result<Self, PromptError> {
        let transcript = &escalation.transcript;
        let chosen = select(transcript.entries.get(seen..).unwrap_or_default(), budget);
        let (words, evidence): (Vec<&Kept<'_>>, Vec<&Kept<'_>>) = chosen
            .kept
            .iter()
            .partition(|kept| kept.is_users() && kept.entry.trust == Trust::Trusted);
        let mut user = String::with_capacity(8 * 1024);
        user.push_str(if earlier.is_empty() {
            "One action waits for your judgement. The sections below are as your instructions describe them.\n\n"
        } else {
            "Another action of the same session waits for your judgement. Of the conversation, the sections below hold only what is new.\n\n"
        });
        section(&mut user, "surroundings", &[surroundings(escalation)?]);
        section(
            &mut user,
            "user_words",
            &entries(&words, chosen.omitted_users)?,
        );
        // What the client left out of the transcript was told with the first question.
        let before = if earlier.is_empty() {
            transcript.omitted
        } else {
            0
        };
        let others = chosen.omitted_others + before;
        section(
            &mut user,
            "conversation_evidence",
            &entries(&evidence, others)?,
        );
        let facts = runner_evidence(escalation, budget.evidence)?;
        section(&mut user, "runner_evidence", &facts);
        section(&mut user, "escalation", &[why(escalation)?]);
        let action = action(&escalation.action, budget.action)?;
        section(&mut user, "action", &[action]);
        user.push_str("Answer with the one JSON object.\n");
        // Thousands may wait for their answers at once.
        user.shrink_to_fit();
        Ok(Self {
            system: Arc::clone(policy.text()),
            earlier: earlier.to_vec(),
            user,
            entries_kept: chosen.kept.len() as u64,
            entries_omitted: chosen.omitted_users + others,
        })
    }

    /// The same request, said again to a model whose reply could not be read.
    #[must_use]
    pub(crate) fn repaired(&self) -> Self {
        let again = "Your first answer could not be read. Answer again: exactly one JSON object with exactly the four fields, nothing before it and nothing behind it.\n";
        Self {
            user: format!("{}{again}", self.user),
            ..self.clone()
        }
    }

    /// A request that costs little and asks for nothing, to see whether a model can be had.
    #[must_use]
    pub(crate) fn probe() -> Self {
        Self {
            system: "Answer with exactly this JSON object: {\"risk_level\":\"low\",\"user_authorization\":\"unknown\",\"outcome\":\"deny\",\"rationale\":\"probe\"}".into(),
            earlier: Vec::new(),
            user: "Answer with the one JSON object.\n".to_owned(),
            entries_kept: 0,
            entries_omitted: 0,
        }
    }

    /// About how many tokens it takes.
    pub(crate) fn tokens(&self) -> u64 {
        let earlier = self.earlier.iter();
        let before: usize = earlier
            .map(|round| round.user.len() + round.reply.len())
            .sum();
        ((self.system.len() + before + self.user.len()) / BYTES_PER_TOKEN) as u64
    }

    /// What was asked and answered before, oldest first.
    pub(crate) fn earlier(&self) -> &[Round] {
        &self.earlier
    }

    /// The system text: contract and policy.
    #[must_use]
    pub fn system(&self) -> &str {
        &self.system
    }

    /// The message that asks; the last one.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The SHA-256 of all texts: `sha256:` and 64 hex digits.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        hash.update((self.system.len() as u64).to_be_bytes());
        hash.update(&*self.system);
        for text in self
            .earlier
            .iter()
            .flat_map(|round| [&round.user, &round.reply])
        {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        }
        hash.update(&self.user);
        let digest = protocol::Sha256Hex::of(&hash.finalize().into());
        format!("sha256:{}", digest.as_str())
    }

    /// How many entries of the transcript are shown.
    #[must_use]
    pub fn entries_kept(&self) -> u64 {
        self.entries_kept
    }

    /// How many are not.
    #[must_use]
    pub fn entries_omitted(&self) -> u64 {
        self.entries_omitted
    }
}

fn shared<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

fn section(out: &mut String, name: &str, lines: &[String]) {
    out.push_str(&format!("⟦{name}⟧\n"));
    for line in lines {
        out.push_str(line);
        out.push('\n');
    }
    out.push_str(&format!("⟦/{name}⟧\n\n"));
}

pub(crate) fn tokens(text: &str) -> usize {
    text.len().div_ceil(BYTES_PER_TOKEN)
}

fn surroundings(escalation: &Escalation) -> Result<String, PromptError> {
    let line = json::line(&Surroundings {
        client: &escalation.client.name,
        channel: &escalation.client.channel,
        environment: &escalation.environment,
    })?;
    match tokens(&line) {
        MAX_SURROUNDINGS_TOKENS.. => Err(PromptError::SurroundingsTooLarge(tokens(&line))),
        _ => Ok(line),
    }
}

fn entries(kept: &[&Kept<'_>], omitted: u64) -> Result<Vec<String>, PromptError> {
    let mut lines = Vec::with_capacity(kept.len() + 1);
    if omitted > 0 {
        lines.push(json::line(&Omitted { omitted })?);
    }
    for entry in kept {
        lines.push(json::line(&entry.shown())?);
    }
    Ok(lines)
}

fn runner_evidence(escalation: &Escalation, most: usize) -> Result<Vec<String>, PromptError> {
    let lines: Result<Vec<String>, PromptError> =
        escalation.evidence.iter().map(json::line).collect();
    let lines = lines?;
    let takes = lines.iter().map(|line| tokens(line)).sum();
    if takes > most {
        return Err(PromptError::EvidenceTooLarge { takes, most });
    }
    Ok(lines)
}

fn why(escalation: &Escalation) -> Result<String, PromptError> {
    let (retry_reason, cut_bytes) = match &escalation.retry_reason {
        None => (None, None),
        Some(reason) => {
            let (text, cut) = budget::shorten(reason, MAX_REASON_TOKENS);
            (Some(text), cut)
        }
    };
    let line = json::line(&Why {
        trigger: escalation.trigger.kind,
        detail: escalation.trigger.detail.as_deref(),
        justification: escalation.action.justification(),
        retry_reason,
        cut_bytes,
    })?;
    match tokens(&line) {
        MAX_SURROUNDINGS_TOKENS.. => Err(PromptError::SurroundingsTooLarge(tokens(&line))),
        _ => Ok(line),
    }
}

/// The action without the agent's reasons for it, which stand in `escalation`.
fn action(action: &Action, most: usize) -> Result<String, PromptError> {
    let mut bare = action.clone();
    match &mut bare {
        Action::Command(command) => command.justification = None,
        Action::PermissionRequest(request) => request.reason = None,
        Action::FileChange(_) | Action::NetworkAccess(_) | Action::ToolCall(_) => {}
    }
    let line = json::line(&bare)?;
    let takes = tokens(&line);
    if takes > most {
        return Err(PromptError::ActionTooLarge { takes, most });
    }
    Ok(line)
}

#[cfg(test)]
mod tests;
