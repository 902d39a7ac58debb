//! The promises of Auto-review, one module each, held against the real programs.
//!
//! Every test starts programs, sockets, kernels and files as a user's machine has them, and looks at what came of it
//! from outside. The harness says what a machine lacks; nothing is skipped in silence.
#![forbid(unsafe_code)]
#![cfg(test)]

mod a_whole_home;
mod asked_again;
mod attacks;
mod bad_input;
mod bad_walls;
mod before_and_after;
mod carried;
mod demo;
mod evidence;
mod fails_closed;
mod firewall;
mod limits;
mod network;
mod nothing_left_behind;
mod one_escalation;
mod profiles;
mod queue;
mod quiet_git;
mod real_tools;
mod records;
mod reduced;
mod rules;
mod session_tmp;
mod shared_mounts;
mod standing_leave;
mod telemetry;
mod transparency;
mod twenty_runners;
