//! Compiles the init (`init/main.rs`) to a static image of its own, which the library embeds, and writes the filters
//! (`src/filters/*.json`) as Rust, so that a command waits for no parser.
//!
//! The init needs only the Rust compiler that builds the crate and its linker. No standard library, no C library, no
//! start-up objects: what comes out is a few kilobytes that run under every wall.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "build/filters.rs"]
mod filters;

#[expect(
    clippy::disallowed_methods,
    reason = "a build script is told everything in its environment"
)]
fn main() -> Result<(), String> {
    println!("cargo::rerun-if-changed=init");
    println!("cargo::rerun-if-changed=src/filters");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    let setting = |name: &str| env::var(name).map_err(|error| format!("{name}: {error}"));
    let folder = PathBuf::from(setting("OUT_DIR")?);
    filters::write(Path::new("src/filters"), &folder.join("filters.rs"))?;
    let image = folder.join("init");
    let mut compiler = Command::new(setting("RUSTC")?);
    compiler.args([
        "--edition=2024",
        "--crate-type=bin",
        "--crate-name=init",
        "--target",
    ]);
    compiler.arg(setting("TARGET")?);
    compiler.args([
        "-Copt-level=s",
        "-Cpanic=abort",
        "-Cdebuginfo=0",
        "-Cstrip=symbols",
        "-Coverflow-checks=off",
    ]);
    compiler.args([
        "-Crelocation-model=static",
        "-Ctarget-feature=+crt-static",
        "-Clinker-flavor=gcc",
    ]);
    compiler.arg("-Clink-args=-nostdlib -nostartfiles -static -no-pie -Wl,--build-id=none -Wl,-z,noseparate-code");
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        compiler.arg(format!("-Clinker={linker}"));
    }
    compiler.arg("-o").arg(&image).arg("init/main.rs");
    let status = compiler
        .status()
        .map_err(|error| format!("cannot start the compiler: {error}"))?;
    if !status.success() {
        return Err("the sandbox's init does not compile".to_owned());
    }
    println!("cargo::rustc-env=SANDBOX_INIT={}", image.display());
    Ok(())
}
