//! A batch as SQL, first half: one text that opens the transaction and reads what the rules need (`rows.rs` writes).
//!
//! Apart from the rules. Two texts, because each one is a hop to SQLite's thread and back, and latency is made of
//! hops. Invariants: whatever comes from outside is bound, never spelled into the text; lists are as long as [`shape`]
//! says, so that few texts come back often and SQLite keeps them prepared.

use jiff::Timestamp;
use protocol::{ActionDigest, CallerId, Canonical, Nonce, ReviewId, ReviewStatus, TenantId};
use reviewer::CircuitBreaker;
use sqlx::query_builder::Separated;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row as _, Sqlite};
use uuid::Uuid;

use super::super::chain::Head;
use super::super::{LeaveKey, LeaveToSpend, Scope, StoreError};
use super::batch::{Known, Session, State};
use super::command::Command;
use crate::owner::OwnerId;

/// Opens the transaction. IMMEDIATE takes the write lock first, so that what is read in it stays true until the commit.
pub(super) const BEGIN: &str = "BEGIN IMMEDIATE; ";

/// Opens the transaction and reads what `commands` touch. The first column of each row says what it is.
pub(super) fn begin(commands: &[Command]) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new(BEGIN);
    push_heads(&mut sql, commands);
    push_nonces(&mut sql, commands);
    push_sessions(&mut sql, commands);
    push_turns(&mut sql, commands);
    push_reviews(&mut sql, commands);
    push_leaves(&mut sql, commands);
    sql
}

/// The end of every chain that may grow, and the last number of a review.
fn push_heads(sql: &mut QueryBuilder<Sqlite>, commands: &[Command]) {
    const HEAD: &str = ") SELECT 'head', (SELECT max(review_no) FROM reviews), asked.tenant, e.seq, e.hash FROM asked \
                        LEFT JOIN review_events e ON e.tenant_id = asked.tenant \
                        AND e.seq = (SELECT max(seq) FROM review_events WHERE tenant_id = asked.tenant)";
    let mut tenants: Vec<_> = commands.iter().filter_map(Command::tenant).collect();
    tenants.sort_unstable();
    tenants.dedup();
    // There is always one, so that the number of the last review is read.
    let nobody = TenantId::default();
    if tenants.is_empty() {
        tenants.push(&nobody);
    }
    sql.push("WITH asked (tenant) AS (");
    push_asked(sql, &tenants, |row, tenant| {
        row.push_bind(tenant.as_str().to_owned());
    });
    sql.push(HEAD);
    for owner in commands.iter().filter_map(Command::closes) {
        sql.push(
            "; WITH asked (tenant) AS (SELECT DISTINCT tenant_id FROM reviews INDEXED BY reviews_open \
             WHERE status = 'reviewing' AND owner = ",
        )
        .push_bind(owner.to_stored())
        .push(HEAD);
    }
}

// What is asked for stands first and is joined by CROSS JOIN, which SQLite never reorders: each row is then one search
// in an index. A list of row values after IN would read the whole table.

fn push_nonces(sql: &mut QueryBuilder<Sqlite>, commands: &[Command]) {
    let openings: Vec<_> = commands.iter().filter_map(Command::opening).collect();
    if openings.is_empty() {
        return;
    }
    sql.push("; WITH asked (key) AS (");
    push_asked(sql, &openings, |row, opening| {
        row.push_bind(nonce_key(&opening.scope, &opening.nonce));
    });
    sql.push(
        ") SELECT 'nonce', r.tenant_id, r.caller, r.nonce, r.review_id, r.request_digest FROM asked CROSS JOIN reviews r \
         ON r.nonce_key = asked.key",
    );
}

/// `asked` as VALUES, the last one repeated up to a [`shape`]: asking twice finds the same.
fn push_asked<T>(
    sql: &mut QueryBuilder<Sqlite>,
    asked: &[T],
    mut bind: impl FnMut(&mut Separated<'_, Sqlite, &'static str>, &T),
) {
    let last = asked.last().into_iter().cycle();
    let padded = asked.iter().chain(last).take(shape(asked.len()));
    sql.push_values(padded, |mut row, one| bind(&mut row, one));
}

