//! Secrets and steering in the environment, and bytes that steer a terminal (P9, D20, D27).

use harness::{
    Missing, Script, ScriptedModel, ServerSettings, Stage, Terminal, TestServer, assessment, lacks,
};

use super::Trusting;

const SECRETS: [&str; 9] = [
    "OPENAI_API_KEY",
    "ANTHROPIC_API_KEY",
    "GITHUB_TOKEN",
    "AWS_SECRET_ACCESS_KEY",
    "PGPASSWORD",
    "AUTO_REVIEW_TOKEN",
    "AUTO_REVIEW_SESSION",
    "npm_config__auth",
    "DB_PASSWORD",
];
const STEERING: [&str; 4] = ["LD_PRELOAD", "LD_AUDIT", "BASH_ENV", "ENV"];
const VALUE: &str = "value-that-must-not-be-seen";

/// `env` by a run that has all of them.
fn shown_by_env(trusting: &Trusting, flags: &[&str]) -> String {
    let mut run = trusting.stage.exec(flags, &["env"]).env("HARMLESS", "seen");
    for name in SECRETS.iter().chain(&STEERING) {
        run = run.env(name, VALUE);
    }
    let ran = run.ran();
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    assert!(ran.text().contains("HARMLESS=seen"), "{}", ran.text());
    ran.text()
}

#[test]
fn secrets_and_what_steers_a_loader_reach_no_command() {
    let trusting = Trusting::new();
    for flags in [&[][..], &["--escalate"], &["--unconfined"]] {
        let shown = shown_by_env(&trusting, flags);
        assert!(!shown.contains(VALUE), "{flags:?}: {shown}");
        for name in STEERING.iter().chain(&SECRETS) {
            assert!(
                !shown
                    .lines()
                    .any(|line| line.starts_with(&format!("{name}="))),
                "{flags:?} {name}"
            );
        }
    }
}

#[test]
fn secrets_and_what_steers_a_loader_reach_neither_reviewer_nor_model() {
    let trusting = Trusting::new();
    shown_by_env(&trusting, &["--escalate"]);
    let sent: Vec<_> = trusting
        .proxy
        .taps()
        .into_iter()
        .map(|(request, _)| request)
        .collect();
    assert_eq!(
        sent.iter()
            .filter(|request| request.target == "/v1/reviews")
            .count(),
        1
    );
    let asked = trusting.model.asked();
    assert_eq!(asked.len(), 1);
    for request in sent.iter().chain(&asked) {
        let mut body = request.json();
        // That the variable names a session is meant, and the session is meant to be told.
        for pointer in ["/session/session_id", "/session_id"] {
            if let Some(session) = body.pointer_mut(pointer) {
                session.take();
            }
        }
        let body = body.to_string();
        for text in [
            VALUE,
            "OPENAI_API_KEY",
            "LD_PRELOAD",
            "npm_config__auth",
            "BASH_ENV",
        ] {
            assert!(!body.contains(text), "{text}: {body}");
        }
    }
}

#[test]
fn a_password_inside_a_variable_is_masked_on_the_wire_and_whole_for_the_command() {
    let trusting = Trusting::new();
    let url = "postgres://ana:hunter2@localhost/app";
    let ran = trusting
        .stage
        .escalate(&["env"])
        .env("DATABASE_URL", url)
        .ran();
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    assert!(ran.text().contains(url), "{}", ran.text());
    let body = trusting.proxy.taps()[0].0.json().to_string();
    assert!(
        body.contains("DATABASE_URL") && body.contains("keyed_hash"),
        "{body}"
    );
    for request in trusting
        .proxy
        .taps()
        .iter()
        .map(|(request, _)| &request.body)
        .chain(trusting.model.asked().iter().map(|it| &it.body))
    {
        assert!(!String::from_utf8_lossy(request).contains("hunter2"));
    }
}

#[test]
fn the_variable_that_holds_the_model_s_key_reaches_no_command_whatever_its_name() {
    let model = ScriptedModel::start(Script::Says(assessment("allow", "low", "unknown")));
    let stage = Stage::new();
    stage.runner_settings(&format!(
        "{}api_key_env = \"REVIEWER_LOGIN\"\n",
        model.table("openai-chat")
    ));
    stage.file("task.sh", "env\n");
    for flags in [&[][..], &["--escalate"], &["--unconfined"]] {
        let ran = stage
            .exec(flags, &["sh", "task.sh"])
            .env("REVIEWER_LOGIN", VALUE)
            .ran();
        assert_eq!(ran.code(), 0, "{}", ran.stderr);
        assert!(!ran.text().contains(VALUE), "{flags:?}: {}", ran.text());
    }
    let bearer = format!("Bearer {VALUE}");
    assert_eq!(
        model.asked()[0].header("authorization"),
        Some(bearer.as_str()),
        "the model gets it"
    );
    let record = stage.runner().args(["history", "--json"]).ran().text();
    assert!(
        !record.is_empty() && !record.contains(VALUE),
        "the record does not"
    );
}

