//! What holds of turns and of the user's words, whatever keeps them.

use protocol::{
    Assessment, Bounds, Decision, Judge, Outcome, ReviewStatus, RiskLevel, UserAuthorization,
};

use super::{
    Ended, Opened, Opening, ReviewStore, approved, denied, digest, ending, opening, own, status,
};
use crate::store::{StoreError, TurnReference};

/// Another review of the same turn.
fn again(turn: &TurnReference) -> Opening {
    Opening {
        turn: turn.clone(),
        ..opening()
    }
}

fn by_model() -> Decision {
    let assessment = Assessment {
        risk_level: RiskLevel::Low,
        user_authorization: UserAuthorization::High,
        outcome: Outcome::Allow,
        rationale: "fine".into(),
    };
    let bounds = Bounds {
        risk_floor: RiskLevel::Low,
        authorization_ceiling: UserAuthorization::High,
    };
    Decision::from_assessment(assessment, Judge::Model, &bounds, digest())
}

async fn asked(store: &impl ReviewStore, turn: &TurnReference, decision: Decision) -> Opened {
    let opening = again(turn);
    let end = ending(opening.review_id, decision);
    store.record(opening, end).await.expect("recorded")
}

fn is_stopped(opened: &Opened, code: &str) -> bool {
    let Opened::Stopped(end) = opened else {
        return false;
    };
    let failure = end.verdict.failure.as_ref();
    end.verdict.status == ReviewStatus::Failed && failure.is_some_and(|it| it.code == code)
}

pub(crate) async fn three_denials_in_a_row_stop_a_turn_and_no_other(store: &impl ReviewStore) {
    let (turn, other) = (super::turn(), super::turn());
    for decision in [denied(), denied(), approved(), denied(), denied()] {
        assert_eq!(asked(store, &turn, decision).await, Opened::New);
    }
    // Closed by recovery: neither counts nor resets.
    let gone = again(&turn);
    let owner = gone.owner.clone();
    super::open(store, gone).await;
    store
        .end_all_of(owner, super::closing())
        .await
        .expect("closed");
    assert_eq!(asked(store, &turn, denied()).await, Opened::New);
    for _ in 0..2 {
        is_taken_on_no_more(store, &turn).await;
    }
    // What was decided as it came in does not get by either.
    let opened = asked(store, &turn, approved()).await;
    assert!(is_stopped(&opened, "too_many_denials"), "{opened:?}");
    assert_eq!(asked(store, &other, approved()).await, Opened::New);
}

async fn is_taken_on_no_more(store: &impl ReviewStore, turn: &TurnReference) {
    let stopped = again(turn);
    let id = stopped.review_id;
    let opened = store.open(stopped.clone()).await.expect("an answer");
    assert!(is_stopped(&opened, "too_many_denials"), "{opened:?}");
    assert_eq!(status(store, id).await, ReviewStatus::Failed);
    // Asked once more, it is the same review.
    assert_eq!(store.open(stopped).await.expect("told"), Opened::Same(id));
}

pub(crate) async fn a_turn_asks_for_so_many_reviews(store: &impl ReviewStore) {
    let mut turn = super::turn();
    turn.limits.reviews_per_turn = 3;
    for _ in 0..3 {
        assert_eq!(asked(store, &turn, approved()).await, Opened::New);
    }
    let opened = asked(store, &turn, approved()).await;
    assert!(is_stopped(&opened, "too_many_reviews"), "{opened:?}");
}

/// `stores` are one database, each as another process has it open.
pub(crate) async fn a_turn_is_counted_exactly_over_all_processes<S: ReviewStore>(
    stores: Vec<std::sync::Arc<S>>,
) {
    let turn = super::turn();
    let mut tasks = tokio::task::JoinSet::new();
    for store in stores {
        let turn = turn.clone();
        tasks.spawn(async move {
            let mut taken = 0;
            for _ in 0..4 {
                let opening = again(&turn);
                let id = opening.review_id;
                let opened = store.open(opening).await.expect("an answer");
                if opened == Opened::New {
                    taken += 1;
                    store.end(ending(id, denied())).await.expect("ended");
                } else {
                    assert!(is_stopped(&opened, "too_many_denials"), "{opened:?}");
                }
            }
            taken
        });
    }
    let mut taken = Vec::new();
    while let Some(done) = tasks.join_next().await {
        taken.push(done.expect("a task"));
    }
    let most = 3 + taken.len() - 1;
    let sum: usize = taken.iter().sum();
    // Those who had asked before the third denial was on record may still be judged; nobody after it.
    assert!((3..=most).contains(&sum), "{taken:?}");
}

fn saying(words: u8) -> Opening {
    Opening {
        words: Some([words; 16]),
        ..opening()
    }
}

pub(crate) async fn an_approval_under_other_words_is_stale(store: &impl ReviewStore) {
    let (early, late, silent) = (saying(1), saying(2), opening());
    let ids = [early.review_id, late.review_id, silent.review_id];
    let person = saying(1);
    let by_person = person.review_id;
    super::open(store, early).await;
    super::open(store, person).await;
    super::open(store, late).await;
    super::open(store, silent).await;
    let ended = store.end(ending(ids[0], by_model())).await.expect("ended");
    let Ended::Instead(verdict) = ended else {
        panic!("{ended:?}");
    };
    let failure = verdict.failure.expect("a failure");
    assert_eq!(
        (failure.code.as_str(), failure.retryable),
        ("stale_authorization", true)
    );
    assert_eq!(status(store, ids[0]).await, ReviewStatus::Failed);
    let redeemed = store.redeem(super::redemption(ids[0])).await;
    assert!(matches!(
        redeemed,
        Ok(crate::store::Redeemed::Refused(
            crate::store::RedeemRefusal::NotApproved
        ))
    ));
    stands(
        store,
        [
            (ids[1], by_model()),
            (ids[2], by_model()),
            (by_person, approved()),
        ],
    )
    .await;
}

/// What the user said last, what leans on no words, a person's own yes and every no stand.
async fn stands(store: &impl ReviewStore, ends: [(protocol::ReviewId, Decision); 3]) {
    for (id, decision) in ends {
        let ended = store.end(ending(id, decision)).await;
        assert_eq!(ended.expect("ended"), Ended::Recorded);
        let review = store.review(&own(1), id).await.expect("read");
        assert!(review.is_some_and(|review| review.end.is_some()));
    }
    let no = saying(1);
    let id = no.review_id;
    super::open(store, no).await;
    super::open(store, saying(3)).await;
    let ended: Result<Ended, StoreError> = store.end(ending(id, denied())).await;
    assert_eq!(ended.expect("ended"), Ended::Recorded);
}
