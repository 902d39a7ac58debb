//! What the walls stopped is asked about again where the policy says so, once, with the truth about the first run (D24).

use harness::{Ran, Script, ScriptedModel, Stage, assessment};

/// A stage whose model says `outcome`, with these settings beside the model's.
fn judged(outcome: &str, policy: &str, runner: &str) -> (Stage, ScriptedModel) {
    let stage = Stage::new();
    let model = ScriptedModel::start(Script::Says(assessment(outcome, "medium", "low")));
    stage.runner_settings(&format!("{runner}\n{}", model.table("openai-chat")));
    stage.settings(&format!(
        "sandbox_mode = \"workspace-write\"\napprovals_reviewer = \"auto_review\"\n{policy}\n"
    ));
    (stage, model)
}

/// Runs a script that says something, fails to make the canary inside the walls, and says how far it came.
fn stopped(stage: &Stage, flags: &[&str]) -> (Ran, bool) {
    let canary = stage.outside("canary");
    let text = format!(
        "echo started\necho sings > '{}' || exit 7\n",
        canary.display()
    );
    stage.file("task.sh", &text);
    let ran = stage.exec(flags, &["sh", "task.sh"]).ran();
    (ran, canary.exists())
}

#[test]
fn a_stopped_command_runs_again_after_a_yes_that_knows_of_the_first_run() {
    for (policy, runner) in [
        ("approval_policy = \"on-failure\"", ""),
        ("", "retry_on_denial = true"),
        (
            "approval_policy = { granular = { sandbox_approval = true, rules = false, mcp_elicitations = false } }",
            "",
        ),
    ] {
        let (stage, model) = judged("allow", policy, runner);
        let (ran, sings) = stopped(&stage, &[]);
        assert!(sings, "{policy}{runner}: {}", ran.stderr);
        assert_eq!((ran.code(), ran.text().as_str()), (0, "started\nstarted\n"));
        assert_eq!(ran.reported("/first_run/exit_code"), "7");
        assert_eq!(ran.reported("/confinement/walls"), "escalated");
        let [question] = &model.asked()[..] else {
            panic!("{} questions", model.asked().len());
        };
        let told = String::from_utf8_lossy(&question.body);
        assert!(told.contains("it ran already inside the walls"), "{told}");
        assert!(told.contains("outside/canary"), "{told}");
        let history = stage.history();
        let review = history.first().expect("a review");
        assert_eq!(review["trigger"]["kind"], "sandbox_denied", "{review}");
    }
}

#[test]
fn nobody_is_asked_where_the_policy_or_the_end_says_so() {
    let never = "approval_policy = \"never\"";
    let off = "approval_policy = { granular = { sandbox_approval = false, rules = true, mcp_elicitations = true } }";
    for (policy, runner) in [
        ("", ""),
        ("", "retry_on_denial = false"),
        (never, "retry_on_denial = true"),
        (off, "retry_on_denial = true"),
    ] {
        let (stage, model) = judged("allow", policy, runner);
        let (ran, sings) = stopped(&stage, &[]);
        assert_eq!((ran.code(), sings), (7, false), "{policy}{runner}");
        assert_eq!(ran.text(), "started\n");
        assert!(model.asked().is_empty());
    }
    let (stage, model) = judged("allow", "approval_policy = \"on-failure\"", "");
    // It came off after all; what was stopped can never be had; it failed by itself.
    let canary = stage.outside("canary").display().to_string();
    let state = stage.state("x").display().to_string();
    for script in [
        format!("touch '{canary}'; true"),
        format!("touch '{state}'"),
        "exit 3".to_owned(),
    ] {
        stage.file("task.sh", &script);
        let ran = stage.exec(&[], &["sh", "task.sh"]).ran();
        assert!(model.asked().is_empty(), "{script}: {}", ran.stderr);
    }
}

#[test]
fn a_no_leaves_the_first_end_as_it_is_and_says_so() {
    let (stage, model) = judged("deny", "", "retry_on_denial = true");
    let (ran, sings) = stopped(&stage, &[]);
    assert_eq!((ran.code(), sings), (7, false), "{}", ran.stderr);
    assert_eq!(ran.text(), "started\n");
    assert!(ran.stderr.contains("was denied"), "{}", ran.stderr);
    assert!(ran.stderr.contains("not run again"), "{}", ran.stderr);
    assert_eq!(ran.reported("/status"), "denied");
    assert_eq!(ran.reported("/confinement/walls"), "confined");
    assert_eq!(model.asked().len(), 1);
}

#[test]
fn a_rule_still_forbids_and_full_access_has_nothing_to_ask_about() {
    let (stage, model) = judged("allow", "approval_policy = \"on-failure\"", "");
    let (ran, sings) = stopped(&stage, &["--sandbox", "danger-full-access"]);
    assert_eq!((ran.code(), sings), (0, true), "{}", ran.stderr);
    assert!(model.asked().is_empty());
}
