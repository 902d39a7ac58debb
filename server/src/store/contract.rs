//! What every store must do, as tests that know no database. Each back end runs them all over a store of its own.

use std::time::Duration;

use protocol::{
    Action, ActionDigest, CallerId, Decision, Denial, FailedStep, Grant, NetworkAccess,
    NetworkProtocol, Nonce, ReviewFailure, ReviewId, ReviewStatus, TenantId,
};
use uuid::Uuid;

use super::{
    Closing, Ended, Ending, Opened, Opening, Page, RedeemRefusal, Redeemed, Redemption,
    ReviewStore, Scope, Sight, TurnReference,
};
use crate::desk::{after, now};
use crate::owner::OwnerId;
use crate::verdict::Verdict;

pub(crate) mod turns;

pub(crate) fn action(host: &str) -> Action {
    Action::NetworkAccess(NetworkAccess {
        host: host.to_owned(),
        port: 443,
        protocol: NetworkProtocol::Https,
    })
}

pub(crate) fn digest() -> ActionDigest {
    action("a.example").digest()
}

pub(crate) fn scope(uid: u32) -> Scope {
    Scope {
        tenant: TenantId::default(),
        caller: CallerId::of_uid(uid),
    }
}

/// What caller `uid` may see.
pub(crate) fn own(uid: u32) -> Sight {
    Sight::Own(scope(uid))
}

fn owner() -> OwnerId {
    OwnerId::parse(&Uuid::new_v4().to_string()).expect("an owner")
}

/// A turn of its own.
fn turn() -> TurnReference {
    TurnReference {
        key: *Uuid::new_v4().as_bytes(),
        span: reviewer::Span::Turn,
        limits: reviewer::BreakerLimits::default(),
        turn_id: Some("t-1".to_owned()),
    }
}

/// A review of caller 1 about to be opened, with a nonce of its own.
pub(crate) fn opening() -> Opening {
    let question = serde_json::json!({
        "session": {"session_id": "s-1"},
        "environment": {
            "host": "h", "user": "u", "cwd": "/w", "workspace_roots": ["/w"],
            "sandbox_mode": "workspace-write", "approval_policy": "on-request",
        },
        "action": action("a.example"),
        "trigger": {"kind": "network_blocked"},
    });
    let created_at = now();
    Opening {
        review_id: ReviewId::new(Uuid::now_v7()),
        scope: scope(1),
        nonce: Nonce::try_from(Uuid::new_v4().to_string()).expect("a nonce"),
        request_digest: [1; 32],
        session_id: Some("s-1".to_owned()),
        turn: turn(),
        words: None,
        action_digest: digest(),
        policy_revision: "sha256:0".to_owned(),
        owner: owner(),
        created_at,
        deadline_at: after(created_at, Duration::from_secs(90)),
        question: question.to_string(),
        context: "{}".to_owned(),
    }
}

pub(crate) fn ending(review_id: ReviewId, decision: Decision) -> Ending {
    let completed_at = now();
    Ending {
        review_id,
        scope: scope(1),
        verdict: Verdict::of(decision, None),
        completed_at,
        expires_at: after(completed_at, Duration::from_secs(60)),
        exhibit: Some("{}".to_owned()),
        without_leave: None,
        tally: super::Tally::Counted,
    }
}

pub(crate) fn approved() -> Decision {
    Decision::Approved(Grant::by_person(digest()))
}

pub(crate) fn denied() -> Decision {
    Decision::Denied(Denial::ByPerson("no".to_owned()))
}

fn redemption(review_id: ReviewId) -> Redemption {
    Redemption {
        review_id,
        scope: scope(1),
        session_id: Some("s-1".to_owned()),
        action_digest: digest(),
        host_scope: protocol::ReceiptScope::Once,
        at: now(),
    }
}

fn closing() -> Closing {
    Closing {
        verdict: Verdict::failed(ReviewFailure {
            step: FailedStep::Restart,
            code: "owner_gone".to_owned(),
            retryable: true,
            message: "gone".to_owned(),
        }),
        at: now(),
    }
}

async fn open(store: &impl ReviewStore, opening: Opening) -> ReviewId {
    let review_id = opening.review_id;
    assert_eq!(store.open(opening).await.expect("opened"), Opened::New);
    review_id
}

