use ed25519_dalek::SigningKey;
use jiff::Timestamp;

use super::{Expected, ForgedAnswer, Nonce, ServerKey, Statement, StatementKind};
use crate::action::{Action, NetworkAccess, NetworkProtocol};
use crate::api::{ReceiptScope, RedeemAnswer, ReviewResource};
use crate::assessment::{Outcome, RiskLevel, UserAuthorization};
use crate::decision::{DecidedBy, Decision};
use crate::permit::GrantMismatch;
use crate::review::{ReviewId, ReviewStatus};
use crate::tenant::CallerId;

fn action(host: &str) -> Action {
    Action::NetworkAccess(NetworkAccess {
        host: host.to_owned(),
        port: 443,
        protocol: NetworkProtocol::Https,
    })
}

fn server() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn pinned() -> ServerKey {
    ServerKey::new(server().verifying_key())
}

fn expected() -> Expected {
    Expected {
        action_digest: action("a.example").digest(),
        session_id: Some("s-1".to_owned()),
        caller: CallerId::of_uid(1000),
        nonce: nonce("n-1"),
    }
}

fn nonce(text: &str) -> Nonce {
    Nonce::try_from(text.to_owned()).expect("a nonce")
}

fn review() -> ReviewId {
    "01980000-0000-7000-8000-000000000001"
        .parse()
        .expect("an id")
}

fn statement(kind: StatementKind) -> Statement {
    let Expected {
        action_digest,
        session_id,
        caller,
        nonce,
    } = expected();
    Statement {
        kind,
        review_id: review(),
        action_digest,
        session_id,
        caller,
        nonce,
    }
}

fn approved() -> ReviewResource {
    let expires_at = Timestamp::from_millisecond(60_000).expect("a time");
    let kind = StatementKind::Decision {
        status: ReviewStatus::Approved,
        expires_at,
    };
    ReviewResource {
        review_id: review(),
        status: ReviewStatus::Approved,
        outcome: Some(Outcome::Allow),
        risk_level: Some(RiskLevel::Low),
        user_authorization: Some(UserAuthorization::Unknown),
        rationale: Some("fine".into()),
        decided_by: DecidedBy::Model,
        rule_id: None,
        failure: None,
        guidance: None,
        action_digest: expected().action_digest,
        policy_revision: "sha256:0".to_owned(),
        created_at: Timestamp::UNIX_EPOCH,
        completed_at: Some(Timestamp::UNIX_EPOCH),
        expires_at: Some(expires_at),
        nonce: expected().nonce,
        signature: Some(statement(kind).sign(&server())),
    }
}

fn receipt() -> RedeemAnswer {
    receipt_for(ReceiptScope::Once)
}

fn receipt_for(scope: ReceiptScope) -> RedeemAnswer {
    let redeemed_at = Timestamp::from_millisecond(1_000).expect("a time");
    RedeemAnswer {
        review_id: review(),
        action_digest: expected().action_digest,
        redeemed_at,
        scope,
        signature: statement(StatementKind::Receipt { redeemed_at, scope }).sign(&server()),
    }
}

#[test]
fn how_long_leave_holds_is_signed_and_nothing_said_is_once() {
    let read = |answer: &RedeemAnswer| pinned().read_receipt(answer, review(), &expected());
    for scope in [
        ReceiptScope::Once,
        ReceiptScope::Session,
        ReceiptScope::Reviewer,
    ] {
        let told = receipt_for(scope);
        assert_eq!(read(&told).expect("a receipt").scope(), scope);
        // Neither widened on its way nor narrowed.
        for other in [
            ReceiptScope::Once,
            ReceiptScope::Session,
            ReceiptScope::Reviewer,
        ] {
            let mut changed = told.clone();
            changed.scope = other;
            assert_eq!(
                read(&changed).is_ok(),
                other == scope,
                "{scope:?} {other:?}"
            );
        }
    }
    // As a server that knows of no scope tells it, and as a runner that knows of none reads it.
    let spelled = serde_json::to_value(receipt()).expect("spelled");
    assert_eq!(spelled.get("scope"), None);
    let told: RedeemAnswer = serde_json::from_value(spelled).expect("read");
    assert_eq!(read(&told).expect("a receipt").scope(), ReceiptScope::Once);
    assert!(serde_json::from_str::<ReceiptScope>("\"always\"").is_err());
    assert!(crate::HostScope::Once < crate::HostScope::Session);
}

