//! The service from outside: through its router in this process, over real sockets, and as real processes that die.

mod api;
mod harness;
mod lifecycle;
mod store_failures;
mod tcp;
