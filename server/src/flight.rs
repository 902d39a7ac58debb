//! One review while this process judges it: how far it is, and how it is called back or answered.
//!
//! Apart, because it is shared between the task that judges and whoever waits. Invariant: it lands once; what it landed
//! in is on record or lost.

use std::sync::{Mutex, PoisonError};

use protocol::{ActionDigest, Answer, CallerId, HostScope, PersonsAnswer, ReviewId};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::store::{Recorded, RecordedEnd, Scope, StoreError};

/// How far a review is.
#[derive(Debug, Clone)]
pub(crate) enum Progress {
    /// It is judged, or its end is being recorded.
    Open,
    /// It ended, on record.
    Ended(Box<RecordedEnd>),
    /// How it ended could not be recorded.
    Lost(StoreError),
}

impl Progress {
    pub(crate) fn ended(end: RecordedEnd) -> Self {
        Self::Ended(Box::new(end))
    }
}

/// A person's answer, and who gave it where that is not the caller at this terminal.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) answer: Answer,
    pub(crate) by: Option<String>,
    /// How long a yes about a host holds.
    pub(crate) scope: HostScope,
}

/// An approver's answer, before it is known whether it decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Vote {
    pub(crate) answer: PersonsAnswer,
    pub(crate) reason: String,
    /// The token that it came with.
    pub(crate) caller: CallerId,
    /// The human behind it, where that is known.
    pub(crate) person: Option<String>,
    /// How long a yes about a host is to hold.
    pub(crate) scope: HostScope,
}

impl Vote {
    /// Who answered, as it is recorded.
    pub(crate) fn by(&self) -> &str {
        self.person.as_deref().unwrap_or(self.caller.as_str())
    }

    /// Whether both came from one human, as far as can be known.
    fn same_voter(&self, other: &Self) -> bool {
        self.caller == other.caller || (self.person.is_some() && self.person == other.person)
    }
}

/// What came of a [`Vote`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Voted {
    /// It decides.
    Decided,
    /// More must agree.
    Counted,
    /// The same human agreed before.
    Before,
    /// Nobody asked, or it was decided before.
    NotAsked,
}

/// Where a person's answer comes out, and who agreed so far.
#[derive(Debug)]
struct Ballot {
    out: oneshot::Sender<Reply>,
    agreed: Vec<Vote>,
    /// Those whose yes is being put on record: nobody says yes twice in the meantime.
    noting: Vec<Vote>,
}

/// One review while this process judges it.
#[derive(Debug)]
pub(crate) struct Flight {
    opened: Recorded,
    progress: watch::Sender<Progress>,
    abort: CancellationToken,
    person: Mutex<Option<Ballot>>,
    /// The human who asked, where that is known.
    asked_by: Option<String>,
}

impl Flight {
    /// A review that is about to be opened as `opened`.
    pub(crate) fn new(opened: Recorded, asked_by: Option<String>) -> Self {
        Self {
            opened,
            progress: watch::Sender::new(Progress::Open),
            abort: CancellationToken::new(),
            person: Mutex::new(None),
            asked_by,
        }
    }

    pub(crate) fn review_id(&self) -> ReviewId {
        self.opened.review_id
    }

    pub(crate) fn scope(&self) -> &Scope {
        &self.opened.scope
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(*self.progress.borrow(), Progress::Open)
    }

    /// Tells everybody how it ended. Only the first time counts.
    pub(crate) fn land(&self, landed: Progress) {
        self.progress.send_if_modified(|progress| {
            let first = matches!(progress, Progress::Open);
            if first {
                *progress = landed;
            }
            first
        });
    }

    /// Waits for the end, until `until` at most. An open review is an answer too.
    pub(crate) async fn wait(&self, until: Instant) -> Result<Recorded, StoreError> {
        let mut watched = self.progress.subscribe();
        let landed = watched.wait_for(|progress| !matches!(progress, Progress::Open));
        let progress = match tokio::time::timeout_at(until, landed).await {
            Ok(Ok(progress)) => progress.clone(),
            Ok(Err(_never_lands)) => Progress::Lost(StoreError::Closed),
            Err(_elapsed) => Progress::Open,
        };
        let end = match progress {
            Progress::Open => None,
            Progress::Ended(end) => Some(*end),
            Progress::Lost(error) => return Err(error),
        };
        Ok(Recorded {
            end,
            ..self.opened.clone()
        })
    }

    /// Takes the question back, if it is not decided yet.
    pub(crate) fn abort(&self) {
        self.abort.cancel();
    }

    /// Resolves when the question is taken back.
    pub(crate) async fn aborted(&self) {
        self.abort.cancelled().await;
    }

    /// From now on a person may answer: here is where the answer comes out.
    pub(crate) fn ask_person(&self) -> oneshot::Receiver<Reply> {
        let (sender, receiver) = oneshot::channel();
        self.person().replace(Ballot {
            out: sender,
            agreed: Vec::new(),
            noting: Vec::new(),
        });
        receiver
    }

