//! How long a yes about a host holds: for its command, for the session, from now on; and what it never holds for.
//!
//! The hosts are names that nobody has (RFC 2606), so that an open one is told by its name's not being found.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use harness::{
    Missing, Ran, Run, Script, ScriptedModel, Stage, Terminal, TestServer, assessment, eventually,
    lacks,
};
use serde_json::{Value, json};

use super::peer::SETTINGS;

const SESSION: &[&str] = &["-c", "approvals_reviewer=user", "--session", "s-1"];
const OPEN: &str = "\"reason\":\"dns_failed\"\n";
const NOT_ALLOWED: &str = "\"reason\":\"not_allowed\"\n";
const DENIED: &str = "\"reason\":\"review_denied\"\n";
const NOBODY: &str = "\"reason\":\"review_failed\"\n";

fn ask_for(url: &str) -> String {
    format!("curl -s -m 60 {url} | grep -o '\"reason\":\"[a-z_]*\"'")
}

fn stage() -> Stage {
    let stage = Stage::new();
    stage.settings(SETTINGS);
    stage
}

/// Runs `script` where no terminal is.
fn away(stage: &Stage, flags: &[&str], script: &str) -> Ran {
    let run = stage.exec(flags, &["sh", "-c", script]);
    run.launched_by(["setsid", "--wait"]).ran()
}

/// `run` with a person's terminal that its command has no part of, and where what it prints goes.
fn with_a_person(stage: &Stage, run: Run) -> (Run, PathBuf) {
    let out = stage.outside("out");
    let launcher = format!(
        "exec \"$@\" </dev/null >'{}' 2>'{}'",
        out.display(),
        stage.outside("err").display()
    );
    let run = run.launched_by(["sh", "-c", launcher.as_str(), "sh"]);
    (run, out)
}

/// Runs `script`, and types `key` at the question about `shown`; what the command printed comes back.
fn answered(stage: &Stage, flags: &[&str], script: &str, (shown, key): (&str, &str)) -> String {
    let terminal = Terminal::open(24, 120).expect("a terminal");
    let (run, out) = with_a_person(stage, stage.exec(flags, &["sh", "-c", script]));
    let run = terminal.run(run);
    terminal.shows(shown);
    terminal.shows("/N] (within");
    terminal.types(&format!("{key}\n"));
    assert_eq!(run.code(), Some(0), "{}", terminal.shown());
    fs::read_to_string(out).expect("what it printed")
}

fn can_be_shown() -> bool {
    let can = Terminal::open(24, 80).is_some();
    if !can {
        lacks(Missing::ControllingTerminal, "a person's answers");
    }
    can
}

fn kept(stage: &Stage) -> Vec<PathBuf> {
    let listed = fs::read_dir(stage.state("leaves")).into_iter().flatten();
    listed
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|it| it == "host"))
        .collect()
}

fn events(stage: &Stage, kind: &str) -> Vec<Value> {
    let entries = stage.journal().into_iter();
    entries
        .filter(|entry| entry["event"]["kind"] == kind)
        .collect()
}

/// A stage on which a person said yes to this host for the session.
fn approved_for_the_session() -> (Stage, String) {
    let stage = stage();
    let script = ask_for("http://nowhere.invalid/");
    let twice = format!("{script}; {script}");
    let shown = "nowhere.invalid, port 80, by http";
    let said = answered(&stage, SESSION, &twice, (shown, "s"));
    assert_eq!(said, format!("{OPEN}{OPEN}"), "asked once");
    (stage, script)
}

#[test]
fn a_yes_for_the_session_is_on_record_and_so_is_each_run_that_it_opens_something_for() {
    if !can_be_shown() {
        return;
    }
    let (stage, script) = approved_for_the_session();
    let recorded = events(&stage, "host_allowed");
    assert_eq!(recorded.len(), 1, "{recorded:?}");
    assert_eq!(recorded[0]["event"]["holds"], "session");
    let by_person = stage.history().into_iter().find(|line| {
        line["review"]["review_id"] == recorded[0]["event"]["review_id"]
            && line["review"]["decided_by"] == "person"
    });
    let by_person = by_person.expect("the answer is on record");
    assert!(by_person["redeemed_at"].is_string(), "{by_person}");
    // With nobody to ask: what stands is open, and on record before it is.
    let ran = away(&stage, SESSION, &script);
    assert_eq!(ran.text(), OPEN, "{}", ran.stderr);
    assert_eq!(ran.reported("/network/reviews/0/holds"), "session");
    let used = events(&stage, "standing_leave");
    let host = json!({"tool": "network_access", "host": "nowhere.invalid", "port": 80, "protocol": "http"});
    assert_eq!(used.len(), 1, "{used:?}");
    assert_eq!(used[0]["action"], host, "{used:?}");
}

