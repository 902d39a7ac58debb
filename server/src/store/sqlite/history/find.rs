//! Looks reviews up by the index and reads them from the record.
//!
//! Invariant: the index only says which rows to read; what is answered comes from the chained events.

use axum::body::Bytes;
use jiff::Timestamp;
use protocol::{ReviewId, ReviewStatus};
use sqlx::{QueryBuilder, Sqlite};

use super::super::super::search::{Facet, Search};
use super::super::super::{Found, HistoryLine, Sight, StoreError};
use super::super::sized::{LISTED, fitting, look_up, numbers};
use super::super::{SqliteStore, read, sql};
use super::packed::{Packed, Unpacked, Wanted};
use crate::backtest::Stored;

/// How far a count goes; more are told as this many.
const MOST: i64 = 10_001;

/// The last review that is surely too old, and the first that is surely too new. Before a review that is older than
/// `since` by more than times were ever out of step there is none that is not; the same the other way round.
const BOUNDS: &str = "SELECT \
    (SELECT review_no FROM history INDEXED BY history_by_time WHERE tenant_id = ?1 \
     AND created_at < ?2 - ifnull((SELECT disorder FROM history_state WHERE tenant_id = ?1), 0) \
     ORDER BY created_at DESC LIMIT 1), \
    (SELECT review_no FROM history INDEXED BY history_by_time WHERE tenant_id = ?1 \
     AND created_at >= ?3 + ifnull((SELECT disorder FROM history_state WHERE tenant_id = ?1), 0) \
     ORDER BY created_at LIMIT 1)";

/// Between which numbers the reviews lie that a search can still find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stretch {
    from: i64,
    to: i64,
}

impl Stretch {
    /// What is left of it before the review `number`; nothing where there is none.
    pub(super) fn before(self, number: Option<i64>) -> Self {
        Self {
            to: number.unwrap_or(self.from) - 1,
            ..self
        }
    }
}

impl SqliteStore {
    /// What `search` finds of what `sight` covers, newest first: fewer than are asked for where they are large.
    pub(crate) async fn find(&self, sight: &Sight, search: &Search) -> Result<Found, StoreError> {
        let _lane = self.lanes.enter(sight.tenant()).await;
        let stretch = self.stretch(sight, search).await?;
        let one_more = search.limit.saturating_add(1);
        let found = look_up(&self.readers, |query| {
            query.push("SELECT r.review_no AS no, ifnull(octet_length(q.question), 0) AS size");
            push_found(query, (sight, search), stretch, one_more);
        });
        let found = found.await?;
        let limit = usize::try_from(search.limit).unwrap_or(usize::MAX);
        let fits = fitting(found.iter().copied(), (limit, LISTED));
        let (shown, more) = found.split_at_checked(fits).unwrap_or_default();
        let query = Packed::new(Wanted::Question, |query| {
            query
                .push(" FROM json_each(")
                .push_bind(numbers(shown))
                .push(
                    ") n CROSS JOIN reviews r ON r.review_no = n.value \
                     LEFT JOIN review_requests q ON q.review_no = r.review_no",
                )
                .push(read::ENDED_BY)
                .push(" WHERE true");
            push_record(query, sight, search);
        });
        let shown = query.fetch(&self.readers, sight.tenant()).await?;
        let lines = shown.into_iter().map(|it| {
            let question = read::question(it.question.as_deref().unwrap_or_default())?;
            Ok(HistoryLine {
                recorded: it.recorded,
                question,
            })
        });
        let mut lines = lines.collect::<Result<Vec<_>, StoreError>>()?;
        let last = lines.last().filter(|_| !more.is_empty());
        let next_before = last.map(|line| line.recorded.review_id);
        // The index may be a moment behind a review that has just ended.
        if let Some(status) = search.status() {
            lines.retain(|line| status_of(line) == status);
        }
        Ok(Found { lines, next_before })
    }

    /// How many `search` finds, up to ten thousand and one.
    pub(crate) async fn count(&self, sight: &Sight, search: &Search) -> Result<i64, StoreError> {
        let _lane = self.lanes.enter(sight.tenant()).await;
        let mut query = self.counting("", sight, search).await?;
        Ok(query.build_query_scalar().fetch_one(&self.readers).await?)
    }

