//! What a batch of changes means, as a pure fold: what is known, one change after another, and the rows that follow.
//!
//! Apart from the SQL, so that every rule of the record (one nonce, one review; a session has one owner; a review ends
//! once; an approval is spent once, by its caller, for its action, in time) stands in one place and needs no database.
//! Invariant: a row follows from [`ReviewStatus::after`] or is not written.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use protocol::{
    ActionDigest, CallerId, DecidedBy, Nonce, ReviewEvent, ReviewId, ReviewStatus, TenantId,
};
use reviewer::CircuitBreaker;

use super::super::chain::{Head, Line};
use super::super::turns;
use super::super::{
    Closing, Ended, Ending, LeaveKey, LeaveToSpend, Opened, Opening, RecordedEnd, RedeemRefusal,
    Redeemed, Redemption, Scope, StoreError, Tally, TurnKey, Words, bodies,
};
use super::command::{Change, Command, Outcome, Recording};
use crate::owner::OwnerId;
use crate::verdict::Verdict;

/// How far a clock may have gone back between an approval and its use.
const CLOCK_SLACK: SignedDuration = SignedDuration::from_secs(5);

/// A review as far as the rules need it.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// Its number in the database.
    pub(super) no: i64,
    /// Which of the batch's new rows it is, where this batch opens it.
    pub(super) row: Option<usize>,
    pub(super) scope: Scope,
    pub(super) nonce: Nonce,
    pub(super) session_id: Option<String>,
    pub(super) turn: Option<TurnKey>,
    pub(super) words: Option<Words>,
    pub(super) action_digest: ActionDigest,
    pub(super) owner: OwnerId,
    pub(super) status: ReviewStatus,
    pub(super) completed_at: Option<Timestamp>,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) redeemed: Option<Timestamp>,
}

/// What the database holds of everything a batch touches, carried forward through the batch.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The highest number of a review.
    pub(super) last_no: i64,
    pub(super) heads: HashMap<TenantId, Head>,
    pub(super) nonces: HashMap<(Scope, Nonce), (ReviewId, [u8; 32])>,
    pub(super) sessions: HashMap<(TenantId, String), Session>,
    /// A turn that is not here after a read has seen nothing yet.
    pub(super) turns: HashMap<TurnKey, CircuitBreaker>,
    pub(super) reviews: HashMap<ReviewId, Known>,
    /// By the review that they lift.
    pub(super) leaves: HashMap<ReviewId, LeaveToSpend>,
}

/// A session as far as the rules need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) caller: CallerId,
    /// What the user had said when its last review was opened.
    pub(super) words: Option<Words>,
}

/// The rows that a batch writes.
#[derive(Debug, Default)]
pub(super) struct Rows<'a> {
    pub(super) sessions: Vec<&'a Opening>,
    /// Sessions that are on record, in which the user has said something else by now.
    pub(super) said: Vec<&'a Opening>,
    /// Turns that were asked in, by the opening that says which.
    pub(super) turns: HashMap<TurnKey, TurnRow<'a>>,
    pub(super) opened: Vec<OpenedRow<'a>>,
    pub(super) ended: Vec<EndedRow>,
    /// By the number of their review.
    pub(super) exhibits: Vec<(i64, &'a str)>,
    /// The number of the review, and when its approval was spent.
    pub(super) redeemed: Vec<(i64, Timestamp)>,
    /// The denied review whose leave was spent, and the one that was approved by it.
    pub(super) spent: Vec<(ReviewId, ReviewId)>,
    pub(super) events: Vec<EventRow>,
    pub(super) probed_at: Option<i64>,
}

/// What a turn has come to.
#[derive(Debug)]
pub(super) struct TurnRow<'a> {
    /// Where this batch asks in it; a turn that only counts an end is on record.
    pub(super) opening: Option<&'a Opening>,
    pub(super) at: Timestamp,
    /// The breaker, as JSON; filled in when all is counted.
    pub(super) state: String,
}

/// A new review.
#[derive(Debug)]
pub(super) struct OpenedRow<'a> {
    pub(super) no: i64,
    pub(super) opening: &'a Opening,
    /// Its end, where the same batch ends it.
    pub(super) end: Option<EndedRow>,
}

/// What the end of a review changes in its row.
#[derive(Debug)]
pub(super) struct EndedRow {
    pub(super) no: i64,
    pub(super) status: ReviewStatus,
    pub(super) ended_seq: i64,
    pub(super) completed_at: Timestamp,
    pub(super) expires_at: Timestamp,
}

/// One line of the chain.
#[derive(Debug)]
pub(super) struct EventRow {
    pub(super) tenant: TenantId,
    pub(super) head: Head,
    pub(super) review_id: ReviewId,
    pub(super) event: ReviewEvent,
    pub(super) at: i64,
    pub(super) body: String,
}

