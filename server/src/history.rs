//! What admins ask for, between the store and those who show it: pages, details, sums, exports.
//!
//! Apart from the API, because the command line asks the same of the same store. Pure but for the store's reads.

use std::collections::BTreeMap;

use jiff::Timestamp;
use protocol::{
    LetGo, ModelCost, ReviewDetail, ReviewPage, Sha256Hex, Stats, TenantId, TimelineEntry,
    VerifyAnswer, WithCount,
};

use crate::key::SigningKey;
use crate::resource::resource;
use crate::store::search::Search;
use crate::store::sqlite::history::{Detail, Verified, What};
use crate::store::{Found, Sight, SqliteStore, StoreError};

pub(crate) mod export;

/// How many programs and hosts are told.
const TOP: usize = 20;

/// Whether a page says how many there are in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counting {
    Wanted,
    Unwanted,
}

/// A page of what `search` finds.
pub(crate) async fn page(
    store: &SqliteStore,
    key: &SigningKey,
    sight: &Sight,
    (search, counting): (&Search, Counting),
) -> Result<WithCount<ReviewPage>, StoreError> {
    let behind = store.catch_up().await?;
    let found = store.find(sight, search).await?;
    let count = match counting {
        Counting::Wanted => {
            let everything = Search {
                before: None,
                ..search.clone()
            };
            Some(store.count(sight, &everything).await?)
        }
        Counting::Unwanted => None,
    };
    Ok(WithCount {
        page: told(found, key),
        count,
        behind,
    })
}

/// What was found as a page.
pub(crate) fn told(found: Found, key: &SigningKey) -> ReviewPage {
    let entries = found.lines.into_iter().map(|line| {
        let review = resource(&line.recorded, key);
        line.into_entry(review)
    });
    ReviewPage {
        reviews: entries.collect(),
        next_before: found.next_before,
    }
}

/// Everything about one review, as it is told.
pub(crate) fn detail(detail: Detail, key: &SigningKey) -> ReviewDetail {
    let timeline = detail.events.into_iter().map(|event| TimelineEntry {
        seq: event.seq,
        kind: event.kind,
        at: event.at,
        body: event.body,
        hash: Sha256Hex::of(&event.hash).into(),
    });
    ReviewDetail {
        review: resource(&detail.recorded, key),
        redeemed_at: detail.recorded.redeemed_at,
        question: detail.question,
        context: detail.context,
        exhibit: detail.exhibit,
        timeline: timeline.collect(),
    }
}

/// The sums of `tenant`.
pub(crate) async fn stats(
    store: &SqliteStore,
    tenant: &TenantId,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
) -> Result<Stats, StoreError> {
    let behind = store.catch_up().await?;
    let sums = store.sums(tenant, since, until).await?;
    let shadows = store.shadows(tenant, since, until).await?;
    Ok(Stats {
        shadows,
        ..fold(sums, behind)
    })
}

fn fold(sums: Vec<(What, String, i64)>, behind: u64) -> Stats {
    let mut by: BTreeMap<What, Vec<(String, i64)>> = BTreeMap::new();
    for (what, value, count) in sums {
        by.entry(what).or_default().push((value, count));
    }
    let mut take = |what| by.remove(&what).unwrap_or_default();
    let by_status: BTreeMap<_, _> = take(What::Status).into_iter().collect();
    let reviews: i64 = by_status.values().sum();
    let not_judged: i64 = ["failed", "timed_out"]
        .into_iter()
        .filter_map(|status| by_status.get(status))
        .sum();
    let mut models: BTreeMap<String, ModelCost> = BTreeMap::new();
    for (model, calls) in take(What::ModelCalls) {
        models.entry(model).or_default().calls = calls;
    }
    for (model, tokens) in take(What::InputTokens) {
        models.entry(model).or_default().input_tokens = tokens;
    }
    for (model, tokens) in take(What::OutputTokens) {
        models.entry(model).or_default().output_tokens = tokens;
    }
    let top = |mut list: Vec<_>| {
        list.truncate(TOP);
        list
    };
    Stats {
        reviews,
        not_judged_share: share(not_judged, reviews),
        latency_ms: percentiles(take(What::Latency)),
        by_decided_by: take(What::DecidedBy).into_iter().collect(),
        by_risk: take(What::Risk).into_iter().collect(),
        by_failed_step: take(What::FailedStep).into_iter().collect(),
        denied_programs: top(take(What::DeniedProgram)),
        denied_hosts: top(take(What::DeniedHost)),
        by_status,
        models,
        shadows: BTreeMap::new(),
        behind,
    }
}

fn share(part: i64, whole: i64) -> Option<f64> {
    let (part, whole) = (u32::try_from(part).ok()?, u32::try_from(whole).ok()?);
    (whole > 0).then(|| f64::from(part) / f64::from(whole))
}

fn percentiles(buckets: Vec<(String, i64)>) -> BTreeMap<String, u64> {
    let mut buckets: Vec<(u64, i64)> = buckets
        .into_iter()
        .filter_map(|(least, count)| Some((least.parse().ok()?, count)))
        .collect();
    buckets.sort_unstable();
    let total: i64 = buckets.iter().map(|(_, count)| count).sum();
    let at = |percent: i64| {
        let mut left = total.saturating_mul(percent).div_euclid(100);
        buckets.iter().find_map(|(least, count)| {
            left -= count;
            (left < 0).then_some(*least)
        })
    };
    let wanted = [("p50", 50), ("p90", 90), ("p99", 99)];
    let found = wanted
        .into_iter()
        .filter_map(|(name, percent)| Some((name.to_owned(), at(percent)?)));
    found.collect()
}

/// What a verification found, as it is told.
pub(crate) fn verified(verified: Verified, let_go_by: Vec<LetGo>) -> VerifyAnswer {
    VerifyAnswer {
        holds: verified.broken.is_none(),
        lines: verified.lines,
        head: verified.head,
        broken: verified
            .broken
            .map(|broken| (broken.seq, broken.what.to_owned())),
        erased: verified.erased,
        let_go: verified.let_go,
        let_go_by,
    }
}

#[cfg(test)]
mod tests {
    use super::fold;
    use crate::store::sqlite::history::What;

    #[test]
    fn sums_become_rates_and_percentiles() {
        let sum = |what, value: &str, count| (what, value.to_owned(), count);
        let stats = fold(
            vec![
                sum(What::Status, "approved", 6),
                sum(What::Status, "failed", 3),
                sum(What::Status, "timed_out", 1),
                sum(What::Latency, "2", 90),
                sum(What::Latency, "900", 9),
                sum(What::Latency, "88000", 1),
                sum(What::ModelCalls, "m", 4),
                sum(What::OutputTokens, "m", 70),
            ],
            0,
        );
        assert_eq!((stats.reviews, stats.not_judged_share), (10, Some(0.4)));
        let latency: Vec<_> = stats.latency_ms.values().copied().collect();
        assert_eq!(latency, [2, 900, 88_000]);
        assert_eq!(
            (stats.models["m"].calls, stats.models["m"].output_tokens),
            (4, 70)
        );
        assert_eq!(fold(Vec::new(), 0).not_judged_share, None);
    }
}
