//! Packs the relative relocations of the runner (`-z pack-relative-relocs`), where the C library that will load it can
//! read them (glibc 2.36): a command line starts once for every command, and applying fifteen thousand relocations one by
//! one is a tenth of its time.

use std::env;
use std::process::Command;

#[expect(
    clippy::disallowed_methods,
    reason = "a build script is told everything in its environment"
)]
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let setting = |name: &str| env::var(name).unwrap_or_default();
    let is_gnu =
        setting("CARGO_CFG_TARGET_OS") == "linux" && setting("CARGO_CFG_TARGET_ENV") == "gnu";
    // For another machine nobody here knows its library.
    let is_native = setting("TARGET") == setting("HOST");
    if is_gnu && is_native && glibc().is_some_and(|version| version >= (2, 36)) {
        println!("cargo::rustc-link-arg-bin=agent-runner=-Wl,-z,pack-relative-relocs");
    }
}

/// The version of the C library of this machine.
fn glibc() -> Option<(u32, u32)> {
    let said = Command::new("getconf")
        .arg("GNU_LIBC_VERSION")
        .output()
        .ok()?;
    let said = String::from_utf8(said.stdout).ok()?;
    let (major, minor) = said.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
