use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::{InvalidSettings, ReviewerSettings, Valid};

fn read(settings: Value) -> Result<Valid, InvalidSettings> {
    let settings: ReviewerSettings = serde_json::from_value(settings).expect("the tables");
    Valid::read(&settings, &|name| match name {
        "KEY" => Some("sk-canary\n".to_owned()),
        "EMPTY" => Some(" ".to_owned()),
        _ => None,
    })
}

fn faults(settings: Value) -> String {
    read(settings).expect_err("it was refused").to_string()
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "called with a literal everywhere"
)]
fn model(fields: Value) -> Value {
    let mut model =
        json!({ "provider": "openai-chat", "base_url": "https://api.example/v1", "model": "m" });
    for (key, value) in fields.as_object().expect("fields") {
        model
            .as_object_mut()
            .expect("a table")
            .insert(key.clone(), value.clone());
    }
    json!({ "reviewer": { "model": [model] } })
}

/// A file of its own; gone when dropped.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str, mode: u32) -> Self {
        let path = std::env::temp_dir().join(format!("reviewer-{name}-{}", std::process::id()));
        std::fs::write(&path, text).expect("a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("a mode");
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.0);
    }
}

#[test]
fn no_settings_are_the_shipped_policy_with_90_seconds_and_no_model() {
    let valid = read(json!({})).expect("valid");
    assert!(
        valid.law.policy.is_shipped() && valid.built_in_allow.is_none() && valid.models.is_empty()
    );
    assert_eq!(valid.time_limit.as_secs(), 90);
}

#[test]
fn a_key_comes_from_the_environment_and_is_not_shown() {
    let valid = read(model(json!({ "api_key_env": "KEY" }))).expect("valid");
    let key = valid
        .models
        .first()
        .and_then(|model| model.key.as_ref())
        .expect("a key");
    assert_eq!(key.expose_secret(), "sk-canary");
    assert!(!format!("{valid:?}").contains("sk-canary"));
}

#[test]
fn a_key_file_that_others_may_read_is_refused() {
    let private = File::new("private", "sk-canary\n", 0o600);
    assert!(read(model(json!({ "api_key_file": private.0 }))).is_ok());
    for mode in [0o640, 0o604, 0o660, 0o602] {
        let open = File::new(&format!("open-{mode:o}"), "sk-canary\n", mode);
        assert!(
            faults(model(json!({ "api_key_file": open.0 })))
                .contains("may be read or changed by others"),
            "{mode:o}"
        );
    }
    assert!(faults(model(json!({ "api_key_file": "/" }))).contains("is not a regular file"));
    assert!(faults(model(json!({ "api_key_file": "/nowhere/key" }))).contains("cannot be read"));
}

#[test]
fn a_policy_file_is_read_and_one_that_others_may_change_is_refused() {
    let own = File::new("section", "Be careful.", 0o644);
    let valid = read(json!({ "policy": { "section_file": own.0 } })).expect("valid");
    assert!(valid.law.policy.text().contains("Be careful.") && !valid.law.policy.is_shipped());
    let open = File::new("section-open", "Allow all.", 0o666);
    assert!(faults(json!({ "policy": { "section_file": open.0 } })).contains("changed by others"));
    assert!(faults(json!({ "policy": { "section": "" } })).contains("the policy section is empty"));
}

#[test]
fn an_address_in_the_clear_is_for_this_machine_alone() {
    for url in [
        "http://127.0.0.1:8080/v1",
        "http://[::1]/v1",
        "http://localhost/v1",
        "https://api.example/v1",
    ] {
        assert!(read(model(json!({ "base_url": url }))).is_ok(), "{url}");
    }
    for url in [
        "http://api.example/v1",
        "http://127.0.0.1.example/v1",
        "ftp://api.example",
        "x",
        "https://u:p@api.example/",
        "https://api.example/?k=v",
        "https://api.example/#x",
    ] {
        assert!(
            faults(model(json!({ "base_url": url }))).contains("base_url"),
            "{url}"
        );
    }
    assert!(
        !faults(model(
            json!({ "base_url": "https://u:canary@api.example/" })
        ))
        .contains("canary")
    );
    assert!(
        read(model(
            json!({ "base_url": "http://10.0.0.5/v1", "dangerously_allow_http": true })
        ))
        .is_ok()
    );
}

#[test]
fn all_faults_are_told_at_once() {
    let text = faults(json!({
        "reviewer": {
            "deadline_secs": 0,
            "model": [
                { "provider": "openai-chat", "base_url": "x", "model": " ", "api_key_env": "MISSING", "connect_timeout_secs": 0 },
                { "provider": "openai-responses", "base_url": "https://a/", "model": "m", "api_key_env": "EMPTY", "timeout_secs": 9999 },
            ],
        },
        "policy": { "section": "a", "section_file": "b" },
    }));
    for wanted in [
        "deadline_secs",
        "section_file",
        "model.model",
        "base_url",
        "`MISSING`",
        "`EMPTY`",
        "connect_timeout_secs",
        "timeout_secs` is 9999",
    ] {
        assert!(text.contains(wanted), "no {wanted} in\n{text}");
    }
}

#[test]
fn an_unknown_key_is_an_error() {
    for settings in [
        json!({ "reviewer": { "deadline": 1 } }),
        json!({ "policy": { "text": "a" } }),
        json!({ "models": [] }),
        model(json!({ "api_key": "sk" })),
    ] {
        assert!(
            serde_json::from_value::<ReviewerSettings>(settings.clone()).is_err(),
            "{settings}"
        );
    }
}
