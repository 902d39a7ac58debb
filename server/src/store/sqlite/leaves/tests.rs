use std::path::Path;
use std::time::Duration;

use protocol::{ReviewId, TenantId};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use super::super::SqliteStore;
use crate::desk::{after, now};
use crate::key::SigningKey;
use crate::store::contract::{approved, denied, ending, opening, own, scope};
use crate::store::sqlite::history::Verified;
use crate::store::{
    Ended, Ending, Leave, LeaveKey, ReviewStore as _, StoreError, Withdrawal, Withdrawn,
};
use crate::test_folder::TestFolder;
use crate::verdict::Verdict;

const WITHOUT_A_LINE: &str = "a leave was given, spent or withdrawn without a line";

struct World {
    folder: TestFolder,
    store: SqliteStore,
    denied: ReviewId,
}

impl World {
    /// One review that was denied, and leave for what it denied.
    async fn new() -> Self {
        let folder = TestFolder::new();
        let store = SqliteStore::open(&folder.path("db"))
            .await
            .expect("a store");
        let opened = opening();
        let denied_id = opened.review_id;
        let leave = Leave {
            review_id: denied_id,
            scope: opened.scope.clone(),
            session_id: opened.session_id.clone(),
            action_digest: opened.action_digest,
            nonce: opened.nonce.clone(),
            given_by: "bob".to_owned(),
            reason: "it is a copy".to_owned(),
            given_at: now(),
            expires_at: after(now(), Duration::from_secs(900)),
            signature: "ed25519:x".to_owned(),
        };
        store.open(opened).await.expect("opened");
        store.end(ending(denied_id, denied())).await.expect("ended");
        assert!(store.give_leave(leave).await.expect("given"));
        Self {
            folder,
            store,
            denied: denied_id,
        }
    }

    /// The end of a new review, which leans on the leave.
    async fn lifted(&self) -> Ending {
        let opened = opening();
        let id = opened.review_id;
        self.store.open(opened).await.expect("opened");
        let end = ending(id, approved());
        Ending {
            verdict: Verdict {
                lifts: Some(self.denied),
                ..end.verdict.clone()
            },
            without_leave: Some(Box::new(Verdict::of(denied(), None))),
            ..end
        }
    }

    async fn can_be_spent(&self) -> bool {
        let one = opening();
        let key = LeaveKey {
            scope: scope(1),
            session_id: one.session_id,
            action_digest: one.action_digest,
        };
        self.store.leave(&key).await.expect("read").is_some()
    }

    async fn withdraw(&self, tenant: TenantId) -> Result<Withdrawn, StoreError> {
        let withdrawal = Withdrawal {
            tenant,
            review_id: self.denied,
            by: "carol".to_owned(),
            reason: "the wrong key".to_owned(),
            at: now(),
        };
        self.store.withdraw_leave(withdrawal).await
    }

    async fn status(&self, id: ReviewId) -> Option<protocol::ReviewStatus> {
        let review = self.store.review(&own(1), id).await.expect("read");
        review.and_then(|it| it.end).map(|end| end.verdict.status)
    }

    async fn verified(&self) -> Verified {
        let tenant = TenantId::default();
        // Nothing is signed here.
        let key = SigningKey::ephemeral().expect("a key");
        self.store
            .verify(&tenant, &key, &[])
            .await
            .expect("verified")
    }