#[test]
fn a_yes_for_the_session_holds_for_nothing_else_and_nowhere_else() {
    if !can_be_shown() {
        return;
    }
    let (stage, script) = approved_for_the_session();
    let other = &["-c", "approvals_reviewer=user", "--session", "s-2"];
    let none = &["-c", "approvals_reviewer=user"];
    let never = &[SESSION, &["-a", "never"]].concat();
    let aside = stage.workspace("sub");
    fs::create_dir(&aside).expect("a folder");
    let elsewhere = &[SESSION, &["--cd", aside.to_str().expect("a path")]].concat();
    let same = "http://nowhere.invalid/";
    for (flags, url, reason) in [
        (SESSION, "http://nowhere.invalid:8080/", NOBODY),
        (SESSION, "http://sub.nowhere.invalid/", NOBODY),
        (other, same, NOT_ALLOWED),
        (none, same, NOT_ALLOWED),
        (never, same, NOT_ALLOWED),
        (elsewhere, same, NOT_ALLOWED),
    ] {
        let ran = away(&stage, flags, &ask_for(url));
        assert_eq!(ran.text(), reason, "{flags:?} {url} {}", ran.stderr);
    }
    // By another protocol it is another question, in the same command too.
    let by_socks =
        format!("{script}; curl -s -m 20 -x socks5h://127.0.0.1:3128 {same}; {script}; true");
    let ran = away(&stage, SESSION, &by_socks);
    assert_eq!(ran.text(), format!("{OPEN}{OPEN}"), "{}", ran.stderr);
    let decisions = ran.report["network"]["decisions"].as_array();
    let verdict = decisions
        .into_iter()
        .flatten()
        .find(|it| it["protocol"] == "socks5_tcp")
        .map(|it| it["verdict"].clone());
    assert_eq!(verdict, Some(json!("review_failed")), "{}", ran.report);
}

#[test]
fn a_yes_for_the_session_yields_to_a_later_deny_and_ends_when_it_is_ended() {
    if !can_be_shown() {
        return;
    }
    let (stage, script) = approved_for_the_session();
    stage.settings(&SETTINGS.replace(
        "\"denied.test\" = \"deny\"",
        "\"denied.test\" = \"deny\", \"nowhere.invalid\" = \"deny\"",
    ));
    let ran = away(&stage, SESSION, &script);
    assert_eq!(ran.text(), "\"reason\":\"denied\"\n", "{}", ran.stderr);
    stage.settings(SETTINGS);
    assert_eq!(away(&stage, SESSION, &script).text(), OPEN);
    let ended = stage
        .runner()
        .args(["request-permissions", "--session", "s-1", "--end"])
        .ran();
    assert_eq!(
        ended.text().trim(),
        "{\"ended\":1,\"temporary_folder\":\"removed\"}",
        "{}",
        ended.stderr
    );
    assert_eq!(away(&stage, SESSION, &script).text(), NOT_ALLOWED);
}

#[test]
fn a_session_file_that_was_tampered_with_opens_nothing() {
    if !can_be_shown() {
        return;
    }
    let stage = stage();
    let script = ask_for("http://nowhere.invalid/");
    let shown = "nowhere.invalid, port 80";
    assert_eq!(answered(&stage, SESSION, &script, (shown, "s")), OPEN);
    let [file] = &kept(&stage)[..] else {
        panic!("{:?}", kept(&stage));
    };
    let whole = fs::read_to_string(file).expect("leave");
    let mode = fs::metadata(file).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for (from, to, url) in [
        (
            "nowhere.invalid",
            "elsewhere.invalid",
            "http://elsewhere.invalid/",
        ),
        (":80,", ":8080,", "http://nowhere.invalid:8080/"),
        ("\"s-1\"", "\"s-2\"", "http://nowhere.invalid/"),
    ] {
        let forged = whole.replace(from, to);
        assert_ne!(forged, whole, "{from}");
        fs::write(file, forged).expect("written");
        let ran = away(&stage, SESSION, &ask_for(url));
        assert_eq!(ran.text(), NOT_ALLOWED, "{from} {}", ran.stderr);
        let notes = ran.reported("/notes");
        assert!(notes.contains("opens no host"), "{notes}");
    }
    fs::write(file, &whole).expect("written");
    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).expect("a mode");
    assert_eq!(away(&stage, SESSION, &script).text(), NOT_ALLOWED);
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("a mode");
    // As another session's file it is none of that session's.
    let copy = file.with_file_name(format!("{}-copy.host", "0".repeat(32)));
    fs::copy(file, copy).expect("copied");
    let other = &["-c", "approvals_reviewer=user", "--session", "s-2"];
    assert_eq!(away(&stage, other, &script).text(), NOT_ALLOWED);
    assert_eq!(away(&stage, SESSION, &script).text(), OPEN);
    // A command cannot write there, nor read what would have to be forged.
    let reach = format!(
        "cat '{0}' >/dev/null 2>&1 && echo read; touch '{0}.host' 2>/dev/null && echo written; echo tried",
        file.display()
    );
    assert_eq!(away(&stage, SESSION, &reach).text(), "tried\n");
}

