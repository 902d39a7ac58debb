//! What binds: the one place where a proposal becomes a decision, held against thresholds that no model can move.
//!
//! Invariant (P3): `critical` is never allowed; `high` needs an authorization of at least `medium`; the stricter of
//! model and code wins. Invariant (P5): a failure is never a denial and carries no risk.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::action::ActionDigest;
use crate::assessment::{Assessment, Outcome, RiskLevel, UserAuthorization};
use crate::permit::Grant;
use crate::review::ReviewStatus;

/// What binds.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// The action may be done, once.
    Approved(Grant),
    /// Somebody said no.
    Denied(Denial),
    /// The deadline passed first.
    TimedOut,
    /// Whoever asked took the question back.
    Aborted,
    /// A step of the review failed.
    Failed(ReviewFailure),
}

/// Who said no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// A reviewer judged it.
    Judged(Judgement),
    /// A rule forbids it, whatever anybody judges.
    ByRule(RuleId),
    /// A person refused it.
    ByPerson(String),
}

/// An assessment and who made it, after the thresholds: its `outcome` is what binds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The assessment. Where code was stricter than the model, `outcome` says so and the rationale is the code's.
    pub assessment: Assessment,
    /// Who made it.
    pub judge: Judge,
}

/// Who made an assessment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judge {
    /// The built-in reviewer, by this rule.
    BuiltIn(RuleId),
    /// A model.
    Model,
}

/// Names a rule, for example `built-in/rm-in-workspace`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct RuleId(String);

impl RuleId {
    /// Names a rule.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who decided, as told on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DecidedBy {
    /// The built-in reviewer.
    BuiltIn,
    /// A model.
    Model,
    /// A rule.
    Rule,
    /// A person.
    Person,
    /// Nobody: it timed out, was aborted or failed.
    None,
}

/// Which step of a review did not come off, and how. The cause's details stay in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ReviewFailure {
    /// The step.
    pub step: FailedStep,
    /// What went wrong there, as a stable name: lower case, digits and `_`.
    pub code: String,
    /// Whether asking again may help.
    pub retryable: bool,
    /// The same in words: what, why, and the way out. Never a model's or a tool's text.
    pub message: String,
}

/// The step of a review that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum FailedStep {
    /// The prompt could not be built.
    Prompt,
    /// The model could not be asked.
    Model,
    /// The model's reply is not an assessment.
    Reply,
    /// The record could not be written or read.
    Store,
    /// Too many denials in a row.
    Breaker,
    /// A ceiling of cost or count.
    Budget,
    /// The server would not take it on.
    Admission,
    /// The server was going down.
    Drain,
    /// The server had gone down.
    Restart,
    /// Nobody is set up who could decide it.
    NotConfigured,
    /// The runner could not reach its server, or not believe it.
    Server,
}

impl FailedStep {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prompt => "prompt",
            Self::Model => "model",
            Self::Reply => "reply",
            Self::Store => "store",
            Self::Breaker => "breaker",
            Self::Budget => "budget",
            Self::Admission => "admission",
            Self::Drain => "drain",
            Self::Restart => "restart",
            Self::NotConfigured => "not_configured",
            Self::Server => "server",
        }
    }
}

impl DecidedBy {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BuiltIn => "built_in",
            Self::Model => "model",
            Self::Rule => "rule",
            Self::Person => "person",
            Self::None => "none",
        }
    }
}

impl Decision {
    /// Holds a proposal against the thresholds. Total: whatever is proposed, the answer is a decision.
    ///
    /// `floor` is the least risk that code found by itself, `ceiling` the most authorization that the transcript can
    /// carry; the assessment that binds is the stricter of both sides.
    #[must_use]
    pub fn from_assessment(
        proposed: Assessment,
        judge: Judge,
        bounds: &Bounds,
        action: ActionDigest,
    ) -> Self {
        let assessment = bounds.hold(proposed);
        let judgement = Judgement { assessment, judge };
        match judgement.assessment.outcome {
            Outcome::Allow => Self::Approved(Grant::judged(action, judgement)),
            Outcome::Deny => Self::Denied(Denial::Judged(judgement)),
        }
    }

    /// The status that follows.
    #[must_use]
    pub fn status(&self) -> ReviewStatus {
        match self {
            Self::Approved(_) => ReviewStatus::Approved,
            Self::Denied(_) => ReviewStatus::Denied,
            Self::TimedOut => ReviewStatus::TimedOut,
            Self::Aborted => ReviewStatus::Aborted,
            Self::Failed(_) => ReviewStatus::Failed,
        }
    }

    /// The assessment behind it, where there is one.
    #[must_use]
    pub fn assessment(&self) -> Option<&Assessment> {
        match self {
            Self::Approved(grant) => grant.judgement().map(|judgement| &judgement.assessment),
            Self::Denied(Denial::Judged(judgement)) => Some(&judgement.assessment),
            Self::Denied(Denial::ByRule(_) | Denial::ByPerson(_))
            | Self::TimedOut
            | Self::Aborted
            | Self::Failed(_) => None,
        }
    }