    /// What verification says once `sql` was done to the file by somebody else.
    async fn broken_by(&self, sql: &'static str) -> Option<&'static str> {
        assert_eq!(self.verified().await.broken, None);
        execute(&self.folder.path("db"), sql).await;
        self.verified().await.broken.map(|broken| broken.what)
    }
}

async fn execute(path: &Path, sql: &'static str) {
    let options = SqliteConnectOptions::new().filename(path);
    let mut connection = options.connect().await.expect("a connection");
    sqlx::raw_sql(sql)
        .execute(&mut connection)
        .await
        .expect("done");
    connection.close().await.expect("closed");
}

#[tokio::test]
async fn a_leave_is_there_as_long_as_its_approval_is_not_durable_and_gone_with_it() {
    let world = World::new().await;
    let lifted = world.lifted().await;
    let path = world.folder.path("db");
    // The disk takes everything but the approval's own line.
    execute(
        &path,
        "CREATE TRIGGER fails BEFORE INSERT ON review_events WHEN new.kind = 'approved' \
         BEGIN SELECT RAISE(ABORT, 'no'); END",
    )
    .await;
    let failed = world.store.end(lifted.clone()).await;
    assert!(matches!(failed, Err(StoreError::Database(_))), "{failed:?}");
    assert!(world.can_be_spent().await);
    assert_eq!(world.status(lifted.review_id).await, None);
    execute(&path, "DROP TRIGGER fails").await;
    let ended = world.store.end(lifted.clone()).await;
    assert_eq!(ended.expect("ended"), Ended::Recorded);
    assert!(!world.can_be_spent().await);
    let verified = world.verified().await;
    assert_eq!((verified.lines, verified.broken), (6, None));
}

#[tokio::test]
async fn of_two_approvals_under_one_leave_the_second_is_the_denial_that_it_was() {
    let world = World::new().await;
    let (first, second) = (world.lifted().await, world.lifted().await);
    // In one batch or in two: the rule is the same.
    let (one, other) = tokio::join!(
        world.store.end(first.clone()),
        world.store.end(second.clone())
    );
    assert_eq!(one.expect("ended"), Ended::Recorded);
    let denial = Box::new(Verdict::of(denied(), None));
    assert_eq!(other.expect("ended"), Ended::Instead(denial));
    let status = world.status(second.review_id).await;
    assert_eq!(status, Some(protocol::ReviewStatus::Denied));
    assert_eq!(world.verified().await.broken, None);
}

#[tokio::test]
async fn a_leave_that_ran_out_before_the_approval_lifts_nothing() {
    let world = World::new().await;
    let late = Ending {
        completed_at: after(now(), Duration::from_secs(900)),
        ..world.lifted().await
    };
    let ended = world.store.end(late).await.expect("ended");
    assert!(matches!(ended, Ended::Instead(_)), "{ended:?}");
    assert!(world.can_be_spent().await);
}

#[tokio::test]
async fn a_leave_that_somebody_made_unspent_lifts_nothing_and_verification_says_so() {
    let world = World::new().await;
    let first = world.lifted().await;
    world.store.end(first).await.expect("ended");
    let broken = world.broken_by("UPDATE leaves SET spent_by = NULL").await;
    assert_eq!(broken, Some("its leave is not spent as it was"));
    assert!(world.can_be_spent().await, "its row says so");
    let again = world.lifted().await;
    let refused = world.store.end(again.clone()).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(world.status(again.review_id).await, None);
}

#[tokio::test]
async fn leaves_that_were_removed_changed_or_added_are_told() {
    let missing = World::new().await.broken_by("DELETE FROM leaves").await;
    assert_eq!(missing, Some("its leave is missing"));
    let changed = "UPDATE leaves SET given_by = 'mallory'";
    let changed = World::new().await.broken_by(changed).await;
    assert_eq!(changed, Some("its leave is not as it was given"));
    let spent = "UPDATE leaves SET spent_by = randomblob(16)";
    let spent = World::new().await.broken_by(spent).await;
    assert_eq!(spent, Some(WITHOUT_A_LINE));
    let withdrawn = "UPDATE leaves SET withdrawn_at = 1";
    let withdrawn = World::new().await.broken_by(withdrawn).await;
    assert_eq!(withdrawn, Some(WITHOUT_A_LINE));
    let line = "DROP TRIGGER review_events_are_not_removed; \
                DELETE FROM review_events WHERE kind = 'leave_given'";
    let line = World::new().await.broken_by(line).await;
    assert_eq!(line, Some(WITHOUT_A_LINE));
}

#[tokio::test]
async fn leave_that_was_withdrawn_lifts_nothing_also_of_a_review_that_leaned_on_it_before() {
    let world = World::new().await;
    let lifted = world.lifted().await;
    let ours = TenantId::default;
    assert_eq!(
        world.withdraw(ours()).await.expect("told"),
        Withdrawn::Recorded
    );
    assert!(!world.can_be_spent().await);
    let ended = world.store.end(lifted.clone()).await.expect("ended");
    assert_eq!(ended, Ended::Instead(Box::new(Verdict::of(denied(), None))));
    let status = world.status(lifted.review_id).await;
    assert_eq!(status, Some(protocol::ReviewStatus::Denied));
    assert_eq!(
        world.withdraw(ours()).await.expect("told"),
        Withdrawn::Before
    );
    let verified = world.verified().await;
    assert_eq!((verified.lines, verified.broken), (6, None));
}

#[tokio::test]
async fn leave_that_was_spent_or_is_another_tenant_s_is_not_withdrawn() {
    let world = World::new().await;
    let foreign = TenantId::parse("acme").expect("a tenant");
    let told = world.withdraw(foreign).await.expect("told");
    assert_eq!(told, Withdrawn::Unknown);
    let lifted = world.lifted().await;
    assert_eq!(
        world.store.end(lifted).await.expect("ended"),
        Ended::Recorded
    );
    let told = world.withdraw(TenantId::default()).await.expect("told");
    assert_eq!(told, Withdrawn::Spent);
    assert_eq!(world.verified().await.broken, None);
}

#[tokio::test]
async fn of_an_approval_and_a_withdrawal_at_once_one_holds_and_the_other_learns_it() {
    let (mut approved, mut withdrawn) = (0, 0);
    for turn in 0..32 {
        let world = World::new().await;
        let lifted = world.lifted().await;
        // Another process, so that nothing but the database decides who was first.
        let other = SqliteStore::open(&world.folder.path("db"))
            .await
            .expect("a store");
        let withdrawal = Withdrawal {
            tenant: TenantId::default(),
            review_id: world.denied,
            by: "carol".to_owned(),
            reason: "the wrong key".to_owned(),
            at: now(),
        };
        let (ended, told) = if turn % 2 == 0 {
            tokio::join!(
                world.store.end(lifted.clone()),
                other.withdraw_leave(withdrawal)
            )
        } else {
            let told = other.withdraw_leave(withdrawal);
            let (told, ended) = tokio::join!(told, world.store.end(lifted.clone()));
            (ended, told)
        };
        match (ended.expect("ended"), told.expect("told")) {
            (Ended::Recorded, Withdrawn::Spent) => approved += 1,
            (Ended::Instead(_), Withdrawn::Recorded) => withdrawn += 1,
            both => panic!("{both:?}"),
        }
        assert_eq!(world.verified().await.broken, None);
        other.close().await;
    }
    assert_eq!(approved + withdrawn, 32);
}

#[tokio::test]
async fn a_withdrawal_that_somebody_undid_lifts_nothing_and_verification_says_so() {
    let world = World::new().await;
    let told = world.withdraw(TenantId::default()).await.expect("told");
    assert_eq!(told, Withdrawn::Recorded);
    let broken = world
        .broken_by("UPDATE leaves SET withdrawn_at = NULL")
        .await;
    assert_eq!(broken, Some("its leave is not withdrawn as it was"));
    assert!(world.can_be_spent().await, "its row says so");
    let lifted = world.lifted().await;
    let refused = world.store.end(lifted.clone()).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(world.status(lifted.review_id).await, None);
}

#[tokio::test]
async fn a_withdrawal_is_there_with_its_line_or_not_at_all() {
    let world = World::new().await;
    let path = world.folder.path("db");
    execute(
        &path,
        "CREATE TRIGGER fails BEFORE INSERT ON review_events WHEN new.kind = 'leave_withdrawn' \
         BEGIN SELECT RAISE(ABORT, 'no'); END",
    )
    .await;
    let failed = world.withdraw(TenantId::default()).await;
    assert!(matches!(failed, Err(StoreError::Database(_))), "{failed:?}");
    assert!(world.can_be_spent().await);
    execute(&path, "DROP TRIGGER fails").await;
    let told = world.withdraw(TenantId::default()).await.expect("told");
    assert_eq!(told, Withdrawn::Recorded);
    assert_eq!(world.verified().await.broken, None);
}
