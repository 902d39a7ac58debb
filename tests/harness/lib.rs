//! What the end-to-end tests stand on: the real programs as child processes, throw-away folders, and counterparts on
//! loopback that behave as badly as a test needs.
//!
//! Nothing here knows the programs' code: they are started, spoken to and looked at from outside, as a user would.
//! Invariant: what a harness value starts or makes is gone when the value is dropped, whatever way the test ends.
#![forbid(unsafe_code)]
#![expect(
    clippy::panic,
    clippy::expect_used,
    reason = "this crate is test code: what it cannot set up must fail the test, at once and in words"
)]

mod capability;
mod database;
mod folder;
mod http;
mod model;
mod process;
mod programs;
mod proxy;
mod runner;
mod server;
mod stage;
mod terminal;
mod wait;

pub use capability::{Missing, is_root, lacks, launches, mount_namespace};
pub use database::{Database, Event, HeldLock};
pub use folder::Folder;
pub use http::{Answer, Loopback, Reply, Request, call};
pub use model::{Gate, Script, ScriptedModel, assessment};
pub use process::{Marker, children_of, is_alive, kill};
pub use programs::{program, runner_program, server_program};
pub use proxy::{Proxy, Taps};
pub use runner::{Ran, Run, Started};
pub use server::{ServerSettings, TestServer};
pub use stage::Stage;
pub use terminal::{Terminal, TerminalRun};
pub use wait::{LIMIT, eventually};