#[test]
fn the_file_that_holds_the_model_s_key_can_be_read_by_no_command() {
    let model = ScriptedModel::start(Script::Says(assessment("allow", "low", "unknown")));
    let stage = Stage::new();
    let key = stage.outside("model.key");
    std::fs::write(&key, VALUE).expect("a key");
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .expect("a mode");
    let path = key.display();
    stage.runner_settings(&format!(
        "{}api_key_file = \"{path}\"\n",
        model.table("openai-chat")
    ));
    // Behind a script of its own: for what it does in plain sight no reviewer gives leave.
    stage.file("inner.sh", &format!("cat '{path}' || exit 0\n"));
    stage.file("task.sh", "exec sh ./inner.sh\n");
    for flags in [&[][..], &["--escalate"]] {
        let ran = stage.exec(flags, &["sh", "task.sh"]).ran();
        assert_eq!(ran.code(), 0, "{flags:?}: {}", ran.stderr);
        assert!(!ran.text().contains(VALUE), "{flags:?}");
    }
    assert!(
        model.asked()[0]
            .header("authorization")
            .is_some_and(|value| value.contains(VALUE)),
        "the model gets it"
    );
}

#[test]
fn a_server_that_logs_everything_logs_no_token_no_text_and_no_key() {
    let model = ScriptedModel::start(Script::Says(assessment("allow", "low", "unknown")));
    let launcher = [
        "env",
        "AUTO_REVIEW_LOG=trace",
        &format!("SERVER_MODEL_KEY={VALUE}"),
    ]
    .map(Into::into)
    .to_vec();
    let tables = format!(
        "{}api_key_env = \"SERVER_MODEL_KEY\"\n",
        model.table("openai-chat")
    );
    let server = TestServer::start(ServerSettings { tables, launcher });
    let stage = Stage::new();
    stage.ask(&server);
    let (script, _) = stage.canary_script();
    let flags = [
        "--escalate",
        "--justification",
        "text-of-the-justification",
        "--intent",
        "text-of-the-intent",
    ];
    assert_eq!(
        stage
            .exec(&flags, &script)
            .env("MARKED", "text-of-the-environment")
            .ran()
            .code(),
        0
    );
    assert_eq!(
        server
            .call_as("arv_wrong-token", "GET", "/v1/reviews", None)
            .status,
        401
    );
    let log = server.said();
    assert!(!log.is_empty(), "it logs");
    for text in [server.token(), VALUE, "text-of-the", "wrong-token"] {
        assert!(!log.contains(text), "`{text}` is in the log");
    }
}

/// Bytes that clear, recolour, retitle, answer back, reorder or hide.
const HOSTILE: &str = "a\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}b\u{200b}c\u{2066}\rd\u{8}";

fn steers(text: &str) -> Vec<char> {
    let harmless =
        |c: &char| *c == '\n' || (!c.is_control() && !"\u{202e}\u{200b}\u{2066}".contains(*c));
    text.chars().filter(|c| !harmless(c)).collect()
}

#[test]
fn what_steers_a_terminal_is_never_echoed_raw() {
    let trusting = Trusting::new();
    let folder = trusting.stage.outside("precious");
    std::fs::create_dir(&folder).expect("a folder");
    let (stage, path) = (&trusting.stage, folder.display().to_string());
    let denied = stage
        .exec(
            &[
                "--escalate",
                "--justification",
                HOSTILE,
                "--intent",
                HOSTILE,
            ],
            &["rm", "-rf", &path, HOSTILE],
        )
        .ran();
    assert_eq!(denied.code(), 126, "{}", denied.stderr);
    let missing = stage.exec(&[], &[HOSTILE]).ran();
    assert_eq!(missing.code(), 127, "{}", missing.stderr);
    let no_folder = stage
        .exec(&["--cd", &format!("/{HOSTILE}")], &["true"])
        .ran();
    assert_eq!(no_folder.code(), 125, "{}", no_folder.stderr);
    let no_transcript = stage.exec(&["--transcript", HOSTILE], &["true"]).ran();
    assert_eq!(no_transcript.code(), 125, "{}", no_transcript.stderr);
    let history = stage.runner().arg("history").ran();
    let history_json = stage.runner().args(["history", "--json"]).ran();
    let explained = stage
        .runner()
        .args(["explain", "--escalate", "--", "rm", "-rf", HOSTILE])
        .ran();
    for text in [
        &denied.stderr,
        &missing.stderr,
        &no_folder.stderr,
        &no_transcript.stderr,
        &history.text(),
        &history.stderr,
        &explained.text(),
        &explained.stderr,
    ] {
        assert!(!text.is_empty() || text == &history.stderr || text == &explained.stderr);
        assert_eq!(steers(text), Vec::<char>::new(), "{text:?}");
    }
    // JSON is for programs: control characters are escaped there, as RFC 8259 wants it.
    assert!(history_json.text().contains("\\u001b[2J"));
    assert!(!history_json.text().contains('\u{1b}'));
}

#[test]
fn what_steers_a_terminal_is_not_shown_raw_to_the_person_who_decides() {
    let Some(terminal) = Terminal::open(24, 80) else {
        lacks(
            Missing::ControllingTerminal,
            "what a person who is asked is shown",
        );
        return;
    };
    let stage = Stage::new();
    stage.settings("sandbox_mode = \"workspace-write\"\napprovals_reviewer = \"user\"\n");
    let flags = [
        "--escalate",
        "--justification",
        "fine\u{1b}[2K\rit only lists files\u{202e}",
    ];
    let run = terminal.run(stage.exec(&flags, &["touch", "\u{1b}[8mhidden"]));
    terminal.shows("[y/N]");
    terminal.types("n\n");
    assert_eq!(run.code(), Some(126));
    let shown = terminal.shown();
    assert!(
        shown.contains("\\x1b[8mhidden") && shown.contains("\\x1b[2K\\r"),
        "{shown:?}"
    );
    assert!(
        !shown.contains("\u{1b}[2K\rit")
            && !shown.contains("\u{1b}[8m")
            && !shown.contains('\u{202e}'),
        "{shown:?}"
    );
}
