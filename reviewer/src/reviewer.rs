//! The walk of one review: built-in first, then the model, then the thresholds.
//!
//! Apart from the steps so that it reads on one screen. Invariant: [`Reviewer::review`] has no error channel.

use std::sync::Arc;
use std::time::Duration;

use protocol::{Assessment, Bounds, Decision, Denial, Escalation, Judge, Outcome, RuleId};
use tokio::time::{Instant, timeout_at};

use crate::attempts::{Hedges, Models};
use crate::breaker::BreakerLimits;
use crate::builtin::{BuiltIn, Verdict};
use crate::cassette::Cassette;
use crate::error::ReviewError;
use crate::exhibit::{BuiltInExhibit, Exhibit};
use crate::model::{Ask, HttpModel, Model as _, ModelError};
use crate::policy::{Policy, PolicyRevision};
use crate::prompt::{Conversation, Prompt, PromptBudget, PromptError};
use crate::settings::{
    InvalidSettings, Law, OutputForm, PolicyTable, Provider, ReviewerSettings, SettingsFault, Valid,
};
use crate::team::TeamRules;

/// Judges escalations by one policy. Holds no state of a review: one serves any number at once.
#[derive(Debug)]
pub struct Reviewer {
    policy: Policy,
    team: TeamRules,
    built_in: BuiltIn,
    models: Arc<Models<HttpModel>>,
    prompt_budget: PromptBudget,
    breaker_limits: BreakerLimits,
    probes: bool,
    time_limit: Duration,
    built_in_allow: Option<bool>,
}

/// What one model said to the question whether it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Which API.
    pub provider: Provider,
    /// Which model.
    pub model: String,
    /// What is wrong, with the way out; `None` where it answered.
    pub problem: Option<String>,
}

/// A decision and what it was made from.
#[derive(Debug)]
pub struct Reviewed {
    /// What binds.
    pub decision: Decision,
    /// What it was made from, for the record.
    pub exhibit: Exhibit,
    /// What a model has now been shown in the session, where one was asked and answered.
    pub conversation: Option<Conversation>,
}

