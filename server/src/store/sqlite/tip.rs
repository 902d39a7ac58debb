//! What the writer knows of the database without asking: where the chains ended when it last wrote.
//!
//! Apart, because it makes the short way short: a batch that only opens reviews is written without reading first, which
//! saves a hop to SQLite's thread and back. Invariant: what is known here may be out of date, and then nothing is
//! written by it. Every part is held by a unique key that the rows would break: the number of the line (a head that
//! another process moved on, as whoever counts in a turn or hears a user's words does), the number of the review, the
//! nonce, the session.

use super::super::Opening;
use super::batch::State;
use super::command::Command;

/// How many sessions are remembered; forgetting costs a read.
const SESSIONS: usize = 4_096;
/// How many turns are.
const TURNS: usize = 256;

/// Where things stood after the last batch.
#[derive(Debug, Default)]
pub(super) struct Tip(Option<State>);

impl Tip {
    /// What is known after a batch that was written.
    pub(super) fn after(written: State) -> Self {
        let sessions = if written.sessions.len() <= SESSIONS {
            written.sessions
        } else {
            std::collections::HashMap::new()
        };
        let turns = if written.turns.len() <= TURNS {
            written.turns
        } else {
            std::collections::HashMap::new()
        };
        Self(Some(State {
            turns,
            last_no: written.last_no,
            heads: written.heads,
            sessions,
            ..State::default()
        }))
    }

    /// What `batch` may be tried on without reading, where that is enough for it. Nothing is known any more then, until
    /// the batch is written.
    pub(super) fn take_for(&mut self, batch: &[Command]) -> Option<State> {
        let known = self.0.take()?;
        let enough = batch.iter().all(|command| {
            let opens = command.opening();
            opens.is_some_and(|opening| {
                known.heads.contains_key(&opening.scope.tenant)
                    && known.turns.contains_key(&opening.turn.key)
                    && knows_session(&known, opening)
            })
        });
        if enough { Some(known) } else { None }
    }
}

/// A session that is not known here must be read first, for what the user last said in it.
fn knows_session(known: &State, opening: &Opening) -> bool {
    opening.session_id.as_ref().is_none_or(|session| {
        let key = (opening.scope.tenant.clone(), session.clone());
        known.sessions.contains_key(&key)
    })
}
