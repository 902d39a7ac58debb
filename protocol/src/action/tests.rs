use serde_json::json;

use super::{Action, InvalidAction};

fn action(value: serde_json::Value) -> Action {
    serde_json::from_value(value).expect("an action")
}

fn base() -> serde_json::Value {
    json!({"tool":"exec_command","command":["git","push"],"cwd":"/w","sandbox_permissions":"require_escalated",
           "justification":"because","tty":false,
           "program":{"path":"/usr/bin/git","sha256":"00".repeat(32)},
           "scripts":[{"path":"/w/x.sh","sha256":"11".repeat(32)}],
           "env":[{"name":"PATH","value":"/usr/bin"}],
           "stdin":{"bytes":3,"sha256":"22".repeat(32)}})
}

#[test]
fn each_field_of_what_is_done_changes_the_digest() {
    let digest = action(base()).digest();
    let changes = [
        ("/command", json!(["git", "push", ""])),
        ("/command", json!(["gitpush"])),
        ("/cwd", json!("/w2")),
        ("/sandbox_permissions", json!("require_unconfined")),
        ("/tty", json!(true)),
        ("/program/path", json!("/usr/bin/gi")),
        ("/program/sha256", json!("33".repeat(32))),
        ("/scripts/0/sha256", json!("33".repeat(32))),
        ("/scripts", json!([])),
        ("/env", json!([])),
        ("/env", json!(null)),
        ("/env/0/value", json!("/bin")),
        (
            "/env/0",
            json!({"name":"PATH","masked":{"kind":"token","length":8,"keyed_hash":"44".repeat(32)}}),
        ),
        ("/stdin/bytes", json!(4)),
        ("/stdin", json!(null)),
    ];
    for (pointer, value) in changes {
        let mut changed = base();
        *changed.pointer_mut(pointer).expect("the field") = value;
        assert_ne!(action(changed).digest(), digest, "{pointer} does not count");
    }
}

#[test]
fn a_justification_is_not_part_of_what_is_done() {
    let mut other = base();
    other["justification"] = json!("another reason");
    assert_eq!(action(other).digest(), action(base()).digest());
}

#[test]
fn the_digest_of_a_known_action_stays_what_it_was() {
    insta::assert_snapshot!(action(base()).digest(), @"sha256:c1f18ef367f9818f6eef7c2eaa696122c0aeafd3c2a64786b9d524530e0bf01e");
}

#[test]
fn an_unknown_field_is_refused() {
    let mut odd = base();
    odd["sudo"] = json!(true);
    assert!(serde_json::from_value::<Action>(odd).is_err());
}

#[test]
fn a_relative_working_directory_is_refused() {
    let mut odd = base();
    odd["cwd"] = json!("w");
    assert!(serde_json::from_value::<Action>(odd).is_err());
}

#[test]
fn rules_that_span_fields_hold() {
    let refused = |pointer: &str, value: serde_json::Value| {
        let mut odd = base();
        *odd.pointer_mut(pointer).expect("the field") = value;
        action(odd).checked().expect_err("it was refused")
    };
    assert_eq!(refused("/command", json!([])), InvalidAction::EmptyCommand);
    assert_eq!(
        refused("/command", json!(["a\u{0}b"])),
        InvalidAction::Nul("command")
    );
    assert_eq!(
        refused("/sandbox_permissions", json!("with_additional_permissions")),
        InvalidAction::AdditionalPermissions
    );
    assert_eq!(
        refused("/justification", json!("x".repeat(9000))),
        InvalidAction::Justification
    );
}

#[test]
fn the_order_of_keys_in_tool_arguments_does_not_matter_and_their_values_do() {
    let call = |arguments: &str| {
        let text = format!(
            r#"{{"tool":"mcp_tool_call","server":"s","tool_name":"t","arguments":{arguments}}}"#
        );
        serde_json::from_str::<Action>(&text)
            .expect("an action")
            .digest()
    };
    assert_eq!(
        call(r#"{"a":1,"b":[true,null]}"#),
        call(r#"{"b":[true,null],"a":1}"#)
    );
    assert_ne!(call(r#"{"a":1}"#), call(r#"{"a":"1"}"#));
}