/// What code says of an action. It is found once: nothing that a model answers changes it.
#[derive(Debug)]
struct Found {
    /// The built-in verdict with the team's trust in it.
    verdict: Verdict,
    /// The rule of the team that denies it, whatever else is said.
    denied: Option<RuleId>,
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
        Self::with_cassette(settings, environment, None)
    }

    /// The same with a cassette between it and its models, for evaluations.
    ///
    /// # Errors
    /// As [`Reviewer::new`].
    pub fn with_cassette(
        settings: &ReviewerSettings,
        environment: &dyn Fn(&str) -> Option<String>,
        cassette: Option<&Cassette>,
    ) -> Result<Self, InvalidSettings> {
        let valid = Valid::read(settings, environment)?;
        let mut models = Vec::new();
        let mut faults = Vec::new();
        for model in valid.models {
            let url = model.base_url.to_string();
            match HttpModel::new(model) {
                Ok(model) => models.push(model.with_cassette(cassette.cloned())),
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
            policy: valid.law.policy,
            team: valid.law.team,
            built_in: BuiltIn::new(),
            models: Arc::new(Models::new(
                models,
                valid.ceilings,
                Hedges::new(valid.hedge_after),
            )),
            prompt_budget: valid.prompt,
            breaker_limits: valid.breaker,
            probes: valid.probes,
            time_limit: valid.time_limit,
            built_in_allow: valid.built_in_allow,
        })
    }

    /// The same reviewer under another policy: same models, same ceilings over all that both ask, same limits.
    ///
    /// # Errors
    /// All that is wrong with the policy, at once.
    pub fn with_policy(&self, table: &PolicyTable) -> Result<Self, InvalidSettings> {
        let Law { policy, team } = Law::read(table)?;
        Ok(Self {
            policy,
            team,
            built_in: BuiltIn::new(),
            models: Arc::clone(&self.models),
            prompt_budget: self.prompt_budget,
            breaker_limits: self.breaker_limits,
            probes: self.probes,
            time_limit: self.time_limit,
            built_in_allow: self.built_in_allow,
        })
    }

    /// The names of its models, in the order in which they are asked.
    pub fn model_names(&self) -> impl Iterator<Item = &str> {
        self.models.all().map(HttpModel::name)
    }

    /// Whether the built-in reviewer may allow by itself. Where the settings do not say: under the shipped section only.
    fn built_in_allows(&self) -> bool {
        self.built_in_allow
            .unwrap_or_else(|| self.policy.is_shipped())
    }

    /// The revision of the policy that it judges by.
    #[must_use]
    pub fn policy_revision(&self) -> &PolicyRevision {
        self.policy.revision()
    }

    /// The policy that it judges by.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// How long one review may take, 90 s where not set. A caller adds it to the moment it accepted the escalation.
    #[must_use]
    pub fn time_limit(&self) -> Duration {
        self.time_limit
    }

    /// From how much on a turn is stopped.
    #[must_use]
    pub fn breaker_limits(&self) -> BreakerLimits {
        self.breaker_limits
    }

    /// Judges `escalation`. There is no error to let pass: whatever fails, the answer is a decision.
    ///
    /// `deadline` holds for all of it, every attempt included (design D25).
    pub async fn review(&self, escalation: &Escalation, deadline: Instant) -> Reviewed {
        self.review_following(escalation, deadline, None).await
    }

    /// The same in a session: a model that is asked is shown what is new since `before`, behind what it was shown then.
    /// `before` must be of the same session of the same caller.
    pub async fn review_following(
        &self,
        escalation: &Escalation,
        deadline: Instant,
        before: Option<&Conversation>,
    ) -> Reviewed {
        let found = self.found(escalation);
        if let Some(reviewed) = self.bind(escalation, &found, deadline) {
            return reviewed;
        }
        let mut exhibit = self.exhibit(&found.verdict);
        let mut conversation = None;
        let decision = if Instant::now() >= deadline {
            Decision::TimedOut
        } else {
            // On the heap: most reviews never get here, and a caller carries this in its own task.
            match Box::pin(self.ask((escalation, before), deadline, &mut exhibit)).await {
                Ok((assessment, shown)) => {
                    conversation = shown;
                    decide(escalation, &found, (assessment, Judge::Model))
                }
                Err(error) => failed(&error),
            }
        };
        Reviewed {
            decision,
            exhibit,
            conversation,
        }
    }

    /// What the built-in rules decide by themselves, in no time and asking nobody; `None` where a model has to be asked.
    #[must_use]
    pub fn review_at_once(&self, escalation: &Escalation, deadline: Instant) -> Option<Reviewed> {
        self.bind(escalation, &self.found(escalation), deadline)
    }

    fn found(&self, escalation: &Escalation) -> Found {
        Found {
            verdict: self.team.trust(self.built_in.judge(escalation), escalation),
            denied: self.team.denies(&escalation.action),
        }
    }

    fn bind(&self, escalation: &Escalation, found: &Found, deadline: Instant) -> Option<Reviewed> {
        let assessment = found.verdict.binding(self.built_in_allows());
        if assessment.is_none() && found.denied.is_none() {
            return None;
        }
        let decision = match (&found.denied, assessment) {
            _ if Instant::now() >= deadline => Decision::TimedOut,
            (_, Some(assessment)) => {
                let judge = Judge::BuiltIn(found.verdict.rule().id());
                decide(escalation, found, (assessment, judge))
            }
            (Some(rule), None) => Decision::Denied(Denial::ByRule(rule.clone())),
            (None, None) => return None,
        };
        Some(Reviewed {
            decision,
            exhibit: self.exhibit(&found.verdict),
            conversation: None,
        })
    }

    /// The exact model request for `escalation`, nothing sent.
    ///
    /// # Errors
    /// The action, the evidence or the surroundings cannot be shown whole.
    pub fn prompt(&self, escalation: &Escalation) -> Result<Prompt, PromptError> {
        Prompt::build(&self.policy, &self.prompt_budget, escalation)
    }

    /// The exact body of the request to a model, nothing sent: to the first model of the settings, or in the form of
    /// `provider`. Where no model is configured its name is left open.
    ///
    /// # Errors
    /// As [`Reviewer::prompt`].
    pub fn request(
        &self,
        escalation: &Escalation,
        provider: Option<Provider>,
    ) -> Result<serde_json::Value, PromptError> {
        let prompt = self.prompt(escalation)?;
        let first = self.models.all().next();
        Ok(match first {
            Some(model) => model.body(&prompt, provider.unwrap_or_else(|| model.provider())),
            None => {
                let ask = Ask {
                    model: "…",
                    effort: None,
                    form: OutputForm::JsonSchema,
                    stream: true,
                    prompt: &prompt,
                };
                ask.body(provider.unwrap_or(Provider::OpenAiResponses))
            }
        })
    }

    /// Whether its models are to be probed when a server starts.
    #[must_use]
    pub fn wants_probe(&self) -> bool {
        self.probes
    }

    /// Asks each model one small question, so that a wrong name, address or key is found before anybody waits for a
    /// review. Nothing of it is a verdict.
    pub async fn probe(&self, deadline: Instant) -> Vec<Probe> {
        let mut probes = Vec::new();
        for model in self.models.all() {
            let problem = match timeout_at(deadline, model.complete(&Prompt::probe())).await {
                Ok(Ok(_)) => None,
                Ok(Err(error)) => Some(error),
                Err(_) => Some(ModelError::TimedOut),
            };
            probes.push(Probe {
                provider: model.provider(),
                model: model.name().to_owned(),
                problem: problem.map(|error| error.to_string()),
            });
        }
        probes
    }

    async fn ask(
        &self,
        (escalation, before): (&Escalation, Option<&Conversation>),
        deadline: Instant,
        exhibit: &mut Exhibit,
    ) -> Result<(Assessment, Option<Conversation>), ReviewError> {
        if self.models.is_empty() {
            return Err(ReviewError::NoModel);
        }
        let prompt = Prompt::following(&self.policy, &self.prompt_budget, escalation, before)?;
        exhibit.reviews_before = prompt.earlier().len() as u64;
        exhibit.prompt_digest = Some(prompt.digest());
        exhibit.entries_kept = prompt.entries_kept();
        exhibit.entries_omitted = prompt.entries_omitted();
        let answer = self
            .models
            .ask(&prompt, deadline, &mut exhibit.attempts)
            .await?;
        let shown = Conversation::after(
            &prompt,
            self.policy.revision(),
            &escalation.transcript,
            &answer,
        );
        Ok((answer, shown))
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
            reviews_before: 0,
            entries_kept: 0,
            entries_omitted: 0,
            attempts: Vec::new(),
        }
    }
}

/// Holds a proposal against the team's denials, the floor that code found and the ceiling that the transcript can carry.
fn decide(
    escalation: &Escalation,
    found: &Found,
    (proposed, judge): (Assessment, Judge),
) -> Decision {
    if let Some(rule) = &found.denied {
        return Decision::Denied(Denial::ByRule(rule.clone()));
    }
    let bounds = Bounds {
        risk_floor: found.verdict.floor(),
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