/// The fold.
#[derive(Debug)]
pub(super) struct Fold<'a> {
    state: State,
    rows: Rows<'a>,
}

impl<'a> Fold<'a> {
    pub(super) fn new(state: State) -> Self {
        Self {
            state,
            rows: Rows::default(),
        }
    }

    /// The rows to write, and what is known once they are written.
    pub(super) fn finish(mut self) -> Result<(Rows<'a>, State), StoreError> {
        for (key, row) in &mut self.rows.turns {
            let breaker = self.state.turns.get(key);
            row.state = breaker
                .and_then(|breaker| serde_json::to_string(breaker).ok())
                .ok_or(StoreError::Corrupt("a turn cannot be spelled"))?;
        }
        Ok((self.rows, self.state))
    }

    /// Adds one command.
    pub(super) fn add(&mut self, command: &'a Command) -> Result<Outcome, StoreError> {
        match command {
            Command::Open(change, _) => self.open(change).map(Outcome::Opened),
            Command::Record(both, _) => self.record(both).map(Outcome::Opened),
            Command::End(change, _) => self.end(change).map(Outcome::Ended),
            Command::Redeem(change, _) => self.redeem(change).map(Outcome::Redeemed),
            Command::EndAllOf(owner, closing, _) => {
                self.end_all_of(owner, closing).map(Outcome::EndedAll)
            }
            Command::Probe(at, _) => {
                self.rows.probed_at = Some(*at);
                Ok(Outcome::Done)
            }
        }
    }

    fn open(&mut self, change: &'a Change<Opening>) -> Result<Opened, StoreError> {
        let opening = &change.what;
        let question = (opening.scope.clone(), opening.nonce.clone());
        if let Some((before, digest)) = self.state.nonces.get(&question) {
            return Ok(if *digest == opening.request_digest {
                Opened::Same(*before)
            } else {
                Opened::OtherBody
            });
        }
        if !self.enter_session(opening) {
            return Ok(Opened::SessionTaken);
        }
        let stop = self.ask_in_turn(opening);
        let status = follow(None, ReviewEvent::Opened)?;
        let id = opening.review_id;
        self.append(&Line {
            tenant: &opening.scope.tenant,
            review_id: id,
            event: ReviewEvent::Opened,
            at: opening.created_at.as_millisecond(),
            body: &change.body,
        });
        self.state
            .nonces
            .insert(question, (id, opening.request_digest));
        self.state.last_no += 1;
        let known = Known {
            no: self.state.last_no,
            row: Some(self.rows.opened.len()),
            scope: opening.scope.clone(),
            nonce: opening.nonce.clone(),
            session_id: opening.session_id.clone(),
            turn: Some(opening.turn.key),
            words: opening.words,
            action_digest: opening.action_digest,
            owner: opening.owner.clone(),
            status,
            completed_at: None,
            expires_at: None,
            redeemed: None,
        };
        self.rows.opened.push(OpenedRow {
            no: known.no,
            opening,
            end: None,
        });
        self.state.reviews.insert(id, known);
        match stop {
            None => Ok(Opened::New),
            Some(verdict) => self.stop(opening, verdict),
        }
    }

    /// Opens the session or goes on in it, and hears what the user said; `false` where it is another caller's.
    fn enter_session(&mut self, opening: &'a Opening) -> bool {
        let Some(session) = &opening.session_id else {
            return true;
        };
        let key = (opening.scope.tenant.clone(), session.clone());
        match self.state.sessions.get(&key) {
            Some(known) if known.caller != opening.scope.caller => return false,
            Some(known) if opening.words.is_none() || known.words == opening.words => {}
            Some(_other_words) => {
                self.rows.said.push(opening);
                self.hear(key, opening);
            }
            None => {
                self.rows.sessions.push(opening);
                self.hear(key, opening);
            }
        }
        true
    }

    fn hear(&mut self, key: (TenantId, String), opening: &Opening) {
        let session = Session {
            caller: opening.scope.caller.clone(),
            words: opening.words,
        };
        self.state.sessions.insert(key, session);
    }

    /// Counts the question in its turn; how it ends at once where the turn takes nothing on any more.
    fn ask_in_turn(&mut self, opening: &'a Opening) -> Option<Verdict> {
        let turn = &opening.turn;
        let breaker = self.state.turns.entry(turn.key);
        let breaker = breaker.or_insert_with(|| turn.breaker());
        breaker.limit(turn.limits);
        if let Err(tripped) = breaker.check(opening.created_at.as_millisecond()) {
            return Some(Verdict::failed(turns::stopped(tripped, turn)));
        }
        breaker.opened();
        self.rows.turns.insert(
            turn.key,
            TurnRow {
                opening: Some(opening),
                at: opening.created_at,
                state: String::new(),
            },
        );
        None
    }

