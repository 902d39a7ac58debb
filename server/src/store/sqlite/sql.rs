//! A batch as SQL: one text that reads what the rules need, one that writes the rows and commits.
//!
//! Apart from the rules. Two texts, because each one is a hop to SQLite's thread and back, and latency is made of
//! hops. Invariant: whatever comes from outside is bound, never spelled into the text.

use jiff::Timestamp;
use protocol::{ActionDigest, CallerId, Nonce, ReviewId, ReviewStatus, TenantId};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row as _, Sqlite};
use uuid::Uuid;

use super::super::chain::Head;
use super::super::{Scope, StoreError};
use super::batch::{EndedRow, EventRow, Known, Rows, State};
use super::command::Command;
use crate::owner::OwnerId;

/// Opens the transaction and reads what `commands` touch. The first column of each row says what it is.
pub(super) fn begin(commands: &[Command], tenant: &TenantId) -> QueryBuilder<Sqlite> {
    // IMMEDIATE takes the write lock first, so that what is read here stays true until the commit.
    let mut sql = QueryBuilder::new(
        "BEGIN IMMEDIATE; SELECT 'head', seq, hash FROM review_events WHERE tenant_id = ",
    );
    sql.push_bind(tenant.as_str())
        .push(" ORDER BY seq DESC LIMIT 1");
    push_nonces(&mut sql, commands);
    push_sessions(&mut sql, commands);
    push_reviews(&mut sql, commands);
    sql
}

// What is asked for stands first and is joined by CROSS JOIN, which SQLite never reorders: each row is then one search
// in an index. A list of row values after IN would read the whole table.

fn push_nonces(sql: &mut QueryBuilder<Sqlite>, commands: &[Command]) {
    let openings: Vec<_> = commands.iter().filter_map(Command::opening).collect();
    if openings.is_empty() {
        return;
    }
    sql.push("; WITH asked (tenant, caller, nonce) AS (");
    sql.push_values(openings, |mut row, opening| {
        row.push_bind(opening.scope.tenant.as_str())
            .push_bind(opening.scope.caller.as_str())
            .push_bind(opening.nonce.as_str());
    });
    sql.push(
        ") SELECT 'nonce', r.tenant_id, r.caller, r.nonce, r.review_id, r.request_digest FROM asked CROSS JOIN reviews r \
         ON r.tenant_id = asked.tenant AND r.caller = asked.caller AND r.nonce = asked.nonce",
    );
}

fn push_sessions(sql: &mut QueryBuilder<Sqlite>, commands: &[Command]) {
    let mut named: Vec<_> = commands
        .iter()
        .filter_map(Command::opening)
        .filter_map(|opening| {
            Some((
                opening.scope.tenant.as_str(),
                opening.session_id.as_deref()?,
            ))
        })
        .collect();
    named.sort_unstable();
    named.dedup();
    if named.is_empty() {
        return;
    }
    sql.push("; WITH asked (tenant, session) AS (");
    sql.push_values(named, |mut row, (tenant, session)| {
        row.push_bind(tenant).push_bind(session);
    });
    sql.push(
        ") SELECT 'session', s.tenant_id, s.session_id, s.caller FROM asked CROSS JOIN sessions s \
         ON s.tenant_id = asked.tenant AND s.session_id = asked.session",
    );
}

fn push_reviews(sql: &mut QueryBuilder<Sqlite>, commands: &[Command]) {
    const COLUMNS: &str = "SELECT 'review', r.review_id, r.tenant_id, r.caller, r.nonce, r.session_id, r.action_digest, \
                           r.owner, r.status, r.completed_at, r.expires_at, r.redeemed_at FROM ";
    let ids: Vec<_> = commands.iter().filter_map(Command::touches).collect();
    if !ids.is_empty() {
        sql.push("; WITH asked (tenant, caller, id) AS (");
        sql.push_values(ids, |mut row, (scope, id)| {
            row.push_bind(scope.tenant.as_str())
                .push_bind(scope.caller.as_str())
                .push_bind(bytes(id));
        });
        sql.push(") ").push(COLUMNS).push(
            "asked CROSS JOIN reviews r ON r.tenant_id = asked.tenant AND r.caller = asked.caller \
             AND r.review_id = asked.id",
        );
    }
    for owner in commands.iter().filter_map(Command::closes) {
        sql.push("; ")
            .push(COLUMNS)
            .push("reviews r INDEXED BY reviews_open WHERE r.status = 'reviewing' AND r.owner = ")
            .push_bind(owner.to_stored());
    }
}

