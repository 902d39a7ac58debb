//! At most three calls inside one deadline, over one or more models (design D7).
//!
//! Apart from the call, because whether to try again is a decision. Invariant: it is made by the error's variant, never
//! by a text; an assessment, also one that denies, is final.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

use protocol::Assessment;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::error::ReviewError;
use crate::exhibit::{Attempt, Tokens};
use crate::model::{Model, ModelError};
use crate::prompt::Prompt;
use crate::reply::{InvalidReply, Reply};

/// How many calls one review makes.
const MAX_ATTEMPTS: u32 = 3;
/// The pause before the second call of the same model; it doubles.
const BACKOFF: Duration = Duration::from_millis(200);

/// One model of the list, and whether asking it again has a point.
struct Candidate<'m, M> {
    model: &'m M,
    usable: bool,
    asked: bool,
}

/// How one call failed.
enum Fault {
    Model(ModelError),
    Reply(InvalidReply),
}

/// Asks the models in turn until one answers with an assessment.
pub(crate) async fn ask<M: Model>(
    models: &[M],
    prompt: &Prompt,
    deadline: Instant,
    attempts: &mut Vec<Attempt>,
) -> Result<Assessment, ReviewError> {
    let mut candidates: Vec<Candidate<'_, M>> = models
        .iter()
        .map(|model| Candidate {
            model,
            usable: true,
            asked: false,
        })
        .collect();
    let mut last = ReviewError::NoModel;
    let mut not_before = Instant::now();
    for round in 0..MAX_ATTEMPTS {
        // One that was not asked yet comes before one that failed.
        let next = candidates
            .iter_mut()
            .filter(|candidate| candidate.usable)
            .min_by_key(|candidate| candidate.asked);
        let Some(candidate) = next else {
            return Err(last);
        };
        if candidate.asked {
            let from = not_before.max(Instant::now() + backoff(round));
            if from >= deadline {
                // Waiting would only turn a known cause into a timeout.
                return Err(last);
            }
            sleep_until(from).await;
        }
        candidate.asked = true;
        let started = Instant::now();
        let result = call(candidate.model, prompt, deadline).await;
        attempts.push(record(candidate.model, started.elapsed(), &result));
        match result {
            Err(None) => return Err(ReviewError::Deadline),
            Ok((assessment, _)) => return Ok(assessment),
            Err(Some(fault)) => {
                candidate.usable = fault.is_retryable();
                if let Fault::Model(ModelError::RateLimited(Some(secs))) = fault {
                    not_before = Instant::now() + Duration::from_secs(secs.min(86_400));
                }
                last = fault.error(candidate.model.name());
            }
        }
    }
    Err(last)
}

/// One call. `Err(None)`: the review's deadline passed.
async fn call<M: Model>(
    model: &M,
    prompt: &Prompt,
    deadline: Instant,
) -> Result<(Assessment, Option<Tokens>), Option<Fault>> {
    let own = model.timeout().map(|limit| Instant::now() + limit);
    let until = own.map_or(deadline, |own| own.min(deadline));
    let completion = match timeout_at(until, model.complete(prompt)).await {
        Err(_) if until >= deadline => return Err(None),
        Err(_) => return Err(Some(Fault::Model(ModelError::TimedOut))),
        Ok(result) => result.map_err(|error| Some(Fault::Model(error)))?,
    };
    let reply = Reply::parse(&completion.text).map_err(|error| Some(Fault::Reply(error)))?;
    Ok((reply.0, completion.tokens))
}

impl Fault {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Model(error) => error.is_retryable(),
            Self::Reply(_) => true,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Model(error) => error.code(),
            Self::Reply(error) => error.code(),
        }
    }

    fn error(self, model: &str) -> ReviewError {
        let model = model.to_owned();
        match self {
            Self::Model(cause) => ReviewError::Model { model, cause },
            Self::Reply(cause) => ReviewError::Reply { model, cause },
        }
    }
}

fn record<M: Model>(
    model: &M,
    took: Duration,
    result: &Result<(Assessment, Option<Tokens>), Option<Fault>>,
) -> Attempt {
    let (error, tokens) = match result {
        Ok((_, tokens)) => (None, *tokens),
        Err(Some(fault)) => (Some(fault.code()), None),
        Err(None) => (Some("deadline"), None),
    };
    Attempt {
        provider: model.provider(),
        model: model.name().to_owned(),
        latency_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        error: error.map(str::to_owned),
        tokens,
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