    fn stop(&mut self, opening: &Opening, verdict: Verdict) -> Result<Opened, StoreError> {
        let ending = Ending {
            review_id: opening.review_id,
            scope: opening.scope.clone(),
            verdict: verdict.clone(),
            completed_at: opening.created_at,
            expires_at: opening.created_at,
            exhibit: None,
            without_leave: None,
            tally: Tally::Counted,
        };
        self.write_end(&ending, &bodies::ended(&ending)?)?;
        Ok(Opened::Stopped(Box::new(RecordedEnd {
            verdict,
            completed_at: ending.completed_at,
            expires_at: ending.expires_at,
        })))
    }

    /// Both events, one after the other, in this one transaction; neither, where the opening is refused.
    fn record(&mut self, both: &'a Recording) -> Result<Opened, StoreError> {
        let opened = self.open(&both.opening)?;
        if opened == Opened::New {
            self.end(&both.ending)?;
        }
        Ok(opened)
    }

    fn end(&mut self, change: &'a Change<Ending>) -> Result<Ended, StoreError> {
        let ending = &change.what;
        let known = self.state.reviews.get(&ending.review_id);
        let known = known.ok_or(StoreError::Corrupt("a review that ends was never opened"))?;
        if known.scope != ending.scope {
            return Err(StoreError::Corrupt("a review ends for another caller"));
        }
        if known.status.is_terminal() {
            return Ok(Ended::Before);
        }
        let no = known.no;
        let instead = if self.is_stale(ending) {
            Some(Verdict::failed(turns::stale()))
        } else {
            self.spend_leave(ending)?
        };
        match &instead {
            Some(verdict) => {
                let other = Ending {
                    verdict: verdict.clone(),
                    ..ending.clone()
                };
                self.write_end(&other, &bodies::ended(&other)?)?;
            }
            None => self.write_end(ending, &change.body)?,
        }
        if let Some(exhibit) = &ending.exhibit {
            self.rows.exhibits.push((no, exhibit));
        }
        Ok(instead.map_or(Ended::Recorded, |verdict| Ended::Instead(Box::new(verdict))))
    }

    /// Spends the leave that an approval leans on, in the approval's own transaction: either both are on record, or
    /// neither. How the review ends where there is none to spend.
    fn spend_leave(&mut self, ending: &Ending) -> Result<Option<Verdict>, StoreError> {
        let Some(denied) = ending.verdict.lifts else {
            return Ok(None);
        };
        let known = self.state.reviews.get(&ending.review_id);
        let key = known.map(|known| LeaveKey {
            scope: known.scope.clone(),
            session_id: known.session_id.clone(),
            action_digest: known.action_digest,
        });
        let leave = self.state.leaves.remove(&denied);
        let leave = leave.filter(|leave| {
            Some(&leave.key) == key.as_ref() && ending.completed_at < leave.expires_at
        });
        if leave.is_none() {
            let verdict = ending.without_leave.as_deref().cloned();
            let unsaid = StoreError::Corrupt("a lifted denial that nobody knows");
            return verdict.ok_or(unsaid).map(Some);
        }
        self.rows.spent.push((denied, ending.review_id));
        self.append(&Line {
            tenant: &ending.scope.tenant,
            review_id: denied,
            event: ReviewEvent::LeaveSpent,
            at: ending.completed_at.as_millisecond(),
            body: &bodies::leave_spent(ending.review_id)?,
        });
        Ok(None)
    }

    /// Whether an approval was judged under other words than the user's last in the session. A person who approves has
    /// the last word themselves.
    fn is_stale(&self, ending: &Ending) -> bool {
        let approved = ending.verdict.status == ReviewStatus::Approved
            && ending.verdict.decided_by != DecidedBy::Person;
        let known = self.state.reviews.get(&ending.review_id);
        let Some((known, session)) = known.and_then(|known| {
            let key = (known.scope.tenant.clone(), known.session_id.clone()?);
            Some((known, self.state.sessions.get(&key)?))
        }) else {
            return false;
        };
        approved && known.words.is_some() && known.words != session.words
    }

