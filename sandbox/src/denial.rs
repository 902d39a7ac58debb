//! What a refusal at a wall looked like: [`SandboxDenial`].
//!
//! Only what is known goes into one, never a guess from what a program wrote: the call was seen, its path or address read,
//! and the plan that stood refuses it.

use std::path::PathBuf;

use serde::Serialize;

use crate::policy::Reason;

/// Different refusals that are listed for one command; more are only counted.
pub(crate) const MOST_LISTED: usize = 64;

/// A refusal that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "refused", rename_all = "snake_case")]
#[non_exhaustive]
pub enum SandboxDenial {
    /// Making, changing, renaming or removing something, by the mounts or Landlock.
    Write {
        /// The system call.
        call: String,
        /// The path, absolute and without links as far as it exists.
        path: PathBuf,
        /// The rule it was refused by.
        by: Reason,
    },
    /// Opening something to read it, by the mounts or Landlock.
    Read {
        /// The path, absolute and without links as far as it exists.
        path: PathBuf,
        /// The rule it was refused by.
        by: Reason,
    },
    /// Reaching for another program or host, which the command's own network does not lead to.
    Connect {
        /// Address and port, or a socket's path.
        address: String,
    },
    /// A kind of socket that does not exist inside, by the filters.
    Socket {
        /// The address family, by name or number.
        family: String,
    },
    /// Another system call, by the filters.
    SystemCall {
        /// Its name.
        name: String,
    },
}

/// What was refused while a command ran.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Denials {
    pub(crate) listed: Vec<SandboxDenial>,
    /// How many more refusals there were that differ from all listed ones.
    pub(crate) unlisted: u64,
}

impl Denials {
    /// Takes note of `denial`, once.
    pub(crate) fn note(&mut self, denial: SandboxDenial) {
        if self.listed.contains(&denial) {
        } else if self.listed.len() < MOST_LISTED {
            self.listed.push(denial);
        } else {
            self.unlisted = self.unlisted.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_a_thousand_times_is_listed_once_and_what_is_too_much_is_counted() {
        let mut denials = Denials::default();
        for number in 0..1000 {
            for _ in 0..2 {
                denials.note(SandboxDenial::SystemCall {
                    name: format!("call {}", number % 70),
                });
            }
        }
        assert_eq!(denials.listed.len(), MOST_LISTED);
        assert!(denials.unlisted > 0);
    }
}