#[test]
fn always_writes_the_line_that_was_shown_and_a_later_deny_beats_it() {
    if !can_be_shown() {
        return;
    }
    let stage = stage();
    let flags = &["-c", "approvals_reviewer=user"];
    let script = ask_for("http://nowhere.invalid/");
    let line = "network_rule(host=\"nowhere.invalid\", protocol=\"http\", decision=\"allow\")";
    let shown = format!("always: {line} is added");
    assert_eq!(answered(&stage, flags, &script, (&shown, "a")), OPEN);
    let rules = stage.codex("rules/default.rules");
    let text = fs::read_to_string(&rules).expect("the rules");
    assert_eq!(text, format!("{line}\n"));
    let recorded = events(&stage, "host_allowed");
    assert_eq!(recorded[0]["event"]["rule"], line, "{recorded:?}");
    assert_eq!(away(&stage, flags, &script).text(), OPEN);
    assert_eq!(
        away(&stage, flags, &ask_for("http://nowhere.invalid:8080/")).text(),
        NOT_ALLOWED
    );
    let deny = line.replace("allow", "deny");
    fs::write(&rules, format!("{text}{deny}\n")).expect("written");
    assert_eq!(
        away(&stage, flags, &script).text(),
        "\"reason\":\"denied\"\n"
    );
}

#[test]
fn what_a_rule_would_open_too_far_is_not_offered_and_a_choice_that_is_not_offered_is_a_no() {
    if !can_be_shown() {
        return;
    }
    let stage = stage();
    let script = ask_for("http://nowhere.invalid:8080/");
    let shown = "Let it? [y/s/N]";
    let said = answered(&stage, SESSION, &script, (shown, "a"));
    assert_eq!(said, "\"reason\":\"review_denied\"\n");
    assert!(!stage.codex("rules/default.rules").exists() && kept(&stage).is_empty());
    // For this command: the next one asks again.
    let said = answered(&stage, SESSION, &script, (shown, "y"));
    assert_eq!(said, OPEN);
    assert!(events(&stage, "host_allowed").is_empty());
    assert_eq!(away(&stage, SESSION, &script).text(), NOT_ALLOWED);
}

#[test]
fn the_person_is_asked_behind_a_reviewer_where_the_settings_say_so() {
    if !can_be_shown() {
        return;
    }
    let script = ask_for("http://nowhere.invalid/");
    let auto = &["-c", "approvals_reviewer=auto_review"];
    let refusing = ScriptedModel::start(Script::Says(assessment("deny", "high", "unknown")));
    let server = TestServer::with("");
    let elsewhere = Stage::new();
    elsewhere.ask_at(&server, "http://127.0.0.1:9");
    let gone = fs::read_to_string(elsewhere.codex("agent-runner.toml")).expect("settings");
    for (reviewer, end, left, key, told) in [
        ("", "on_failure", NOBODY, "y", OPEN),
        ("", "on_failure", NOBODY, "n", DENIED),
        (&refusing.table("openai-chat"), "on_deny", DENIED, "y", OPEN),
        (&gone, "on_failure", NOBODY, "y", OPEN),
    ] {
        let stage = stage();
        let settings = format!("{reviewer}\n[fallback]\n{end} = \"user\"\n");
        stage.runner_settings(&settings);
        let shown = ("nowhere.invalid, port 80", key);
        assert_eq!(answered(&stage, auto, &script, shown), told, "{settings}");
        // What the person said is on record here, wherever the reviewer is.
        stage.runner_settings("");
        let by_person = stage.history().into_iter().find_map(|line| {
            let review = &line["review"];
            (review["decided_by"] == "person").then(|| review["status"].clone())
        });
        let wanted = if key == "y" { "approved" } else { "denied" };
        assert_eq!(by_person, Some(json!(wanted)));
        stage.runner_settings(&settings);
        // Nobody sits anywhere: it stays as the reviewer left it.
        let ran = away(&stage, auto, &script);
        assert_eq!(ran.text(), left, "{}", ran.stderr);
    }
}

