//! The walls: a Linux sandbox in the runner's own system calls.
//!
//! A [`SandboxPolicy`] says what may be touched, a [`Command`] holds what is to run, a [`Plan`] is what will be done, as
//! data, and [`Sandbox::start`] does it: one clone into new namespaces, mounts, Landlock, seccomp, no capabilities, and a
//! tiny init that takes everything down at the end. Blocking, without a runtime, from any thread.
//!
//! A policy is gathered by [`PolicyBuilder`]: [`PolicyBuilder::access`] gives a path and what is beneath it an [`Access`]
//! (the deepest rule wins, to any depth), [`PolicyBuilder::reads`] turns reads to what is listed,
//! [`PolicyBuilder::deny_matching`] denies by pattern, [`PolicyBuilder::unprotect`] gives a protected name up,
//! [`PolicyBuilder::limits`] bounds what is used, and [`PolicyBuilder::remember_in`] names the runner's folder where what
//! was found in large trees is kept. [`SandboxPolicy::access`] answers for one path and names the rule; [`Plan::notes`]
//! says what a person should know before the command runs.
//!
//! Invariants: a plan wider than its policy takes a [`protocol::PermittedAction`]; a wall that cannot be put up stops
//! the command before anything of it runs; nothing outlives the command. `unsafe` is in `sys` and in `init/` alone.

mod ahead;
mod beside;
mod bubblewrap;
mod cause;
mod cgroup;
mod command;
mod confinement;
mod denial;
mod doctor;
mod door;
mod error;
mod glob;
mod guarded;
mod guards;
mod image;
mod keeper;
mod landlock;
mod limits;
mod mounts;
mod plan;
mod policy;
mod prepare;
mod probe;
mod record;
mod resolved;
mod seatbelt;
mod seccomp;
mod stage;
mod start;
mod surroundings;
mod sys;
mod terminal;
mod tracked;
mod user_namespace;
mod walk;
mod watch;

pub use ahead::Ahead;
pub use cause::Cause;
pub use command::{
    Command, InvalidCommand, Output, Program, Sealed, Stdin, Terminal, WorkingDirectory,
};
pub use confinement::{Confinement, MadeBy, RanAs};
pub use denial::SandboxDenial;
pub use doctor::{Finding, Standing, Trial, diagnose};
pub use door::{DoorSockets, Doorway};
pub use error::{SandboxError, Wall};
pub use glob::{DeniedPattern, InvalidPattern};
pub use image::sealed as sealed_in_memory;
pub use landlock::OLDEST_LANDLOCK_ABI;
pub use limits::LimitReached;
pub use plan::{Plan, PlanError, Walls};
pub use policy::{
    Access, InvalidPolicy, Limits, Network, PROTECTED_NAMES, PolicyBuilder, PrivateTmp, Reads,
    Reason, Rule, Ruling, SandboxPolicy,
};
pub use probe::{Container, ControlGroups, Probe, WindowsSubsystem, probe};
pub use seatbelt::{InvalidSeatbelt, seatbelt_profile};
pub use seccomp::{Filter, FilterError, Observing};
pub use start::{Ending, Run, Running, Sandbox, Signaller, Usage, settle};
