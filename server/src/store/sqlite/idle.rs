//! Forgets turns and sessions in which nobody has asked for long: what they count holds nobody up any more.
//!
//! Apart from erasure, because nothing of the record goes: reviews keep the names of their sessions and turns. Invariants:
//! a turn or session in which a review is open stays; the tables are gone through in short steps between batches, by
//! their keys, so that no index has to be written with each review.

use jiff::Timestamp;
use sqlx::Row as _;
use sqlx::sqlite::SqliteConnection;

use super::super::StoreError;
use super::SqliteStore;

/// How many rows are looked at between two batches.
const STEP: i64 = 1_024;

/// The name of a session, where a step ended.
type Named = (String, String);

impl SqliteStore {
    /// Forgets turns that were last asked in before `before`, and sessions that were opened before it and have no turns
    /// left; how many there were.
    pub(crate) async fn forget_idle(&self, before: Timestamp) -> Result<u64, StoreError> {
        let before = before.as_millisecond();
        let mut forgotten = 0;
        let mut turn = Some(Vec::new());
        while let Some(from) = turn {
            let step = self.aside(move |connection| Box::pin(turns(connection, from, before)));
            let (reached, gone) = step.await?;
            forgotten += gone;
            turn = reached;
        }
        let mut session = Some((String::new(), String::new()));
        while let Some(from) = session {
            let step = self.aside(move |connection| Box::pin(sessions(connection, from, before)));
            let (reached, gone) = step.await?;
            forgotten += gone;
            session = reached;
        }
        Ok(forgotten)
    }
}

/// Looks at the turns after `from`: where it came to, unless these were the last, and how many are gone.
async fn turns(
    connection: &mut SqliteConnection,
    from: Vec<u8>,
    before: i64,
) -> Result<(Option<Vec<u8>>, u64), StoreError> {
    let row = sqlx::query(
        "SELECT max(turn_key), count(*) FROM \
         (SELECT turn_key FROM turns WHERE turn_key > ? ORDER BY turn_key LIMIT ?)",
    )
    .bind(&from)
    .bind(STEP)
    .fetch_one(&mut *connection)
    .await?;
    let (Some(last), count): (Option<Vec<u8>>, i64) = (row.try_get(0)?, row.try_get(1)?) else {
        return Ok((None, 0));
    };
    let gone = sqlx::query(
        "DELETE FROM turns WHERE turn_key > ? AND turn_key <= ? AND last_at < ? AND NOT EXISTS \
         (SELECT 1 FROM reviews r INDEXED BY reviews_open WHERE r.status = 'reviewing' AND r.turn_key = turns.turn_key)",
    )
    .bind(&from)
    .bind(&last)
    .bind(before)
    .execute(connection)
    .await?;
    Ok(((count == STEP).then_some(last), gone.rows_affected()))
}

/// The same for sessions.
async fn sessions(
    connection: &mut SqliteConnection,
    (tenant, session): Named,
    before: i64,
) -> Result<(Option<Named>, u64), StoreError> {
    let rows: Vec<Named> = sqlx::query_as(
        "SELECT tenant_id, session_id FROM sessions WHERE (tenant_id, session_id) > (?, ?) \
         ORDER BY tenant_id, session_id LIMIT ?",
    )
    .bind(&tenant)
    .bind(&session)
    .bind(STEP)
    .fetch_all(&mut *connection)
    .await?;
    let full = i64::try_from(rows.len()) == Ok(STEP);
    let Some(last) = rows.into_iter().next_back() else {
        return Ok((None, 0));
    };
    let gone = sqlx::query(
        "DELETE FROM sessions WHERE (tenant_id, session_id) > (?, ?) AND (tenant_id, session_id) <= (?, ?) \
         AND opened_at < ? AND NOT EXISTS \
         (SELECT 1 FROM turns t WHERE t.tenant_id = sessions.tenant_id AND t.session_id = sessions.session_id) \
         AND NOT EXISTS (SELECT 1 FROM reviews r INDEXED BY reviews_open WHERE r.status = 'reviewing' \
         AND r.tenant_id = sessions.tenant_id AND r.session_id = sessions.session_id)",
    )
    .bind(&tenant)
    .bind(&session)
    .bind(&last.0)
    .bind(&last.1)
    .bind(before)
    .execute(connection)
    .await?;
    Ok((full.then_some(last), gone.rows_affected()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::super::SqliteStore;
    use crate::desk::{after, now};
    use crate::store::contract::{denied, ending, opening, scope};
    use crate::store::{Opened, Opening, ReviewStore as _};
    use crate::test_folder::TestFolder;

    /// A review of the session `name` in a turn of its own, opened at `at`.
    fn asked(name: &str, at: Timestamp) -> Opening {
        Opening {
            session_id: Some(name.to_owned()),
            created_at: at,
            ..opening()
        }
    }

    #[tokio::test]
    async fn what_is_idle_is_forgotten_and_what_is_open_or_new_is_not() {
        let folder = TestFolder::new();
        let store = SqliteStore::open(&folder.path("db"))
            .await
            .expect("a store");
        let long_ago = Timestamp::from_second(1_000_000_000).expect("a time");
        let idle = asked("idle", long_ago);
        let used = asked("used", long_ago);
        for opening in [idle, used, asked("open", long_ago)] {
            let (id, session) = (opening.review_id, opening.session_id.clone());
            store.open(opening).await.expect("opened");
            if session.as_deref() != Some("open") {
                let mut end = ending(id, denied());
                end.completed_at = long_ago;
                store.end(end).await.expect("ended");
            }
        }
        let again = asked("used", now());
        store.open(again).await.expect("opened");
        let before = after(long_ago, Duration::from_secs(86_400));
        // Two turns, of `idle` and the first of `used`, and one session.
        assert_eq!(store.forget_idle(before).await.expect("forgotten"), 3);
        assert_eq!(store.forget_idle(before).await.expect("forgotten"), 0);
        // Another caller may open what is forgotten, and nothing else.
        for (name, opened) in [
            ("idle", Opened::New),
            ("used", Opened::SessionTaken),
            ("open", Opened::SessionTaken),
        ] {
            let theirs = Opening {
                scope: scope(2),
                ..asked(name, now())
            };
            assert_eq!(
                store.open(theirs).await.expect("an answer"),
                opened,
                "{name}"
            );
        }
        store.close().await;
    }

    #[tokio::test]
    async fn more_than_a_step_holds_is_gone_through_to_the_end() {
        let folder = TestFolder::new();
        let path = folder.path("db");
        let store = SqliteStore::open(&path).await.expect("a store");
        let many = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500) \
                    INSERT INTO turns SELECT randomblob(16), 'default', 'uid:1', 's-' || i, 't', 1, \
                    CASE WHEN i % 5 = 0 THEN 1000 ELSE 1 END, '{}' FROM n; \
                    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500) \
                    INSERT INTO sessions (tenant_id, session_id, caller, opened_at) \
                    SELECT 'default', 's-' || i, 'uid:1', 1 FROM n";
        super::super::tests::execute(&path, many)
            .await
            .expect("made");
        let before = Timestamp::from_millisecond(1_000).expect("a time");
        assert_eq!(store.forget_idle(before).await.expect("forgotten"), 4_000);
        store.close().await;
    }
}
