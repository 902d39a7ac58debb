//! At most three calls inside one deadline, over one or more models (design D7).
//!
//! Apart from the call, because whether to try again is a decision. Invariant: it is made by the error's variant, never
//! by a text; an assessment, also one that denies, is final; another model is asked only where the one before could not
//! be had, and never because of what it said.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

use protocol::Assessment;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::budget::{Budget, Ceilings, Reservation};
use crate::error::ReviewError;
use crate::exhibit::{Attempt, Tokens};
use crate::model::{Completion, Model, ModelError};
use crate::pause::Pause;
use crate::prompt::Prompt;
use crate::reply::{InvalidReply, Reply};

mod hedge;

pub(crate) use hedge::Hedges;

/// How many calls one review makes.
const MAX_ATTEMPTS: u32 = 3;
/// The pause before the second call of the same model; it doubles.
const BACKOFF: Duration = Duration::from_millis(200);
/// What a reply is reserved, in tokens.
const REPLY_TOKENS: u64 = 2_048;

/// The models of a process, in their order, and what holds over all reviews.
#[derive(Debug)]
pub(crate) struct Models<M> {
    models: Vec<(M, Pause)>,
    budget: Budget,
    hedges: Hedges,
}

/// One model in one review.
struct Candidate<'m, M> {
    model: &'m M,
    pause: &'m Pause,
    usable: bool,
    asked: bool,
    repair: Repair,
}

/// Whether a model is told that its reply could not be read: once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repair {
    NotNeeded,
    Next,
    Done,
}

/// How one call failed.
enum Fault {
    Model(ModelError),
    Reply(InvalidReply),
    /// Another call of the same question was answered first. On record only.
    Superseded,
}

/// What one call came to.
struct Called {
    result: Result<Assessment, Option<Fault>>,
    completion: Option<Completion>,
    took: Duration,
}

