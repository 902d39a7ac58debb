//! Permissions for the rest of a turn or session: given once by a review, exactly what was asked, gone with the turn or
//! session (P1, D17).

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use harness::{Ran, Script, ScriptedModel, Stage, assessment};
use serde_json::{Value, json};

const TURN: &[&str] = &["--session", "s-1", "--turn", "t-1"];
const NEXT_TURN: &[&str] = &["--session", "s-1", "--turn", "t-2"];

/// A stage whose reviewer's model says `outcome` to what the built-in rules leave open.
fn judged(outcome: &str) -> (Stage, ScriptedModel) {
    let stage = Stage::new();
    let model = ScriptedModel::start(Script::Says(assessment(outcome, "medium", "low")));
    stage.runner_settings(&model.table("openai-chat"));
    fs::create_dir(stage.outside("lib")).expect("a folder");
    (stage, model)
}

fn write_to(path: &Path) -> String {
    json!({"file_system": {"write": [path]}}).to_string()
}

fn asked(stage: &Stage, flags: &[&str], permissions: &str) -> Ran {
    let run = stage.runner().arg("request-permissions");
    run.args(flags.iter().copied())
        .args(["--permissions", permissions])
        .ran()
}

fn answered(ran: &Ran) -> Value {
    serde_json::from_str(&ran.text()).expect("the answer is JSON")
}

/// Whether a command with these flags can write below `lib`.
fn writes(stage: &Stage, flags: &[&str]) -> bool {
    let target = stage.outside("lib/trace");
    fs::remove_file(&target).unwrap_or_default();
    let ran = stage
        .exec(flags, &["touch", &target.display().to_string()])
        .ran();
    assert_eq!(ran.code() == 0, target.exists(), "{}", ran.stderr);
    target.exists()
}

fn leaves(stage: &Stage) -> Vec<std::path::PathBuf> {
    let listed = fs::read_dir(stage.state("leaves")).into_iter().flatten();
    listed
        .map(|entry| entry.expect("an entry").path())
        .collect()
}

#[test]
fn a_turns_leave_is_what_was_asked_and_ends_with_the_turn_for_good() {
    let (stage, _model) = judged("allow");
    assert!(!writes(&stage, TURN));
    let lib = stage.outside("lib");
    let ran = asked(&stage, TURN, &write_to(&lib));
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    let wanted = json!({"permissions": {"file_system": {"write": [lib]}}, "scope": "turn"});
    assert_eq!(answered(&ran), wanted);

    assert!(writes(&stage, TURN));
    let journal = stage.journal();
    let last = journal.last().expect("the crossing is on record");
    assert_eq!(last["event"]["kind"], "standing_leave");
    let history = stage.history();
    let given = history
        .iter()
        .find(|line| line["action"]["tool"] == "request_permissions")
        .expect("the request is on record");
    assert_eq!(last["event"]["reviews"][0], given["review"]["review_id"]);

    let beside = stage.outside("beside").display().to_string();
    let ran = stage.exec(TURN, &["touch", &beside]).ran();
    assert!(ran.code() != 0 && !Path::new(&beside).exists());
    for elsewhere in [
        &[][..],
        &["--session", "s-1"],
        &["--session", "s-2", "--turn", "t-1"],
    ] {
        assert!(!writes(&stage, elsewhere), "{elsewhere:?}");
    }
    let subfolder = stage.workspace("sub");
    fs::create_dir(&subfolder).expect("a folder");
    let cd = ["--cd", subfolder.to_str().expect("a path")];
    assert!(!writes(&stage, &[TURN, &cd].concat()));
    assert!(writes(&stage, TURN));
    assert!(!writes(&stage, NEXT_TURN));
    assert!(!writes(&stage, TURN), "the turn is over");
    assert!(leaves(&stage).is_empty());
}

#[test]
fn a_sessions_leave_outlasts_turns_until_it_is_ended() {
    let (stage, _model) = judged("allow");
    let session: Vec<&str> = [TURN, &["--scope", "session"]].concat();
    let ran = asked(&stage, &session, &write_to(&stage.outside("lib")));
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    assert_eq!(answered(&ran)["scope"], "session");
    assert!(writes(&stage, TURN) && writes(&stage, NEXT_TURN));
    assert!(writes(&stage, &["--session", "s-1"]));
    // A policy that asks nobody by now uses nothing that was asked before.
    assert!(!writes(&stage, &[TURN, &["-a", "never"]].concat()));
    assert!(writes(&stage, TURN));
    let ended = stage
        .runner()
        .args(["request-permissions", "--session", "s-1", "--end"])
        .ran();
    assert_eq!(
        answered(&ended),
        json!({"ended": 1, "temporary_folder": "removed"}),
        "{}",
        ended.stderr
    );
    assert!(!writes(&stage, TURN) && !writes(&stage, NEXT_TURN));
}

#[test]
fn a_command_that_is_asked_about_for_another_reason_is_on_record_with_the_leave_it_uses() {
    let (stage, _model) = judged("allow");
    fs::create_dir_all(stage.codex("rules")).expect("a folder");
    fs::write(
        stage.codex("rules/default.rules"),
        "prefix_rule([\"touch\"], \"prompt\")\n",
    )
    .expect("rules");
    let ran = asked(&stage, TURN, &write_to(&stage.outside("lib")));
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    assert!(writes(&stage, TURN));
    let rule = stage
        .history()
        .iter()
        .any(|line| line["trigger"]["kind"] == "rule_prompt");
    assert!(rule, "the rule asks all the same");
    let last = stage.journal().pop().expect("an entry");
    assert_eq!(last["event"]["kind"], "standing_leave");
    assert_eq!(last["action"]["command"][0], "touch");
}

