//! What the door decided while commands ran, as their runners tell it: lines of the chain that are no review's.
//!
//! Apart from the rules of `batch.rs`, because nothing binding hangs on it. Invariant: one run of one caller is told
//! once; the id of its line is made of tenant, caller and run, so that nobody meets another's.

use jiff::Timestamp;
use protocol::{Canonical, RecordedNetwork, ReportNetwork, ReviewEvent, ReviewId, TenantId};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{QueryBuilder, Row as _, Sqlite};

use super::super::super::chain::Line;
use super::super::super::{Scope, Sight, StoreError};
use super::super::{SqliteStore, append, sql};

/// How many lines one page looks at, most of them without finding anything where it is narrowed.
const LOOKED_AT: u32 = 1_024;
/// How many bytes of reports stand on one page; one report alone may have more.
const LISTED: i64 = 1 << 20;

/// What stands in the chain.
#[derive(Serialize, Deserialize)]
struct NetworkBody {
    caller: String,
    report: ReportNetwork,
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// It is on record, now or since it was told before.
    Recorded,
    /// The same caller told something else about that run before.
    Otherwise,
    /// It names another caller's session.
    SessionTaken,
    /// It names a review that is not this caller's.
    NoSuchReview,
}

/// Which reports are wanted.
#[derive(Debug, Clone, Default)]
pub(crate) struct NetworkSearch {
    pub(crate) host: Option<String>,
    pub(crate) session: Option<String>,
    pub(crate) caller: Option<String>,
    /// Only those in which something was refused.
    pub(crate) refused: bool,
    /// Only lines before this one.
    pub(crate) before: Option<i64>,
    pub(crate) limit: u32,
}

/// Reports, newest first, and where the next page begins.
#[derive(Debug)]
pub(crate) struct NetworkPage {
    pub(crate) reports: Vec<RecordedNetwork>,
    pub(crate) next: Option<i64>,
}

