//! Hedges over real HTTP: off unless asked for, rare, never a second opinion, and paid for.
//!
//! The endpoint answers each connection on a thread of its own, when the calls that a test waits for have come in: what
//! happens first is decided by events, not by clocks.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use protocol::{Decision, FailedStep, ReviewStatus};
use reviewer::{Reviewer, ReviewerSettings};
use serde_json::json;

use super::{ALLOW, DENY, failure, review, undecided};

/// How long anything may take that must happen.
const PATIENCE: Duration = Duration::from_secs(30);
/// So many calls have to be made before one may be a hedge, and that one's own.
const BEFORE: usize = 19;

/// What one call is answered.
#[derive(Debug, Clone, Copy)]
struct Step {
    /// Once so many calls have come in.
    once: usize,
    /// And this much later.
    after: Duration,
    /// With this text; nothing, ever, where there is none.
    says: Option<&'static str>,
}

const fn says(text: &'static str) -> Step {
    Step {
        once: 0,
        after: Duration::ZERO,
        says: Some(text),
    }
}

const SILENT: Step = Step {
    once: 0,
    after: Duration::ZERO,
    says: None,
};

#[derive(Debug, Default)]
struct Seen {
    calls: usize,
    /// Calls that the other side gave up.
    given_up: usize,
    over: bool,
}

/// A model on loopback; ends with its value.
struct Endpoint {
    base_url: String,
    seen: Arc<(Mutex<Seen>, Condvar)>,
}

impl Endpoint {
    /// Answers by `steps`, in the order in which calls come in, the last for all that follow.
    fn start(steps: Vec<Step>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let base_url = format!("http://{}/v1", listener.local_addr().expect("an address"));
        let seen: Arc<(Mutex<Seen>, Condvar)> = Arc::default();
        let shared = Arc::clone(&seen);
        std::thread::spawn(move || {
            let mut steps = VecDeque::from(steps);
            for stream in listener.incoming() {
                if shared.0.lock().expect("whole").over {
                    return;
                }
                let last = steps.len() == 1;
                let step = steps.pop_front().expect("a step");
                if last {
                    steps.push_back(step);
                }
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve(stream.expect("a caller"), step, &shared));
            }
        });
        Self { base_url, seen }
    }

    fn reviewer(&self, settings: &serde_json::Value) -> Reviewer {
        let mut table = json!({ "model": [{ "provider": "openai-chat", "base_url": self.base_url, "model": "m" }] });
        let more = settings.as_object().expect("a table").clone();
        table.as_object_mut().expect("a table").extend(more);
        let settings: ReviewerSettings =
            serde_json::from_value(json!({ "reviewer": table })).expect("settings");
        Reviewer::new(&settings, &|_| None).expect("a reviewer")
    }

    fn calls(&self) -> usize {
        self.seen.0.lock().expect("whole").calls
    }

    /// Waits until the other side has given up so many calls.
    async fn given_up(&self, count: usize) {
        let seen = Arc::clone(&self.seen);
        let waiting =
            tokio::task::spawn_blocking(move || wait(&seen, |seen| seen.given_up >= count));
        waiting.await.expect("given up");
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if let Ok(mut seen) = self.seen.0.lock() {
            seen.over = true;
        }
        self.seen.1.notify_all();
        // So that it sees that it is over.
        let address = self.base_url.trim_start_matches("http://");
        TcpStream::connect(address.trim_end_matches("/v1")).ok();
    }
}

fn wait(seen: &(Mutex<Seen>, Condvar), until: impl Fn(&Seen) -> bool) {
    let waited = seen
        .1
        .wait_timeout_while(seen.0.lock().expect("whole"), PATIENCE, |seen| {
            !seen.over && !until(seen)
        });
    assert!(!waited.expect("whole").1.timed_out(), "it did not happen");
}

fn serve(mut stream: TcpStream, step: Step, seen: &(Mutex<Seen>, Condvar)) {
    if super::scripted::read_request(&mut stream).is_empty() {
        return;
    }
    seen.0.lock().expect("whole").calls += 1;
    seen.1.notify_all();
    let Some(text) = step.says else {
        stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
        if !matches!(stream.read(&mut [0; 1]), Ok(1..)) {
            seen.0.lock().expect("whole").given_up += 1;
            seen.1.notify_all();
        }
        return;
    };
    wait(seen, |seen| seen.calls >= step.once);
    std::thread::sleep(step.after);
    let body = json!({
        "choices": [{ "index": 0, "finish_reason": "stop", "message": { "role": "assistant", "content": text } }],
        "usage": { "prompt_tokens": 7, "completion_tokens": 3 },
    });
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 200 x\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    // The other side may have gone; that is its right.
    stream.write_all(format!("{head}{body}").as_bytes()).ok();
}

/// Quick answers to the calls that come before the first hedge, then `steps`.
fn after_many(steps: &[Step]) -> Vec<Step> {
    let mut all = vec![says(ALLOW); BEFORE];
    all.extend(steps);
    all
}

/// Reviews until the next slow call may be hedged.
async fn warmed(endpoint: &Endpoint, settings: &serde_json::Value) -> Reviewer {
    let reviewer = endpoint.reviewer(settings);
    for _ in 0..BEFORE {
        let reviewed = review(&reviewer, &undecided(), PATIENCE).await;
        assert_eq!(reviewed.decision.status(), ReviewStatus::Approved);
    }
    assert_eq!(endpoint.calls(), BEFORE, "a quick answer is not hedged");
    reviewer
}

fn hedging() -> serde_json::Value {
    json!({ "hedge_after_ms": 100 })
}

