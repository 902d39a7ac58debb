//! The life of a policy as a table, under forgery, and as sessions meet it.

use jiff::Timestamp;
use protocol::{CallerId, TenantId};

use super::{Change, Life, Named, NotBelieved, NotChanged, Share, Wanted, What};
use crate::key::SigningKey;
use crate::store::Scope;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn named(name: &str) -> Named {
    Named {
        revision: name.to_owned(),
        body_digest: format!("body of {name}"),
    }
}

/// A tenant's changes, as they come.
struct Book {
    key: SigningKey,
    tenant: TenantId,
    changes: Vec<Change>,
}

impl Book {
    fn new() -> Self {
        let mut book = Self {
            key: SigningKey::ephemeral().expect("a key"),
            tenant: TenantId::default(),
            changes: Vec::new(),
        };
        book.change(0, What::Settings, Some("a"), None)
            .expect("the first");
        book
    }

    fn life(&self) -> Life {
        Life::of(&self.changes, &self.key)
            .expect("believed")
            .expect("a life")
    }

    fn change(
        &mut self,
        second: i64,
        what: What,
        policy: Option<&str>,
        share: Option<Share>,
    ) -> Result<Life, NotChanged> {
        let life = Life::of(&self.changes, &self.key).expect("believed");
        let wanted = Wanted {
            author: "ana".to_owned(),
            reason: "to see".to_owned(),
            what,
            policy: policy.map(named),
            share,
        };
        let change = wanted.after(life.as_ref(), (&self.tenant, at(second)), &self.key)?;
        self.changes.push(change);
        Ok(self.life())
    }
}

fn scope(caller: &str) -> Scope {
    Scope {
        tenant: TenantId::default(),
        caller: CallerId::of_token(caller),
    }
}

fn judges(life: &Life, session: &str, second: i64) -> String {
    let scope = scope("one");
    life.judges((&scope, Some(session)), at(second))
        .revision
        .clone()
}

#[test]
fn a_share_of_the_sessions_meets_a_staged_policy_and_each_stays_with_its_own() {
    let mut book = Book::new();
    let life = book
        .change(1, What::Stage, Some("b"), Some(Share::Percent(20)))
        .expect("staged");
    let sessions: Vec<_> = (0..5_000).map(|n| format!("s-{n}")).collect();
    let met: Vec<_> = sessions.iter().map(|it| judges(&life, it, 2)).collect();
    let staged = met.iter().filter(|it| *it == "b").count();
    // Five standard deviations of 5,000 draws at one in five: 141.
    assert!((859..=1_141).contains(&staged), "{staged}");
    let again: Vec<_> = sessions.iter().map(|it| judges(&life, it, 9_999)).collect();
    assert_eq!(met, again);
    let other = scope("two");
    let same = sessions
        .iter()
        .zip(&met)
        .filter(|(it, met)| life.judges((&other, Some(it)), at(2)).revision == **met)
        .count();
    assert!(
        same < sessions.len(),
        "a session's name alone chooses nothing"
    );
    let whole = book.change(3, What::Activate, None, None).expect("active");
    assert!(sessions.iter().all(|it| judges(&whole, it, 4) == "b"));
}

#[test]
fn a_policy_staged_for_a_time_is_in_force_from_then_on_and_can_be_taken_back() {
    let mut book = Book::new();
    let from = Some(Share::From(at(100)));
    let life = book
        .change(1, What::Stage, Some("b"), from)
        .expect("staged");
    assert_eq!(
        (judges(&life, "s", 99), judges(&life, "s", 100)),
        ("a".into(), "b".into())
    );
    let life = book
        .change(200, What::Stage, Some("c"), Some(Share::Percent(1)))
        .expect("staged");
    assert_eq!(life.active, named("b"), "its time had come");
    let life = book.change(201, What::Rollback, None, None).expect("back");
    assert_eq!((&life.active, &life.staged), (&named("b"), &None));
    let life = book.change(202, What::Rollback, None, None).expect("back");
    assert_eq!(life.active, named("a"));
    assert_eq!(
        book.change(203, What::Rollback, None, None),
        Err(NotChanged::NothingBefore)
    );
}