/// Reads the rows of [`begin`].
pub(super) fn state(rows: &[SqliteRow], tenant: &TenantId) -> Result<State, StoreError> {
    let mut state = State::default();
    for row in rows {
        read_row(&mut state, row, tenant)
            .map_err(|_| StoreError::Corrupt("a row of the database cannot be read"))?;
    }
    Ok(state)
}

fn read_row(state: &mut State, row: &SqliteRow, tenant: &TenantId) -> Result<(), sqlx::Error> {
    match row.try_get::<&str, _>(0)? {
        "head" => {
            let head = Head {
                seq: row.try_get(1)?,
                hash: array(row.try_get(2)?)?,
            };
            state.heads.insert(tenant.clone(), head);
        }
        "nonce" => {
            let question = (scope(row, 1, tenant)?, nonce(row.try_get(3)?)?);
            let review = (review_id(row.try_get(4)?)?, array(row.try_get(5)?)?);
            state.nonces.insert(question, review);
        }
        "session" => {
            let session = (tenant.clone(), row.try_get(2)?);
            state
                .sessions
                .insert(session, CallerId::stored(row.try_get(3)?));
        }
        _review => {
            let known = Known {
                scope: scope(row, 2, tenant)?,
                nonce: nonce(row.try_get(4)?)?,
                session_id: row.try_get(5)?,
                action_digest: action_digest(row.try_get(6)?)?,
                owner: OwnerId::parse(row.try_get(7)?).ok_or_else(unreadable)?,
                status: status(row.try_get(8)?)?,
                completed_at: optional_time(row.try_get(9)?)?,
                expires_at: optional_time(row.try_get(10)?)?,
                redeemed: optional_time(row.try_get(11)?)?,
            };
            state.reviews.insert(review_id(row.try_get(1)?)?, known);
        }
    }
    Ok(())
}

/// Writes `rows` and commits.
pub(super) fn write(rows: &Rows<'_>) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new("");
    push_opened(&mut sql, rows);
    push_ended(&mut sql, &rows.ended);
    if !rows.exhibits.is_empty() {
        sql.push("INSERT OR ROLLBACK INTO review_exhibits (review_id, exhibit) ");
        sql.push_values(&rows.exhibits, |mut row, (id, exhibit)| {
            row.push_bind(bytes(*id)).push_bind(*exhibit);
        });
        sql.push("; ");
    }
    for spent in &rows.redeemed {
        sql.push("UPDATE OR ROLLBACK reviews SET redeemed_at = ")
            .push_bind(spent.at.as_millisecond())
            .push(" WHERE tenant_id = ")
            .push_bind(spent.scope.tenant.as_str())
            .push(" AND caller = ")
            .push_bind(spent.scope.caller.as_str())
            .push(" AND review_id = ")
            .push_bind(bytes(spent.review_id))
            .push("; ");
    }
    push_events(&mut sql, &rows.events);
    push_rest(&mut sql, rows);
    sql.push("COMMIT");
    sql
}

fn push_opened(sql: &mut QueryBuilder<Sqlite>, rows: &Rows<'_>) {
    if !rows.sessions.is_empty() {
        sql.push("INSERT OR ROLLBACK INTO sessions (tenant_id, session_id, caller, opened_at) ");
        sql.push_values(&rows.sessions, |mut row, opening| {
            row.push_bind(opening.scope.tenant.as_str())
                .push_bind(opening.session_id.as_deref())
                .push_bind(opening.scope.caller.as_str())
                .push_bind(opening.created_at.as_millisecond());
        });
        sql.push("; ");
    }
    if rows.opened.is_empty() {
        return;
    }
    sql.push(
        "INSERT OR ROLLBACK INTO reviews (review_id, tenant_id, caller, nonce, request_digest, session_id, action_digest, \
         policy_revision, owner, status, created_at, deadline_at) ",
    );
    sql.push_values(&rows.opened, |mut row, opening| {
        row.push_bind(bytes(opening.review_id))
            .push_bind(opening.scope.tenant.as_str())
            .push_bind(opening.scope.caller.as_str())
            .push_bind(opening.nonce.as_str())
            .push_bind(opening.request_digest.as_slice())
            .push_bind(opening.session_id.as_deref())
            .push_bind(opening.action_digest.to_string())
            .push_bind(opening.policy_revision.as_str())
            .push_bind(opening.owner.to_stored())
            .push("'reviewing'")
            .push_bind(opening.created_at.as_millisecond())
            .push_bind(opening.deadline_at.as_millisecond());
    });
    sql.push("; INSERT OR ROLLBACK INTO review_requests (review_id, question, context) ");
    sql.push_values(&rows.opened, |mut row, opening| {
        row.push_bind(bytes(opening.review_id))
            .push_bind(opening.question.as_str())
            .push_bind(opening.context.as_str());
    });
    sql.push("; ");
}

