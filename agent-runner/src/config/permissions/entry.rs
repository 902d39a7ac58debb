//! One entry of a profile's file system: what it is about, and which access it gives.
//!
//! Parsing only. What a target means on one machine is [`super::grants`]'s to say.

use std::path::{Component, Path, PathBuf};

/// What a command may do with a path. The order is the order of strength at one path: `deny` beats `write`, which beats
/// `read`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Access {
    /// Read.
    Read,
    /// Read and write.
    Write,
    /// Neither.
    Deny,
}

/// What an entry is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    /// `:root`: the whole disk.
    Root,
    /// `:minimal`: what any program needs to start.
    Minimal,
    /// `:tmpdir`.
    Tmpdir,
    /// `:slash_tmp`.
    SlashTmp,
    /// A path below every workspace root; empty for the root itself.
    Roots(PathBuf),
    /// An absolute path, or one that begins with `~`.
    Fixed(PathBuf),
    /// A pattern below every workspace root.
    RootsGlob(String),
    /// A pattern below an absolute path, or below one that begins with `~`.
    FixedGlob {
        /// The path.
        base: PathBuf,
        /// The pattern, relative to it.
        pattern: String,
    },
}

/// What a key of the file system table names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// A target, or the folder that a nested table is about.
    Target(Target),
    /// A `:token` that means nothing to this version.
    UnknownToken,
}

impl Access {
    /// The access that `text` names.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "read" => Some(Self::Read),
            "write" => Some(Self::Write),
            "deny" | "none" => Some(Self::Deny),
            _ => None,
        }
    }
}

impl Target {
    /// Whether a nested table below it may name more than `"."`.
    pub(super) fn takes_subpaths(&self) -> bool {
        match self {
            Self::Roots(_) | Self::Fixed(_) => true,
            Self::Root | Self::Minimal | Self::Tmpdir | Self::SlashTmp => false,
            Self::RootsGlob(_) | Self::FixedGlob { .. } => false,
        }
    }

    /// The pattern, where it is one.
    pub(super) fn pattern(&self) -> Option<&str> {
        match self {
            Self::RootsGlob(pattern) | Self::FixedGlob { pattern, .. } => Some(pattern),
            Self::Root | Self::Minimal | Self::Tmpdir | Self::SlashTmp => None,
            Self::Roots(_) | Self::Fixed(_) => None,
        }
    }

    /// What `subpath` below this one is.
    pub(super) fn below(&self, subpath: &str) -> Result<Self, String> {
        let (path, pattern) = split(subpath)?;
        match (self, pattern) {
            (Self::Roots(base), None) => Ok(Self::Roots(joined(base, &path))),
            (Self::Fixed(base), None) => Ok(Self::Fixed(joined(base, &path))),
            (Self::Roots(base), Some(pattern)) => {
                let below = joined(base, &path);
                let pattern = below.join(pattern).to_string_lossy().into_owned();
                Ok(Self::RootsGlob(pattern))
            }
            (Self::Fixed(base), Some(pattern)) => Ok(Self::FixedGlob {
                base: joined(base, &path),
                pattern,
            }),
            (other, _) => Ok(other.clone()),
        }
    }
}

impl Key {
    /// What a key directly in the file system table names.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let target = match text {
            ":root" => Target::Root,
            ":minimal" => Target::Minimal,
            ":tmpdir" => Target::Tmpdir,
            ":slash_tmp" => Target::SlashTmp,
            ":workspace_roots" | ":project_roots" => Target::Roots(PathBuf::new()),
            _ if text.starts_with(':') => return Ok(Self::UnknownToken),
            "/" => Target::Root,
            "~" => Target::Fixed(PathBuf::from("~")),
            _ => match (text.strip_prefix("~/"), text.strip_prefix('/')) {
                (Some(below), _) => Target::Fixed(PathBuf::from("~")).below(below)?,
                (None, Some(below)) => Target::Fixed(PathBuf::from("/")).below(below)?,
                (None, None) => {
                    return Err(format!(
                        "`{text}` is relative\nhint: name an absolute path, one that begins with `~/`, or put it below `:workspace_roots`"
                    ));
                }
            },
        };
        let names_tmp = target == Target::Fixed(PathBuf::from("/tmp"));
        Ok(Self::Target(if names_tmp {
            Target::SlashTmp
        } else {
            target
        }))
    }
}

/// `base` and `below` without a slash at the end.
fn joined(base: &Path, below: &Path) -> PathBuf {
    base.components().chain(below.components()).collect()
}

/// The plain path that `text` begins with, and the pattern behind it. `/**` at the end is the whole subtree, which a path
/// is anyway.
fn split(text: &str) -> Result<(PathBuf, Option<String>), String> {
    if text == "." || text == "**" {
        return Ok((PathBuf::new(), None));
    }
    if text.is_empty() {
        return Err("the path is empty".to_owned());
    }
    if text.contains('\0') {
        return Err("a path holds no NUL".to_owned());
    }
    let trimmed = text.strip_suffix("/**").unwrap_or(text);
    let mut path = PathBuf::new();
    let mut rest = trimmed;
    loop {
        let (part, after) = rest
            .split_once('/')
            .map_or((rest, None), |(part, after)| (part, Some(after)));
        let mut components = Path::new(part).components();
        match (components.next(), components.next()) {
            (Some(Component::Normal(_)), None) => {}
            _ if part == "." || part == ".." => {
                return Err(format!(
                    "`{text}` has `{part}` in it\nhint: name the path as it is"
                ));
            }
            // A slash at the end says nothing more.
            _ if after.is_none() && !path.as_os_str().is_empty() => return Ok((path, None)),
            _ => return Err(format!("`{text}` is not a path below another")),
        }
        if part.contains(['*', '?', '[', '{']) {
            if rest.split('/').any(|part| part == "." || part == "..") {
                return Err(format!(
                    "`{text}` has `.` or `..` in it\nhint: name the path as it is"
                ));
            }
            return Ok((path, Some(rest.to_owned())));
        }
        path.push(part);
        match after {
            Some(after) => rest = after,
            None => return Ok((path, None)),
        }
    }
}