    /// What `search` finds, with all that was sent as it was stored.
    pub(crate) async fn stored_page(
        &self,
        sight: &Sight,
        search: &Search,
    ) -> Result<Vec<Stored>, StoreError> {
        let stretch = self.stretch(sight, search).await?;
        let within = (stretch, search.limit);
        let found = self
            .unpacked(Wanted::Everything, (sight, search), within)
            .await?;
        let text = |bytes: Option<Bytes>| {
            let text = bytes
                .map(|bytes| String::from_utf8(bytes.into()))
                .transpose();
            text.map_err(|_| StoreError::Corrupt("a question cannot be read"))
        };
        let stored = found.into_iter().map(|it| {
            Ok(Stored {
                recorded: it.recorded,
                question: text(it.question)?,
                context: text(it.context)?,
            })
        });
        stored.collect()
    }

    async fn unpacked(
        &self,
        wanted: Wanted,
        (sight, search): (&Sight, &Search),
        (stretch, limit): (Stretch, u32),
    ) -> Result<Vec<Unpacked>, StoreError> {
        let query = Packed::new(wanted, |query| {
            push_found(query, (sight, search), stretch, limit);
        });
        query.fetch(&self.readers, sight.tenant()).await
    }

    /// The question for how many there are.
    pub(super) async fn counting(
        &self,
        before: &str,
        sight: &Sight,
        search: &Search,
    ) -> Result<QueryBuilder<Sqlite>, StoreError> {
        let numbers = self.stretch(sight, search).await?;
        let mut query = QueryBuilder::<Sqlite>::new(before);
        query
            .push("SELECT count(*) FROM (SELECT 1")
            .push(Way::of(sight, search).from());
        push_where(&mut query, sight, search, numbers);
        query.push(" LIMIT ").push_bind(MOST).push(")");
        Ok(query)
    }

    /// Between which numbers the reviews lie that `search` can find: by page and by time.
    pub(crate) async fn stretch(
        &self,
        sight: &Sight,
        search: &Search,
    ) -> Result<Stretch, StoreError> {
        let (mut from, mut to) = (0, i64::MAX);
        if let Some(before) = search.before {
            to = self.number(sight, before).await?.map_or(-1, |no| no - 1);
        }
        if search.since.is_none() && search.until.is_none() {
            return Ok(Stretch { from, to });
        }
        let since = search.since.map_or(i64::MIN, Timestamp::as_millisecond);
        let until = search.until.map_or(i64::MAX, Timestamp::as_millisecond);
        let (below, above): (Option<i64>, Option<i64>) = sqlx::query_as(BOUNDS)
            .bind(sight.tenant().as_str())
            .bind(since)
            .bind(until)
            .fetch_one(&self.readers)
            .await?;
        from = below.map_or(from, |no| no + 1);
        to = to.min(above.map_or(i64::MAX, |no| no - 1));
        Ok(Stretch { from, to })
    }

    async fn number(&self, sight: &Sight, id: ReviewId) -> Result<Option<i64>, StoreError> {
        let number = sqlx::query_scalar(
            "SELECT review_no FROM history WHERE review_id = ? AND tenant_id = ?",
        )
        .bind(sql::bytes(id))
        .bind(sight.tenant().as_str())
        .fetch_optional(&self.readers)
        .await?;
        Ok(number)
    }
}

/// What leads a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The full-text index: words and facets.
    Words,
    /// The list of the tenant's reviews.
    Tenant,
}

impl Way {
    fn of(sight: &Sight, search: &Search) -> Self {
        let by_word =
            !search.facets.is_empty() || search.text.is_some() || sight.caller().is_some();
        if by_word { Self::Words } else { Self::Tenant }
    }

