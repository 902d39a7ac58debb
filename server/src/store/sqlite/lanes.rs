//! Whose turn it is to read: no tenant takes all the readers.
//!
//! Apart, because lists, searches, exports and verifications all pass here, each for one bounded read at a time and never
//! for longer: who leaves an export unread holds no lane. Invariants: a tenant reads in [`OF_TENANT`] lanes at most and
//! waits in turn for one; whoever holds one never asks for another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use protocol::TenantId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many of the readers one tenant has at a time.
const OF_TENANT: usize = 2;
/// From how many tenants on those that nobody reads for are forgotten.
const REMEMBERED: usize = 64;

/// The lanes of every tenant that reads.
#[derive(Debug, Default)]
pub(super) struct Lanes(Mutex<HashMap<TenantId, Arc<Semaphore>>>);

/// A lane, until it is dropped.
#[derive(Debug)]
pub(super) struct Lane {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Lanes {
    /// A lane of `tenant`, in turn.
    pub(super) async fn enter(&self, tenant: &TenantId) -> Lane {
        let lanes = self.of(tenant);
        // It is never closed.
        Lane {
            _permit: lanes.acquire_owned().await.ok(),
        }
    }

    fn of(&self, tenant: &TenantId) -> Arc<Semaphore> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= REMEMBERED {
            // Who reads or waits holds the semaphore as well.
            all.retain(|_, lanes| Arc::strong_count(lanes) > 1);
        }
        let new = || Arc::new(Semaphore::new(OF_TENANT));
        Arc::clone(all.entry(tenant.clone()).or_insert_with(new))
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use protocol::TenantId;

    use super::{Lanes, OF_TENANT, REMEMBERED};

    #[tokio::test]
    async fn a_tenant_waits_for_its_own_lanes_and_for_nobody_elses() {
        let lanes = Lanes::default();
        let tenant = |number: usize| TenantId::parse(&format!("t{number}")).expect("a name");
        let mut held = Vec::new();
        for _ in 0..OF_TENANT {
            held.push(lanes.enter(&tenant(0)).await);
        }
        let (ours, theirs) = (tenant(0), tenant(1));
        let mut waiting = std::pin::pin!(lanes.enter(&ours));
        assert!(tokio::select! { biased; _ = &mut waiting => false, () = ready(()) => true });
        drop(lanes.enter(&theirs).await);
        // Others come and go, and those who wait are not forgotten.
        for number in 0..3 * REMEMBERED {
            drop(lanes.enter(&tenant(number + 2)).await);
        }
        assert!(tokio::select! { biased; _ = &mut waiting => false, () = ready(()) => true });
        held.pop();
        drop(waiting.await);
        assert!(lanes.0.lock().expect("a map").len() <= REMEMBERED + 1);
    }
}
