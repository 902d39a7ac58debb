//! Questions about hosts that no rule names: the port [`Gate`], and who waits for which answer ([`Questions`]).
//!
//! Apart because asking is the runner's (an escalation); the door only knows that an answer comes, or does not.
//! INVARIANT: many connections to one destination share one question; when the last of them is gone the question is dropped.
//! A denial is remembered for the execution; an approval only as far as the answer says.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};

use crate::event::Protocol;
use crate::head::Method;
use crate::host::Destination;
use crate::refusal::Reason;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The execution whose command wants it.
    pub execution: Arc<str>,
    /// Where to.
    pub to: Destination,
    /// By which dialect.
    pub protocol: Protocol,
    /// The method, where one can be seen.
    pub method: Option<Method>,
    /// The name decoded for people, where it is an encoded one, with a mark where it mixes scripts.
    pub decoded: Option<String>,
}

impl Question {
    pub(crate) fn new(
        execution: &Arc<str>,
        to: &Destination,
        protocol: Protocol,
        method: Option<Method>,
    ) -> Self {
        let decoded = to.host.name().and_then(crate::host::HostName::decoded);
        Self {
            execution: Arc::clone(execution),
            to: to.clone(),
            protocol,
            method,
            decoded,
        }
    }

    /// One line for people and reviewers: the name as it is on the wire, and decoded where that differs.
    #[must_use]
    pub fn text(&self) -> String {
        let decoded = self.decoded.as_ref().map_or_else(String::new, |decoded| {
            let plain: String = decoded
                .chars()
                .filter(|letter| !letter.is_control() && !is_bidi(*letter))
                .collect();
            format!(", decoded {plain}")
        });
        format!("{} ({}{decoded})", self.to, self.protocol.word())
    }
}

/// Marks that reorder text when it is shown.
const fn is_bidi(letter: char) -> bool {
    matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{61c}')
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The connections that wait for this answer.
    Once,
    /// This destination, for the rest of the execution.
    Execution,
    /// This destination, for the rest of the session.
    Session,
    /// No, with the reason for whoever asked; bounded and masked by the gate.
    Denied(Option<String>),
    /// Nobody answered in time.
    TimedOut,
    /// The review did not come off.
    Failed,
}

/// Whoever is asked. The runner implements it by an escalation.
pub trait Gate: fmt::Debug + Send + Sync + 'static {
    /// Asks. Dropping the future withdraws the question. The gate keeps its own deadline.
    fn ask(self: Arc<Self>, question: Question) -> BoxFuture<'static, Answer>;
}

/// A gate that nobody keeps: every question fails.
#[derive(Debug, Clone, Copy)]
pub struct NoGate;

impl Gate for NoGate {
    fn ask(self: Arc<Self>, _question: Question) -> BoxFuture<'static, Answer> {
        Box::pin(std::future::ready(Answer::Failed))
    }
}

/// Destinations that were approved for a session; shared by the session's doors.
#[derive(Debug, Default)]
pub struct Approvals(Mutex<std::collections::HashSet<Destination>>);

impl Approvals {
    fn holds(&self, to: &Destination) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(to)
    }

    fn add(&self, to: &Destination) {
        let _new = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(to.clone());
    }
}

type Pending = Shared<BoxFuture<'static, Answer>>;

/// The questions of one execution.
pub(crate) struct Questions {
    gate: Arc<dyn Gate>,
    most_pending: usize,
    session: Arc<Approvals>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    pending: HashMap<Destination, WeakShared<BoxFuture<'static, Answer>>>,
    /// What the execution was told: an approval for its rest, or a denial with its words.
    told: HashMap<Destination, Answer>,
}

impl fmt::Debug for Questions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Questions")
            .field("gate", &self.gate)
            .finish_non_exhaustive()
    }
}

/// Why an unlisted host stays closed.
pub(crate) type No = (Reason, Option<String>);

impl Questions {
    pub(crate) fn new(gate: Arc<dyn Gate>, session: Arc<Approvals>, most_pending: usize) -> Self {
        Self {
            gate,
            most_pending,
            session,
            state: Mutex::default(),
        }
    }

    /// What was said before, where anything was.
    pub(crate) fn told(&self, to: &Destination) -> Option<Result<(), No>> {
        if let Some(answer) = self.lock().told.get(to) {
            return Some(read(answer));
        }
        self.session.holds(to).then_some(Ok(()))
    }

    /// Asks, or waits with those who ask already.
    pub(crate) async fn ask(&self, question: Question) -> Result<(), No> {
        let to = question.to.clone();
        if let Some(told) = self.told(&to) {
            return told;
        }
        let answer = self.join(question)?.await;
        self.settle(&to, &answer);
        read(&answer)
    }

    fn join(&self, question: Question) -> Result<Pending, No> {
        let mut state = self.lock();
        if let Some(pending) = state
            .pending
            .get(&question.to)
            .and_then(WeakShared::upgrade)
        {
            return Ok(pending);
        }
        state
            .pending
            .retain(|_, pending| pending.upgrade().is_some());
        if state.pending.len() >= self.most_pending {
            return Err((Reason::PendingLimit, None));
        }
        let to = question.to.clone();
        let pending = Arc::clone(&self.gate).ask(question).shared();
        if let Some(weak) = pending.downgrade() {
            let _replaced = state.pending.insert(to, weak);
        }
        Ok(pending)
    }

    fn settle(&self, to: &Destination, answer: &Answer) {
        let mut state = self.lock();
        let _pending = state.pending.remove(to);
        match answer {
            Answer::Once | Answer::TimedOut | Answer::Failed => {}
            Answer::Session => self.session.add(to),
            // INVARIANT: a denial stands; a question that was answered later does not turn it.
            Answer::Execution => {
                let _kept = state.told.entry(to.clone()).or_insert(Answer::Execution);
            }
            Answer::Denied(_) => {
                let _replaced = state.told.insert(to.clone(), answer.clone());
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(answer: &Answer) -> Result<(), No> {
    match answer {
        Answer::Once | Answer::Execution | Answer::Session => Ok(()),
        Answer::Denied(words) => Err((Reason::ReviewDenied, words.clone())),
        Answer::TimedOut => Err((Reason::ReviewTimeout, None)),
        Answer::Failed => Err((Reason::ReviewFailed, None)),
    }
}