    fn from(self) -> &'static str {
        match self {
            Self::Words => " FROM history_index h CROSS JOIN reviews r ON r.review_no = h.rowid",
            Self::Tenant => {
                " FROM history h INDEXED BY history_of_tenant CROSS JOIN reviews r ON r.review_no = h.review_no"
            }
        }
    }

    /// The numbers alone.
    fn numbers(self) -> &'static str {
        match self {
            Self::Words => "SELECT h.rowid AS no FROM history_index h",
            Self::Tenant => "SELECT h.review_no AS no FROM history h INDEXED BY history_of_tenant",
        }
    }

    fn order(self) -> &'static str {
        match self {
            Self::Words => " ORDER BY h.rowid DESC",
            Self::Tenant => " ORDER BY h.review_no DESC",
        }
    }
}

/// At most `limit` reviews of `stretch`, newest first: what stands behind what is wanted of each.
fn push_found(
    query: &mut QueryBuilder<Sqlite>,
    (sight, search): (&Sight, &Search),
    stretch: Stretch,
    limit: u32,
) {
    let way = Way::of(sight, search);
    query
        .push(way.from())
        .push(" LEFT JOIN review_requests q ON q.review_no = r.review_no")
        .push(read::ENDED_BY);
    push_where(query, sight, search, stretch);
    // By the index's own number and not by the row's: the index is then read backwards and no further than the page.
    query
        .push(way.order())
        .push(" LIMIT ")
        .push_bind(i64::from(limit));
}

/// The numbers of at most `limit` reviews of `stretch`, newest first, as the index tells them: without a look at the
/// record, which may turn some of them down ([`push_record`]).
pub(super) fn push_numbers(
    query: &mut QueryBuilder<Sqlite>,
    (sight, search): (&Sight, &Search),
    stretch: Stretch,
    limit: u32,
) {
    let way = Way::of(sight, search);
    query.push(way.numbers());
    push_index(query, sight, search, stretch);
    query
        .push(way.order())
        .push(" LIMIT ")
        .push_bind(i64::from(limit));
}

/// Which of the reviews between two numbers.
fn push_where(query: &mut QueryBuilder<Sqlite>, sight: &Sight, search: &Search, stretch: Stretch) {
    push_index(query, sight, search, stretch);
    push_record(query, sight, search);
}

/// What the index says.
fn push_index(
    query: &mut QueryBuilder<Sqlite>,
    sight: &Sight,
    search: &Search,
    Stretch { from, to }: Stretch,
) {
    query.push(" WHERE ");
    match Way::of(sight, search) {
        Way::Words => {
            let mut given = vec![(Facet::Tenant, sight.tenant().as_str())];
            if let Some(caller) = sight.caller() {
                given.insert(0, (Facet::Caller, caller.as_str()));
            }
            query
                .push("history_index MATCH ")
                .push_bind(search.matching(&given))
                .push(" AND h.rowid >= ")
                .push_bind(from)
                .push(" AND h.rowid <= ")
                .push_bind(to);
        }
        Way::Tenant => {
            query
                .push("h.tenant_id = ")
                .push_bind(sight.tenant().as_str().to_owned())
                .push(" AND h.review_no >= ")
                .push_bind(from)
                .push(" AND h.review_no <= ")
                .push_bind(to);
        }
    }
}

/// What the record itself says: the last word on who may see a review, and on its time.
pub(super) fn push_record(query: &mut QueryBuilder<Sqlite>, sight: &Sight, search: &Search) {
    // Words are hashes: a row of another tenant is not shown even where two of them meet.
    query
        .push(" AND r.tenant_id = ")
        .push_bind(sight.tenant().as_str().to_owned());
    if let Some(caller) = sight.caller() {
        query
            .push(" AND r.caller = ")
            .push_bind(caller.as_str().to_owned());
    }
    if let Some(since) = search.since {
        query
            .push(" AND r.created_at >= ")
            .push_bind(since.as_millisecond());
    }
    if let Some(until) = search.until {
        query
            .push(" AND r.created_at < ")
            .push_bind(until.as_millisecond());
    }
}

fn status_of(line: &HistoryLine) -> &'static str {
    let end = line.recorded.end.as_ref();
    end.map_or(ReviewStatus::Reviewing, |end| end.verdict.status)
        .as_str()
}

#[cfg(test)]
mod plans;