#[test]
fn a_command_that_has_the_terminal_asks_nobody() {
    let Some(terminal) = Terminal::open(24, 120) else {
        lacks(Missing::ControllingTerminal, "a command at the terminal");
        return;
    };
    let stage = stage();
    let script = ask_for("http://nowhere.invalid/");
    let run = terminal.run(stage.exec(SESSION, &["sh", "-c", &script]));
    terminal.shows("\"reason\":\"not_allowed\"");
    assert_eq!(run.code(), Some(0));
    assert!(
        !terminal.shown().contains("Let it?"),
        "{}",
        terminal.shown()
    );
}

#[test]
fn a_question_that_nobody_waits_for_any_more_is_taken_back() {
    if !can_be_shown() {
        return;
    }
    let stage = stage();
    let terminal = Terminal::open(24, 120).expect("a terminal");
    let script = "curl -s -m 60 http://nowhere.invalid/ >/dev/null & until [ -e go ]; do sleep 0.1; done; kill $!; wait; echo end";
    let (run, out) = with_a_person(&stage, stage.exec(SESSION, &["sh", "-c", script]));
    let run = terminal.run(run);
    terminal.shows("Let it? [y/s/a/N]");
    stage.file("go", "");
    terminal.shows("no answer");
    assert_eq!(run.code(), Some(0), "{}", terminal.shown());
    assert_eq!(fs::read_to_string(out).expect("printed"), "end\n");
    // What is typed now answers nothing.
    let status = eventually("the review's end", || {
        let history = stage.history();
        let review = history.iter().find(|line| line["review"].is_object())?;
        let status = review["review"]["status"].as_str()?.to_owned();
        (status != "reviewing").then_some(status)
    });
    assert_eq!(status, "aborted");
    assert!(kept(&stage).is_empty());
}

#[test]
fn a_reviewers_yes_ends_with_its_command_unless_the_setting_says_session() {
    for (setting, asked, holds) in [("once", 3, "command"), ("session", 2, "session")] {
        let stage = stage();
        let model = ScriptedModel::start(Script::Says(assessment("allow", "low", "unknown")));
        stage.runner_settings(&format!(
            "host_approvals = \"{setting}\"\n[reviewer]\ndeadline_secs = 20\n{}",
            model.table("openai-chat")
        ));
        let script = ask_for("http://nowhere.invalid/");
        for session in ["s-1", "s-1", "s-2"] {
            let ran = away(&stage, &["--session", session], &script);
            assert_eq!(ran.text(), OPEN, "{}", ran.stderr);
            assert_eq!(ran.reported("/network/reviews/0/holds"), holds);
        }
        assert_eq!(model.asked().len(), asked, "{setting}");
        let prompt = String::from_utf8_lossy(&model.asked()[0].body).into_owned();
        let told = prompt.contains("a yes holds for the rest of the session");
        assert_eq!(told, setting == "session", "the reviewer is told");
        // Who has no session has nothing that an answer could last for.
        let ran = away(&stage, &[], &script);
        assert_eq!(ran.reported("/network/reviews/0/holds"), "command");
    }
}

#[test]
fn what_the_door_decided_is_in_the_history_bounded_and_masked() {
    let stage = stage();
    let script = format!(
        "{}; for i in $(seq 80); do curl -s -m 20 -o /dev/null http://127.0.0.$i:9/; done; echo token=ghp_0123456789abcdefghijklmnopqrstuvwxyz",
        ask_for("http://denied.test/secret-path?secret-query")
    );
    let ran = away(&stage, &["-a", "never"], &script);
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    let history = stage.history();
    let line = history
        .iter()
        .find(|line| line["event"]["kind"] == "network")
        .unwrap_or_else(|| panic!("{history:?}"));
    let first = &line["event"]["decisions"][0];
    assert_eq!(
        (
            &first["host"],
            &first["port"],
            &first["verdict"],
            &first["rule"]
        ),
        (
            &json!("denied.test"),
            &json!(80),
            &json!("denied"),
            &json!("denied.test")
        )
    );
    assert_eq!(
        line["event"]["execution"],
        ran.report["network"]["execution"]
    );
    let count = line["event"]["decisions"].as_array().map(Vec::len);
    assert_eq!(count, Some(64));
    assert!(line["event"]["unlisted"].as_u64() > Some(10), "{line}");
    let decisions = line["event"].to_string();
    assert!(!decisions.contains("secret-"), "{decisions}");
    assert!(!line.to_string().contains("ghp_0123456789"), "{line}");
    let table = stage.runner().arg("history").ran();
    assert!(
        table.text().contains("denied.test:80 denied"),
        "{}",
        table.text()
    );
    // A command that asks for nothing leaves no line.
    let before = stage.history().len();
    assert_eq!(away(&stage, &[], "true").code(), 0);
    assert_eq!(stage.history().len(), before);
}
