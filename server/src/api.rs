//! The HTTP API: one handler a verb, and what they share.

pub(crate) mod audit;
pub(crate) mod body;
pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod network;
mod parameters;
pub(crate) mod people;
pub(crate) mod policies;
pub(crate) mod reviews;
mod search_query;
pub(crate) mod sessions;
pub(crate) mod tokens;
pub(crate) mod webhooks;
mod who;

pub(crate) use health::Readiness;
pub(crate) use tokens::is_name;