async fn status(store: &impl ReviewStore, review_id: ReviewId) -> ReviewStatus {
    let recorded = store.review(&own(1), review_id).await.expect("read");
    let end = recorded.expect("a review").end;
    end.map_or(ReviewStatus::Reviewing, |end| end.verdict.status)
}

pub(crate) async fn a_nonce_names_one_question(store: &impl ReviewStore) {
    let first = opening();
    let review_id = open(store, first.clone()).await;
    let again = Opening {
        review_id: opening().review_id,
        ..first.clone()
    };
    assert_eq!(
        store.open(again.clone()).await.expect("answered"),
        Opened::Same(review_id)
    );
    let other_body = Opening {
        request_digest: [2; 32],
        ..again.clone()
    };
    assert_eq!(
        store.open(other_body).await.expect("answered"),
        Opened::OtherBody
    );
    let other_caller = Opening {
        scope: scope(2),
        session_id: None,
        ..again
    };
    assert_eq!(
        store.open(other_caller).await.expect("answered"),
        Opened::New
    );
}

pub(crate) async fn a_session_belongs_to_the_caller_that_opened_it(store: &impl ReviewStore) {
    open(store, opening()).await;
    open(store, opening()).await;
    let squatter = Opening {
        scope: scope(2),
        ..opening()
    };
    let refused = squatter.review_id;
    assert_eq!(
        store.open(squatter).await.expect("answered"),
        Opened::SessionTaken
    );
    assert_eq!(store.review(&own(2), refused).await.expect("read"), None);
}

pub(crate) async fn a_review_ends_once(store: &impl ReviewStore) {
    let review_id = open(store, opening()).await;
    assert_eq!(status(store, review_id).await, ReviewStatus::Reviewing);
    let (yes, no) = tokio::join!(
        store.end(ending(review_id, approved())),
        store.end(ending(review_id, denied())),
    );
    assert_eq!(
        [yes.expect("answered"), no.expect("answered")],
        [Ended::Recorded, Ended::Before]
    );
    let later = ending(review_id, Decision::TimedOut);
    assert_eq!(store.end(later).await.expect("answered"), Ended::Before);
    assert_eq!(status(store, review_id).await, ReviewStatus::Approved);
    let unknown = ending(opening().review_id, approved());
    assert!(store.end(unknown).await.is_err());
}

pub(crate) async fn a_review_decided_as_it_came_in_is_opened_and_ended_at_once(
    store: &impl ReviewStore,
) {
    let first = opening();
    let review_id = first.review_id;
    let end = ending(review_id, approved());
    let opened = store.record(first, end.clone()).await;
    assert_eq!(opened.expect("recorded"), Opened::New);
    let recorded = store.review(&own(1), review_id).await.expect("read");
    let told = recorded.expect("a review").end.expect("an end");
    assert_eq!(
        (told.verdict, told.completed_at, told.expires_at),
        (end.verdict, end.completed_at, end.expires_at)
    );
    let later = ending(review_id, denied());
    assert_eq!(store.end(later).await.expect("answered"), Ended::Before);
    assert!(matches!(
        store.redeem(redemption(review_id)).await.expect("answered"),
        Redeemed::Spent(_)
    ));
}

pub(crate) async fn what_may_not_be_opened_is_not_ended_either(store: &impl ReviewStore) {
    let first = opening();
    let review_id = open(store, first.clone()).await;
    let other_body = Opening {
        request_digest: [2; 32],
        ..first.clone()
    };
    let squatter = Opening {
        scope: scope(2),
        ..opening()
    };
    for (refused, answer) in [
        (first, Opened::Same(review_id)),
        (other_body, Opened::OtherBody),
        (squatter, Opened::SessionTaken),
    ] {
        let refused = Opening {
            review_id: opening().review_id,
            ..refused
        };
        let end = Ending {
            scope: refused.scope.clone(),
            ..ending(refused.review_id, approved())
        };
        let (scope, id) = (refused.scope.clone(), refused.review_id);
        assert_eq!(store.record(refused, end).await.expect("answered"), answer);
        assert_eq!(
            store
                .review(&Sight::Own(scope.clone()), id)
                .await
                .expect("read"),
            None
        );
    }
    assert_eq!(status(store, review_id).await, ReviewStatus::Reviewing);
}

