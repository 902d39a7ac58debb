//! The walls: a Linux sandbox in the runner's own system calls.
//!
//! A [`SandboxPolicy`] says what may be touched, a [`Command`] holds what is to run, a [`Plan`] is what will be done, as
//! data, and [`Sandbox::start`] does it: one clone into new namespaces, mounts, Landlock, seccomp, no capabilities, and a
//! tiny init that takes everything down at the end. Blocking, without a runtime, from any thread.
//!
//! Invariants: a plan wider than its policy takes a [`protocol::PermittedAction`]; a wall that cannot be put up stops
//! the command before anything of it runs; nothing outlives the command. `unsafe` is in `sys` and in `init/` alone.

mod ahead;
mod command;
mod confinement;
mod denial;
mod error;
mod image;
mod keeper;
mod landlock;
mod mounts;
mod plan;
mod policy;
mod prepare;
mod probe;
mod record;
mod seccomp;
mod stage;
mod start;
mod surroundings;
mod sys;
mod terminal;
mod user_namespace;

pub use ahead::Ahead;
pub use command::{
    Command, InvalidCommand, Output, Program, Sealed, Stdin, Terminal, WorkingDirectory,
};
pub use confinement::{Confinement, RanAs};
pub use denial::SandboxDenial;
pub use error::{SandboxError, Wall};
pub use landlock::OLDEST_LANDLOCK_ABI;
pub use plan::{Plan, PlanError, Walls};
pub use policy::{
    InvalidPolicy, Network, PROTECTED_NAMES, PolicyBuilder, PrivateTmp, SandboxPolicy,
};
pub use probe::{Probe, probe};
pub use seccomp::{Filter, FilterError};
pub use start::{Ending, Run, Running, Sandbox, Signaller, Usage};
