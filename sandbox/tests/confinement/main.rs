//! The walls on the real kernel, probed from inside. One binary; modules by what is promised.
//!
//! Runs as root and as an ordinary user. A host without a wall fails here, since every wall is required (P7).

#[cfg(test)]
mod ahead;
#[cfg(test)]
mod attempts;
#[cfg(test)]
mod denials;
#[cfg(test)]
mod door;
#[cfg(test)]
mod escalated;
#[cfg(test)]
mod files;
#[cfg(test)]
mod guards;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod lifetime;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod names;
#[cfg(test)]
mod network;
#[cfg(test)]
mod permits;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod surface;
