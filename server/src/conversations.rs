//! What models were shown in sessions, so that the next review of a session adds only what is new.
//!
//! Apart, because it is a cache: losing it costs tokens and nothing else. Invariants: one caller's session is never shown
//! in another's; it is bounded in number and size, and what was used longest ago goes first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use reviewer::Conversation;

use crate::store::Scope;

/// How many bytes all of them take at most.
const MOST_BYTES: usize = 32 * 1024 * 1024;
/// How many sessions are remembered at most.
const MOST_SESSIONS: usize = 1_024;

/// What models were shown, by session.
#[derive(Debug, Default)]
pub(crate) struct Conversations(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    sessions: HashMap<(Scope, String), Entry>,
    bytes: usize,
    clock: u64,
}

#[derive(Debug)]
struct Entry {
    shown: Arc<Conversation>,
    used: u64,
}

impl Conversations {
    /// What was shown in a caller's session.
    pub(crate) fn of(&self, scope: &Scope, session: &str) -> Option<Arc<Conversation>> {
        let mut kept = self.kept();
        kept.clock += 1;
        let used = kept.clock;
        let entry = kept
            .sessions
            .get_mut(&(scope.clone(), session.to_owned()))?;
        entry.used = used;
        Some(Arc::clone(&entry.shown))
    }

    /// Remembers what has been shown by now. Of reviews that ran side by side, the last one's stays.
    pub(crate) fn keep(&self, scope: &Scope, session: &str, shown: Conversation) {
        let mut kept = self.kept();
        kept.clock += 1;
        kept.bytes += shown.bytes();
        let entry = Entry {
            used: kept.clock,
            shown: Arc::new(shown),
        };
        let before = kept
            .sessions
            .insert((scope.clone(), session.to_owned()), entry);
        kept.forget(before);
        while kept.bytes > MOST_BYTES || kept.sessions.len() > MOST_SESSIONS {
            let oldest = kept.sessions.iter().min_by_key(|(_, entry)| entry.used);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else {
                return;
            };
            let gone = kept.sessions.remove(&oldest);
            kept.forget(gone);
        }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        // A cache is whole after every statement, or has counted too much, which costs room and nothing else.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn forget(&mut self, entry: Option<Entry>) {
        if let Some(entry) = entry {
            self.bytes = self.bytes.saturating_sub(entry.shown.bytes());
        }
    }
}
