//! A record that cannot be written: full, locked, read-only, before a review is opened and while it is judged (P4).

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::{
    Database, Gate, Missing, Ran, Script, ScriptedModel, ServerSettings, Stage, TestServer,
    assessment, eventually, is_root, lacks, mount_namespace,
};
use serde_json::Value;

use super::{Place, World};
use crate::records::text_at;

/// Fills the file system that `folder` is on, to the last byte; what to remove to have room again.
fn fill(folder: &Path) -> PathBuf {
    let path = folder.join("filler");
    let mut file = File::create(&path).expect("a filler can be made");
    for block in [64 * 1024, 4096, 1] {
        let block = vec![0; block];
        while file.write_all(&block).is_ok() {}
    }
    path
}

/// A world whose server keeps its record on a small file system in memory.
fn on_little_memory(gate: &Gate) -> Option<World> {
    let model = ScriptedModel::start(Script::Waits(
        gate.clone(),
        assessment("allow", "low", "unknown"),
    ));
    let stage = Stage::new();
    let (script, canary) = stage.canary_script();
    let tables = format!(
        "[reviewer]\ndeadline_secs = 40\n{}",
        model.table("openai-chat")
    );
    let mut server = TestServer::unstarted(ServerSettings {
        tables,
        launcher: Vec::new(),
    });
    server.launched_by(server.memory_launcher("2m")?);
    server.restart();
    stage.ask(&server);
    Some(World {
        stage,
        model,
        server: Some(server),
        script,
        canary,
    })
}

fn holds_store_failure(world: &World, ran: &Ran) {
    world.holds_refused(ran, "failed");
    let journal = world.stage.journal();
    assert_eq!(journal.len(), 1, "{}", ran.stderr);
    assert_eq!(
        text_at(&journal[0], "/event/failure/step"),
        "store",
        "{}",
        journal[0]
    );
    assert_eq!(
        text_at(&journal[0], "/event/failure/code"),
        "store_failed",
        "{}",
        journal[0]
    );
}

/// Holds that the review of `world` ended as one whose end could not be written.
fn holds_closed_as_store_failure(world: &mut World) {
    let server = world.server();
    let entry = eventually("the review to be closed once the store takes it", || {
        let history = server.history();
        (text_at(&history[0], "/review/status") != "reviewing").then(|| history[0].clone())
    });
    assert_eq!(text_at(&entry, "/review/status"), "failed", "{entry}");
    assert_eq!(text_at(&entry, "/review/failure/step"), "store", "{entry}");
    assert_eq!(entry["redeemed_at"], Value::Null);
    assert!(!world.canary.exists());
}

#[test]
fn a_full_store_opens_no_review_and_nothing_is_asked() {
    let gate = Gate::default();
    gate.open();
    let Some(mut world) = on_little_memory(&gate) else {
        lacks(Missing::MountNamespace, "that a full store opens no review");
        return;
    };
    let server = world.server();
    let filler = fill(&server.seen_by_it(&server.data()));
    let ran = world.run();
    holds_store_failure(&world, &ran);
    assert!(
        world.model.asked().is_empty(),
        "what is not on record is not judged"
    );
    assert!(world.server().history().is_empty());

    fs::remove_file(filler).expect("the filler goes");
    let ran = world.run();
    assert_eq!(ran.code(), 0, "with room again it runs: {}", ran.stderr);
    assert!(world.canary.exists());
}

#[test]
fn a_store_that_fills_up_during_a_review_lets_nothing_run() {
    let gate = Gate::default();
    let Some(mut world) = on_little_memory(&gate) else {
        lacks(
            Missing::MountNamespace,
            "that a store that fills up during a review lets nothing run",
        );
        return;
    };
    let started = world.stage.escalate(&world.script).start();
    gate.reached();
    let server = world.server();
    let filler = fill(&server.seen_by_it(&server.data()));
    gate.open();
    let ran = started.wait();
    holds_store_failure(&world, &ran);

    fs::remove_file(filler).expect("the filler goes");
    holds_closed_as_store_failure(&mut world);
}

#[test]
fn a_locked_store_opens_no_review() {
    let mut world = World::honest(Place::Server);
    let lock = Database::open(&world.server().database()).lock();
    let ran = world.run();
    holds_store_failure(&world, &ran);
    assert!(
        world.model.asked().is_empty(),
        "what is not on record is not judged"
    );
    lock.release();
    assert!(world.server().history().is_empty());
    assert_eq!(world.run().code(), 0, "without the lock it runs");
}

#[test]
fn a_store_that_is_locked_during_a_review_lets_nothing_run() {
    let gate = Gate::default();
    let script = Script::Waits(gate.clone(), assessment("allow", "low", "unknown"));
    let mut world = World::new(Place::Server, script, 40);
    let started = world.stage.escalate(&world.script).start();
    gate.reached();
    let lock = Database::open(&world.server().database()).lock();
    gate.open();
    let ran = started.wait();
    holds_store_failure(&world, &ran);
    lock.release();
    holds_closed_as_store_failure(&mut world);
}

#[test]
fn a_locked_store_of_the_embedded_server_lets_nothing_run() {
    let world = World::honest(Place::Embedded);
    assert!(
        world.stage.history().is_empty(),
        "the database is there and empty"
    );
    let lock = Database::open(&world.stage.state("reviews.sqlite")).lock();
    let ran = world.run();
    world.holds_refused(&ran, "failed");
    lock.release();
    let journal = world.stage.journal();
    assert_eq!(journal.len(), 1, "{}", ran.stderr);
    assert!(
        world.model.asked().is_empty(),
        "what is not on record is not judged"
    );
    assert_eq!(world.run().code(), 0, "without the lock it runs");
}

