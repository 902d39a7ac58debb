//! Fills the index from the events, a step at a time, between two batches of the writer.
//!
//! Apart, because it alone writes what `find` and `count` read. Invariant: a step and how far it came are one
//! transaction, so that no event is counted twice or left out.

use protocol::{Action, ReviewId, ReviewStatus, TenantId};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{QueryBuilder, Row as _, Sqlite};

use super::super::super::search::Facet;
use super::super::super::{Question, StoreError, bodies};
use super::super::{SqliteStore, sql};
use super::count::{self, Counted, Sum};
use crate::verdict::Verdict;

/// The events of one step: few enough that a review waits some ten milliseconds for it at most, enough to share a sync.
const STEP: i64 = 1_024;
/// How many steps a caller waits for who wants to see everything. What is left over then is told.
const PATIENCE: usize = 16;
/// The longest text that is indexed of one part of a question, in bytes.
const LONGEST: usize = 4_096;

/// How far the index of each tenant is, and how long its chain. Each head is one look at the primary key: as a join it
/// would be asked for again on every event that is not indexed yet.
pub(super) const BEHIND: &str = "SELECT t.tenant_id, ifnull(s.seq, 0), \
    ifnull((SELECT max(e.seq) FROM review_events e WHERE e.tenant_id = t.tenant_id), 0) \
    FROM tenants t LEFT JOIN history_state s USING (tenant_id)";

/// The reviews that a stretch of the chain is about, with all that is indexed of them, in the order of their numbers.
pub(super) const CHANGED: &str = "SELECT r.review_no, r.review_id, r.caller, r.session_id, r.policy_revision, r.status, \
    r.created_at, r.completed_at, q.question, e.body, x.exhibit, ifnull(h.counted, 0), h.review_no IS NULL FROM \
    (SELECT DISTINCT review_id FROM review_events WHERE tenant_id = ?1 AND seq > ?2 AND seq <= ?3) t \
    CROSS JOIN review_events o ON o.review_id = t.review_id AND o.kind = 'opened' \
    CROSS JOIN reviews r ON r.tenant_id = o.tenant_id AND r.caller = (o.body ->> '$.caller') \
    AND r.review_id = o.review_id \
    LEFT JOIN review_requests q ON q.review_no = r.review_no \
    LEFT JOIN review_exhibits x ON x.review_no = r.review_no \
    LEFT JOIN review_events e ON e.tenant_id = r.tenant_id AND e.seq = r.ended_seq \
    LEFT JOIN history h ON h.review_no = r.review_no ORDER BY r.review_no";

/// How far times and numbers were ever out of step, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Times {
    latest: i64,
    disorder: i64,
}

impl Times {
    /// After `documents`, in the order of their numbers; those that were seen before change nothing.
    fn after(self, documents: &[Document]) -> Self {
        let new = documents.iter().filter(|it| it.new);
        new.fold(self, |times, it| {
            let latest = times.latest.max(it.created_at);
            let behind = latest.saturating_sub(it.created_at);
            Self {
                latest,
                disorder: times.disorder.max(behind),
            }
        })
    }
}

/// One review as the index has it.
#[derive(Debug)]
struct Document {
    no: i64,
    review_id: ReviewId,
    created_at: i64,
    facets: String,
    text: String,
    /// It has ended, and was not counted before.
    sums: Vec<Sum>,
    counted: bool,
    /// It was not in the index before.
    new: bool,
}

impl SqliteStore {
    /// Brings the index up to what is on record now; how many events are left where that would take too long.
    pub(crate) async fn catch_up(&self) -> Result<u64, StoreError> {
        for _ in 0..PATIENCE {
            if self.index_step().await? == 0 {
                return Ok(0);
            }
        }
        self.index_step().await
    }