fn grant() -> crate::Grant {
    match pinned().read_decision(&approved(), &expected()) {
        Ok(Decision::Approved(grant)) => grant,
        other => panic!("no grant: {other:?}"),
    }
}

#[test]
fn a_signed_approval_and_its_receipt_permit_exactly_the_action() {
    let receipt = pinned()
        .read_receipt(&receipt(), review(), &expected())
        .expect("a receipt");
    let permitted = grant()
        .permit(&receipt, action("a.example"))
        .expect("leave");
    assert_eq!(permitted.action(), &action("a.example"));
    assert_eq!(
        grant()
            .permit(&receipt, action("b.example"))
            .expect_err("refused"),
        GrantMismatch::Action
    );
}

#[test]
fn each_signed_field_counts() {
    let forged = |change: &dyn Fn(&mut ReviewResource, &mut Expected)| {
        let (mut answer, mut expected) = (approved(), expected());
        change(&mut answer, &mut expected);
        pinned()
            .read_decision(&answer, &expected)
            .expect_err("it was believed")
    };
    let later = Timestamp::from_millisecond(60_001).expect("a time");
    assert_eq!(
        forged(&|answer, _| answer.status = ReviewStatus::Failed),
        ForgedAnswer::Signature
    );
    assert_eq!(
        forged(&|answer, _| answer.expires_at = Some(later)),
        ForgedAnswer::Signature
    );
    assert_eq!(
        forged(&|answer, _| answer.review_id = ReviewId::new(uuid::Uuid::nil())),
        ForgedAnswer::Signature
    );
    assert_eq!(
        forged(&|answer, _| answer.signature = None),
        ForgedAnswer::Signature
    );
    assert_eq!(
        forged(&|answer, _| answer.nonce = nonce("old")),
        ForgedAnswer::OtherQuestion
    );
    assert_eq!(
        forged(&|answer, _| answer.action_digest = action("b").digest()),
        ForgedAnswer::OtherQuestion
    );
    assert_eq!(
        forged(&|_, expected| expected.session_id = None),
        ForgedAnswer::Signature
    );
    assert_eq!(
        forged(&|_, expected| expected.caller = CallerId::of_uid(1001)),
        ForgedAnswer::Signature
    );
}

#[test]
fn an_answer_to_an_older_question_is_refused_even_when_both_sides_agree_on_its_nonce() {
    let (mut answer, mut asked) = (approved(), expected());
    answer.nonce = nonce("n-2");
    asked.nonce = nonce("n-2");
    assert_eq!(
        pinned()
            .read_decision(&answer, &asked)
            .expect_err("refused"),
        ForgedAnswer::Signature
    );
}

#[test]
fn another_key_is_not_the_pinned_one() {
    let other = ServerKey::new(SigningKey::from_bytes(&[8; 32]).verifying_key());
    assert_eq!(
        other
            .read_decision(&approved(), &expected())
            .expect_err("refused"),
        ForgedAnswer::Signature
    );
    assert_eq!(
        other
            .read_receipt(&receipt(), review(), &expected())
            .expect_err("refused"),
        ForgedAnswer::Signature
    );
}

#[test]
fn an_approval_without_its_judgement_is_a_contradiction() {
    let mut answer = approved();
    answer.risk_level = None;
    assert_eq!(
        pinned()
            .read_decision(&answer, &expected())
            .expect_err("refused"),
        ForgedAnswer::Contradiction
    );
    let mut answer = approved();
    answer.outcome = Some(Outcome::Deny);
    assert_eq!(
        pinned()
            .read_decision(&answer, &expected())
            .expect_err("refused"),
        ForgedAnswer::Contradiction
    );
    let mut answer = approved();
    answer.decided_by = DecidedBy::None;
    assert_eq!(
        pinned()
            .read_decision(&answer, &expected())
            .expect_err("refused"),
        ForgedAnswer::Contradiction
    );
}

#[test]
fn a_decision_does_not_pass_for_a_receipt() {
    let mut forged = receipt();
    forged.signature = approved().signature.expect("a signature");
    assert_eq!(
        pinned()
            .read_receipt(&forged, review(), &expected())
            .expect_err("refused"),
        ForgedAnswer::Signature
    );
}

#[test]
fn a_key_has_one_spelling() {
    let text = pinned().to_string();
    assert_eq!(text.parse::<ServerKey>(), Ok(pinned()));
    assert!(text.to_uppercase().parse::<ServerKey>().is_err());
    assert!("ed25519:00".parse::<ServerKey>().is_err());
}
