//! Who holds how much of the room for reviews that are being judged.
//!
//! Apart and pure. A tenant may hold at most four times what is left free: alone it gets four fifths of the room, so that
//! whoever comes second always finds some; two that want everything get four ninths each. (The dynamic thresholds of
//! Choudhury and Hahne, IEEE/ACM Transactions on Networking, April 1998, for the buffers of switches.) Invariant: what is
//! held never exceeds the room.

use std::collections::HashMap;

use protocol::TenantId;

use super::Refused;

/// A tenant may hold this many times what is free.
const SHARE: u64 = 4;

/// The room, in KiB.
#[derive(Debug)]
pub(super) struct Rooms {
    free: u32,
    held: HashMap<TenantId, u32>,
}

impl Rooms {
    pub(super) fn new(kibibytes: u32) -> Self {
        Self {
            free: kibibytes,
            held: HashMap::new(),
        }
    }

    /// Whether `tenant` gets `wanted` KiB.
    pub(super) fn check(&self, tenant: &TenantId, wanted: u32) -> Result<(), Refused> {
        let held = self.held.get(tenant).copied().unwrap_or(0);
        let share = SHARE * u64::from(self.free);
        if wanted > self.free || u64::from(held) + u64::from(wanted) > share {
            return Err(Refused::NoRoom);
        }
        Ok(())
    }

    /// Gives `tenant` room that was checked.
    pub(super) fn take(&mut self, tenant: &TenantId, wanted: u32) {
        self.free = self.free.saturating_sub(wanted);
        let held = self.held.entry(tenant.clone()).or_default();
        *held = held.saturating_add(wanted);
    }

    pub(super) fn give_back(&mut self, tenant: &TenantId, kibibytes: u32) {
        self.free = self.free.saturating_add(kibibytes);
        if let Some(held) = self.held.get_mut(tenant) {
            *held = held.saturating_sub(kibibytes);
            if *held == 0 {
                self.held.remove(tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::TenantId;

    use super::Rooms;

    fn fill(rooms: &mut Rooms, name: &str) -> u32 {
        let tenant = TenantId::parse(name).expect("a tenant");
        let mut taken = 0;
        while rooms.check(&tenant, 1).is_ok() {
            rooms.take(&tenant, 1);
            taken += 1;
        }
        taken
    }

    #[test]
    fn who_wants_everything_leaves_a_fifth_and_who_comes_next_a_fifth_of_that() {
        let mut rooms = Rooms::new(1_000);
        assert_eq!(fill(&mut rooms, "greedy"), 800);
        assert_eq!(fill(&mut rooms, "second"), 160);
        assert_eq!(fill(&mut rooms, "greedy"), 0);
    }

    #[test]
    fn what_is_given_back_is_there_again() {
        let mut rooms = Rooms::new(1_000);
        let tenant = TenantId::parse("greedy").expect("a tenant");
        let taken = fill(&mut rooms, "greedy");
        rooms.give_back(&tenant, taken);
        assert_eq!(fill(&mut rooms, "greedy"), taken);
        assert!(rooms.check(&tenant, 2_000).is_err());
    }
}
