//! What the runner is built with beside its own code: the reader of rules files, as a program of its own that the runner
//! carries (`RULES_READER`), packed relocations, and the unwinder within the program.
//!
//! Both are about the start: a command line starts once for every command, and everything that is linked costs it time,
//! used or not. The language of rules files would be a third of the program.

use std::env;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;
use std::process::Command;

#[expect(
    clippy::disallowed_methods,
    reason = "a build script is told everything in its environment"
)]
fn main() -> Result<(), String> {
    println!("cargo::rerun-if-changed=build.rs");
    let setting = |name: &str| env::var(name).map_err(|error| format!("{name}: {error}"));
    let is_gnu = setting("CARGO_CFG_TARGET_OS")? == "linux"
        && setting("CARGO_CFG_TARGET_ENV").is_ok_and(|environment| environment == "gnu");
    // For another machine nobody here knows its libraries.
    if is_gnu && setting("TARGET")? == setting("HOST")? {
        pack_relocations();
        link_the_unwinder();
    }
    carry_the_rules_reader(setting)
}

/// Builds the reader of rules files, in a target folder of its own, since cargo holds the other one.
fn carry_the_rules_reader(setting: impl Fn(&str) -> Result<String, String>) -> Result<(), String> {
    let root = PathBuf::from(setting("CARGO_MANIFEST_DIR")?).join("..");
    for made_of in [
        "rules-reader",
        "exec-policy/src",
        "Cargo.toml",
        "Cargo.lock",
    ] {
        println!("cargo::rerun-if-changed={}", root.join(made_of).display());
    }
    let (target, folder) = (setting("TARGET")?, setting("OUT_DIR")?);
    let folder = PathBuf::from(folder).join("rules-reader");
    let mut cargo = Command::new(setting("CARGO")?);
    cargo
        .args(["build", "--quiet", "--locked", "--bin", "rules-reader"])
        .args(["--profile", "rules-reader", "--target", &target])
        .arg("--target-dir")
        .arg(&folder)
        .arg("--manifest-path")
        .arg(root.join("rules-reader/Cargo.toml"))
        // Who checks this crate's own code with another compiler does not mean that one's.
        .env_remove("RUSTC_WORKSPACE_WRAPPER");
    let built = cargo
        .status()
        .map_err(|error| format!("cannot start cargo: {error}"))?;
    if !built.success() {
        return Err("the reader of rules files does not compile".to_owned());
    }
    let reader = folder.join(target).join("rules-reader/rules-reader");
    let program = std::fs::read(&reader)
        .map_err(|error| format!("cannot read {}: {error}", reader.display()))?;
    let mut identity = DefaultHasher::new();
    program.hash(&mut identity);
    println!("cargo::rustc-env=RULES_READER={}", reader.display());
    println!(
        "cargo::rustc-env=RULES_READER_ID={:016x}",
        identity.finish()
    );
    Ok(())
}

/// Packs the relative relocations (`-z pack-relative-relocs`), where the C library that will load the program can read them
/// (glibc 2.36): applying fifteen thousand one by one is a tenth of the start.
fn pack_relocations() {
    if glibc().is_some_and(|version| version >= (2, 36)) {
        println!("cargo::rustc-link-arg-bin=agent-runner=-Wl,-z,pack-relative-relocs");
    }
}

/// Links the unwinder that comes with the C compiler into the program, where it is there to be linked: as a library of its
/// own it asks the processor what it can do before `main`, which a virtual machine answers slowly.
fn link_the_unwinder() {
    let said = Command::new("cc")
        .arg("-print-file-name=libgcc_eh.a")
        .output();
    // A compiler that has none prints the name alone.
    let archive = said.ok().and_then(|said| {
        let path = PathBuf::from(String::from_utf8(said.stdout).ok()?.trim());
        path.is_absolute().then_some(path)
    });
    if let Some(archive) = archive {
        println!(
            "cargo::rustc-link-arg-bin=agent-runner=-Wl,--push-state,--whole-archive,{},--pop-state",
            archive.display()
        );
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
