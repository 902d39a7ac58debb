//! The service from outside: through its router in this process, over real sockets, and as real processes that die.

#[cfg(test)]
mod admission;
#[cfg(test)]
mod api;
#[cfg(test)]
mod canary;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod databases;
#[cfg(test)]
mod events;
#[cfg(test)]
mod failing_disk;
#[cfg(test)]
mod forgetting;
#[cfg(test)]
mod gzip;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod history;
#[cfg(test)]
mod host_scope;
#[cfg(test)]
mod keeping;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod network;
#[cfg(test)]
mod openapi;
#[cfg(test)]
mod people;
#[cfg(test)]
mod policy;
#[cfg(test)]
mod policy_life;
#[cfg(test)]
mod roles;
#[cfg(test)]
mod shapes;
#[cfg(test)]
mod store_failures;
#[cfg(test)]
mod tcp;
#[cfg(test)]
mod telemetry;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod turns;
#[cfg(test)]
mod webhooks;
