//! The HTTP API: one handler a verb, and what they share.

pub(crate) mod body;
pub(crate) mod health;
mod parameters;
pub(crate) mod reviews;

pub(crate) use health::Readiness;
