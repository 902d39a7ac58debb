//! Looks reviews up by the index and reads them from the record.
//!
//! Invariant: the index only says which rows to read; what is answered comes from the chained events.

use protocol::{ReviewId, ReviewStatus};
use sqlx::{QueryBuilder, Row as _, Sqlite};

use super::super::super::search::{Facet, Search};
use super::super::super::{HistoryLine, Sight, StoreError};
use super::super::{SqliteStore, read, sql};

/// How far a count goes; more are told as this many.
const MOST: i64 = 10_001;

/// A page of what was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) lines: Vec<HistoryLine>,
    /// Whether more follow.
    pub(crate) more: bool,
}

/// One review as it is exported: its columns, and the question as it was stored.
#[derive(Debug)]
pub(crate) struct Exported {
    pub(crate) recorded: super::super::super::Recorded,
    pub(crate) question: Option<String>,
}

impl SqliteStore {
    /// What `search` finds of what `sight` covers, newest first.
    pub(crate) async fn find(&self, sight: &Sight, search: &Search) -> Result<Found, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new(read::COLUMNS);
        query.push(", q.question");
        self.push_found(&mut query, sight, search).await?;
        query
            .push(" ORDER BY r.review_no DESC LIMIT ")
            .push_bind(i64::from(search.limit) + 1);
        let rows = query.build().fetch_all(&self.readers).await?;
        let limit = usize::try_from(search.limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        let shown = rows.iter().take(limit);
        let lines: Result<Vec<_>, _> = shown
            .map(|row| read::history_line(row, sight.tenant()))
            .collect();
        let mut lines = lines?;
        // The index may be a moment behind a review that has just ended.
        if let Some(status) = search.status() {
            lines.retain(|line| status_of(line) == status);
        }
        Ok(Found { lines, more })
    }

    /// How many `search` finds, up to ten thousand and one.
    pub(crate) async fn count(&self, sight: &Sight, search: &Search) -> Result<i64, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT count(*) FROM (SELECT 1");
        self.push_found(&mut query, sight, search).await?;
        query.push(" LIMIT ").push_bind(MOST).push(")");
        Ok(query.build_query_scalar().fetch_one(&self.readers).await?)
    }

    /// What `search` finds, with the questions as they were stored: for exports, which are read by pages.
    pub(crate) async fn export_page(
        &self,
        sight: &Sight,
        search: &Search,
    ) -> Result<Vec<Exported>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new(read::COLUMNS);
        query.push(", q.question");
        self.push_found(&mut query, sight, search).await?;
        query
            .push(" ORDER BY r.review_no DESC LIMIT ")
            .push_bind(i64::from(search.limit));
        let rows = query.build().fetch_all(&self.readers).await?;
        let lines = rows.iter().map(|row| {
            Ok(Exported {
                recorded: read::recorded(row, sight.tenant())?,
                question: row.try_get(13)?,
            })
        });
        lines.collect()
    }

    /// Everything from `FROM` on, without order and limit.
    async fn push_found(
        &self,
        query: &mut QueryBuilder<Sqlite>,
        sight: &Sight,
        search: &Search,
    ) -> Result<(), StoreError> {
        let (from, to) = self.numbers(sight, search).await?;
        let by_word =
            !search.facets.is_empty() || search.text.is_some() || sight.caller().is_some();
        query.push(if by_word {
            " FROM history_index h CROSS JOIN reviews r ON r.review_no = h.rowid"
        } else {
            " FROM history h INDEXED BY history_of_tenant CROSS JOIN reviews r ON r.review_no = h.review_no"
        });
        query
            .push(" LEFT JOIN review_requests q ON q.review_no = r.review_no")
            .push(read::ENDED_BY)
            .push(" WHERE ");
        if by_word {
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
        } else {
            query
                .push("h.tenant_id = ")
                .push_bind(sight.tenant().as_str().to_owned())
                .push(" AND h.review_no >= ")
                .push_bind(from)
                .push(" AND h.review_no <= ")
                .push_bind(to);
        }
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
        Ok(())
    }

    /// Between which numbers the reviews lie that `search` can find: by page and by time.
    async fn numbers(&self, sight: &Sight, search: &Search) -> Result<(i64, i64), StoreError> {
        let (mut from, mut to) = (0, i64::MAX);
        if let Some(before) = search.before {
            to = self.number(sight, before).await?.map_or(-1, |no| no - 1);
        }
        if search.since.is_some() || search.until.is_some() {
            // Numbers and times rise together but for a clock that was set: hence the least and the greatest.
            let bounds: (Option<i64>, Option<i64>) = sqlx::query_as(
                "SELECT min(review_no), max(review_no) FROM history INDEXED BY history_by_time WHERE tenant_id = ? \
                 AND created_at >= ? AND created_at < ?",
            )
            .bind(sight.tenant().as_str())
            .bind(search.since.map_or(i64::MIN, |at| at.as_millisecond()))
            .bind(search.until.map_or(i64::MAX, |at| at.as_millisecond()))
            .fetch_one(&self.readers)
            .await?;
            from = bounds.0.unwrap_or(i64::MAX);
            to = to.min(bounds.1.unwrap_or(-1));
        }
        Ok((from, to))
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

fn status_of(line: &HistoryLine) -> &'static str {
    let end = line.recorded.end.as_ref();
    end.map_or(ReviewStatus::Reviewing, |end| end.verdict.status)
        .as_str()
}
