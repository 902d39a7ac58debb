//! Processes that die in the middle: the server before and after its record, the runner while it waits (P4, D18).

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use harness::{Answer, Gate, Proxy, Script, assessment, eventually};
use rustix::process::Signal;
use serde_json::Value;

use super::{Place, World};
use crate::records::text_at;

fn waiting(place: Place) -> (World, Gate) {
    let gate = Gate::default();
    let script = Script::Waits(gate.clone(), assessment("allow", "low", "unknown"));
    (World::new(place, script, 40), gate)
}

#[test]
fn a_server_that_is_killed_while_it_reviews_lets_nothing_run_and_says_restart_afterwards() {
    let (mut world, gate) = waiting(Place::Server);
    let started = world.stage.escalate(&world.script).start();
    gate.reached();
    world.server().kill();
    gate.open();
    let ran = started.wait();
    world.holds_refused(&ran, "failed");
    assert_eq!(
        text_at(&world.stage.journal()[0], "/event/failure/step"),
        "server"
    );

    world.server().restart();
    let history = world.server().history();
    assert_eq!(history.len(), 1);
    assert_eq!(
        text_at(&history[0], "/review/status"),
        "failed",
        "{}",
        history[0]
    );
    assert_eq!(text_at(&history[0], "/review/failure/step"), "restart");
    assert_eq!(history[0]["redeemed_at"], Value::Null);
}

#[test]
fn a_server_that_is_killed_between_record_and_answer_lets_nothing_run_and_keeps_the_record() {
    let mut world = World::honest(Place::Server);
    let pid = Arc::new(AtomicI32::new(world.server().pid()));
    let address = world.server().address();
    let victim = Arc::clone(&pid);
    // The answer exists, so the record does; the server dies, and the answer with it.
    let proxy = Proxy::with(address, move |_, reply| {
        if reply.value().pointer("/status").and_then(Value::as_str) != Some("approved") {
            return Answer::Reply(reply);
        }
        let pid = victim.swap(0, Ordering::SeqCst);
        if pid != 0 {
            harness::kill(pid, Signal::KILL);
        }
        Answer::Close
    });
    world
        .stage
        .ask_at(world.server.as_ref().expect("a server"), &proxy.url());
    let ran = world.run();
    assert_eq!(
        pid.load(Ordering::SeqCst),
        0,
        "the server answered with an approval"
    );
    world.holds_refused(&ran, "failed");

    world.server().restart();
    let history = world.server().history();
    assert_eq!(history.len(), 1);
    assert_eq!(
        text_at(&history[0], "/review/status"),
        "approved",
        "what was answered was on disk: {}",
        history[0]
    );
    assert_eq!(history[0]["redeemed_at"], Value::Null);
}

#[test]
fn a_server_that_is_killed_between_redemption_and_receipt_lets_nothing_run() {
    let mut world = World::honest(Place::Server);
    let pid = world.server().pid();
    let address = world.server().address();
    let proxy = Proxy::with(address, move |request, reply| {
        if request.target.ends_with("/redeem") {
            harness::kill(pid, Signal::KILL);
            return Answer::Close;
        }
        Answer::Reply(reply)
    });
    world
        .stage
        .ask_at(world.server.as_ref().expect("a server"), &proxy.url());
    let ran = world.run();
    world.holds_refused(&ran, "failed");
    world.server().restart();
    let history = world.server().history();
    assert_ne!(
        history[0]["redeemed_at"],
        Value::Null,
        "the redemption was on disk before it was answered"
    );
}

#[test]
fn a_runner_that_is_killed_while_it_waits_runs_nothing_and_its_review_ends_on_record() {
    let (mut world, gate) = waiting(Place::Server);
    let started = world.stage.escalate(&world.script).start();
    gate.reached();
    drop(started);
    gate.open();
    let server = world.server();
    let entry = eventually("the end of the review on record", || {
        let history = server.history();
        (text_at(&history[0], "/review/status") != "reviewing").then(|| history[0].clone())
    });
    assert_eq!(text_at(&entry, "/review/status"), "approved", "{entry}");
    assert_eq!(entry["redeemed_at"], Value::Null);
    assert!(!world.canary.exists());
}

#[test]
fn a_runner_with_the_embedded_server_that_is_killed_leaves_a_review_that_ends_as_restart() {
    let (world, gate) = waiting(Place::Embedded);
    let started = world.stage.escalate(&world.script).start();
    gate.reached();
    drop(started);
    gate.open();
    let entry = world.entry();
    assert_eq!(text_at(&entry, "/review/status"), "failed", "{entry}");
    assert_eq!(
        text_at(&entry, "/review/failure/step"),
        "restart",
        "{entry}"
    );
    assert!(!world.canary.exists());
}

fn taken_back(place: Place, signal: Signal, code: i32) {
    let (world, gate) = waiting(place);
    let started = world.stage.escalate(&world.script).start();
    gate.reached();
    started.signal(signal);
    let ran = started.wait();
    gate.open();
    assert_eq!(ran.code(), code, "{}", ran.stderr);
    assert!(!world.canary.exists());
    assert_eq!(ran.reported("/status"), "aborted");
    let entry = world.entry();
    assert_eq!(text_at(&entry, "/review/status"), "aborted", "{entry}");
    assert_eq!(entry["redeemed_at"], Value::Null);
}

#[test]
fn an_interrupt_takes_the_question_back_from_a_server() {
    taken_back(Place::Server, Signal::INT, 130);
}

#[test]
fn a_terminate_takes_the_question_back_from_the_embedded_server() {
    taken_back(Place::Embedded, Signal::TERM, 143);
}

#[test]
fn a_server_that_is_told_to_end_ends_its_reviews_on_record_first() {
    let (mut world, gate) = waiting(Place::Server);
    let started = world.stage.escalate(&world.script).start();
    gate.reached();
    world.server().terminate();
    let ran = started.wait();
    gate.open();
    world.holds_refused(&ran, "failed");
    world.server().restart();
    let entry = &world.server().history()[0];
    assert_eq!(text_at(entry, "/review/status"), "failed", "{entry}");
    assert_eq!(text_at(entry, "/review/failure/step"), "drain", "{entry}");
}
