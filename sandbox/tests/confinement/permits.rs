//! No plan is wider than its policy without leave for exactly this command (P1).

use sandbox::{Plan, PlanError, SandboxError};

use crate::harness::{Lab, leave, start_error};

#[test]
fn leave_for_other_words_is_no_leave() {
    let lab = Lab::new();
    let policy = lab.policy().build().unwrap();
    let leave = leave(&lab.command("true"), "require_escalated", "{}");
    let refused = Plan::permitted(&policy, leave, &lab.command("false"));
    assert!(matches!(refused, Err(PlanError::Differs("words"))));
}

#[test]
fn leave_for_another_directory_is_no_leave() {
    let (here, there) = (Lab::new(), Lab::new());
    let policy = here.policy().build().unwrap();
    let leave = leave(&there.command("true"), "require_escalated", "{}");
    let refused = Plan::permitted(&policy, leave, &here.command("true"));
    assert!(matches!(
        refused,
        Err(PlanError::Differs("working directory"))
    ));
}

#[test]
fn leave_for_another_program_is_no_leave() {
    let lab = Lab::new();
    let policy = lab.policy().build().unwrap();
    let here = lab.directory();
    let program = |path| sandbox::Program::open(path).unwrap();
    let permitted = sandbox::Command::new(["x"], program("/bin/true"), lab.directory()).unwrap();
    let other = sandbox::Command::new(["x"], program("/bin/false"), here).unwrap();
    let refused = Plan::permitted(
        &policy,
        leave(&permitted, "require_escalated", "{}"),
        &other,
    );
    assert!(matches!(refused, Err(PlanError::Differs("program"))));
}

#[test]
fn leave_that_asks_for_nothing_wider_gives_nothing() {
    let lab = Lab::new();
    let policy = lab.policy().build().unwrap();
    let command = lab.command("true");
    let refused = Plan::permitted(&policy, leave(&command, "use_default", "{}"), &command);
    assert!(matches!(refused, Err(PlanError::NothingPermitted)));
}

#[test]
fn a_plan_starts_no_other_command_than_its_own() {
    let lab = Lab::new();
    let command = lab.command("true");
    let plan = Plan::permitted(
        &lab.policy().build().unwrap(),
        leave(&command, "require_unconfined", "{}"),
        &command,
    )
    .unwrap();
    assert!(matches!(
        start_error(&plan, lab.command("false")),
        SandboxError::OtherCommand
    ));
}

#[test]
fn a_plan_can_be_printed() {
    let lab = Lab::new();
    let command = lab.command("true");
    let plan = Plan::confined(&lab.policy().build().unwrap(), &command).unwrap();
    let text = serde_json::to_string_pretty(&plan).unwrap();
    for wanted in [
        "\"walls\": \"confined\"",
        "\"do\": \"read_only_tree\"",
        "\"placeholders\"",
        ".codex",
    ] {
        assert!(text.contains(wanted), "{wanted} is missing in {text}");
    }
}
