//! What admins look at: the index over the record, and what is read by it.
//!
//! Apart from the reviews' own way, which never waits for it. Invariants: everything here follows from the events, so
//! that it can be made anew; what is shown of a review is read from the record, never from the index.

mod beside;
mod copy;
mod count;
mod detail;
mod find;
mod follow;
mod index;
mod lines;
mod network;
mod packed;
mod ran;
mod verify;

pub(crate) use beside::{Came, LeftOut, ShadowLine, VoteLine};
pub(crate) use count::What;
pub(crate) use detail::{Detail, TimelineEvent, is_seen};
pub(crate) use find::Stretch;
pub(crate) use follow::{Followed, More};
pub(crate) use lines::{Exported, Lines};
pub(crate) use network::{NetworkSearch, Told};
pub(crate) use verify::Verified;
