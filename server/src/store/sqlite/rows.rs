//! A batch as SQL, second half: one text that writes the rows and commits.
//!
//! Apart from what is read. Invariants: whatever comes from outside is bound, never spelled into the text; a list is as
//! long as [`shape`] says, and rows of NULL, which are not written, fill it up, so that few texts come back often and
//! SQLite keeps them prepared.

use sqlx::query_builder::Separated;
use sqlx::{QueryBuilder, Sqlite};

use super::batch::Rows;
use super::sql::{bytes, nonce_key, shape};

/// The most rows of one statement: SQLite binds 32,766 values in one at most (sqlite.org/limits.html), and recovery may
/// end more reviews than that at once.
const MOST: usize = 128;

type Bound<'q> = Separated<'q, Sqlite, &'static str>;

/// Writes `rows` and commits, in the transaction that `before` opens or that is open already.
pub(super) fn write(before: &str, rows: &Rows<'_>) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new(before);
    push_opened(&mut sql, rows);
    push_turns(&mut sql, rows);
    push_ended(&mut sql, rows);
    let exhibits = "review_exhibits (review_no, exhibit)";
    insert(&mut sql, exhibits, &rows.exhibits, |row, exhibit| {
        row.push_bind(exhibit.map(|it| it.0))
            .push_bind(exhibit.map(|it| it.1));
    });
    for (no, at) in &rows.redeemed {
        sql.push("UPDATE OR ROLLBACK reviews SET redeemed_at = ")
            .push_bind(at.as_millisecond())
            .push(" WHERE review_no = ")
            .push_bind(*no)
            .push("; ");
    }
    for (denied, by) in &rows.spent {
        sql.push("UPDATE OR ROLLBACK leaves SET spent_by = ")
            .push_bind(bytes(*by))
            .push(" WHERE review_id = ")
            .push_bind(bytes(*denied))
            .push(" AND spent_by IS NULL AND withdrawn_at IS NULL; ");
    }
    push_events(&mut sql, rows);
    push_rest(&mut sql, rows);
    sql.push("COMMIT");
    sql
}