fn slow(text: &'static str) -> Step {
    Step {
        after: Duration::from_millis(300),
        ..says(text)
    }
}

#[tokio::test]
async fn nothing_is_asked_twice_unless_the_settings_say_so() {
    let endpoint = Endpoint::start(after_many(&[slow(ALLOW)]));
    let reviewer = warmed(&endpoint, &json!({})).await;
    let reviewed = review(&reviewer, &undecided(), PATIENCE).await;
    assert_eq!(reviewed.decision.status(), ReviewStatus::Approved);
    assert_eq!(endpoint.calls(), BEFORE + 1);
}

#[tokio::test]
async fn of_four_hundred_slow_reviews_one_in_twenty_is_hedged_at_most() {
    const REVIEWS: usize = 400;
    let endpoint = Endpoint::start(vec![slow(ALLOW)]);
    let reviewer = Arc::new(endpoint.reviewer(&hedging()));
    let mut hedged = 0;
    for _ in 0..4 {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..REVIEWS / 4 {
            let reviewer = Arc::clone(&reviewer);
            tasks.spawn(async move { review(&reviewer, &undecided(), PATIENCE).await });
        }
        while let Some(reviewed) = tasks.join_next().await {
            let reviewed = reviewed.expect("a review");
            assert_eq!(reviewed.decision.status(), ReviewStatus::Approved);
            hedged += reviewed.exhibit.attempts.len() - 1;
        }
    }
    assert!((1..=REVIEWS / 20).contains(&hedged), "{hedged}");
    assert!(
        endpoint.calls() <= REVIEWS + hedged,
        "each call is on record"
    );
}

#[tokio::test]
async fn the_call_that_lost_is_given_up() {
    let endpoint = Endpoint::start(after_many(&[SILENT, says(ALLOW)]));
    let reviewer = warmed(&endpoint, &hedging()).await;
    let reviewed = review(&reviewer, &undecided(), PATIENCE).await;
    assert_eq!(reviewed.decision.status(), ReviewStatus::Approved);
    assert_eq!(endpoint.calls(), BEFORE + 2);
    let errors: Vec<_> = reviewed
        .exhibit
        .attempts
        .iter()
        .map(|attempt| attempt.error.as_deref())
        .collect();
    assert_eq!(errors, [Some("superseded"), None]);
    endpoint.given_up(1).await;
}

#[tokio::test]
async fn a_denial_ends_it_whatever_the_other_call_would_say() {
    let denies = Step {
        once: BEFORE + 2,
        ..says(DENY)
    };
    // Once the hedge is under way, by the first call and by the hedge itself.
    for steps in [[denies, SILENT], [SILENT, denies]] {
        let endpoint = Endpoint::start(after_many(&steps));
        let reviewer = warmed(&endpoint, &hedging()).await;
        let reviewed = review(&reviewer, &undecided(), PATIENCE).await;
        assert_eq!(reviewed.decision.status(), ReviewStatus::Denied);
        endpoint.given_up(1).await;
        assert_eq!(endpoint.calls(), BEFORE + 2, "and nobody else is asked");
    }
    // A denial that comes before any hedge is due leaves none to be made.
    let endpoint = Endpoint::start(after_many(&[says(DENY), says(ALLOW)]));
    let reviewer = warmed(&endpoint, &hedging()).await;
    let reviewed = review(&reviewer, &undecided(), PATIENCE).await;
    assert_eq!(reviewed.decision.status(), ReviewStatus::Denied);
    assert_eq!(endpoint.calls(), BEFORE + 1);
}

#[tokio::test]
async fn words_that_are_no_assessment_do_not_win() {
    let garbles = Step {
        once: BEFORE + 2,
        ..says("I would allow this.")
    };
    let later = Step {
        once: BEFORE + 2,
        after: Duration::from_millis(200),
        says: Some(DENY),
    };
    for steps in [[garbles, later], [later, garbles]] {
        let endpoint = Endpoint::start(after_many(&steps));
        let reviewer = warmed(&endpoint, &hedging()).await;
        let reviewed = review(&reviewer, &undecided(), PATIENCE).await;
        assert!(
            matches!(reviewed.decision, Decision::Denied(_)),
            "{:?}",
            reviewed.decision
        );
        assert_eq!(endpoint.calls(), BEFORE + 2, "nothing had to be repaired");
        assert_eq!(reviewed.exhibit.attempts.len(), 2);
    }
}

#[tokio::test]
async fn a_hedge_is_paid_for_and_not_made_where_it_cannot_be() {
    let steps = [SILENT, says(ALLOW)];
    let with_room_for = |requests: usize| json!({ "hedge_after_ms": 100, "budget": { "requests_per_hour": requests } });
    let endpoint = Endpoint::start(after_many(&steps));
    let reviewer = warmed(&endpoint, &with_room_for(BEFORE + 2)).await;
    let reviewed = review(&reviewer, &undecided(), PATIENCE).await;
    assert_eq!(reviewed.decision.status(), ReviewStatus::Approved);
    let next = review(&reviewer, &undecided(), PATIENCE).await;
    assert_eq!(
        failure(&next),
        (FailedStep::Budget, "budget_exhausted", true)
    );
    assert_eq!(endpoint.calls(), BEFORE + 2);

    let endpoint = Endpoint::start(after_many(&[slow(ALLOW)]));
    let reviewer = warmed(&endpoint, &with_room_for(BEFORE + 1)).await;
    let reviewed = review(&reviewer, &undecided(), PATIENCE).await;
    assert_eq!(reviewed.decision.status(), ReviewStatus::Approved);
    assert_eq!(endpoint.calls(), BEFORE + 1, "no room for a hedge");
}