#[test]
fn a_rollback_names_what_it_went_back_to_and_goes_one_step() {
    let mut book = Book::new();
    for name in ["b", "c"] {
        book.change(1, What::Activate, Some(name), None)
            .expect("active");
    }
    let life = book.change(2, What::Rollback, None, None).expect("back");
    assert_eq!(life.active, named("b"));
    let last = book.changes.last().expect("a change");
    assert_eq!(
        (last.policy.as_ref(), last.author.as_str()),
        (Some(&named("b")), "ana")
    );
    let life = book
        .change(3, What::Settings, Some("d"), None)
        .expect("settings");
    assert_eq!((&life.active, &life.settings), (&named("d"), &named("d")));
    let life = book.change(4, What::Rollback, None, None).expect("back");
    assert_eq!((&life.active, &life.settings), (&named("b"), &named("d")));
}

#[test]
fn what_cannot_follow_is_refused() {
    let mut book = Book::new();
    for (what, policy, share, refused) in [
        (What::Activate, Some("a"), None, NotChanged::InForce),
        (What::Activate, None, None, NotChanged::NothingStaged),
        (
            What::Stage,
            Some("a"),
            Some(Share::Percent(5)),
            NotChanged::InForce,
        ),
        (What::Stage, Some("b"), None, NotChanged::NoShare),
        (
            What::Stage,
            Some("b"),
            Some(Share::Percent(0)),
            NotChanged::NoShare,
        ),
        (
            What::Stage,
            Some("b"),
            Some(Share::Percent(100)),
            NotChanged::NoShare,
        ),
        (
            What::Stage,
            None,
            Some(Share::Percent(5)),
            NotChanged::NoPolicy,
        ),
        (What::Shadow, None, None, NotChanged::NothingShadowed),
        (What::Rollback, None, None, NotChanged::NothingBefore),
    ] {
        assert_eq!(
            book.change(1, what, policy, share),
            Err(refused),
            "{what:?}"
        );
    }
    assert_eq!(book.changes.len(), 1);
    book.changes.clear();
    let first = book.change(1, What::Activate, Some("b"), None);
    assert_eq!(first, Err(NotChanged::NotFirst));
}

#[test]
fn a_shadow_is_noted_and_never_judges() {
    let mut book = Book::new();
    let life = book
        .change(1, What::Shadow, Some("z"), None)
        .expect("shadowed");
    assert_eq!(life.shadow, Some(named("z")));
    assert!((0..1_000).all(|n| judges(&life, &format!("s-{n}"), 2) == "a"));
    let life = book.change(2, What::Shadow, None, None).expect("ended");
    assert_eq!(life.shadow, None);
}

#[test]
fn changes_that_somebody_wrote_into_the_store_are_not_believed() {
    let mut book = Book::new();
    book.change(1, What::Activate, Some("b"), None)
        .expect("active");
    book.change(2, What::Activate, Some("c"), None)
        .expect("active");
    let tried = |alter: &dyn Fn(&mut Vec<Change>)| {
        let mut changes = book.changes.clone();
        alter(&mut changes);
        Life::of(&changes, &book.key).map(|life| life.map(|life| life.active.revision))
    };
    assert_eq!(tried(&|_| {}), Ok(Some("c".to_owned())));
    assert_eq!(
        tried(&|it| it[1].policy = Some(named("x"))),
        Err(NotBelieved::Forged(2))
    );
    assert_eq!(
        tried(&|it| it[2].author = "eve".into()),
        Err(NotBelieved::Forged(3))
    );
    assert_eq!(
        tried(&|it| it[0].tenant = TenantId::parse("acme").expect("a name")),
        Err(NotBelieved::Forged(1))
    );
    assert_eq!(
        tried(&|it| {
            it.remove(1);
        }),
        Err(NotBelieved::Number(3))
    );
    assert_eq!(
        tried(&|it| {
            it.remove(1);
            it[1].number = 2;
        }),
        Err(NotBelieved::Forged(2)),
        "each is signed over the one before it"
    );
    let other = SigningKey::ephemeral().expect("a key");
    assert_eq!(Life::of(&book.changes, &other), Err(NotBelieved::Forged(1)));
}