/// Inserts `rows` into `into`. `bind` binds one row, or as many NULLs.
fn insert<T>(
    sql: &mut QueryBuilder<Sqlite>,
    into: &str,
    rows: &[T],
    mut bind: impl FnMut(&mut Bound<'_>, Option<&T>),
) {
    for rows in rows.chunks(MOST) {
        sql.push("INSERT OR ROLLBACK INTO ").push(into);
        sql.push(" SELECT * FROM (");
        push_padded(sql, rows, &mut bind);
        sql.push(") WHERE column1 IS NOT NULL; ");
    }
}

fn push_padded<T>(
    sql: &mut QueryBuilder<Sqlite>,
    rows: &[T],
    bind: &mut impl FnMut(&mut Bound<'_>, Option<&T>),
) {
    let padded = rows.iter().map(Some).chain(std::iter::repeat(None));
    let padded = padded.take(shape(rows.len()));
    sql.push_values(padded, |mut row, one| bind(&mut row, one));
}

fn push_opened(sql: &mut QueryBuilder<Sqlite>, rows: &Rows<'_>) {
    let sessions = "sessions (tenant_id, session_id, caller, opened_at, words)";
    insert(sql, sessions, &rows.sessions, |row, opening| {
        row.push_bind(opening.map(|it| it.scope.tenant.as_str()))
            .push_bind(opening.and_then(|it| it.session_id.as_deref()))
            .push_bind(opening.map(|it| it.scope.caller.as_str()))
            .push_bind(opening.map(|it| it.created_at.as_millisecond()))
            .push_bind(opening.and_then(|it| it.words.as_ref().map(|it| it.as_slice())));
    });
    for opening in &rows.said {
        sql.push("UPDATE OR ROLLBACK sessions SET words = ")
            .push_bind(opening.words.as_ref().map(|it| it.as_slice()))
            .push(" WHERE tenant_id = ")
            .push_bind(opening.scope.tenant.as_str())
            .push(" AND session_id = ")
            .push_bind(opening.session_id.as_deref())
            .push("; ");
    }
    let reviews = "reviews (review_no, review_id, tenant_id, caller, nonce, nonce_key, request_digest, session_id, \
                   action_digest, policy_revision, owner, status, created_at, deadline_at, ended_seq, completed_at, \
                   expires_at, turn_key, words)";
    insert(sql, reviews, &rows.opened, |row, opened| {
        let opening = opened.map(|it| it.opening);
        let end = opened.and_then(|it| it.end.as_ref());
        let status = end.map_or("reviewing", |end| end.status.as_str());
        row.push_bind(opened.map(|it| it.no))
            .push_bind(opening.map(|it| bytes(it.review_id)))
            .push_bind(opening.map(|it| it.scope.tenant.as_str()))
            .push_bind(opening.map(|it| it.scope.caller.as_str()))
            .push_bind(opening.map(|it| it.nonce.as_str()))
            .push_bind(opening.map(|it| nonce_key(&it.scope, &it.nonce)))
            .push_bind(opening.map(|it| it.request_digest.as_slice()))
            .push_bind(opening.and_then(|it| it.session_id.as_deref()))
            .push_bind(opening.map(|it| it.action_digest.to_string()))
            .push_bind(opening.map(|it| it.policy_revision.as_str()))
            .push_bind(opening.map(|it| it.owner.to_stored()))
            .push_bind(opening.map(|_| status))
            .push_bind(opening.map(|it| it.created_at.as_millisecond()))
            .push_bind(opening.map(|it| it.deadline_at.as_millisecond()))
            .push_bind(end.map(|it| it.ended_seq))
            .push_bind(end.map(|it| it.completed_at.as_millisecond()))
            .push_bind(end.map(|it| it.expires_at.as_millisecond()))
            .push_bind(opening.map(|it| it.turn.key.as_slice()))
            .push_bind(opening.and_then(|it| it.words.as_ref().map(|it| it.as_slice())));
    });
    let requests = "review_requests (review_no, question, context)";
    insert(sql, requests, &rows.opened, |row, opened| {
        row.push_bind(opened.map(|it| it.no))
            .push_bind(opened.map(|it| it.opening.question.as_str()))
            .push_bind(opened.map(|it| it.opening.context.as_str()));
    });
}

fn push_turns(sql: &mut QueryBuilder<Sqlite>, rows: &Rows<'_>) {
    let (asked, counted): (Vec<_>, Vec<_>) = rows
        .turns
        .iter()
        .partition(|(_, row)| row.opening.is_some());
    for asked in asked.chunks(MOST) {
        sql.push("INSERT OR ROLLBACK INTO turns (turn_key, tenant_id, caller, session_id, turn_id, opened_at, last_at, state) \
                  SELECT * FROM (");
        push_padded(sql, asked, &mut |row, turn| {
            let opening = turn.and_then(|(_, turn)| turn.opening);
            let at = turn.map(|(_, turn)| turn.at.as_millisecond());
            row.push_bind(turn.map(|(key, _)| key.as_slice()))
                .push_bind(opening.map(|it| it.scope.tenant.as_str()))
                .push_bind(opening.map(|it| it.scope.caller.as_str()))
                .push_bind(opening.and_then(|it| it.session_id.as_deref()))
                .push_bind(opening.and_then(|it| it.turn.turn_id.as_deref()))
                .push_bind(at)
                .push_bind(at)
                .push_bind(turn.map(|(_, turn)| turn.state.as_str()));
        });
        sql.push(
            ") WHERE column1 IS NOT NULL ON CONFLICT (turn_key) DO UPDATE SET last_at = excluded.last_at, \
             state = excluded.state; ",
        );
    }
    for (key, turn) in counted {
        sql.push("UPDATE OR ROLLBACK turns SET last_at = ")
            .push_bind(turn.at.as_millisecond())
            .push(", state = ")
            .push_bind(turn.state.as_str())
            .push(" WHERE turn_key = ")
            .push_bind(key.as_slice())
            .push("; ");
    }
}

fn push_ended(sql: &mut QueryBuilder<Sqlite>, rows: &Rows<'_>) {
    for ended in rows.ended.chunks(MOST) {
        sql.push("WITH ended (no, status, seq, completed, expires) AS (");
        push_padded(sql, ended, &mut |row, end| {
            row.push_bind(end.map(|it| it.no))
                .push_bind(end.map(|it| it.status.as_str()))
                .push_bind(end.map(|it| it.ended_seq))
                .push_bind(end.map(|it| it.completed_at.as_millisecond()))
                .push_bind(end.map(|it| it.expires_at.as_millisecond()));
        });
        sql.push(
            ") UPDATE OR ROLLBACK reviews SET status = ended.status, ended_seq = ended.seq, \
             completed_at = ended.completed, expires_at = ended.expires FROM ended WHERE reviews.review_no = ended.no; ",
        );
    }
}

fn push_events(sql: &mut QueryBuilder<Sqlite>, rows: &Rows<'_>) {
    let events = "review_events (tenant_id, seq, review_id, kind, at, body, hash)";
    insert(sql, events, &rows.events, |row, line| {
        row.push_bind(line.map(|it| it.tenant.as_str()))
            .push_bind(line.map(|it| it.head.seq))
            .push_bind(line.map(|it| bytes(it.review_id)))
            .push_bind(line.map(|it| it.event.as_str()))
            .push_bind(line.map(|it| it.at))
            .push_bind(line.map(|it| it.body.as_str()))
            .push_bind(line.map(|it| it.head.hash.as_slice()));
    });
}

fn push_rest(sql: &mut QueryBuilder<Sqlite>, rows: &Rows<'_>) {
    if let Some(at) = rows.probed_at {
        sql.push("UPDATE probe SET at = ").push_bind(at).push("; ");
    }
}
