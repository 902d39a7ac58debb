//! What a person's leave after a denial can do: one run, of exactly what was denied, and never of what is critical.
//!
//! Apart, because it is a rule and no prose: no model has to guess whether a "yes" in a transcript came from a person.
//! Pure. Invariant: leave that is spent, late, for another action or another session lifts nothing.

use protocol::{ActionDigest, Assessment, Denial, Judge, RiskLevel};
use thiserror::Error;

/// A person's leave for one action that was denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersonsLeave {
    /// For what.
    pub action: ActionDigest,
    /// In which session; `None` where the review had none.
    pub session: Option<String>,
    /// Until when, in seconds since 1970.
    pub expires_at: i64,
    /// Whether it was used.
    pub spent: Use,
}

/// Whether leave was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Not yet.
    Unspent,
    /// Once, which is all.
    Spent,
}

/// What is asked again, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry<'a> {
    /// What would be done.
    pub action: ActionDigest,
    /// In which session.
    pub session: Option<&'a str>,
    /// Now, in seconds since 1970.
    pub now: i64,
}

/// Why leave lifts nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NotLifted {
    /// It was for something else.
    #[error("the leave is for another action")]
    Action,
    /// It was given in another session.
    #[error("the leave is for another session")]
    Session,
    /// It came too late.
    #[error("the leave has expired")]
    Expired,
    /// It was used.
    #[error("the leave was used already")]
    Spent,
    /// What was denied is critical.
    #[error("critical risk is never allowed, whoever gives leave")]
    Critical,
    /// A rule of the team or another person denied it.
    #[error("what a rule or a person refused, leave does not lift")]
    Refused,
}

impl PersonsLeave {
    /// Whether it lifts `denial` for `retry`. `floor` is the least risk that code finds in the action now.
    ///
    /// # Errors
    /// The first reason why it does not.
    pub fn lifts(
        &self,
        denial: &Denial,
        floor: RiskLevel,
        retry: Retry<'_>,
    ) -> Result<(), NotLifted> {
        if self.action != retry.action {
            return Err(NotLifted::Action);
        }
        if self.session.as_deref() != retry.session {
            return Err(NotLifted::Session);
        }
        if self.spent == Use::Spent {
            return Err(NotLifted::Spent);
        }
        if retry.now >= self.expires_at {
            return Err(NotLifted::Expired);
        }
        match denial {
            Denial::ByRule(_) | Denial::ByPerson(_) => Err(NotLifted::Refused),
            Denial::Judged(judgement) => {
                below_critical(&judgement.assessment, &judgement.judge, floor)
            }
        }
    }
}

fn below_critical(
    assessment: &Assessment,
    judge: &Judge,
    floor: RiskLevel,
) -> Result<(), NotLifted> {
    // Who judged makes no difference; the higher of both risks counts.
    let (Judge::BuiltIn(_) | Judge::Model) = judge;
    match assessment.risk_level.max(floor) {
        RiskLevel::Low | RiskLevel::Medium | RiskLevel::High => Ok(()),
        RiskLevel::Critical => Err(NotLifted::Critical),
    }
}

#[cfg(test)]
mod tests {
    use protocol::{
        ActionDigest, Assessment, Denial, Judge, Judgement, Outcome, RiskLevel, RuleId,
        UserAuthorization,
    };

    use super::{NotLifted, PersonsLeave, Retry, Use};

    fn digest(letter: &str) -> ActionDigest {
        format!("sha256:{}", letter.repeat(64))
            .parse()
            .expect("a digest")
    }

    fn denied(risk_level: RiskLevel) -> Denial {
        Denial::Judged(Judgement {
            assessment: Assessment {
                risk_level,
                user_authorization: UserAuthorization::Unknown,
                outcome: Outcome::Deny,
                rationale: "no".into(),
            },
            judge: Judge::Model,
        })
    }

    fn leave() -> PersonsLeave {
        PersonsLeave {
            action: digest("a"),
            session: Some("s".to_owned()),
            expires_at: 100,
            spent: Use::Unspent,
        }
    }

    fn retry() -> Retry<'static> {
        Retry {
            action: digest("a"),
            session: Some("s"),
            now: 99,
        }
    }

    #[test]
    fn leave_lifts_up_to_high_and_never_critical() {
        for risk in [RiskLevel::Low, RiskLevel::Medium, RiskLevel::High] {
            assert_eq!(
                leave().lifts(&denied(risk), RiskLevel::Low, retry()),
                Ok(())
            );
            assert_eq!(
                leave().lifts(&denied(risk), RiskLevel::Critical, retry()),
                Err(NotLifted::Critical)
            );
        }
        assert_eq!(
            leave().lifts(&denied(RiskLevel::Critical), RiskLevel::Low, retry()),
            Err(NotLifted::Critical)
        );
    }

    #[test]
    fn leave_is_for_one_action_in_one_session_once_and_not_for_long() {
        let lifts = |leave: PersonsLeave, retry| {
            leave.lifts(&denied(RiskLevel::High), RiskLevel::Low, retry)
        };
        assert_eq!(
            lifts(
                leave(),
                Retry {
                    action: digest("b"),
                    ..retry()
                }
            ),
            Err(NotLifted::Action)
        );
        assert_eq!(
            lifts(
                leave(),
                Retry {
                    session: Some("t"),
                    ..retry()
                }
            ),
            Err(NotLifted::Session)
        );
        assert_eq!(
            lifts(
                leave(),
                Retry {
                    session: None,
                    ..retry()
                }
            ),
            Err(NotLifted::Session)
        );
        assert_eq!(
            lifts(
                leave(),
                Retry {
                    now: 100,
                    ..retry()
                }
            ),
            Err(NotLifted::Expired)
        );
        assert_eq!(
            lifts(
                PersonsLeave {
                    spent: Use::Spent,
                    ..leave()
                },
                retry()
            ),
            Err(NotLifted::Spent)
        );
    }

    #[test]
    fn what_a_rule_or_a_person_refused_stays_refused() {
        for denial in [
            Denial::ByRule(RuleId::new("policy/deny")),
            Denial::ByPerson("no".to_owned()),
        ] {
            assert_eq!(
                leave().lifts(&denial, RiskLevel::Low, retry()),
                Err(NotLifted::Refused)
            );
        }
    }
}
