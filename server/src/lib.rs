//! The record: the review service, its store and its command line.
//!
//! One library for two uses: the program `auto-review-server` on a TCP port, and inside `agent-runner`, which calls the
//! same router in its own process (design D18). The rules that everything leans on: no approval leaves before its record
//! is durable (P4); five ends stay five facts (P5); whatever fails, the action does not run (P2).
#![forbid(unsafe_code)]

mod admission;
mod api;
mod auth;
mod backtest;
mod cli;
mod config;
mod conversations;
mod desk;
mod error;
mod eval;
mod flight;
mod history;
mod intake;
mod key;
mod model_health;
mod openapi;
mod owner;
mod policies;
mod policy_life;
mod private_files;
mod resource;
mod role;
mod router;
mod said;
mod serve;
mod service;
mod show_prompt;
mod store;
mod stream;
mod telemetry;
#[cfg(test)]
mod test_folder;
mod verdict;
mod webhook;

pub use auth::AuthError;
pub use cli::run;
pub use key::{KeyError, SigningKey};
pub use owner::LockError;
pub use private_files::NotPrivate;
pub use service::{Limits, OpenError, Service, ServiceSettings, TokenError};
pub use store::sqlite::OpenStoreError;
