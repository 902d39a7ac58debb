use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};

use super::{KeptLeave, LeaveEnded, LeavePlace, NoLeave, StandingLeave};
use crate::action::{
    AbsolutePath, Action, AdditionalPermissions, PermissionRequest, PermissionScope, Sha256Hex,
};
use crate::decision::RuleId;
use crate::permit::{FullAccessByName, PermitSource, PermittedAction};
use crate::tenant::CallerId;

fn path(text: &str) -> AbsolutePath {
    AbsolutePath::try_from(text.to_owned()).expect("a path")
}

fn permissions(read: &[&str], write: &[&str], network: bool) -> AdditionalPermissions {
    let paths = |texts: &[&str]| texts.iter().map(|text| path(text)).collect();
    AdditionalPermissions {
        read: paths(read),
        write: paths(write),
        network,
    }
}

fn asked(scope: PermissionScope) -> Action {
    Action::PermissionRequest(PermissionRequest {
        reason: None,
        permissions: permissions(&["/srv/docs"], &["/home/u/code/lib"], false),
        scope,
    })
}

fn given(scope: PermissionScope) -> PermittedAction {
    let source = PermitSource::Review(
        "0198f0d0-0000-7000-8000-000000000001"
            .parse()
            .expect("an id"),
    );
    PermittedAction::for_tests(asked(scope), source)
}

fn place() -> LeavePlace {
    LeavePlace {
        session_id: "s-1".to_owned(),
        turn_id: Some("t-1".to_owned()),
        caller: CallerId::of_uid(1000),
        workspace: path("/home/u/code/app"),
    }
}

fn now() -> Timestamp {
    "2026-11-22T18:00:00Z".parse().expect("a time")
}

fn later() -> Timestamp {
    now() + SignedDuration::from_hours(1)
}

fn sealed_by(key: u8) -> impl Fn(&[u8]) -> Sha256Hex {
    move |bytes| {
        let mut hash = Sha256::new();
        hash.update([key]);
        hash.update(bytes);
        Sha256Hex::of(&hash.finalize().into())
    }
}

fn kept(scope: PermissionScope) -> KeptLeave {
    KeptLeave::of(given(scope), &place(), later(), sealed_by(1)).expect("leave")
}

#[test]
fn leave_opens_where_it_was_given_and_is_what_was_asked() {
    for scope in [PermissionScope::Turn, PermissionScope::Session] {
        let leave = kept(scope)
            .open(&place(), now(), sealed_by(1))
            .expect("leave");
        assert_eq!(
            *leave.permissions(),
            permissions(&["/srv/docs"], &["/home/u/code/lib"], false)
        );
        assert_eq!(leave.reviews().len(), 1);
    }
}

#[test]
fn leave_holds_nowhere_else_and_not_after_its_end() {
    let other = |change: fn(&mut LeavePlace)| {
        let mut place = place();
        change(&mut place);
        place
    };
    let elsewhere = [
        other(|place| place.session_id = "s-2".to_owned()),
        other(|place| place.caller = CallerId::of_uid(1001)),
        other(|place| place.workspace = path("/home/u/code/application")),
    ];
    for scope in [PermissionScope::Turn, PermissionScope::Session] {
        for place in &elsewhere {
            let opened = kept(scope).open(place, now(), sealed_by(1));
            assert_eq!(opened, Err(LeaveEnded::Elsewhere), "{place:?}");
        }
        let opened = kept(scope).open(&place(), later(), sealed_by(1));
        assert_eq!(opened, Err(LeaveEnded::Expired));
    }
    let next = other(|place| place.turn_id = Some("t-2".to_owned()));
    let none = other(|place| place.turn_id = None);
    let turn = |place: &LeavePlace| kept(PermissionScope::Turn).open(place, now(), sealed_by(1));
    assert_eq!(turn(&next), Err(LeaveEnded::TurnOver));
    assert_eq!(turn(&none), Err(LeaveEnded::NoTurn));
    let session = |place: &LeavePlace| {
        let opened = kept(PermissionScope::Session).open(place, now(), sealed_by(1));
        opened.is_ok()
    };
    assert!(session(&next) && session(&none));
}

#[test]
fn leave_that_was_changed_or_sealed_by_another_does_not_open() {
    let kept = kept(PermissionScope::Turn);
    let by_another = kept.clone().open(&place(), now(), sealed_by(2));
    assert_eq!(by_another, Err(LeaveEnded::Forged));
    let text = serde_json::to_string(&kept).expect("text");
    let changes = [
        ("/home/u/code/lib", "/home/u"),
        ("\"network\":false", "\"network\":true"),
        ("\"scope\":\"turn\"", "\"scope\":\"session\""),
        ("\"s-1\"", "\"s-2\""),
        ("\"t-1\"", "null"),
        ("uid:1000", "uid:1001"),
        ("/home/u/code/app", "/home/u/code/apq"),
        ("2026-11-22T19:00:00Z", "2036-11-22T19:00:00Z"),
        ("-8000-000000000001", "-8000-000000000002"),
    ];
    for (from, to) in changes {
        assert!(text.contains(from), "{text}");
        let changed: KeptLeave = serde_json::from_str(&text.replace(from, to)).expect("leave");
        let opened = changed.open(&place(), now(), sealed_by(1));
        assert_eq!(opened, Err(LeaveEnded::Forged), "{from} -> {to}");
    }
}

#[test]
fn only_a_review_or_a_person_gives_leave_and_a_turn_has_a_name() {
    let of = |permitted, place: &LeavePlace| {
        KeptLeave::of(permitted, place, later(), sealed_by(1)).map(|_| ())
    };
    let by_rule = PermittedAction::by_allow_rule(RuleId::new("r"), asked(PermissionScope::Turn));
    assert_eq!(of(by_rule, &place()), Err(NoLeave::Source));
    let name = FullAccessByName::parse("danger-full-access").expect("a name");
    let by_name = PermittedAction::by_full_access(name, asked(PermissionScope::Turn));
    assert_eq!(of(by_name, &place()), Err(NoLeave::Source));
    let without = LeavePlace {
        turn_id: None,
        ..place()
    };
    assert_eq!(
        of(given(PermissionScope::Turn), &without),
        Err(NoLeave::NoTurn)
    );
    assert_eq!(of(given(PermissionScope::Session), &without), Ok(()));
}

#[test]
fn leave_covers_what_lies_below_it_and_nothing_beside_it() {
    let leave = StandingLeave {
        permissions: permissions(&["/srv/docs"], &["/home/u/code/lib"], false),
        reviews: Vec::new(),
    };
    let covers =
        |read: &[&str], write: &[&str], network| leave.covers(&permissions(read, write, network));
    assert!(covers(&["/srv/docs/a"], &["/home/u/code/lib/src"], false));
    assert!(covers(&["/home/u/code/lib"], &[], false));
    assert!(!covers(&["/srv/documents"], &[], false));
    assert!(!covers(&[], &["/srv/docs/a"], false));
    assert!(!covers(&[], &["/home/u/code/lib/../x"], false));
    assert!(!covers(&[], &[], true));
    let with_network = StandingLeave {
        permissions: permissions(&[], &[], true),
        reviews: Vec::new(),
    };
    let both = leave.clone().and(with_network);
    assert!(both.covers(&permissions(&["/srv/docs"], &[], true)));
    let narrowed = both
        .narrowed(|path| path.as_str() == "/srv/docs")
        .expect("leave");
    assert_eq!(
        *narrowed.permissions(),
        permissions(&["/srv/docs"], &[], true)
    );
    assert_eq!(leave.narrowed(|_| false), None);
}