    /// Who decided.
    #[must_use]
    pub fn decided_by(&self) -> DecidedBy {
        match self {
            Self::Approved(grant) => grant
                .judgement()
                .map_or(DecidedBy::Person, Judgement::decided_by),
            Self::Denied(Denial::Judged(judgement)) => judgement.decided_by(),
            Self::Denied(Denial::ByRule(_)) => DecidedBy::Rule,
            Self::Denied(Denial::ByPerson(_)) => DecidedBy::Person,
            Self::TimedOut | Self::Aborted | Self::Failed(_) => DecidedBy::None,
        }
    }
}

impl Judgement {
    /// Who made it, as told on the wire.
    #[must_use]
    pub fn decided_by(&self) -> DecidedBy {
        match self.judge {
            Judge::BuiltIn(_) => DecidedBy::BuiltIn,
            Judge::Model => DecidedBy::Model,
        }
    }
}

/// The bounds that a proposal is held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The least risk that code found by itself.
    pub risk_floor: RiskLevel,
    /// The most authorization that the transcript can carry.
    pub authorization_ceiling: UserAuthorization,
}

impl Bounds {
    fn hold(&self, proposed: Assessment) -> Assessment {
        let risk_level = proposed.risk_level.max(self.risk_floor);
        let user_authorization = proposed.user_authorization.min(self.authorization_ceiling);
        let assessment = Assessment {
            risk_level,
            user_authorization,
            ..proposed
        };
        match (
            assessment.outcome,
            threshold(risk_level, user_authorization),
        ) {
            (Outcome::Allow, Err(reason)) => Assessment {
                outcome: Outcome::Deny,
                rationale: format!(
                    "{reason} The reviewer would have allowed it: {}",
                    assessment.rationale.as_str()
                )
                .into(),
                ..assessment
            },
            (Outcome::Allow, Ok(())) | (Outcome::Deny, _) => assessment,
        }
    }
}

/// What no reviewer may allow.
fn threshold(risk: RiskLevel, authorization: UserAuthorization) -> Result<(), &'static str> {
    match risk {
        RiskLevel::Low | RiskLevel::Medium => Ok(()),
        RiskLevel::High if authorization >= UserAuthorization::Medium => Ok(()),
        RiskLevel::High => {
            Err("High risk needs the user's clear authorization, and there is none that counts.")
        }
        RiskLevel::Critical => Err("Critical risk is never allowed."),
    }
}

#[cfg(test)]
mod tests {
    use super::{Bounds, Decision, Judge};
    use crate::assessment::{Assessment, Outcome, RiskLevel, UserAuthorization};
    use crate::review::ReviewStatus;

    const RISKS: [RiskLevel; 4] = [
        RiskLevel::Low,
        RiskLevel::Medium,
        RiskLevel::High,
        RiskLevel::Critical,
    ];
    const AUTHORIZATIONS: [UserAuthorization; 4] = [
        UserAuthorization::Unknown,
        UserAuthorization::Low,
        UserAuthorization::Medium,
        UserAuthorization::High,
    ];

    fn decide(
        outcome: Outcome,
        risk_level: RiskLevel,
        user_authorization: UserAuthorization,
        bounds: Bounds,
    ) -> Decision {
        let proposed = Assessment {
            risk_level,
            user_authorization,
            outcome,
            rationale: "because".into(),
        };
        let digest = format!("sha256:{}", "0".repeat(64))
            .parse()
            .expect("a digest");
        Decision::from_assessment(proposed, Judge::Model, &bounds, digest)
    }

    const OPEN: Bounds = Bounds {
        risk_floor: RiskLevel::Low,
        authorization_ceiling: UserAuthorization::High,
    };

    #[test]
    fn an_allow_binds_only_below_the_thresholds() {
        for risk in RISKS {
            for authorization in AUTHORIZATIONS {
                let allowed = match risk {
                    RiskLevel::Low | RiskLevel::Medium => true,
                    RiskLevel::High => authorization >= UserAuthorization::Medium,
                    RiskLevel::Critical => false,
                };
                let wanted = if allowed {
                    ReviewStatus::Approved
                } else {
                    ReviewStatus::Denied
                };
                assert_eq!(
                    decide(Outcome::Allow, risk, authorization, OPEN).status(),
                    wanted,
                    "{risk} {authorization}"
                );
                assert_eq!(
                    decide(Outcome::Deny, risk, authorization, OPEN).status(),
                    ReviewStatus::Denied
                );
            }
        }
    }

    #[test]
    fn a_floor_is_not_lowered_and_a_ceiling_is_not_raised_by_a_model() {
        let floor = Bounds {
            risk_floor: RiskLevel::Critical,
            ..OPEN
        };
        assert_eq!(
            decide(
                Outcome::Allow,
                RiskLevel::Low,
                UserAuthorization::High,
                floor
            )
            .status(),
            ReviewStatus::Denied
        );
        let ceiling = Bounds {
            authorization_ceiling: UserAuthorization::Low,
            ..OPEN
        };
        let decision = decide(
            Outcome::Allow,
            RiskLevel::High,
            UserAuthorization::High,
            ceiling,
        );
        let assessment = decision.assessment().expect("an assessment");
        assert_eq!(assessment.user_authorization, UserAuthorization::Low);
        assert_eq!(assessment.outcome, Outcome::Deny);
    }
}
