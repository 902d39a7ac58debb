//! Patterns of paths that may not be read: [`DeniedPattern`].
//!
//! Pure, and apart from the walk that expands them because the runner's own file writes are held against the same
//! patterns. `*` and `?` stop at a `/`; a leading `**/` matches at every depth, the base itself included.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

use crate::policy::InvalidPolicy;

mod pattern;

pub use pattern::InvalidPattern;
use pattern::Pattern;

/// A pattern of paths beneath a folder. Nothing that matches may be read, nor anything beneath it.
#[derive(Debug, Clone)]
pub struct DeniedPattern {
    base: PathBuf,
    text: String,
    pattern: Pattern,
}

impl DeniedPattern {
    /// Reads `text`, which holds beneath `base`. The part of it before the first special character moves the base down.
    pub(crate) fn parse(base: &Path, text: &str) -> Result<Self, InvalidPolicy> {
        if !base.is_absolute() {
            return Err(InvalidPolicy::Relative(base.to_path_buf()));
        }
        let refused = |source| InvalidPolicy::Pattern {
            pattern: text.to_owned(),
            source,
        };
        let relative = text.trim_start_matches("./").trim_start_matches('/');
        let pattern = Pattern::parse(relative).map_err(refused)?;
        // Missing today, it may be there tomorrow: then it is taken as it is written.
        let base = base.canonicalize().unwrap_or_else(|_| base.to_path_buf());
        Ok(Self {
            base,
            text: text.to_owned(),
            pattern,
        })
    }

    /// Where it holds.
    #[must_use]
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether `path`, absolute and resolved, is one that it names.
    #[must_use]
    pub fn matches(&self, path: &Path) -> bool {
        let below = path.strip_prefix(&self.base);
        below.is_ok_and(|below| self.pattern.matches(below.as_os_str().as_bytes()))
    }
}

impl PartialEq for DeniedPattern {
    fn eq(&self, other: &Self) -> bool {
        self.base == other.base && self.text == other.text
    }
}

impl Eq for DeniedPattern {}

impl Serialize for DeniedPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.base.join(&self.text).display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        let pattern = DeniedPattern::parse(Path::new("/nonexistent/w"), pattern).unwrap();
        pattern.matches(Path::new(path))
    }

    #[test]
    fn a_star_stops_at_a_folder_and_two_do_not() {
        assert!(matches("**/*.env", "/nonexistent/w/a/b/.env"));
        assert!(matches("**/*.env", "/nonexistent/w/x.env"));
        assert!(matches("*.pem", "/nonexistent/w/x.pem"));
        assert!(!matches("*.pem", "/nonexistent/w/a/x.pem"));
        assert!(matches("./keys/**", "/nonexistent/w/keys/a/b"));
        assert!(!matches("**/*.env", "/nonexistent/elsewhere/x.env"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        let refused = DeniedPattern::parse(Path::new("/w"), "a[");
        assert!(matches!(refused, Err(InvalidPolicy::Pattern { .. })));
        let relative = DeniedPattern::parse(Path::new("w"), "*");
        assert!(matches!(relative, Err(InvalidPolicy::Relative(_))));
    }
}
