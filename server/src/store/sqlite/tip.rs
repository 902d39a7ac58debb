//! What the writer knows of the database without asking: where the chains ended when it last wrote.
//!
//! Apart, because it makes the short way short: a batch that only opens reviews is written without reading first, which
//! saves a hop to SQLite's thread and back. Invariant: what is known here may be out of date, and then nothing is
//! written by it. Every part is held by a unique key that the rows would break: the number of the line (a head that
//! another process moved on), the number of the review, the nonce, the session.

use super::batch::State;
use super::command::Command;

/// How many sessions are remembered. They never change hands, so what is remembered stays true; forgetting costs a read.
const SESSIONS: usize = 4_096;

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
        Self(Some(State {
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
            opens.is_some_and(|opening| known.heads.contains_key(&opening.scope.tenant))
        });
        if enough { Some(known) } else { None }
    }
}
