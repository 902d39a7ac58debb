use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use protocol::{Canonical, ReviewStatus};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _, Row as _};

use super::{OpenStoreError, SqliteStore};
use crate::private_files::NotPrivate;
use crate::store::contract::{self, approved, ending, opening, own};
use crate::store::{Opened, ReviewStore as _, StoreError};
use crate::test_folder::TestFolder;

async fn raw(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(path);
    options.connect().await.expect("a connection")
}

pub(super) async fn execute(path: &Path, sql: &'static str) -> Result<(), sqlx::Error> {
    let mut connection = raw(path).await;
    sqlx::raw_sql(sql).execute(&mut connection).await?;
    connection.close().await
}

/// Recomputes the chain from the raw rows, without the code that wrote them; the number of the first line that is wrong.
async fn first_broken(path: &Path) -> Option<i64> {
    let mut connection = raw(path).await;
    let rows = sqlx::query(
        "SELECT seq, review_id, kind, at, body, hash FROM review_events WHERE tenant_id = 'default' ORDER BY seq",
    )
    .fetch_all(&mut connection)
    .await
    .expect("rows");
    let mut before = vec![0_u8; 32];
    for (index, row) in rows.iter().enumerate() {
        let seq: i64 = row.get(0);
        let mut bytes = Canonical::new("auto-review event v1");
        bytes
            .bytes(&before)
            .text("default")
            .bytes(&seq.to_be_bytes())
            .bytes(row.get::<&[u8], _>(1))
            .text(row.get(2))
            .bytes(&row.get::<i64, _>(3).to_be_bytes())
            .text(row.get(4));
        before = bytes.sha256().to_vec();
        if usize::try_from(seq) != Ok(index + 1) || before != row.get::<&[u8], _>(5) {
            return Some(seq);
        }
    }
    None
}

macro_rules! keeps_the_contract {
    ($($name:ident)*) => {$(
        #[tokio::test]
        async fn $name() {
            let folder = TestFolder::new();
            let store = SqliteStore::open(&folder.path("db")).await.expect("a store");
            contract::$name(&store).await;
        }
    )*};
}

keeps_the_contract! {
    a_nonce_names_one_question
    a_session_belongs_to_the_caller_that_opened_it
    a_review_ends_once
    a_review_decided_as_it_came_in_is_opened_and_ended_at_once
    what_may_not_be_opened_is_not_ended_either
    an_owner_s_reviews_are_closed_however_many
    an_approval_is_spent_once_by_its_caller_for_its_action_in_time
    of_many_who_spend_at_once_one_does
    an_owner_s_reviews_are_closed_and_no_other_s
    a_page_is_newest_first_and_one_caller_s
    nobody_sees_past_a_tenant_or_a_caller
}

