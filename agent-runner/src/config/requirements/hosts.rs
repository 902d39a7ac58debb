//! `[[remote_sandbox_config]]`: which modes are allowed on which hosts.
//!
//! Apart, because it asks the machine for its name. Invariant: the first entry that names this host holds, in the place of
//! the file's own list.

use serde::Deserialize;

use super::AllowedMode;
use crate::config::shell_environment::Pattern;

/// One entry.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ByHost {
    /// Names with `*` and `?`; case does not count.
    hostname_patterns: Vec<String>,
    allowed_sandbox_modes: Vec<AllowedMode>,
}

/// The modes that `entries` allow on the host `name`, where one names it.
///
/// # Errors
/// A pattern is none.
pub(super) fn modes<'e>(
    entries: &'e [ByHost],
    name: &str,
) -> Result<Option<&'e [AllowedMode]>, String> {
    for entry in entries {
        for pattern in &entry.hostname_patterns {
            if Pattern::parse(pattern)?.matches(name) {
                return Ok(Some(&entry.allowed_sandbox_modes));
            }
        }
    }
    Ok(None)
}

/// This host's name (uname(2)).
pub(super) fn name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}