impl<M: Model> Models<M> {
    pub(crate) fn new(models: Vec<M>, ceilings: Ceilings, hedges: Hedges) -> Self {
        Self {
            models: models
                .into_iter()
                .map(|model| (model, Pause::default()))
                .collect(),
            budget: Budget::new(ceilings),
            hedges,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.models.is_empty()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &M> {
        self.models.iter().map(|(model, _)| model)
    }

    /// Asks the models in turn until one answers with an assessment.
    pub(crate) async fn ask(
        &self,
        prompt: &Prompt,
        deadline: Instant,
        attempts: &mut Vec<Attempt>,
    ) -> Result<Assessment, ReviewError> {
        let mut candidates: Vec<Candidate<'_, M>> = self
            .models
            .iter()
            .map(|(model, pause)| Candidate {
                model,
                pause,
                usable: true,
                asked: false,
                repair: Repair::NotNeeded,
            })
            .collect();
        let mut last = ReviewError::NoModel;
        let mut not_before = Instant::now();
        let mut round = 0;
        while round < MAX_ATTEMPTS {
            // One that was not asked yet comes before one that could not be had.
            let next = candidates
                .iter_mut()
                .filter(|candidate| candidate.usable)
                .min_by_key(|candidate| candidate.asked);
            let Some(candidate) = next else {
                return Err(last);
            };
            if !candidate.pause.may_ask(Instant::now()) {
                candidate.usable = false;
                last = Fault::Model(ModelError::Paused).error(candidate.model.name());
                continue;
            }
            if candidate.asked {
                let from = not_before.max(Instant::now() + backoff(round));
                if from >= deadline {
                    // Waiting would only turn a known cause into a timeout.
                    return Err(last);
                }
                sleep_until(from).await;
            }
            candidate.asked = true;
            round += 1;
            let Some((beside, called)) = self.call(candidate, prompt, deadline).await else {
                return Err(ReviewError::Budget);
            };
            attempts.extend(beside.map(|beside| beside.record(candidate.model)));
            attempts.push(called.record(candidate.model));
            match called.result {
                Err(None) => return Err(ReviewError::Deadline),
                Ok(assessment) => return Ok(assessment),
                Err(Some(fault)) => {
                    let spoke = !fault.is_absence();
                    if let Some(wait) = candidate.after(&fault) {
                        not_before = Instant::now() + wait;
                    }
                    last = fault.error(candidate.model.name());
                    if spoke {
                        // What it said is no reason to ask somebody else.
                        let same = candidate.model;
                        candidates.retain(|other| std::ptr::eq(other.model, same));
                    }
                }
            }
        }
        Err(last)
    }

    /// One call, inside the budget. `None`: the budget does not hold it.
    async fn call(
        &self,
        candidate: &Candidate<'_, M>,
        prompt: &Prompt,
        deadline: Instant,
    ) -> Option<(Option<Called>, Called)> {
        let model = candidate.model;
        let prices = model.prices();
        let cost = |input, output| prices.map_or(0, |prices| prices.cost_micros(input, output));
        let input = prompt.tokens();
        let reserve = || {
            self.budget.reserve(
                Instant::now(),
                input.saturating_add(REPLY_TOKENS),
                cost(input, REPLY_TOKENS),
            )
        };
        let reserved = reserve()?;
        let repaired = (candidate.repair == Repair::Next).then(|| prompt.repaired());
        let asked = repaired.as_ref().unwrap_or(prompt);
        // What a hedge that lost took is not known: its reservation stays.
        let (beside, called) = self
            .hedges
            .call(model, asked, deadline, || reserve().is_some())
            .await;
        self.settle(
            reserved,
            called
                .completion
                .as_ref()
                .and_then(|completion| completion.tokens),
            cost,
        );
        match &called.result {
            Err(Some(fault)) if fault.is_absence() => candidate.pause.failed(Instant::now()),
            Err(None) => {}
            Ok(_) | Err(Some(_)) => candidate.pause.answered(),
        }
        Some((beside, called))
    }

    fn settle(
        &self,
        reserved: Reservation,
        tokens: Option<Tokens>,
        cost: impl Fn(u64, u64) -> u64,
    ) {
        // What a failed call took is not known: its reservation stays.
        if let Some(tokens) = tokens {
            let sum = tokens.input.saturating_add(tokens.output);
            self.budget
                .settle(reserved, sum, cost(tokens.input, tokens.output));
        }
    }
}

impl<M> Candidate<'_, M> {
    /// Notes how a call failed; answers how long to wait at least.
    fn after(&mut self, fault: &Fault) -> Option<Duration> {
        self.usable = fault.is_retryable();
        self.repair = match (fault, self.repair) {
            (Fault::Reply(_), Repair::NotNeeded) => Repair::Next,
            (_, Repair::Next) => Repair::Done,
            (_, repair) => repair,
        };
        match fault {
            Fault::Model(ModelError::RateLimited(Some(secs))) => {
                Some(Duration::from_secs((*secs).min(86_400)))
            }
            Fault::Model(_) | Fault::Reply(_) | Fault::Superseded => None,
        }
    }
}

/// One call. `Err(None)`: the review's deadline passed.
async fn call<M: Model>(model: &M, prompt: &Prompt, deadline: Instant) -> Called {
    let started = Instant::now();
    let own = model.timeout().map(|limit| started + limit);
    let until = own.map_or(deadline, |own| own.min(deadline));
    let (result, completion) = match timeout_at(until, model.complete(prompt)).await {
        Err(_) if until >= deadline => (Err(None), None),
        Err(_) => (Err(Some(Fault::Model(ModelError::TimedOut))), None),
        Ok(Err(error)) => (Err(Some(Fault::Model(error))), None),
        Ok(Ok(completion)) => {
            let read = Reply::parse(&completion.text).map(|reply| reply.0);
            (
                read.map_err(|error| Some(Fault::Reply(error))),
                Some(completion),
            )
        }
    };
    Called {
        result,
        completion,
        took: started.elapsed(),
    }
}

impl Fault {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Model(error) => error.is_retryable(),
            Self::Reply(_) => true,
            Self::Superseded => false,
        }
    }

    fn is_absence(&self) -> bool {
        match self {
            Self::Model(error) => error.is_absence(),
            Self::Reply(_) | Self::Superseded => false,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Model(error) => error.code(),
            Self::Reply(error) => error.code(),
            Self::Superseded => "superseded",
        }
    }

    fn error(self, model: &str) -> ReviewError {
        let model = model.to_owned();
        match self {
            Self::Model(cause) => ReviewError::Model { model, cause },
            Self::Reply(cause) => ReviewError::Reply { model, cause },
            // Whoever supersedes a call has an answer of its own to tell.
            Self::Superseded => ReviewError::Deadline,
        }
    }
}

impl Called {
    fn record<M: Model>(&self, model: &M) -> Attempt {
        let error = match &self.result {
            Ok(_) => None,
            Err(Some(fault)) => Some(fault.code()),
            Err(None) => Some("deadline"),
        };
        let tokens = self
            .completion
            .as_ref()
            .and_then(|completion| completion.tokens);
        Attempt {
            provider: model.provider(),
            model: model.name().to_owned(),
            latency_ms: u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
            error: error.map(str::to_owned),
            first_token_ms: self
                .completion
                .as_ref()
                .and_then(|completion| completion.first_token_ms),
            tokens,
            cost_micros: tokens
                .zip(model.prices())
                .map(|(tokens, prices)| prices.cost_micros(tokens.input, tokens.output)),
        }
    }
}

/// 200 ms, 400 ms, … times 0.9 to 1.1, so that many reviews that failed together do not come back together.
fn backoff(round: u32) -> Duration {
    // The standard library keys each hasher at random; that is all the chance that is needed here.
    let chance = RandomState::new().build_hasher().finish() % 201;
    let percent_of_ten = 900 + u32::try_from(chance).unwrap_or(100);
    BACKOFF * 2_u32.saturating_pow(round.saturating_sub(1)) * percent_of_ten / 1_000
}

#[cfg(test)]
mod tests;