/// More than SQL takes values for in one statement, and more than one batch.
pub(crate) async fn an_owner_s_reviews_are_closed_however_many(store: &impl ReviewStore) {
    let gone = owner();
    let openings = (0..5_000).map(|_| {
        store.open(Opening {
            owner: gone.clone(),
            ..opening()
        })
    });
    for opened in all(openings).await {
        assert_eq!(opened.expect("opened"), Opened::New);
    }
    let closed = store.end_all_of(gone, closing()).await;
    assert_eq!(closed.expect("closed").len(), 5_000);
    assert_eq!(owners(store).await, Vec::<String>::new());
}

pub(crate) async fn an_approval_is_spent_once_by_its_caller_for_its_action_in_time(
    store: &impl ReviewStore,
) {
    let review_id = open(store, opening()).await;
    let wanted = redemption(review_id);
    let refused = |refusal| Redeemed::Refused(refusal);
    let spend = async |redemption| store.redeem(redemption).await.expect("answered");
    assert_eq!(
        spend(wanted.clone()).await,
        refused(RedeemRefusal::NotApproved)
    );
    let end = ending(review_id, approved());
    store.end(end.clone()).await.expect("ended");
    for (wrong, answer) in wrong_redemptions(&wanted, &end) {
        assert_eq!(spend(wrong.clone()).await, answer, "{wrong:?}");
    }
    assert!(matches!(spend(wanted.clone()).await, Redeemed::Spent(_)));
    assert_eq!(spend(wanted).await, refused(RedeemRefusal::AlreadySpent));
}

/// Every way to get it wrong, and its answer.
fn wrong_redemptions(wanted: &Redemption, end: &Ending) -> [(Redemption, Redeemed); 7] {
    let refused = |refusal| Redeemed::Refused(refusal);
    [
        (
            Redemption {
                scope: scope(2),
                ..wanted.clone()
            },
            Redeemed::Unknown,
        ),
        (
            Redemption {
                review_id: opening().review_id,
                ..wanted.clone()
            },
            Redeemed::Unknown,
        ),
        (
            Redemption {
                action_digest: action("b.example").digest(),
                ..wanted.clone()
            },
            refused(RedeemRefusal::OtherAction),
        ),
        (
            Redemption {
                session_id: Some("s-2".to_owned()),
                ..wanted.clone()
            },
            refused(RedeemRefusal::OtherSession),
        ),
        (
            Redemption {
                session_id: None,
                ..wanted.clone()
            },
            refused(RedeemRefusal::OtherSession),
        ),
        (
            Redemption {
                at: end.expires_at,
                ..wanted.clone()
            },
            refused(RedeemRefusal::Expired),
        ),
        (
            Redemption {
                at: end.completed_at - Duration::from_secs(6),
                ..wanted.clone()
            },
            refused(RedeemRefusal::Expired),
        ),
    ]
}

pub(crate) async fn of_many_who_spend_at_once_one_does(store: &impl ReviewStore) {
    let review_id = open(store, opening()).await;
    store
        .end(ending(review_id, approved()))
        .await
        .expect("ended");
    let tries = (0..32).map(|_| store.redeem(redemption(review_id)));
    let mut spent = 0;
    for outcome in all(tries).await {
        let outcome = outcome.expect("answered");
        if matches!(outcome, Redeemed::Spent(_)) {
            spent += 1;
        } else {
            assert_eq!(outcome, Redeemed::Refused(RedeemRefusal::AlreadySpent));
        }
    }
    assert_eq!(spent, 1);
}

pub(crate) async fn an_owner_s_reviews_are_closed_and_no_other_s(store: &impl ReviewStore) {
    let (gone, alive) = (owner(), owner());
    let of = |owner: &OwnerId| Opening {
        owner: owner.clone(),
        ..opening()
    };
    let left_open = open(store, of(&gone)).await;
    let ended = open(store, of(&gone)).await;
    let held = open(store, of(&alive)).await;
    store.end(ending(ended, approved())).await.expect("ended");
    assert_eq!(owners(store).await, sorted([gone.clone(), alive.clone()]));
    let closed = store.end_all_of(gone, closing()).await;
    assert_eq!(closed.expect("closed").len(), 1);
    assert_eq!(
        statuses(store, [left_open, ended, held]).await,
        [
            ReviewStatus::Failed,
            ReviewStatus::Approved,
            ReviewStatus::Reviewing
        ]
    );
    assert_eq!(owners(store).await, sorted([alive]));
}

