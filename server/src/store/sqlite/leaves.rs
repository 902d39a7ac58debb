//! A person's leave in SQLite: kept, looked up and taken back; and sessions with their turns, as they are told.
//!
//! Apart from the batches, which spend it together with the approval: both are rare. Invariants: a leave and its line
//! `leave_given` are kept in one transaction, and so is that it was taken back (`leave_withdrawn`); of that line and
//! `leave_spent` the chain takes one.

use protocol::{CallerId, ReviewEvent, ReviewId};
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::super::chain::Line;
use super::super::{
    Leave, LeaveKey, Scope, SessionRecord, Sight, StoreError, TurnRecord, Withdrawal, Withdrawn,
    bodies,
};
use super::{SqliteStore, append, sql};

/// How many turns of a session are told.
const MOST_TURNS: i64 = 1_000;

impl SqliteStore {
    /// Keeps a leave and starts the counts of its review's turn anew. `false`: there was one for that review before.
    pub(crate) async fn give_leave(&self, leave: Leave) -> Result<bool, StoreError> {
        self.aside(move |connection| Box::pin(give(connection, leave)))
            .await
    }

    /// Takes a leave back, if it was not spent by then.
    pub(crate) async fn withdraw_leave(
        &self,
        withdrawal: Withdrawal,
    ) -> Result<Withdrawn, StoreError> {
        self.aside(move |connection| Box::pin(withdraw(connection, withdrawal)))
            .await
    }

    /// The newest leave that was neither spent nor taken back, if there is one.
    pub(crate) async fn leave(&self, key: &LeaveKey) -> Result<Option<Leave>, StoreError> {
        let row = sqlx::query(
            "SELECT review_id, session_id, nonce, given_by, reason, given_at, expires_at, signature FROM leaves \
             WHERE tenant_id = ? AND caller = ? AND action_digest = ? AND spent_by IS NULL AND withdrawn_at IS NULL \
             AND session_id IS ? \
             ORDER BY given_at DESC LIMIT 1",
        )
        .bind(key.scope.tenant.as_str())
        .bind(key.scope.caller.as_str())
        .bind(key.action_digest.to_string())
        .bind(key.session_id.as_deref())
        .fetch_optional(&self.readers)
        .await?;
        let read = row.map(|row| read_leave(&row, key)).transpose();
        read.map_err(|_| StoreError::Corrupt("a leave cannot be read"))
    }

    /// A session that `sight` covers, with its turns.
    pub(crate) async fn session(
        &self,
        sight: &Sight,
        session_id: &str,
    ) -> Result<Option<SessionRecord>, StoreError> {
        let found = sqlx::query(
            "SELECT caller, opened_at FROM sessions WHERE tenant_id = ? AND session_id = ?",
        )
        .bind(sight.tenant().as_str())
        .bind(session_id)
        .fetch_optional(&self.readers)
        .await?;
        let Some(found) = found else {
            return Ok(None);
        };
        let caller: String = found.try_get(0)?;
        let scope = Scope {
            tenant: sight.tenant().clone(),
            caller: CallerId::stored(caller.clone()),
        };
        if !sight.covers(&scope) {
            return Ok(None);
        }
        let rows = sqlx::query(
            "SELECT turn_id, opened_at, last_at, state FROM turns INDEXED BY turns_of_session \
             WHERE tenant_id = ? AND session_id = ? AND caller = ? ORDER BY opened_at DESC LIMIT ?",
        )
        .bind(sight.tenant().as_str())
        .bind(session_id)
        .bind(&caller)
        .bind(MOST_TURNS)
        .fetch_all(&self.readers)
        .await?;
        let turns: Result<Vec<_>, _> = rows.iter().map(read_turn).collect();
        Ok(Some(SessionRecord {
            session_id: session_id.to_owned(),
            caller,
            opened_at: sql::time(found.try_get(1)?)?,
            turns: turns.map_err(|_| StoreError::Corrupt("a turn cannot be read"))?,
        }))
    }
}