    fn end_all_of(
        &mut self,
        owner: &OwnerId,
        closing: &Closing,
    ) -> Result<Vec<Ending>, StoreError> {
        let open: Vec<_> = self
            .state
            .reviews
            .iter()
            .filter(|(_, known)| known.owner == *owner && !known.status.is_terminal())
            .map(|(id, known)| (*id, known.scope.clone()))
            .collect();
        let mut ended = Vec::with_capacity(open.len());
        for (review_id, scope) in &open {
            let ending = Ending {
                review_id: *review_id,
                scope: scope.clone(),
                verdict: closing.verdict.clone(),
                completed_at: closing.at,
                expires_at: closing.at,
                exhibit: None,
                without_leave: None,
                tally: Tally::Counted,
            };
            let body = bodies::ended(&ending)?;
            self.write_end(&ending, &body)?;
            ended.push(ending);
        }
        Ok(ended)
    }

    fn write_end(&mut self, ending: &Ending, body: &str) -> Result<(), StoreError> {
        let event = ending.verdict.event();
        let event = event.ok_or(StoreError::Corrupt("a verdict that decides nothing"))?;
        let status = follow(Some(ReviewStatus::Reviewing), event)?;
        let ended_seq = self.append(&Line {
            tenant: &ending.scope.tenant,
            review_id: ending.review_id,
            event,
            at: ending.completed_at.as_millisecond(),
            body,
        });
        let known = self.state.reviews.get_mut(&ending.review_id);
        let known = known.ok_or(StoreError::Corrupt("a review that ends was never opened"))?;
        known.status = status;
        known.completed_at = Some(ending.completed_at);
        known.expires_at = Some(ending.expires_at);
        if ending.tally == Tally::Counted
            && let Some(key) = known.turn
            && let Some(breaker) = self.state.turns.get_mut(&key)
            && breaker.note(status, ending.completed_at.as_millisecond())
        {
            let row = self.rows.turns.entry(key);
            row.or_insert(TurnRow {
                opening: None,
                at: ending.completed_at,
                state: String::new(),
            });
        }
        let row = EndedRow {
            no: known.no,
            status,
            ended_seq,
            completed_at: ending.completed_at,
            expires_at: ending.expires_at,
        };
        match known.row.and_then(|row| self.rows.opened.get_mut(row)) {
            Some(opened) => opened.end = Some(row),
            None => self.rows.ended.push(row),
        }
        Ok(())
    }

    fn redeem(&mut self, change: &'a Change<Redemption>) -> Result<Redeemed, StoreError> {
        let wanted = &change.what;
        let Some(known) = self.state.reviews.get_mut(&wanted.review_id) else {
            return Ok(Redeemed::Unknown);
        };
        if known.scope != wanted.scope {
            return Ok(Redeemed::Unknown);
        }
        if let Err(refusal) = known.spendable(wanted) {
            return Ok(Redeemed::Refused(refusal));
        }
        follow(Some(known.status), ReviewEvent::Redeemed)?;
        known.redeemed = Some(wanted.at);
        self.rows.redeemed.push((known.no, wanted.at));
        let (nonce, tenant) = (known.nonce.clone(), known.scope.tenant.clone());
        self.append(&Line {
            tenant: &tenant,
            review_id: wanted.review_id,
            event: ReviewEvent::Redeemed,
            at: wanted.at.as_millisecond(),
            body: &change.body,
        });
        Ok(Redeemed::Spent(nonce))
    }

    /// Adds a line to its tenant's chain; its number.
    fn append(&mut self, line: &Line<'_>) -> i64 {
        let head = self.state.heads.get(line.tenant).copied();
        let head = head.unwrap_or(Head::EMPTY).after(line);
        self.state.heads.insert(line.tenant.clone(), head);
        self.rows.events.push(EventRow {
            tenant: line.tenant.clone(),
            head,
            review_id: line.review_id,
            event: line.event,
            at: line.at,
            body: line.body.to_owned(),
        });
        head.seq
    }
}

impl Known {
    /// Whether the approval, if it is one, can be spent as wanted.
    fn spendable(&self, wanted: &Redemption) -> Result<(), RedeemRefusal> {
        let (ReviewStatus::Approved, Some(given), Some(expires)) =
            (self.status, self.completed_at, self.expires_at)
        else {
            return Err(RedeemRefusal::NotApproved);
        };
        if self.action_digest != wanted.action_digest {
            return Err(RedeemRefusal::OtherAction);
        }
        if self.session_id != wanted.session_id {
            return Err(RedeemRefusal::OtherSession);
        }
        if self.redeemed.is_some() {
            return Err(RedeemRefusal::AlreadySpent);
        }
        // A clock that was set back would stretch the time; it ends it instead.
        if wanted.at >= expires || given.duration_since(wanted.at) > CLOCK_SLACK {
            return Err(RedeemRefusal::Expired);
        }
        Ok(())
    }
}

fn follow(before: Option<ReviewStatus>, event: ReviewEvent) -> Result<ReviewStatus, StoreError> {
    ReviewStatus::after(before, event).ok_or(StoreError::Corrupt("an event that cannot follow"))
}
