//! The rules' reading: what a command is, without running it and without guessing (design D5).
//!
//! Pure: no I/O, no clock, no environment. The one reading serves the approval policy, command rules, the built-in
//! reviewer and evidence. The rule that everything leans on: what is not certainly read is never called safe.
#![forbid(unsafe_code)]

mod command;
mod effect;
mod location;
mod options;
mod proposal;
mod reading;
mod rule;
mod ruleset;
mod safe;
mod shell;
mod steering;
mod word;
mod wrapper;
mod written;

pub use command::{Class, Command, Role};
pub use effect::{Effect, Extent};
pub use location::{Location, Rest, Surroundings};
pub use options::Options;
pub use proposal::{HostProposal, Proposal};
pub use reading::Reading;
pub use rule::{
    HostExecutable, InvalidRule, LetterCase, NetworkRule, Origin, PrefixRule, RawPrefixRule,
    RuleProtocol, Verdict,
};
pub use ruleset::{Coverage, Hit, HitCertainty, RuleSet, Ruling};
pub use shell::{
    MAX_COMMANDS, MAX_DEPTH, MAX_SCRIPT_BYTES, Redirect, Script, Shape, SimpleCommand, Unread,
    read_script,
};
pub use steering::steers;
pub use word::{Piece, Word};
pub use written::{
    MAX_RULES_BYTES, Place, RulesError, WrittenExecutable, WrittenHost, WrittenPrefix, WrittenRules,
};