async fn statuses<const N: usize>(
    store: &impl ReviewStore,
    reviews: [ReviewId; N],
) -> Vec<ReviewStatus> {
    let mut found = Vec::new();
    for review_id in reviews {
        found.push(status(store, review_id).await);
    }
    found
}

async fn owners(store: &impl ReviewStore) -> Vec<String> {
    sorted(store.owners_of_open().await.expect("read"))
}

fn sorted(owners: impl IntoIterator<Item = OwnerId>) -> Vec<String> {
    let mut names: Vec<_> = owners.into_iter().map(|owner| owner.to_stored()).collect();
    names.sort_unstable();
    names
}

pub(crate) async fn a_page_is_newest_first_and_one_caller_s(store: &impl ReviewStore) {
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(open(store, opening()).await);
    }
    ids.reverse();
    let stranger = Opening {
        scope: scope(2),
        session_id: None,
        ..opening()
    };
    open(store, stranger).await;
    store.end(ending(ids[1], denied())).await.expect("ended");
    let all = Page {
        status: None,
        before: None,
        limit: 3,
    };
    let shown = async |page: Page| -> Vec<ReviewId> {
        let lines = store.page(&own(1), &page).await.expect("a page").lines;
        lines.iter().map(|line| line.recorded.review_id).collect()
    };
    assert_eq!(shown(all).await, ids[..3]);
    let next = Page {
        before: Some(ids[2]),
        ..all
    };
    assert_eq!(shown(next).await, ids[3..]);
    let denied = Page {
        status: Some(ReviewStatus::Denied),
        ..all
    };
    assert_eq!(shown(denied).await, [ids[1]]);
    let line = store.page(&own(1), &denied).await.expect("a page").lines;
    assert_eq!(line[0].question.action, action("a.example"));
}

async fn all<F: Future<Output: Send> + Send>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.map(Box::pin).collect();
    let mut done = Vec::new();
    std::future::poll_fn(move |context| {
        running.retain_mut(|future| match future.as_mut().poll(context) {
            std::task::Poll::Ready(output) => {
                done.push(output);
                false
            }
            std::task::Poll::Pending => true,
        });
        if running.is_empty() {
            std::task::Poll::Ready(std::mem::take(&mut done))
        } else {
            std::task::Poll::Pending
        }
    })
    .await
}

pub(crate) async fn nobody_sees_past_a_tenant_or_a_caller(store: &impl ReviewStore) {
    let other = TenantId::parse("other").expect("a tenant");
    let (ours, mut theirs) = (opening(), opening());
    theirs.scope.tenant = other.clone();
    theirs.nonce = ours.nonce.clone();
    for opening in [&ours, &theirs] {
        // The same nonce and session of the same caller: two tenants have nothing in common.
        let opened = store.open(opening.clone()).await.expect("opened");
        assert_eq!(opened, Opened::New);
    }
    let sights = [
        (own(1), true, false),
        (own(2), false, false),
        (Sight::Tenant(TenantId::default()), true, false),
        (Sight::Tenant(other), false, true),
    ];
    let page = Page {
        status: None,
        before: None,
        limit: 10,
    };
    for (sight, sees_ours, sees_theirs) in sights {
        for (id, sees) in [(ours.review_id, sees_ours), (theirs.review_id, sees_theirs)] {
            let found = store.review(&sight, id).await.expect("read");
            assert_eq!(found.is_some(), sees, "{sight:?}");
        }
        let lines = store.page(&sight, &page).await.expect("a page").lines;
        let expected = usize::from(sees_ours) + usize::from(sees_theirs);
        assert_eq!(lines.len(), expected, "{sight:?}");
    }
    assert_eq!(
        store
            .redeem(redemption(theirs.review_id))
            .await
            .expect("an answer"),
        Redeemed::Unknown
    );
}
