//! How often a caller and a tenant may ask: the generic cell rate algorithm, one instant for each.
//!
//! Apart and pure: time is handed in. Invariant: a refused question moves nobody's instant.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

use super::{PerMinute, Refused};
use crate::store::Scope;

/// What may be saved up: the questions of one minute.
const SAVED: Duration = Duration::from_secs(60);
/// From how many entries on those that say nothing any more are dropped.
const MANY: usize = 4_096;

/// Who asked how often.
#[derive(Debug)]
pub(super) struct Rates {
    of_caller: PerMinute,
    of_tenant: PerMinute,
    /// When each would have asked last, had it asked evenly.
    even: HashMap<Scope, Instant>,
    even_of_tenants: HashMap<protocol::TenantId, Instant>,
}

impl Rates {
    pub(super) fn new(of_caller: PerMinute, of_tenant: PerMinute) -> Self {
        Self {
            of_caller,
            of_tenant,
            even: HashMap::new(),
            even_of_tenants: HashMap::new(),
        }
    }

    /// Counts one question of `scope`.
    pub(super) fn count(&mut self, scope: &Scope, now: Instant) -> Result<(), Refused> {
        let before = self.even.get(scope).copied();
        let caller = next(self.of_caller, before, now)?;
        let before = self.even_of_tenants.get(&scope.tenant).copied();
        let tenant = next(self.of_tenant, before, now)?;
        if self.even.len() >= MANY {
            self.even.retain(|_, even| *even > now);
        }
        if let Some(even) = caller {
            self.even.insert(scope.clone(), even);
        }
        if let Some(even) = tenant {
            self.even_of_tenants.insert(scope.tenant.clone(), even);
        }
        Ok(())
    }
}

/// The instant after one more question at `now`; `None` where there is no limit.
fn next(
    limit: PerMinute,
    before: Option<Instant>,
    now: Instant,
) -> Result<Option<Instant>, Refused> {
    let Some(limit) = limit.map(NonZeroU32::get) else {
        return Ok(None);
    };
    let even = before.map_or(now, |before| before.max(now)) + SAVED / limit;
    let ahead = even.duration_since(now);
    match ahead.checked_sub(SAVED) {
        Some(over) if !over.is_zero() => Err(Refused::TooOften(over)),
        Some(_) | None => Ok(Some(even)),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use protocol::{CallerId, TenantId};
    use tokio::time::Instant;

    use super::{Rates, Refused};
    use crate::store::Scope;

    fn scope(tenant: &str, caller: &str) -> Scope {
        Scope {
            tenant: TenantId::parse(tenant).expect("a tenant"),
            caller: CallerId::stored(caller.to_owned()),
        }
    }

    #[test]
    fn a_minutes_worth_may_come_at_once_and_then_one_at_a_time() {
        let mut rates = Rates::new(NonZeroU32::new(6), None);
        let (start, one) = (Instant::now(), scope("a", "x"));
        for _ in 0..6 {
            assert_eq!(rates.count(&one, start), Ok(()));
        }
        let ten = Duration::from_secs(10);
        assert_eq!(rates.count(&one, start), Err(Refused::TooOften(ten)));
        assert_eq!(rates.count(&scope("a", "y"), start), Ok(()), "its own rate");
        assert_eq!(rates.count(&one, start + ten), Ok(()));
        assert!(rates.count(&one, start + ten).is_err());
        assert_eq!(rates.count(&one, start + ten * 100), Ok(()));
    }

    #[test]
    fn a_tenants_callers_share_its_rate_and_no_other_tenants() {
        let mut rates = Rates::new(None, NonZeroU32::new(2));
        let start = Instant::now();
        assert_eq!(rates.count(&scope("a", "x"), start), Ok(()));
        assert_eq!(rates.count(&scope("a", "y"), start), Ok(()));
        assert!(rates.count(&scope("a", "z"), start).is_err());
        assert_eq!(rates.count(&scope("b", "x"), start), Ok(()));
    }
}