/// How many rows a statement for `count` of them has.
pub(super) fn shape(count: usize) -> usize {
    const SHAPES: [usize; 10] = [1, 2, 4, 8, 16, 32, 48, 64, 96, 128];
    let found = SHAPES.into_iter().find(|shape| *shape >= count);
    found.unwrap_or(count)
}

/// What a question is found by: 128 bits of a hash over who asked and the nonce.
pub(super) fn nonce_key(scope: &Scope, nonce: &Nonce) -> Vec<u8> {
    let mut bytes = Canonical::new("auto-review nonce v1");
    bytes
        .text(scope.tenant.as_str())
        .text(scope.caller.as_str())
        .text(nonce.as_str());
    bytes.sha256()[..16].to_vec()
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
    push_asked(sql, &named, |row, (tenant, session)| {
        row.push_bind((*tenant).to_owned())
            .push_bind((*session).to_owned());
    });
    sql.push(
        ") SELECT 'session', s.tenant_id, s.session_id, s.caller, s.words FROM asked CROSS JOIN sessions s \
         ON s.tenant_id = asked.tenant AND s.session_id = asked.session",
    );
}

/// The turns that are asked in, and those of the reviews that end.
fn push_turns(sql: &mut QueryBuilder<Sqlite>, commands: &[Command]) {
    let mut keys: Vec<_> = commands
        .iter()
        .filter_map(Command::opening)
        .map(|opening| opening.turn.key)
        .collect();
    keys.sort_unstable();
    keys.dedup();
    if !keys.is_empty() {
        sql.push("; WITH asked (key) AS (");
        push_asked(sql, &keys, |row, key| {
            row.push_bind(key.to_vec());
        });
        sql.push(
            ") SELECT 'turn', t.turn_key, t.state FROM asked CROSS JOIN turns t ON t.turn_key = asked.key",
        );
    }
    let ends: Vec<_> = commands.iter().filter_map(Command::ends).collect();
    if !ends.is_empty() {
        sql.push("; WITH asked (tenant, caller, id) AS (");
        push_asked(sql, &ends, |row, (scope, id)| {
            row.push_bind(scope.tenant.as_str().to_owned())
                .push_bind(scope.caller.as_str().to_owned())
                .push_bind(bytes(*id));
        });
        sql.push(
            ") SELECT 'ends', r.turn_key, t.state, r.tenant_id, r.session_id, s.caller, s.words FROM asked \
             CROSS JOIN reviews r ON r.tenant_id = asked.tenant AND r.caller = asked.caller AND r.review_id = asked.id \
             LEFT JOIN turns t ON t.turn_key = r.turn_key \
             LEFT JOIN sessions s ON s.tenant_id = r.tenant_id AND s.session_id = r.session_id",
        );
    }
}