#[test]
fn what_is_refused_gives_nothing() {
    let (stage, model) = judged("deny");
    let lib = write_to(&stage.outside("lib"));
    let nothing = json!({"permissions": {}, "scope": "turn"});
    for (flags, told) in [
        (&["-a", "never"][..], "asks nobody"),
        (
            &[
                "-c",
                "approval_policy={granular={sandbox_approval=true,rules=true,mcp_elicitations=true}}",
            ],
            "granular.request_permissions",
        ),
    ] {
        let ran = asked(&stage, &[TURN, flags].concat(), &lib);
        assert_eq!(ran.code(), 126, "{flags:?}");
        assert!(ran.stderr.contains(told), "{}", ran.stderr);
        assert_eq!(answered(&ran), nothing);
    }
    assert!(model.asked().is_empty());
    let ran = asked(&stage, TURN, &lib);
    assert_eq!(
        (ran.code(), answered(&ran)),
        (126, nothing),
        "{}",
        ran.stderr
    );
    assert_eq!(model.asked().len(), 1);
    assert!(leaves(&stage).is_empty() && !writes(&stage, TURN));
}

#[test]
fn what_could_never_be_given_is_not_asked_about() {
    let (stage, model) = judged("allow");
    let state = write_to(&stage.state(""));
    fs::create_dir_all(stage.state("")).expect("a folder");
    for (flags, permissions) in [
        (TURN, state.as_str()),
        (TURN, &write_to(Path::new("/"))),
        (TURN, &write_to(&stage.outside("missing"))),
        (TURN, "{}"),
        (TURN, "{\"file_system\":{\"write\":[],\"all\":true}}"),
        (&["--session", "s-1"], &write_to(&stage.outside("lib"))),
        (&[], &write_to(&stage.outside("lib"))),
    ] {
        let ran = asked(&stage, flags, permissions);
        assert!(
            matches!(ran.code(), 125 | 126),
            "{permissions}: {}",
            ran.stderr
        );
    }
    assert!(model.asked().is_empty() && leaves(&stage).is_empty());
}

#[test]
fn a_leave_that_was_tampered_with_moves_no_wall() {
    let (stage, _model) = judged("allow");
    fs::create_dir(stage.outside("more")).expect("a folder");
    let ran = asked(&stage, TURN, &write_to(&stage.outside("more")));
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    let [file] = &leaves(&stage)[..] else {
        panic!("{:?}", leaves(&stage));
    };
    let mode = |mode| {
        fs::set_permissions(file, fs::Permissions::from_mode(mode)).expect("a mode");
    };
    let whole = fs::read_to_string(file).expect("a leave");
    let metadata = fs::metadata(file).expect("a file");
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    let can_write_more = || {
        let target = stage.outside("more/trace");
        let ran = stage
            .exec(TURN, &["touch", &target.display().to_string()])
            .ran();
        fs::remove_file(&target).unwrap_or_default();
        (ran.code() == 0, ran.reported("/notes"))
    };
    assert!(can_write_more().0);
    for (from, to) in [("outside/more", "outside/lib"), ("\"turn\"", "\"session\"")] {
        fs::write(file, whole.replace(from, to)).expect("written");
        assert!(!writes(&stage, TURN), "{from}");
        let (can, notes) = can_write_more();
        assert!(!can && notes.contains("moves no wall"), "{notes}");
    }
    fs::write(file, &whole).expect("written");
    mode(0o644);
    assert!(!can_write_more().0);
    mode(0o600);
    assert!(can_write_more().0);
    let aside = file.with_extension("aside");
    fs::rename(file, &aside).expect("moved");
    symlink(&aside, file).expect("a link");
    assert!(!can_write_more().0);
    fs::remove_file(file).expect("removed");
    fs::rename(&aside, file).expect("moved");
    // What the leave names leads elsewhere now.
    fs::rename(stage.outside("more"), stage.outside("old")).expect("moved");
    symlink(stage.outside("lib"), stage.outside("more")).expect("a link");
    let (can, notes) = can_write_more();
    assert!(!can && notes.contains("leads elsewhere"), "{notes}");
}

#[test]
fn what_stands_already_is_not_asked_again_and_nothing_more_is_given() {
    let (stage, model) = judged("allow");
    let lib = stage.outside("lib");
    let ran = asked(&stage, TURN, &write_to(&lib));
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    let before = model.asked().len();
    let below = lib.join("trace");
    let wanted = write_to(&lib);
    let flags = [TURN, &["--additional-permissions", &wanted]].concat();
    let ran = stage
        .exec(&flags, &["touch", &below.display().to_string()])
        .ran();
    assert_eq!(
        (ran.code(), model.asked().len()),
        (0, before),
        "{}",
        ran.stderr
    );
    assert_eq!(ran.reported("/confinement/walls"), "widened");
    // Standard input is the command's own, as inside the walls.
    let ran = stage.exec(TURN, &["cat"]).stdin("hello").ran();
    assert_eq!((ran.code(), ran.text().as_str()), (0, "hello"));
}
