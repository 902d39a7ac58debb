//! How often one execution may ask for names: [`NameBudget`].
//!
//! Apart because a name can carry bytes, and a query costs the door something even where it tells nobody anything.
//! INVARIANT: nothing here is given back but by time, and by time only the rate.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use crate::host::HostName;
use crate::limits::Limits;

/// What is left for one execution.
#[derive(Debug)]
pub(crate) struct NameBudget {
    burst: u32,
    per_sec: u32,
    names: usize,
    queries: Mutex<Queries>,
    looked_up: Mutex<HashSet<HostName>>,
}

#[derive(Debug)]
struct Queries {
    /// How many are left in all.
    left: u32,
    /// How many may come at once.
    at_once: u32,
    /// When what came at once was last made up for.
    since: Instant,
    /// Whether somebody was told that no more are answered.
    told: bool,
}

/// Whether there was something left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spent {
    /// There was.
    Within,
    /// There was not, for the first time since there was.
    FirstOver,
    /// There was not.
    Over,
}

impl NameBudget {
    pub(crate) fn new(limits: &Limits, now: Instant) -> Self {
        Self {
            burst: limits.query_burst,
            per_sec: limits.queries_per_sec,
            names: limits.looked_up,
            queries: Mutex::new(Queries {
                left: limits.queries,
                at_once: limits.query_burst,
                since: now,
                told: false,
            }),
            looked_up: Mutex::default(),
        }
    }

    /// Takes one query.
    pub(crate) fn query(&self, now: Instant) -> Spent {
        let mut queries = self.queries.lock().unwrap_or_else(PoisonError::into_inner);
        queries.make_up(now, self.per_sec, self.burst);
        if queries.left == 0 || queries.at_once == 0 {
            let told = std::mem::replace(&mut queries.told, true);
            return if told { Spent::Over } else { Spent::FirstOver };
        }
        queries.left -= 1;
        queries.at_once -= 1;
        Spent::Within
    }

    /// Takes one lookup of a name; one that was looked up before costs nothing.
    pub(crate) fn look_up(&self, name: &HostName) -> Spent {
        let mut names = self
            .looked_up
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if names.contains(name) {
            return Spent::Within;
        }
        if names.len() >= self.names {
            return Spent::Over;
        }
        let _new = names.insert(name.clone());
        Spent::Within
    }
}

impl Queries {
    /// Gives back what time has made up for, in whole queries.
    fn make_up(&mut self, now: Instant, per_sec: u32, burst: u32) {
        let passed = now.saturating_duration_since(self.since);
        let whole = passed.as_millis().saturating_mul(per_sec.into()) / 1000;
        let whole = u32::try_from(whole).unwrap_or(u32::MAX);
        if whole == 0 {
            return;
        }
        self.since = now;
        self.at_once = self.at_once.saturating_add(whole).min(burst);
        if self.at_once == burst && self.left > 0 {
            self.told = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::host::Host;

    fn budget(now: Instant) -> NameBudget {
        let limits = Limits {
            queries: 12,
            query_burst: 4,
            queries_per_sec: 2,
            looked_up: 2,
            ..Limits::default()
        };
        NameBudget::new(&limits, now)
    }

    fn name(text: &str) -> HostName {
        match Host::parse(text.as_bytes()) {
            Ok(Host::Name(name)) => name,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_burst_passes_then_only_what_time_gives_back_and_it_is_told_once() {
        let start = Instant::now();
        let budget = budget(start);
        let ask = |at| budget.query(start + Duration::from_millis(at));
        assert_eq!([0; 6].map(ask), {
            use Spent::{FirstOver, Over, Within};
            [Within, Within, Within, Within, FirstOver, Over]
        });
        assert_eq!(ask(499), Spent::Over);
        assert_eq!(ask(500), Spent::Within);
        assert_eq!(ask(501), Spent::Over);
    }

    #[test]
    fn in_all_no_more_than_the_total_is_answered_however_slowly() {
        let start = Instant::now();
        let budget = budget(start);
        let answered = (0..100_u64)
            .filter(|hour| budget.query(start + Duration::from_secs(hour * 3600)) == Spent::Within)
            .count();
        assert_eq!(answered, 12);
    }

    #[test]
    fn a_name_that_was_looked_up_costs_nothing_and_one_too_many_is_not() {
        let budget = budget(Instant::now());
        for (text, spent) in [
            ("a.test", Spent::Within),
            ("b.test", Spent::Within),
            ("c.test", Spent::Over),
            ("A.test", Spent::Within),
            ("d.test", Spent::Over),
        ] {
            assert_eq!(budget.look_up(&name(text)), spent, "{text}");
        }
    }
}