#[tokio::test]
async fn turns_are_counted_and_words_are_heard() {
    let folder = TestFolder::new();
    let path = folder.path("db");
    let store = SqliteStore::open(&path).await.expect("a store");
    contract::turns::three_denials_in_a_row_stop_a_turn_and_no_other(&store).await;
    contract::turns::a_turn_asks_for_so_many_reviews(&store).await;
    contract::turns::an_approval_under_other_words_is_stale(&store).await;
    store.close().await;
    assert_eq!(first_broken(&path).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_processes_count_one_turn_exactly() {
    let folder = TestFolder::new();
    let path = folder.path("db");
    let mut stores = Vec::new();
    for _ in 0..20 {
        let store = SqliteStore::open(&path).await.expect("a store");
        stores.push(std::sync::Arc::new(store));
    }
    contract::turns::a_turn_is_counted_exactly_over_all_processes(stores.clone()).await;
    for store in stores {
        store.close().await;
    }
    assert_eq!(first_broken(&path).await, None);
}

#[tokio::test]
async fn a_stopped_turn_stays_stopped_after_a_restart() {
    let folder = TestFolder::new();
    let path = folder.path("db");
    let first = opening();
    for attempt in 0..4 {
        let store = SqliteStore::open(&path).await.expect("a store");
        let opening = crate::store::Opening {
            turn: first.turn.clone(),
            ..opening()
        };
        let end = ending(
            opening.review_id,
            protocol::Decision::Denied(protocol::Denial::ByPerson("no".to_owned())),
        );
        let opened = store.record(opening, end).await.expect("recorded");
        assert_eq!(
            matches!(opened, Opened::Stopped(_)),
            attempt == 3,
            "{opened:?}"
        );
        store.close().await;
    }
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart_and_its_chain_holds() {
    let folder = TestFolder::new();
    let path = folder.path("db");
    let store = SqliteStore::open(&path).await.expect("a store");
    let first = opening();
    for opening in [first.clone(), opening(), opening()] {
        assert_eq!(store.open(opening).await.expect("opened"), Opened::New);
    }
    store
        .end(ending(first.review_id, approved()))
        .await
        .expect("ended");
    store.close().await;
    assert!(matches!(
        store.open(opening()).await,
        Err(StoreError::Closed)
    ));
    let store = SqliteStore::open(&path).await.expect("a store");
    let recorded = store.review(&own(1), first.review_id).await;
    let end = recorded.expect("read").expect("a review").end;
    assert_eq!(end.expect("an end").verdict.status, ReviewStatus::Approved);
    store.open(opening()).await.expect("opened");
    store.close().await;
    assert_eq!(first_broken(&path).await, None);
}

#[tokio::test]
async fn events_cannot_be_changed_and_a_change_by_force_shows() {
    let folder = TestFolder::new();
    let path = folder.path("db");
    let store = SqliteStore::open(&path).await.expect("a store");
    for _ in 0..3 {
        store.open(opening()).await.expect("opened");
    }
    for sql in [
        "UPDATE review_events SET body = '{}' WHERE seq = 2",
        "DELETE FROM review_events WHERE seq = 2",
    ] {
        assert!(execute(&path, sql).await.is_err(), "{sql}");
    }
    assert_eq!(first_broken(&path).await, None);
    execute(
        &path,
        "DROP TRIGGER review_events_are_not_changed; UPDATE review_events SET at = at + 1 WHERE seq = 2",
    )
    .await
    .expect("forced");
    assert_eq!(first_broken(&path).await, Some(2));
}

#[tokio::test]
async fn an_approval_that_only_the_cache_knows_is_never_answered() {
    let folder = TestFolder::new();
    let path = folder.path("db");
    let store = SqliteStore::open(&path).await.expect("a store");
    let opening = opening();
    let review_id = opening.review_id;
    store.open(opening).await.expect("opened");
    execute(
        &path,
        "UPDATE reviews SET status = 'approved', ended_seq = 1, completed_at = 1, expires_at = 4102444800000",
    )
    .await
    .expect("forced");
    assert!(matches!(
        store.review(&own(1), review_id).await,
        Err(StoreError::Corrupt(_))
    ));
}

#[tokio::test]
async fn a_store_that_another_process_holds_says_so_and_works_again_afterwards() {
    let folder = TestFolder::new();
    let path = folder.path("db");
    let store = SqliteStore::open(&path).await.expect("a store");
    let mut holder = raw(&path).await;
    sqlx::raw_sql("BEGIN IMMEDIATE")
        .execute(&mut holder)
        .await
        .expect("held");
    let refused = opening();
    assert!(matches!(
        store.open(refused.clone()).await,
        Err(StoreError::Locked)
    ));
    sqlx::raw_sql("ROLLBACK")
        .execute(&mut holder)
        .await
        .expect("let go");
    assert_eq!(
        store.open(refused).await.expect("opened"),
        Opened::New,
        "what was refused left nothing behind"
    );
}

#[tokio::test]
async fn nothing_is_promised_into_files_that_were_removed_or_replaced() {
    for removed in ["db", "db-wal"] {
        let folder = TestFolder::new();
        let path = folder.path("db");
        let store = SqliteStore::open(&path).await.expect("a store");
        store.open(opening()).await.expect("opened");
        let file = folder.path(removed);
        std::fs::rename(&file, folder.path("away")).expect("renamed");
        std::fs::write(&file, "").expect("replaced");
        assert!(
            matches!(store.open(opening()).await, Err(StoreError::Gone)),
            "{removed}"
        );
        assert!(
            matches!(store.probe().await, Err(StoreError::Gone)),
            "{removed}"
        );
    }
}

#[tokio::test]
async fn files_are_private_and_must_stay_so() {
    let folder = TestFolder::new();
    let path = folder.path("inner/db");
    SqliteStore::open(&path)
        .await
        .expect("a store")
        .close()
        .await;
    let mode = |path: &Path| {
        let metadata = std::fs::metadata(path).expect("metadata");
        metadata.permissions().mode() & 0o777
    };
    assert_eq!((mode(&path), mode(&folder.path("inner"))), (0o600, 0o700));
    let chmod = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("chmod");
    };
    let refused = async |path: &Path| match SqliteStore::open(path).await {
        Err(OpenStoreError::NotPrivate(fault)) => fault,
        other => panic!("not refused: {other:?}"),
    };
    chmod(&path, 0o604);
    assert!(matches!(
        refused(&path).await,
        NotPrivate::Mode { mode: 0o604, .. }
    ));
    chmod(&path, 0o600);
    chmod(&folder.path("inner"), 0o750);
    assert!(matches!(
        refused(&path).await,
        NotPrivate::Mode { mode: 0o750, .. }
    ));
    chmod(&folder.path("inner"), 0o700);
    let link = folder.path("link");
    std::os::unix::fs::symlink(&path, &link).expect("a link");
    assert!(matches!(refused(&link).await, NotPrivate::Kind { .. }));
    SqliteStore::open(&path)
        .await
        .expect("private again")
        .close()
        .await;
}

#[tokio::test]
async fn another_program_s_database_and_a_newer_one_are_refused() {
    let folder = TestFolder::new();
    let foreign = folder.path("foreign");
    crate::private_files::private_file(&foreign).expect("a file");
    execute(&foreign, "CREATE TABLE notes (text TEXT)")
        .await
        .expect("made");
    assert!(matches!(
        SqliteStore::open(&foreign).await,
        Err(OpenStoreError::Foreign(_))
    ));
    let newer = folder.path("newer");
    SqliteStore::open(&newer)
        .await
        .expect("a store")
        .close()
        .await;
    execute(
        &newer,
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'later', TRUE, x'00', 0)",
    )
    .await
    .expect("made newer");
    assert!(matches!(
        SqliteStore::open(&newer).await,
        Err(OpenStoreError::Migrate { .. })
    ));
    let junk = folder.path("junk");
    crate::private_files::private_file(&junk).expect("a file");
    std::fs::write(
        &junk,
        "not a database at all, and longer than a header of one would be ".repeat(20),
    )
    .expect("written");
    assert!(SqliteStore::open(&junk).await.is_err());
}

#[tokio::test]
async fn many_changes_at_once_all_get_their_own_answer() {
    let folder = TestFolder::new();
    let path = folder.path("db");
    let store = std::sync::Arc::new(SqliteStore::open(&path).await.expect("a store"));
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..500 {
        let store = std::sync::Arc::clone(&store);
        tasks.spawn(async move {
            let opening = opening();
            let review_id = opening.review_id;
            let end = ending(review_id, approved());
            if number % 2 == 0 {
                let opened = store.record(opening, end).await;
                assert_eq!(opened.expect("recorded"), Opened::New);
            } else {
                assert_eq!(store.open(opening).await.expect("opened"), Opened::New);
                store.end(end).await.expect("ended");
            }
            let recorded = store.review(&own(1), review_id).await.expect("read");
            assert!(recorded.expect("a review").end.is_some());
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("a task");
    }
    store.close().await;
    assert_eq!(first_broken(&path).await, None);
}

#[tokio::test]
async fn what_another_process_wrote_in_between_is_seen_and_the_chain_goes_on() {
    let folder = TestFolder::new();
    let path = folder.path("db");
    let (here, there) = (
        SqliteStore::open(&path).await.expect("a store"),
        SqliteStore::open(&path).await.expect("a store"),
    );
    let first = opening();
    assert_eq!(here.open(first.clone()).await.expect("opened"), Opened::New);
    for _ in 0..3 {
        // Each of the two has written last as far as it knows, and is wrong about it.
        assert_eq!(there.open(opening()).await.expect("opened"), Opened::New);
        assert_eq!(here.open(opening()).await.expect("opened"), Opened::New);
    }
    let again = crate::store::Opening {
        review_id: opening().review_id,
        ..first.clone()
    };
    assert_eq!(
        there.open(again.clone()).await.expect("an answer"),
        Opened::Same(first.review_id)
    );
    let other = crate::store::Opening {
        request_digest: [2; 32],
        ..again
    };
    assert_eq!(
        here.open(other).await.expect("an answer"),
        Opened::OtherBody
    );
    let mut taken = opening();
    taken.scope.caller = protocol::CallerId::of_uid(2);
    assert_eq!(
        there.open(taken).await.expect("an answer"),
        Opened::SessionTaken
    );
    here.close().await;
    there.close().await;
    assert_eq!(first_broken(&path).await, None);
}

#[tokio::test]
async fn a_database_of_the_first_version_is_brought_up_to_date_with_all_it_holds_from_any_step() {
    for step in super::MIGRATIONS.iter().map(|step| step.version) {
        comes_up_to_date_from(step).await;
    }
}

async fn comes_up_to_date_from(step: i64) {
    let folder = TestFolder::new();
    let path = folder.path("db");
    drop(crate::private_files::private_file(&path).expect("a file"));
    // Made by the first version of this program: one review that ended, one that is open, one token.
    let fixture = include_bytes!("fixtures/version-1.db");
    std::fs::write(&path, fixture).expect("written");
    // As a program that was killed between two steps leaves it.
    let steps = super::MIGRATIONS.iter().filter(|it| it.version <= step);
    let steps = sqlx::migrate::Migrator::with_migrations(steps.cloned().collect());
    let mut connection = raw(&path).await;
    steps.run(&mut connection).await.expect("taken there");
    connection.close().await.expect("closed");
    assert_eq!(first_broken(&path).await, None);
    let store = SqliteStore::open(&path).await.expect("a store");
    let page = crate::store::Page {
        status: None,
        before: None,
        limit: 10,
    };
    let lines = store.page(&own(1), &page).await.expect("a page");
    assert_eq!(lines.len(), 2);
    let tokens = store.tokens().await.expect("tokens");
    let roles: Vec<_> = tokens
        .iter()
        .map(|token| token.grants.roles.to_string())
        .collect();
    assert_eq!(roles, ["runner"]);
    store.open(opening()).await.expect("opened");
    store.close().await;
    assert_eq!(first_broken(&path).await, None);
}

#[tokio::test]
async fn who_asks_is_known_while_lists_hold_every_reader() {
    let folder = TestFolder::new();
    let store = SqliteStore::open(&folder.path("db"))
        .await
        .expect("a store");
    let mut held = Vec::new();
    while held.len() < 4 {
        held.push(store.readers.acquire().await.expect("a reader"));
    }
    assert!(
        store.readers.try_acquire().is_none(),
        "every reader is held"
    );
    let patience = std::time::Duration::from_secs(2);
    let tokens = tokio::time::timeout(patience, store.tokens()).await;
    assert_eq!(tokens.expect("in time").expect("tokens").len(), 0);
    drop(held);
    store.close().await;
}