/// The id of the line about `execution`.
fn line_id(scope: &Scope, execution: &str) -> ReviewId {
    let mut bytes = Canonical::new("auto-review network report v1");
    bytes
        .text(scope.tenant.as_str())
        .text(scope.caller.as_str())
        .text(execution);
    let [id @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = bytes.sha256();
    ReviewId::new(uuid::Builder::from_custom_bytes(id).into_uuid())
}

impl SqliteStore {
    /// Records what the door decided during a run.
    pub(crate) async fn record_network(
        &self,
        scope: Scope,
        report: ReportNetwork,
        at: Timestamp,
    ) -> Result<Told, StoreError> {
        let id = line_id(&scope, &report.execution);
        let body = NetworkBody {
            caller: scope.caller.as_str().to_owned(),
            report,
        };
        let text = serde_json::to_string(&body)
            .map_err(|_| StoreError::Corrupt("a report cannot be spelled"))?;
        let report = body.report;
        self.aside(move |connection| {
            Box::pin(async move {
                match stranger(connection, &scope, &report).await? {
                    Some(told) => Ok(told),
                    None => record(connection, &scope.tenant, (id, &text), at).await,
                }
            })
        })
        .await
    }

    /// What `sight` covers of the reports, newest first.
    pub(crate) async fn network(
        &self,
        sight: &Sight,
        search: &NetworkSearch,
    ) -> Result<NetworkPage, StoreError> {
        let _lane = self.lanes.enter(sight.tenant()).await;
        let mut query = QueryBuilder::<Sqlite>::new(
            "SELECT seq, at, body, listed FROM (SELECT seq, at, body, sum(octet_length(body)) OVER (ORDER BY seq DESC \
             ROWS UNBOUNDED PRECEDING) AS listed FROM (SELECT seq, at, body FROM review_events INDEXED BY review_events_network \
             WHERE kind = 'network' AND tenant_id = ",
        );
        query.push_bind(sight.tenant().as_str());
        query
            .push(" AND seq < ")
            .push_bind(search.before.unwrap_or(i64::MAX));
        query.push(" ORDER BY seq DESC LIMIT ").push_bind(LOOKED_AT);
        query.push(") WHERE 1");
        push_wanted(&mut query, sight, search);
        query
            .push(" ORDER BY seq DESC LIMIT ")
            .push_bind(search.limit);
        query.push(") WHERE listed - octet_length(body) < ");
        query.push_bind(LISTED).push(" ORDER BY seq DESC");
        let rows = query.build().fetch_all(&self.readers).await?;
        let reports = rows.iter().map(recorded).collect::<Result<Vec<_>, _>>()?;
        let listed: i64 = rows.last().map_or(Ok(0), |last| last.try_get(3))?;
        let full = listed >= LISTED
            || u32::try_from(reports.len()).is_ok_and(|found| found >= search.limit);
        let next = if full {
            reports.last().map(|last| last.seq)
        } else {
            self.last_looked_at(sight, search).await?
        };
        Ok(NetworkPage { reports, next })
    }

    /// The oldest line that a page looked at, where it did not come to the end.
    async fn last_looked_at(
        &self,
        sight: &Sight,
        search: &NetworkSearch,
    ) -> Result<Option<i64>, StoreError> {
        let last = sqlx::query_scalar(
            "SELECT seq FROM review_events INDEXED BY review_events_network WHERE kind = 'network' AND tenant_id = ? \
             AND seq < ? ORDER BY seq DESC LIMIT 1 OFFSET ?",
        )
        .bind(sight.tenant().as_str())
        .bind(search.before.unwrap_or(i64::MAX))
        .bind(LOOKED_AT - 1)
        .fetch_optional(&self.readers)
        .await?;
        Ok(last)
    }
}

fn push_wanted(query: &mut QueryBuilder<Sqlite>, sight: &Sight, search: &NetworkSearch) {
    let own = sight.caller().map(protocol::CallerId::as_str);
    for caller in own.into_iter().chain(search.caller.as_deref()) {
        query
            .push(" AND body ->> '$.caller' = ")
            .push_bind(caller.to_owned());
    }
    if let Some(session) = &search.session {
        query
            .push(" AND body ->> '$.report.session.session_id' = ")
            .push_bind(session.clone());
    }
    if search.refused {
        query.push(" AND body ->> '$.report.refused' > 0");
    }
    if let Some(host) = &search.host {
        query
            .push(" AND EXISTS (SELECT 1 FROM json_each(body, '$.report.decisions') d WHERE d.value ->> '$.host' = ")
            .push_bind(host.clone())
            .push(")");
    }
}

/// What speaks against a report of `scope`: a session or a review that it names is somebody else's.
async fn stranger(
    connection: &mut SqliteConnection,
    scope: &Scope,
    report: &ReportNetwork,
) -> Result<Option<Told>, StoreError> {
    let (tenant, caller) = (scope.tenant.as_str(), scope.caller.as_str());
    let taken: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM sessions WHERE tenant_id = ? AND session_id = ? AND caller <> ?)",
    )
    .bind(tenant)
    .bind(&report.session.session_id)
    .bind(caller)
    .fetch_one(&mut *connection)
    .await?;
    if taken {
        return Ok(Some(Told::SessionTaken));
    }
    let Some(review) = report.review_id else {
        return Ok(None);
    };
    let own: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM reviews WHERE tenant_id = ? AND caller = ? AND review_id = ?)",
    )
    .bind(tenant)
    .bind(caller)
    .bind(sql::bytes(review))
    .fetch_one(connection)
    .await?;
    Ok((!own).then_some(Told::NoSuchReview))
}

async fn record(
    connection: &mut SqliteConnection,
    tenant: &TenantId,
    (id, body): (ReviewId, &str),
    at: Timestamp,
) -> Result<Told, StoreError> {
    let before: Option<String> = sqlx::query_scalar(
        "SELECT body FROM review_events INDEXED BY review_events_network_once WHERE kind = 'network' AND review_id = ?",
    )
    .bind(sql::bytes(id))
    .fetch_optional(&mut *connection)
    .await?;
    if let Some(before) = before {
        return Ok(if before == body {
            Told::Recorded
        } else {
            Told::Otherwise
        });
    }
    let head = append::head(connection, tenant).await?;
    let line = Line {
        tenant,
        review_id: id,
        event: ReviewEvent::Network,
        at: at.as_millisecond(),
        body,
    };
    append::append(connection, head, &line).await?;
    Ok(Told::Recorded)
}

fn recorded(row: &SqliteRow) -> Result<RecordedNetwork, StoreError> {
    let body: NetworkBody = serde_json::from_str(row.try_get(2)?)
        .map_err(|_| StoreError::Corrupt("a report cannot be read"))?;
    Ok(RecordedNetwork {
        seq: row.try_get(0)?,
        at: sql::time(row.try_get(1)?)?,
        caller: body.caller,
        report: body.report,
    })
}
