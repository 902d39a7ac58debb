//! The walk of one review: built-in first, then the model, then the thresholds.
//!
//! Apart from the steps so that it reads on one screen. Invariant: [`Reviewer::review`] has no error channel.

use std::time::Duration;

use protocol::{Assessment, Bounds, Decision, Escalation, Judge, Outcome};
use tokio::time::Instant;

use crate::attempts;
use crate::builtin::{BuiltIn, Verdict};
use crate::error::ReviewError;
use crate::exhibit::{BuiltInExhibit, Exhibit};
use crate::model::HttpModel;
use crate::policy::{Policy, PolicyRevision};
use crate::prompt::{Prompt, PromptError};
use crate::settings::{InvalidSettings, ReviewerSettings, SettingsFault, Valid};

/// Judges escalations by one policy. Holds no state of a review: one serves any number at once.
#[derive(Debug)]
pub struct Reviewer {
    policy: Policy,
    built_in: BuiltIn,
    models: Vec<HttpModel>,
    time_limit: Duration,
    built_in_allows: bool,
}

/// A decision and what it was made from.
#[derive(Debug)]
pub struct Reviewed {
    /// What binds.
    pub decision: Decision,
    /// What it was made from, for the record.
    pub exhibit: Exhibit,
}

impl Reviewer {
    /// Makes a reviewer: reads the policy section and the keys that the settings name, and prepares the connections.
    /// `environment` answers for variables; nothing else asks for them.
    ///
    /// # Errors
    /// All that is wrong with the settings, at once.
    pub fn new(
        settings: &ReviewerSettings,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, InvalidSettings> {
        let valid = Valid::read(settings, environment)?;
        let mut models = Vec::new();
        let mut faults = Vec::new();
        for model in valid.models {
            let url = model.base_url.to_string();
            match HttpModel::new(model) {
                Ok(model) => models.push(model),
                Err(cause) => faults.push(SettingsFault::Client {
                    url,
                    cause: cause.without_url().to_string(),
                }),
            }
        }
        if !faults.is_empty() {
            return Err(InvalidSettings(faults));
        }
        Ok(Self {
            policy: valid.policy,
            built_in: BuiltIn::new(),
            models,
            time_limit: valid.time_limit,
            built_in_allows: valid.built_in_allows,
        })
    }

    /// The revision of the policy that it judges by.
    #[must_use]
    pub fn policy_revision(&self) -> &PolicyRevision {
        self.policy.revision()
    }

    /// How long one review may take, 90 s where not set. A caller adds it to the moment it accepted the escalation.
    #[must_use]
    pub fn time_limit(&self) -> Duration {
        self.time_limit
    }

    /// Judges `escalation`. There is no error to let pass: whatever fails, the answer is a decision.
    ///
    /// `deadline` holds for all of it, every attempt included (design D25).
    pub async fn review(&self, escalation: &Escalation, deadline: Instant) -> Reviewed {
        let verdict = self.built_in.judge(escalation);
        if let Some(reviewed) = self.bind(escalation, &verdict, deadline) {
            return reviewed;
        }
        let mut exhibit = self.exhibit(&verdict);
        let decision = if Instant::now() >= deadline {
            Decision::TimedOut
        } else {
            match self.ask(escalation, deadline, &mut exhibit).await {
                Ok(assessment) => decide(escalation, &verdict, assessment, Judge::Model),
                Err(error) => failed(&error),
            }
        };
        Reviewed { decision, exhibit }
    }

    /// What the built-in rules decide by themselves, in no time and asking nobody; `None` where a model has to be asked.
    #[must_use]
    pub fn review_at_once(&self, escalation: &Escalation, deadline: Instant) -> Option<Reviewed> {
        let verdict = self.built_in.judge(escalation);
        self.bind(escalation, &verdict, deadline)
    }

    fn bind(
        &self,
        escalation: &Escalation,
        verdict: &Verdict,
        deadline: Instant,
    ) -> Option<Reviewed> {
        let assessment = verdict.binding(self.built_in_allows)?;
        let decision = if Instant::now() >= deadline {
            Decision::TimedOut
        } else {
            let judge = Judge::BuiltIn(verdict.rule().id());
            decide(escalation, verdict, assessment, judge)
        };
        Some(Reviewed {
            decision,
            exhibit: self.exhibit(verdict),
        })
    }

    /// The exact model request for `escalation`, nothing sent.
    ///
    /// # Errors
    /// The action, the evidence or the surroundings cannot be shown whole.
    pub fn prompt(&self, escalation: &Escalation) -> Result<Prompt, PromptError> {
        Prompt::build(&self.policy, escalation)
    }

    async fn ask(
        &self,
        escalation: &Escalation,
        deadline: Instant,
        exhibit: &mut Exhibit,
    ) -> Result<Assessment, ReviewError> {
        if self.models.is_empty() {
            return Err(ReviewError::NoModel);
        }
        let prompt = self.prompt(escalation)?;
        exhibit.prompt_digest = Some(prompt.digest());
        exhibit.entries_kept = prompt.entries_kept();
        exhibit.entries_omitted = prompt.entries_omitted();
        attempts::ask(&self.models, &prompt, deadline, &mut exhibit.attempts).await
    }

    fn exhibit(&self, verdict: &Verdict) -> Exhibit {
        Exhibit {
            policy_revision: self.policy.revision().clone(),
            built_in: BuiltInExhibit {
                rule_id: verdict.rule().id(),
                outcome: match verdict {
                    Verdict::Allow { .. } => Some(Outcome::Allow),
                    Verdict::Deny { .. } => Some(Outcome::Deny),
                    Verdict::Undecided { .. } => None,
                },
                risk_floor: verdict.floor(),
            },
            prompt_digest: None,
            entries_kept: 0,
            entries_omitted: 0,
            attempts: Vec::new(),
        }
    }
}

/// Holds a proposal against the floor that code found and the ceiling that the transcript can carry.
fn decide(
    escalation: &Escalation,
    verdict: &Verdict,
    proposed: Assessment,
    judge: Judge,
) -> Decision {
    let bounds = Bounds {
        risk_floor: verdict.floor(),
        authorization_ceiling: escalation.transcript.authorization_ceiling(),
    };
    Decision::from_assessment(proposed, judge, &bounds, escalation.action_digest)
}

fn failed(error: &ReviewError) -> Decision {
    match error.failure() {
        None => Decision::TimedOut,
        Some(failure) => {
            tracing::warn!(
                step = failure.step.as_str(),
                code = failure.code,
                "a review failed"
            );
            Decision::Failed(failure)
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