fn push_ended(sql: &mut QueryBuilder<Sqlite>, ended: &[EndedRow]) {
    if ended.is_empty() {
        return;
    }
    sql.push("WITH ended (tenant, caller, id, status, seq, completed, expires) AS (");
    sql.push_values(ended, |mut row, end| {
        row.push_bind(end.scope.tenant.as_str())
            .push_bind(end.scope.caller.as_str())
            .push_bind(bytes(end.review_id))
            .push_bind(end.status.as_str())
            .push_bind(end.ended_seq)
            .push_bind(end.completed_at.as_millisecond())
            .push_bind(end.expires_at.as_millisecond());
    });
    sql.push(
        ") UPDATE OR ROLLBACK reviews SET status = ended.status, ended_seq = ended.seq, completed_at = ended.completed, \
         expires_at = ended.expires FROM ended WHERE reviews.tenant_id = ended.tenant AND reviews.caller = ended.caller \
         AND reviews.review_id = ended.id; ",
    );
}

fn push_events(sql: &mut QueryBuilder<Sqlite>, events: &[EventRow]) {
    if events.is_empty() {
        return;
    }
    sql.push(
        "INSERT OR ROLLBACK INTO review_events (tenant_id, seq, review_id, kind, at, body, hash) ",
    );
    sql.push_values(events, |mut row, line| {
        row.push_bind(line.tenant.as_str())
            .push_bind(line.head.seq)
            .push_bind(bytes(line.review_id))
            .push_bind(line.event.as_str())
            .push_bind(line.at)
            .push_bind(line.body.as_str())
            .push_bind(line.head.hash.as_slice());
    });
    sql.push("; ");
}

fn push_rest(sql: &mut QueryBuilder<Sqlite>, rows: &Rows<'_>) {
    if let Some(at) = rows.probed_at {
        sql.push("UPDATE probe SET at = ").push_bind(at).push("; ");
    }
    if !rows.tokens.is_empty() {
        sql.push("INSERT OR ROLLBACK INTO tokens (token_id, tenant_id, name, hash, created_at) ");
        sql.push_values(&rows.tokens, |mut row, token| {
            row.push_bind(token.id.as_str())
                .push_bind(token.tenant.as_str())
                .push_bind(token.name.as_str())
                .push_bind(token.hash.as_slice())
                .push_bind(token.created_at.as_millisecond());
        });
        sql.push("; ");
    }
    for (id, at) in &rows.revoked {
        sql.push("UPDATE tokens SET revoked_at = ")
            .push_bind(*at)
            .push(" WHERE revoked_at IS NULL AND token_id = ")
            .push_bind(id.as_str())
            .push("; ");
    }
}

pub(super) fn bytes(id: ReviewId) -> Vec<u8> {
    id.uuid().as_bytes().to_vec()
}

pub(super) fn review_id(bytes: &[u8]) -> Result<ReviewId, sqlx::Error> {
    Uuid::from_slice(bytes)
        .map(ReviewId::new)
        .map_err(|_| unreadable())
}

pub(super) fn nonce(text: String) -> Result<Nonce, sqlx::Error> {
    Nonce::try_from(text).map_err(|_| unreadable())
}

pub(super) fn action_digest(text: &str) -> Result<ActionDigest, sqlx::Error> {
    text.parse().map_err(|_| unreadable())
}

pub(super) fn status(text: &str) -> Result<ReviewStatus, sqlx::Error> {
    ReviewStatus::parse(text).ok_or_else(unreadable)
}

pub(super) fn time(milliseconds: i64) -> Result<Timestamp, sqlx::Error> {
    Timestamp::from_millisecond(milliseconds).map_err(|_| unreadable())
}

pub(super) fn optional_time(milliseconds: Option<i64>) -> Result<Option<Timestamp>, sqlx::Error> {
    milliseconds.map(time).transpose()
}

pub(super) fn array(bytes: &[u8]) -> Result<[u8; 32], sqlx::Error> {
    bytes.try_into().map_err(|_| unreadable())
}

/// Reads tenant and caller from the columns `first` and the one after it.
fn scope(row: &SqliteRow, first: usize, tenant: &TenantId) -> Result<Scope, sqlx::Error> {
    // One server has one tenant: another one's row is not ours to read.
    if row.try_get::<&str, _>(first)? != tenant.as_str() {
        return Err(unreadable());
    }
    Ok(Scope {
        tenant: tenant.clone(),
        caller: CallerId::stored(row.try_get(first + 1)?),
    })
}

fn unreadable() -> sqlx::Error {
    sqlx::Error::Decode("a column holds what it cannot hold".into())
}