fn push_reviews(sql: &mut QueryBuilder<Sqlite>, commands: &[Command]) {
    const COLUMNS: &str = "SELECT 'review', r.review_id, r.tenant_id, r.caller, r.nonce, r.session_id, r.action_digest, \
                           r.owner, r.status, r.completed_at, r.expires_at, r.redeemed_at, r.review_no, r.turn_key, r.words FROM ";
    let ids: Vec<_> = commands.iter().filter_map(Command::touches).collect();
    if !ids.is_empty() {
        sql.push("; WITH asked (tenant, caller, id) AS (");
        push_asked(sql, &ids, |row, (scope, id)| {
            row.push_bind(scope.tenant.as_str().to_owned())
                .push_bind(scope.caller.as_str().to_owned())
                .push_bind(bytes(*id));
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

/// The leaves that approvals lean on, as far as they can be spent still.
fn push_leaves(sql: &mut QueryBuilder<Sqlite>, commands: &[Command]) {
    let denied: Vec<_> = commands.iter().filter_map(Command::lifts).collect();
    if denied.is_empty() {
        return;
    }
    sql.push("; WITH asked (id) AS (");
    push_asked(sql, &denied, |row, id| {
        row.push_bind(bytes(*id));
    });
    sql.push(
        ") SELECT 'leave', l.review_id, l.tenant_id, l.caller, l.session_id, l.action_digest, l.expires_at FROM asked \
         CROSS JOIN leaves l ON l.review_id = asked.id WHERE l.spent_by IS NULL AND l.withdrawn_at IS NULL",
    );
}

/// Reads the rows of [`begin`].
pub(super) fn state(rows: &[SqliteRow]) -> Result<State, StoreError> {
    let mut state = State::default();
    for row in rows {
        read_row(&mut state, row)
            .map_err(|_| StoreError::Corrupt("a row of the database cannot be read"))?;
    }
    Ok(state)
}

fn read_row(state: &mut State, row: &SqliteRow) -> Result<(), sqlx::Error> {
    match row.try_get::<&str, _>(0)? {
        "head" => {
            state.last_no = row.try_get::<Option<i64>, _>(1)?.unwrap_or(0);
            let head = match row.try_get(3)? {
                Some(seq) => Head {
                    seq,
                    hash: array(row.try_get(4)?)?,
                },
                None => Head::EMPTY,
            };
            state.heads.insert(tenant(row.try_get(2)?)?, head);
        }
        "nonce" => {
            let question = (scope(row, 1)?, nonce(row.try_get(3)?)?);
            let review = (review_id(row.try_get(4)?)?, array(row.try_get(5)?)?);
            state.nonces.insert(question, review);
        }
        "session" => {
            let session = (tenant(row.try_get(1)?)?, row.try_get(2)?);
            let known = Session {
                caller: CallerId::stored(row.try_get(3)?),
                words: optional_half(row.try_get(4)?)?,
            };
            state.sessions.insert(session, known);
        }
        "turn" => {
            let breaker = breaker(row.try_get(2)?)?;
            state.turns.insert(half(row.try_get(1)?)?, breaker);
        }
        "ends" => read_end(state, row)?,
        "leave" => {
            let leave = leave_to_spend(row)?;
            state.leaves.insert(review_id(row.try_get(1)?)?, leave);
        }
        _review => {
            let known = Known {
                no: row.try_get(12)?,
                row: None,
                scope: scope(row, 2)?,
                nonce: nonce(row.try_get(4)?)?,
                session_id: row.try_get(5)?,
                turn: optional_half(row.try_get(13)?)?,
                words: optional_half(row.try_get(14)?)?,
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

fn leave_to_spend(row: &SqliteRow) -> Result<LeaveToSpend, sqlx::Error> {
    Ok(LeaveToSpend {
        key: LeaveKey {
            scope: scope(row, 2)?,
            session_id: row.try_get(4)?,
            action_digest: action_digest(row.try_get(5)?)?,
        },
        expires_at: time(row.try_get(6)?)?,
    })
}

/// The turn and the session of a review that ends.
fn read_end(state: &mut State, row: &SqliteRow) -> Result<(), sqlx::Error> {
    if let (Some(key), Some(text)) = (row.try_get(1)?, row.try_get(2)?) {
        state.turns.insert(half(key)?, breaker(text)?);
    }
    if let (Some(session), Some(caller)) = (row.try_get(4)?, row.try_get(5)?) {
        let known = Session {
            caller: CallerId::stored(caller),
            words: optional_half(row.try_get(6)?)?,
        };
        let key = (tenant(row.try_get(3)?)?, session);
        state.sessions.insert(key, known);
    }
    Ok(())
}

pub(super) fn breaker(text: &str) -> Result<CircuitBreaker, sqlx::Error> {
    serde_json::from_str(text).map_err(|_| unreadable())
}

fn half(bytes: &[u8]) -> Result<[u8; 16], sqlx::Error> {
    bytes.try_into().map_err(|_| unreadable())
}

fn optional_half(bytes: Option<&[u8]>) -> Result<Option<[u8; 16]>, sqlx::Error> {
    bytes.map(half).transpose()
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

pub(super) fn tenant(text: &str) -> Result<TenantId, sqlx::Error> {
    TenantId::parse(text).map_err(|_| unreadable())
}

/// Reads tenant and caller from the columns `first` and the one after it.
pub(super) fn scope(row: &SqliteRow, first: usize) -> Result<Scope, sqlx::Error> {
    Ok(Scope {
        tenant: tenant(row.try_get(first)?)?,
        caller: CallerId::stored(row.try_get(first + 1)?),
    })
}

fn unreadable() -> sqlx::Error {
    sqlx::Error::Decode("a column holds what it cannot hold".into())
}