    /// Hands a person's answer in. `false`: nobody asked, or it was answered before.
    pub(crate) fn answer(&self, reply: Reply) -> bool {
        let asked = self.person().take();
        asked.is_some_and(|ballot| ballot.out.send(reply).is_ok())
    }

    /// Begins a vote that will be put on record before it counts. `Some` says why it may not be.
    pub(crate) fn begin_vote(&self, vote: &Vote) -> Option<Voted> {
        let mut person = self.person();
        let Some(ballot) = person.as_mut() else {
            return Some(Voted::NotAsked);
        };
        let mut before = ballot.agreed.iter().chain(&ballot.noting);
        // Who agreed may still say no.
        let again = vote.answer == PersonsAnswer::Allow;
        if again && before.any(|before| before.same_voter(vote)) {
            return Some(Voted::Before);
        }
        ballot.noting.push(vote.clone());
        None
    }

    /// Takes back a vote that could not be put on record.
    pub(crate) fn forget_vote(&self, vote: &Vote) {
        if let Some(ballot) = self.person().as_mut() {
            ballot.noting.retain(|noted| noted != vote);
        }
    }

    /// Who has said yes so far.
    pub(crate) fn voters(&self) -> Vec<CallerId> {
        let person = self.person();
        let agreed = person.iter().flat_map(|ballot| &ballot.agreed);
        agreed.map(|vote| vote.caller.clone()).collect()
    }

    /// Takes back what was said by those who may not answer any more.
    pub(crate) fn drop_voters(&self, gone: &[CallerId]) {
        if let Some(ballot) = self.person().as_mut() {
            ballot.agreed.retain(|vote| !gone.contains(&vote.caller));
        }
    }

    /// Counts an approver's answer: the first no decides, and the last of `wanted` different humans who say yes.
    pub(crate) fn vote(&self, vote: Vote, wanted: usize) -> Voted {
        let mut person = self.person();
        let Some(ballot) = person.as_mut() else {
            return Voted::NotAsked;
        };
        ballot.noting.retain(|noted| *noted != vote);
        if vote.answer == PersonsAnswer::Allow {
            if ballot.agreed.iter().any(|before| before.same_voter(&vote)) {
                return Voted::Before;
            }
            ballot.agreed.push(vote.clone());
            if ballot.agreed.len() < wanted {
                return Voted::Counted;
            }
        }
        let Some(Ballot { out, agreed, .. }) = person.take() else {
            return Voted::NotAsked;
        };
        drop(person);
        match out.send(together(vote, &agreed)) {
            Ok(()) => Voted::Decided,
            Err(_ended) => Voted::NotAsked,
        }
    }

    /// Who has agreed so far.
    pub(crate) fn agreed(&self) -> Vec<String> {
        let person = self.person();
        let agreed = person.as_ref().map(|ballot| &ballot.agreed);
        agreed
            .into_iter()
            .flatten()
            .map(|vote| vote.by().to_owned())
            .collect()
    }

    /// Whether a person's answer is waited for.
    pub(crate) fn waits_for_person(&self) -> bool {
        self.person().is_some() && self.is_open()
    }

    /// Whether the caller and human of `scope` and `person` asked this themselves.
    pub(crate) fn is_asked_by(&self, scope: &Scope, person: Option<&str>) -> bool {
        let same_person = person.is_some() && person == self.asked_by.as_deref();
        same_person || scope.caller == self.opened.scope.caller
    }

    /// Whether the question named a session.
    pub(crate) fn has_session(&self) -> bool {
        self.opened.session_id.is_some()
    }

    /// What the answer must be about.
    pub(crate) fn action_digest(&self) -> ActionDigest {
        self.opened.action_digest
    }

    fn person(&self) -> std::sync::MutexGuard<'_, Option<Ballot>> {
        self.person.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The answer that `vote` makes with those who agreed: all of them by name, each with a reason where there are several. It
/// holds as long as everybody said.
fn together(vote: Vote, agreed: &[Vote]) -> Reply {
    let scope = match vote.answer {
        PersonsAnswer::Allow => agreed.iter().map(|it| it.scope).fold(vote.scope, Ord::min),
        PersonsAnswer::Deny => HostScope::Once,
    };
    let (by, reason) = match (vote.answer, agreed) {
        (PersonsAnswer::Allow, [_, _, ..]) => {
            let names: Vec<_> = agreed.iter().map(Vote::by).collect();
            let reasons = agreed
                .iter()
                .map(|it| format!("{}: {}", it.by(), it.reason));
            (names.join(", "), reasons.collect::<Vec<_>>().join("; "))
        }
        (PersonsAnswer::Allow | PersonsAnswer::Deny, _) => (vote.by().to_owned(), vote.reason),
    };
    Reply {
        answer: Answer {
            answer: vote.answer,
            reason: Some(reason),
        },
        by: Some(by),
        scope,
    }
}
