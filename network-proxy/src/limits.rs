//! Every bound of the door, in one place.
//!
//! Apart because a bound that stands alone is found, changed and tested. Each is for one execution.

use std::time::Duration;

/// The bounds of one execution's door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections in all; one more is closed at once.
    pub connections: usize,
    /// Tunnels; one more is refused with 503. Fewer than `connections`, so that decisions are still made.
    pub tunnels: usize,
    /// Questions that wait for their answer.
    pub pending: usize,
    /// From the accepted connection, or the first byte of a request, to the whole head.
    pub head: Duration,
    /// How long a kept-alive connection waits for its next request.
    pub keep_alive: Duration,
    /// For one lookup.
    pub lookup: Duration,
    /// For one address.
    pub dial_one: Duration,
    /// For all addresses of a destination.
    pub dial_all: Duration,
    /// Between two addresses that are tried beside each other (RFC 8305 §5).
    pub stagger: Duration,
    /// How many addresses of a destination are tried.
    pub dial_attempts: usize,
    /// From a request's end to the head of its answer.
    pub answer: Duration,
    /// How long a tunnel may be silent in both directions; none: for ever.
    pub idle_tunnel: Option<Duration>,
    /// Names that the transparent path hands out.
    pub names: usize,
    /// Queries for names that are answered, in all.
    pub queries: u32,
    /// How many of them may come at once.
    pub query_burst: u32,
    /// How many a second when they go on.
    pub queries_per_sec: u32,
    /// Different names that are looked up outside, in all: a name under an allowed domain carries bytes to whoever answers
    /// for it.
    pub looked_up: usize,
    /// Destinations of one UDP association.
    pub udp_destinations: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1040,
            tunnels: 512,
            pending: 16,
            head: Duration::from_secs(10),
            keep_alive: Duration::from_secs(60),
            lookup: Duration::from_secs(2),
            dial_one: Duration::from_secs(10),
            dial_all: Duration::from_secs(30),
            stagger: Duration::from_millis(250),
            dial_attempts: 8,
            answer: Duration::from_mins(5),
            idle_tunnel: None,
            names: 4096,
            queries: 65_536,
            query_burst: 1024,
            queries_per_sec: 256,
            looked_up: 4096,
            udp_destinations: 64,
        }
    }
}
