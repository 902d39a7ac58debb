//! Connections to origins that wait for another plain request ([`Pool`]).
//!
//! Apart because what is kept here was vetted under one policy and may be used under that policy only.
//! INVARIANT: a connection is taken by destination and policy number, never by address; one that has anything to read is dead.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::host::Destination;
use crate::wire::Buffered;

/// How long a connection may wait.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How many wait for one destination.
const MOST_ALIKE: usize = 16;
/// How many wait in all.
const MOST: usize = 64;

/// What a connection is good for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PoolKey {
    pub(crate) epoch: u64,
    pub(crate) to: Destination,
}

/// The waiting connections of one execution.
#[derive(Debug, Default)]
pub(crate) struct Pool(Mutex<HashMap<PoolKey, Vec<(TcpStream, Instant)>>>);

impl Pool {
    /// Takes a live connection, the one that waits the shortest.
    pub(crate) fn take(&self, key: &PoolKey) -> Option<Buffered<TcpStream>> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let alike = waiting.get_mut(key)?;
        while let Some((stream, since)) = alike.pop() {
            let quiet = matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock);
            if quiet && since.elapsed() < LONGEST_WAIT {
                return Some(Buffered::new(stream));
            }
        }
        let _empty = waiting.remove(key);
        None
    }

    /// Puts a connection back, where there is room and nothing is left unread.
    pub(crate) fn put(&self, key: PoolKey, connection: Buffered<TcpStream>) {
        if !connection.bytes.is_empty() {
            return;
        }
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.values().map(Vec::len).sum::<usize>() >= MOST {
            waiting.retain(|_, alike| {
                alike.retain(|(_, since)| since.elapsed() < LONGEST_WAIT);
                !alike.is_empty()
            });
        }
        let room = waiting.values().map(Vec::len).sum::<usize>() < MOST;
        let alike = waiting.entry(key).or_default();
        if room && alike.len() < MOST_ALIKE {
            alike.push((connection.stream, Instant::now()));
        }
    }

    /// Drops all: the policy has changed.
    pub(crate) fn clear(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}