/// The words that start a program with `folder` read-only.
fn read_only_launcher(folder: &Path) -> Option<Vec<std::ffi::OsString>> {
    const SCRIPT: &str = "folder=$1 && shift && mount --bind \"$folder\" \"$folder\" \
        && mount -o remount,bind,ro \"$folder\" && exec \"$@\"";
    let mut words = mount_namespace()?;
    words.extend(["sh", "-ec", SCRIPT, "sh"].map(Into::into));
    words.push(folder.into());
    Some(words)
}

#[test]
fn a_server_whose_store_is_read_only_does_not_start() {
    let mut server = TestServer::unstarted(ServerSettings::default());
    let Some(launcher) = read_only_launcher(&server.data()) else {
        lacks(
            Missing::MountNamespace,
            "that a server with a read-only store does not start",
        );
        return;
    };
    server.launched_by(launcher);
    let started = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| server.restart()));
    assert!(started.is_err(), "it listens though it can write nothing");
    assert!(
        server.said().contains("reviews.sqlite"),
        "it names the file: {}",
        server.said()
    );
}

#[test]
fn a_read_only_store_of_the_embedded_server_lets_nothing_run_and_says_that_nothing_was_written() {
    let world = World::honest(Place::Embedded);
    // Makes what the runner makes at first need.
    let new = world.stage.outside("new").display().to_string();
    assert_eq!(world.stage.escalate(&["touch", &new]).ran().code(), 0);
    let Some(launcher) = read_only_launcher(&world.stage.state("")) else {
        lacks(
            Missing::MountNamespace,
            "that a read-only record lets nothing run",
        );
        return;
    };
    let ran = world
        .stage
        .escalate(&world.script)
        .launched_by(launcher)
        .ran();
    world.holds_refused(&ran, "failed");
    assert!(
        ran.stderr.contains("journal"),
        "that the journal could not be written either is said: {}",
        ran.stderr
    );
    assert!(world.model.asked().is_empty());
    let history = world.stage.history();
    assert_eq!(
        history.len(),
        1,
        "only the first one is on record: {history:?}"
    );
}

#[test]
fn full_access_that_cannot_be_put_on_record_runs_nothing() {
    let stage = Stage::new();
    assert!(stage.history().is_empty(), "the folder is made");
    let Some(launcher) = read_only_launcher(&stage.state("")) else {
        lacks(
            Missing::MountNamespace,
            "that a crossing that cannot be recorded does not happen",
        );
        return;
    };
    let new = stage.outside("new");
    let run = stage.exec(
        &["--sandbox", "danger-full-access"],
        &["touch", &new.display().to_string()],
    );
    let ran = run.launched_by(launcher).ran();
    assert_eq!(ran.code(), 125, "{}", ran.stderr);
    assert!(!new.exists());
}

#[test]
fn a_full_store_of_the_embedded_server_lets_nothing_run_and_says_that_nothing_was_written() {
    const SCRIPT: &str = "folder=$1 && shift && mount -t tmpfs -o size=1m,mode=0700 none \"$folder\" \
        && mkdir -m 0700 \"$folder/auto-review\" && head -c 64 /dev/zero > \"$folder/auto-review/mask.key\" \
        && chmod 0600 \"$folder/auto-review/mask.key\" && { cat /dev/zero > \"$folder/filler\" 2> /dev/null || true; } \
        && exec \"$@\"";
    let world = World::honest(Place::Embedded);
    let Some(mut launcher) = mount_namespace() else {
        lacks(
            Missing::MountNamespace,
            "that a full record lets nothing run",
        );
        return;
    };
    launcher.extend(["sh", "-ec", SCRIPT, "sh"].map(Into::into));
    launcher.push(world.stage.root().join("state").into());
    let ran = world
        .stage
        .escalate(&world.script)
        .launched_by(launcher)
        .ran();
    world.holds_refused(&ran, "failed");
    assert!(
        ran.stderr.contains("journal"),
        "that the journal could not be written either is said: {}",
        ran.stderr
    );
    assert!(world.model.asked().is_empty());
}

fn immutable(files: &[PathBuf], wanted: &str) -> bool {
    Command::new("chattr")
        .arg(wanted)
        .args(files)
        .output()
        .is_ok_and(|output| output.status.success())
}

/// Makes files writable again, however the test ends.
struct Frozen(Vec<PathBuf>);

impl Drop for Frozen {
    fn drop(&mut self) {
        immutable(&self.0, "-i");
    }
}

#[test]
fn a_store_that_turns_read_only_during_a_review_lets_nothing_run() {
    let gate = Gate::default();
    let script = Script::Waits(gate.clone(), assessment("allow", "low", "unknown"));
    let mut world = World::new(Place::Server, script, 40);
    let started = world.stage.escalate(&world.script).start();
    gate.reached();
    let data = world.server().data();
    // Not the index beside the log: it is mapped into memory, where such a write is a signal and no error.
    let files = ["reviews.sqlite", "reviews.sqlite-wal"]
        .map(|name| data.join(name))
        .to_vec();
    if !immutable(&files, "+i") {
        gate.open();
        let missing = if is_root() {
            Missing::Immutable
        } else {
            Missing::Root
        };
        lacks(
            missing,
            "that a store that turns read-only during a review lets nothing run",
        );
        return;
    }
    let frozen = Frozen(files);
    gate.open();
    let ran = started.wait();
    drop(frozen);
    holds_store_failure(&world, &ran);
    holds_closed_as_store_failure(&mut world);
}