async fn give(connection: &mut SqliteConnection, leave: Leave) -> Result<bool, StoreError> {
    let given = sqlx::query(
        "INSERT INTO leaves (review_id, tenant_id, caller, session_id, action_digest, nonce, given_by, reason, given_at, \
         expires_at, signature, in_chain) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1) ON CONFLICT (review_id) DO NOTHING",
    )
    .bind(sql::bytes(leave.review_id))
    .bind(leave.scope.tenant.as_str())
    .bind(leave.scope.caller.as_str())
    .bind(leave.session_id.as_deref())
    .bind(leave.action_digest.to_string())
    .bind(leave.nonce.as_str())
    .bind(&leave.given_by)
    .bind(&leave.reason)
    .bind(leave.given_at.as_millisecond())
    .bind(leave.expires_at.as_millisecond())
    .bind(&leave.signature)
    .execute(&mut *connection)
    .await?;
    if given.rows_affected() == 0 {
        return Ok(false);
    }
    let body = bodies::leave_given(&bodies::LeaveGiven {
        by: &leave.given_by,
        reason: &leave.reason,
        expires_at: leave.expires_at.as_millisecond(),
        signature: &leave.signature,
    })?;
    let line = Line {
        tenant: &leave.scope.tenant,
        review_id: leave.review_id,
        event: ReviewEvent::LeaveGiven,
        at: leave.given_at.as_millisecond(),
        body: &body,
    };
    let head = append::head(connection, line.tenant).await?;
    append::append(connection, head, &line).await?;
    forgive(connection, &leave).await?;
    Ok(true)
}

async fn withdraw(
    connection: &mut SqliteConnection,
    withdrawal: Withdrawal,
) -> Result<Withdrawn, StoreError> {
    let at = withdrawal.at.as_millisecond();
    let withdrawn = sqlx::query(
        "UPDATE leaves SET withdrawn_at = ? WHERE review_id = ? AND tenant_id = ? AND spent_by IS NULL \
         AND withdrawn_at IS NULL",
    )
    .bind(at)
    .bind(sql::bytes(withdrawal.review_id))
    .bind(withdrawal.tenant.as_str())
    .execute(&mut *connection)
    .await?;
    if withdrawn.rows_affected() == 0 {
        return why_not(connection, &withdrawal).await;
    }
    let body = bodies::leave_withdrawn(&withdrawal)?;
    let line = Line {
        tenant: &withdrawal.tenant,
        review_id: withdrawal.review_id,
        event: ReviewEvent::LeaveWithdrawn,
        at,
        body: &body,
    };
    let head = append::head(connection, line.tenant).await?;
    append::append(connection, head, &line).await?;
    Ok(Withdrawn::Recorded)
}

async fn why_not(
    connection: &mut SqliteConnection,
    withdrawal: &Withdrawal,
) -> Result<Withdrawn, StoreError> {
    let spent: Option<bool> = sqlx::query_scalar(
        "SELECT spent_by IS NOT NULL FROM leaves WHERE review_id = ? AND tenant_id = ?",
    )
    .bind(sql::bytes(withdrawal.review_id))
    .bind(withdrawal.tenant.as_str())
    .fetch_optional(connection)
    .await?;
    Ok(match spent {
        Some(true) => Withdrawn::Spent,
        Some(false) => Withdrawn::Before,
        None => Withdrawn::Unknown,
    })
}

async fn forgive(connection: &mut SqliteConnection, leave: &Leave) -> Result<(), StoreError> {
    let turn = sqlx::query(
        "SELECT t.turn_key, t.state FROM reviews r CROSS JOIN turns t ON t.turn_key = r.turn_key \
         WHERE r.tenant_id = ? AND r.caller = ? AND r.review_id = ?",
    )
    .bind(leave.scope.tenant.as_str())
    .bind(leave.scope.caller.as_str())
    .bind(sql::bytes(leave.review_id))
    .fetch_optional(&mut *connection)
    .await?;
    let Some(turn) = turn else {
        return Ok(());
    };
    let mut breaker = sql::breaker(turn.try_get(1)?)?;
    breaker.forgive();
    let state = serde_json::to_string(&breaker)
        .map_err(|_| StoreError::Corrupt("a turn cannot be spelled"))?;
    sqlx::query("UPDATE turns SET state = ? WHERE turn_key = ?")
        .bind(state)
        .bind(turn.try_get::<Vec<u8>, _>(0)?)
        .execute(&mut *connection)
        .await?;
    Ok(())
}

fn read_leave(row: &SqliteRow, key: &LeaveKey) -> Result<Leave, sqlx::Error> {
    let review_id: ReviewId = sql::review_id(row.try_get(0)?)?;
    Ok(Leave {
        review_id,
        scope: key.scope.clone(),
        session_id: row.try_get(1)?,
        action_digest: key.action_digest,
        nonce: sql::nonce(row.try_get(2)?)?,
        given_by: row.try_get(3)?,
        reason: row.try_get(4)?,
        given_at: sql::time(row.try_get(5)?)?,
        expires_at: sql::time(row.try_get(6)?)?,
        signature: row.try_get(7)?,
    })
}

fn read_turn(row: &SqliteRow) -> Result<TurnRecord, sqlx::Error> {
    Ok(TurnRecord {
        turn_id: row.try_get(0)?,
        opened_at: sql::time(row.try_get(1)?)?,
        last_at: sql::time(row.try_get(2)?)?,
        breaker: sql::breaker(row.try_get(3)?)?,
    })
}

#[cfg(test)]
mod tests;