    /// Indexes a step's worth of events of every tenant; how many are left.
    pub(crate) async fn index_step(&self) -> Result<u64, StoreError> {
        let behind: Vec<(String, i64, i64)> =
            sqlx::query_as(BEHIND).fetch_all(&self.readers).await?;
        let mut left = 0;
        for (tenant, _, last) in behind.into_iter().filter(|(_, seen, last)| seen < last) {
            let tenant = TenantId::parse(&tenant)
                .map_err(|_| StoreError::Corrupt("a tenant has an impossible name"))?;
            let reached = self
                .aside(move |connection| Box::pin(step(connection, tenant)))
                .await?;
            left += last.saturating_sub(reached).max(0).unsigned_abs();
        }
        Ok(left)
    }
}

/// Indexes the next events of `tenant`; the last one of them.
async fn step(connection: &mut SqliteConnection, tenant: TenantId) -> Result<i64, StoreError> {
    let reached: Option<(i64, i64, i64)> =
        sqlx::query_as("SELECT seq, latest, disorder FROM history_state WHERE tenant_id = ?")
            .bind(tenant.as_str())
            .fetch_optional(&mut *connection)
            .await?;
    let (from, latest, disorder) = reached.unwrap_or_default();
    let to: Option<i64> = sqlx::query_scalar(
        "SELECT max(seq) FROM (SELECT seq FROM review_events WHERE tenant_id = ? AND seq > ? ORDER BY seq LIMIT ?)",
    )
    .bind(tenant.as_str())
    .bind(from)
    .bind(STEP)
    .fetch_one(&mut *connection)
    .await?;
    let Some(to) = to else {
        return Ok(from);
    };
    let rows = sqlx::query(CHANGED)
        .bind(tenant.as_str())
        .bind(from)
        .bind(to)
        .fetch_all(&mut *connection)
        .await?;
    let documents: Vec<_> = rows
        .iter()
        .map(|row| document(row, &tenant))
        .collect::<Result<_, _>>()?;
    write(connection, &tenant, &documents).await?;
    let times = Times { latest, disorder }.after(&documents);
    sqlx::query(
        "INSERT INTO history_state (tenant_id, seq, latest, disorder) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET \
         seq = excluded.seq, latest = excluded.latest, disorder = excluded.disorder",
    )
        .bind(tenant.as_str())
        .bind(to)
        .bind(times.latest)
        .bind(times.disorder)
        .execute(connection)
        .await?;
    Ok(to)
}

async fn write(
    connection: &mut SqliteConnection,
    tenant: &TenantId,
    documents: &[Document],
) -> Result<(), StoreError> {
    if documents.is_empty() {
        return Ok(());
    }
    let mut index =
        QueryBuilder::<Sqlite>::new("INSERT OR REPLACE INTO history_index (rowid, text, facets) ");
    index.push_values(documents, |mut row, it| {
        row.push_bind(it.no)
            .push_bind(&it.text)
            .push_bind(&it.facets);
    });
    // Of any length, so not kept prepared: that room is the reviews' own.
    let indexed = index.build().persistent(false);
    indexed.execute(&mut *connection).await?;
    let mut history = QueryBuilder::<Sqlite>::new(
        "INSERT OR REPLACE INTO history (review_no, tenant_id, review_id, created_at, counted) ",
    );
    history.push_values(documents, |mut row, it| {
        row.push_bind(it.no)
            .push_bind(tenant.as_str())
            .push_bind(sql::bytes(it.review_id))
            .push_bind(it.created_at)
            .push_bind(it.counted);
    });
    let listed = history.build().persistent(false);
    listed.execute(&mut *connection).await?;
    let sums = documents.iter().flat_map(|it| &it.sums);
    count::add(connection, tenant, sums).await
}

