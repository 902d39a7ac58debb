//! That a denied host is denied from inside is tried before a door is trusted: once for a boot, a program and a set of rules.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use harness::Stage;

use super::peer::SETTINGS;

#[test]
fn a_door_is_tried_once_for_its_rules_and_again_for_others() {
    let stage = Stage::new();
    let proof = stage.state("door-proof");
    let mut proofs = Vec::new();
    for (from, to) in [
        ("", ""),
        ("enabled = true", "enabled = true\nmode = \"limited\""),
        ("enabled = true", "enabled = true\nenable_socks5 = false"),
        (
            "enabled = true",
            "enabled = true\nproxy_url = \"http://127.0.0.1:4128\"",
        ),
        ("\"site.test\" = \"allow\"", "\"*\" = \"allow\""),
    ] {
        stage.settings(&SETTINGS.replacen(from, to, 1));
        let first = stage.exec(&[], &["true"]).ran();
        assert_eq!(first.code(), 0, "{to} {}", first.stderr);
        let kept = fs::read_to_string(&proof).expect("a proof");
        let file = fs::metadata(&proof).expect("a file");
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
        let again = stage.exec(&[], &["true"]).ran();
        assert_eq!(again.code(), 0, "{to} {}", again.stderr);
        assert_eq!(
            fs::metadata(&proof).expect("a file").ino(),
            file.ino(),
            "not tried again"
        );
        proofs.push(kept);
    }
    let count = proofs.len();
    proofs.sort();
    proofs.dedup();
    assert_eq!(proofs.len(), count, "each set of rules is tried");
    // What was spoiled proves nothing.
    let inode = fs::metadata(&proof).expect("a file").ino();
    fs::write(&proof, "held").expect("written");
    assert_eq!(stage.exec(&[], &["true"]).ran().code(), 0);
    assert_ne!(fs::metadata(&proof).expect("a file").ino(), inode);
    // A command cannot say so itself.
    let forge = format!("echo held > '{}' || echo refused", proof.display());
    let ran = stage.exec(&[], &["sh", "-c", &forge]).ran();
    assert_eq!(ran.text(), "refused\n", "{}", ran.stderr);
}

#[test]
fn a_command_without_a_door_tries_none() {
    let stage = Stage::new();
    stage.settings(&SETTINGS.replace("network_access = true", "network_access = false"));
    let ran = stage.exec(&[], &["true"]).ran();
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    assert!(!stage.state("door-proof").exists());
}
