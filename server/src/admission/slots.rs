//! How many reviews models are asked about at once, and who is next: one of each tenant in turn.
//!
//! Apart, because it is the only queue of the server, and what deadlines are held against. Invariants: a free slot and
//! somebody who waits for it never stand beside each other; a tenant that asks much makes no other tenant wait for more
//! than one review of its own at a time.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use protocol::TenantId;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// The share of one more review in the mean: an eighth.
const WEIGHT: u32 = 8;

/// The slots of one server.
#[derive(Debug, Clone)]
pub(crate) struct Slots(Arc<Mutex<State>>);

#[derive(Debug)]
pub(super) struct State {
    all: u32,
    free: u32,
    waiting: BTreeMap<TenantId, VecDeque<oneshot::Sender<Slot>>>,
    last: Option<TenantId>,
    /// How long a slot was held, as a moving mean.
    pub(super) mean: Duration,
}

/// Leave to ask a model; the next one's when it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Slots,
    since: Instant,
}

impl Slots {
    pub(super) fn new(all: NonZeroU32) -> Self {
        Self(Arc::new(Mutex::new(State {
            all: all.get(),
            free: all.get(),
            waiting: BTreeMap::new(),
            last: None,
            mean: Duration::ZERO,
        })))
    }

    /// Waits for a slot. Who stops waiting is passed over.
    pub(crate) async fn take(&self, tenant: &TenantId) -> Slot {
        loop {
            let waiting = {
                let mut state = self.state();
                if state.free > 0 {
                    state.free -= 1;
                    return self.slot();
                }
                let (sender, receiver) = oneshot::channel();
                let queue = state.waiting.entry(tenant.clone()).or_default();
                queue.push_back(sender);
                receiver
            };
            if let Ok(slot) = waiting.await {
                return slot;
            }
        }
    }

    /// How long a question of `tenant` that came now would likely wait.
    pub(crate) fn likely_wait(&self, tenant: &TenantId) -> Duration {
        let mut state = self.state();
        if state.free > 0 {
            return Duration::ZERO;
        }
        // Who went away waits no more, and makes nobody else wait.
        state.waiting.retain(|_, queue| {
            queue.retain(|it| !it.is_closed());
            !queue.is_empty()
        });
        let ahead: usize = state
            .waiting
            .iter()
            .map(|(other, queue)| {
                let own = state.waiting.get(tenant).map_or(0, VecDeque::len);
                if other == tenant {
                    own
                } else {
                    queue.len().min(own + 1)
                }
            })
            .sum();
        let ahead = u32::try_from(ahead).unwrap_or(u32::MAX);
        state.mean.saturating_mul(ahead.saturating_add(1)) / state.all
    }

    fn slot(&self) -> Slot {
        Slot {
            slots: self.clone(),
            since: Instant::now(),
        }
    }

    pub(super) fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Who waits longest of the tenant that is next after the last one.
    fn next(&mut self) -> Option<oneshot::Sender<Slot>> {
        let after = self.last.take();
        let following = after.as_ref().and_then(|after| {
            let rest = (std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded);
            self.waiting.range::<TenantId, _>(rest).next()
        });
        let (tenant, _) = following.or_else(|| self.waiting.iter().next())?;
        let tenant = tenant.clone();
        let queue = self.waiting.get_mut(&tenant)?;
        let sender = queue.pop_front();
        if queue.is_empty() {
            self.waiting.remove(&tenant);
        }
        self.last = Some(tenant);
        sender
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let held = self.since.elapsed();
        let mut next = {
            let mut state = self.slots.state();
            state.mean = if state.mean.is_zero() {
                held
            } else {
                (state.mean * (WEIGHT - 1) + held) / WEIGHT
            };
            pass_on(&mut state)
        };
        // Handed over outside the lock: a slot that nobody takes is dropped here, and then passed on again.
        if let Some(sender) = next.take() {
            drop(sender.send(self.slots.slot()));
        }
    }
}

/// Who gets the slot; where nobody waits it is free.
fn pass_on(state: &mut State) -> Option<oneshot::Sender<Slot>> {
    while let Some(sender) = state.next() {
        if !sender.is_closed() {
            return Some(sender);
        }
    }
    state.free += 1;
    None
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use protocol::TenantId;
    use tokio::task::JoinSet;

    use super::Slots;

    fn tenant(name: &str) -> TenantId {
        TenantId::parse(name).expect("a tenant")
    }

    #[tokio::test]
    async fn tenants_take_turns_however_many_questions_one_has() {
        let slots = Slots::new(NonZeroU32::MIN);
        let first = slots.take(&tenant("greedy")).await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        for name in ["greedy", "greedy", "greedy", "small", "tiny"] {
            let (slots, order) = (slots.clone(), Arc::clone(&order));
            tasks.spawn(async move {
                let slot = slots.take(&tenant(name)).await;
                order.lock().expect("a list").push(name);
                drop(slot);
            });
            tokio::task::yield_now().await;
        }
        drop(first);
        while tasks.join_next().await.is_some() {}
        let order = order.lock().expect("a list").clone();
        assert_eq!(order, ["greedy", "small", "tiny", "greedy", "greedy"]);
        assert_eq!(slots.state().free, 1, "every slot came back");
    }

    #[tokio::test]
    async fn who_goes_away_while_waiting_loses_no_slot() {
        let slots = Slots::new(NonZeroU32::MIN);
        let held = slots.take(&tenant("a")).await;
        for _ in 0..3 {
            let tired = tokio::time::timeout(Duration::from_millis(1), async {
                drop(slots.take(&tenant("a")).await);
            });
            assert!(tired.await.is_err());
        }
        drop(held);
        assert_eq!(slots.state().free, 1);
        drop(slots.take(&tenant("b")).await);
    }

    #[tokio::test]
    async fn who_went_away_makes_nobody_wait() {
        let slots = Slots::new(NonZeroU32::MIN);
        let _held = slots.take(&tenant("a")).await;
        slots.state().mean = Duration::from_secs(8);
        for _ in 0..50 {
            let tired = tokio::time::timeout(Duration::from_millis(1), async {
                drop(slots.take(&tenant("a")).await);
            });
            assert!(tired.await.is_err());
        }
        assert_eq!(slots.likely_wait(&tenant("a")), Duration::from_secs(8));
        assert_eq!(slots.likely_wait(&tenant("b")), Duration::from_secs(8));
    }

    #[tokio::test]
    async fn the_wait_of_a_tenant_does_not_grow_with_the_queue_of_another() {
        let slots = Slots::new(NonZeroU32::MIN);
        let _held = slots.take(&tenant("a")).await;
        slots.state().mean = Duration::from_secs(8);
        let mut tasks = JoinSet::new();
        for _ in 0..50 {
            let slots = slots.clone();
            tasks.spawn(async move { drop(slots.take(&tenant("a")).await) });
        }
        while slots
            .state()
            .waiting
            .values()
            .map(std::collections::VecDeque::len)
            .sum::<usize>()
            < 50
        {
            tokio::task::yield_now().await;
        }
        assert_eq!(slots.likely_wait(&tenant("b")), Duration::from_secs(16));
        assert_eq!(slots.likely_wait(&tenant("a")), Duration::from_secs(8 * 51));
        tasks.abort_all();
    }
}