fn document(row: &SqliteRow, tenant: &TenantId) -> Result<Document, StoreError> {
    let unreadable = |_| StoreError::Corrupt("a row of the database cannot be read");
    let body: Option<&str> = row.try_get(9).map_err(unreadable)?;
    let status = sql::status(row.try_get(5).map_err(unreadable)?).map_err(unreadable)?;
    let verdict = match body.filter(|_| status.is_terminal()) {
        Some(body) => Some(bodies::verdict(body)?),
        None => None,
    };
    let question: Option<&str> = row.try_get(8).map_err(unreadable)?;
    let question: Option<Question> = question.and_then(|text| serde_json::from_str(text).ok());
    let read = || -> Result<_, sqlx::Error> {
        let mut facets = Facets::default();
        facets.add(Facet::Tenant, tenant.as_str());
        facets.add(Facet::Caller, row.try_get(2)?);
        facets.add_some(Facet::Session, row.try_get(3)?);
        facets.add(Facet::Policy, row.try_get(4)?);
        facets.add(Facet::Status, status.as_str());
        let (mut text, mut subject) = (Text::default(), None);
        if let Some(question) = &question {
            facets.add(Facet::User, &question.environment.user);
            facets.add(Facet::Host, &question.environment.host);
            describe(&question.action, &mut facets, &mut text);
            subject = Some(count::Subject::of(&question.action));
        }
        if let Some(verdict) = &verdict {
            judge(verdict, &mut facets, &mut text);
        }
        let created_at: i64 = row.try_get(6)?;
        let before: bool = row.try_get(11)?;
        let exhibit: Option<&str> = row.try_get(10)?;
        let sums = match &verdict {
            Some(verdict) if !before => count::sums(&Counted {
                created_at,
                completed_at: row.try_get::<Option<i64>, _>(7)?.unwrap_or(created_at),
                verdict,
                subject,
                exhibit,
            }),
            Some(_) | None => Vec::new(),
        };
        Ok(Document {
            no: row.try_get(0)?,
            review_id: sql::review_id(row.try_get(1)?)?,
            created_at,
            facets: facets.0,
            text: text.0,
            sums,
            counted: status != ReviewStatus::Reviewing,
            new: row.try_get(12)?,
        })
    };
    read().map_err(unreadable)
}

#[derive(Default)]
struct Facets(String);

impl Facets {
    fn add(&mut self, facet: Facet, value: &str) {
        self.0.push_str(&facet.word(value));
        self.0.push(' ');
    }

    fn add_some(&mut self, facet: Facet, value: Option<&str>) {
        if let Some(value) = value {
            self.add(facet, value);
        }
    }
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn add(&mut self, part: &str) {
        let end = part.floor_char_boundary(LONGEST);
        self.0.push_str(part.get(..end).unwrap_or_default());
        self.0.push('\n');
    }
}

/// The action's kind, its program, and the words that people look for.
fn describe(action: &Action, facets: &mut Facets, text: &mut Text) {
    facets.add(Facet::Tool, action.tool());
    facets.add_some(Facet::Program, count::program(action));
    match action {
        Action::Command(command) => {
            text.add(&command.command.join(" "));
            text.add(command.cwd.as_str());
            text.add(command.justification.as_deref().unwrap_or_default());
        }
        Action::FileChange(change) => {
            change.files.iter().for_each(|file| text.add(file.as_str()));
            text.add(&change.patch);
        }
        Action::NetworkAccess(access) => text.add(&format!("{} {}", access.host, access.port)),
        Action::ToolCall(call) => {
            text.add(&format!("{} {}", call.server, call.tool_name));
            text.add(&call.arguments.to_string());
        }
        Action::PermissionRequest(request) => {
            text.add(request.reason.as_deref().unwrap_or_default());
        }
    }
}

fn judge(verdict: &Verdict, facets: &mut Facets, text: &mut Text) {
    facets.add(Facet::DecidedBy, verdict.decided_by.as_str());
    facets.add_some(
        Facet::Risk,
        verdict.risk_level.map(protocol::RiskLevel::as_str),
    );
    facets.add_some(
        Facet::Authorization,
        verdict
            .user_authorization
            .map(protocol::UserAuthorization::as_str),
    );
    facets.add_some(
        Facet::Rule,
        verdict.rule_id.as_ref().map(protocol::RuleId::as_str),
    );
    if let Some(failure) = &verdict.failure {
        facets.add(Facet::FailedStep, failure.step.as_str());
        text.add(&failure.message);
    }
    if let Some(rationale) = &verdict.rationale {
        text.add(rationale.as_str());
    }
}
