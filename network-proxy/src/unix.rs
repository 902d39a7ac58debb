//! Unix sockets that may be reached through the door: [`AllowedSockets`].
//!
//! Apart because a path is resolved when the settings are read, not when somebody asks.
//! INVARIANT: a request opens the path that the rule meant when it was read, following no symbolic link; a listed path that
//! has become a link opens nothing.

use std::collections::HashMap;
use std::os::fd::AsRawFd as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use tokio::net::UnixStream;

/// What is wrong with a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSocket {
    /// Not absolute, or with `.` or `..` in it.
    #[error("a socket's path is absolute and plain")]
    NotPlain,
}

/// The sockets of a policy.
#[derive(Debug, Clone, Default)]
pub(crate) struct AllowedSockets {
    scope: Scope,
    allowed: HashMap<PathBuf, PathBuf>,
    denied: Vec<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Scope {
    #[default]
    Listed,
    All,
}

impl AllowedSockets {
    /// Every socket that no rule denies.
    pub(crate) fn all() -> Self {
        Self {
            scope: Scope::All,
            ..Self::default()
        }
    }

    /// Whether none is in reach.
    pub(crate) fn is_empty(&self) -> bool {
        self.scope == Scope::Listed && self.allowed.is_empty()
    }

    /// Adds a path; its folders are resolved now.
    pub(crate) fn allow(&mut self, path: &str) -> Result<(), InvalidSocket> {
        let path = plain(path)?;
        let resolved = resolve(&path);
        drop(self.allowed.insert(path, resolved));
        Ok(())
    }

    /// Takes a path out, under any spelling that leads there now.
    pub(crate) fn deny(&mut self, path: &str) -> Result<(), InvalidSocket> {
        let path = plain(path)?;
        self.denied.push(resolve(&path));
        self.denied.push(path);
        Ok(())
    }

    /// The path to open for a request, where one is allowed.
    pub(crate) fn find(&self, path: &str) -> Option<PathBuf> {
        let path = plain(path).ok()?;
        let resolved = match (self.allowed.get(&path), self.scope) {
            (Some(resolved), _) => resolved.clone(),
            (None, Scope::All) => resolve(&path),
            (None, Scope::Listed) => return None,
        };
        let denied = self.denied.contains(&path) || self.denied.contains(&resolved);
        (!denied).then_some(resolved)
    }
}

/// Connects to a socket, following no symbolic link on the way.
///
/// # Errors
/// Where a part of the path is a link, or nobody listens.
pub(crate) async fn connect(path: &Path) -> std::io::Result<UnixStream> {
    let held = openat2(
        CWD,
        path,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
    )?;
    UnixStream::connect(format!("/proc/self/fd/{}", held.as_raw_fd())).await
}

fn plain(path: &str) -> Result<PathBuf, InvalidSocket> {
    let parts = Path::new(path).components();
    let plain = path.starts_with('/')
        && !path.contains('\0')
        && parts
            .skip(1)
            .all(|part| matches!(part, Component::Normal(_)))
        && !path.split('/').any(|part| part == "." || part == "..");
    if plain {
        Ok(PathBuf::from(path))
    } else {
        Err(InvalidSocket::NotPlain)
    }
}

/// Resolves the folders; the last part stays as it is, so that a link in its place is seen.
fn resolve(path: &Path) -> PathBuf {
    let resolved = path
        .parent()
        .zip(path.file_name())
        .and_then(|(folder, name)| folder.canonicalize().ok().map(|folder| folder.join(name)));
    resolved.unwrap_or_else(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_plain_paths_are_found() {
        let mut sockets = AllowedSockets::default();
        sockets.allow("/nonexistent/app.sock").expect("a path");
        assert_eq!(
            sockets.find("/nonexistent/app.sock"),
            Some(PathBuf::from("/nonexistent/app.sock"))
        );
        for path in [
            "/nonexistent/other.sock",
            "nonexistent/app.sock",
            "/nonexistent/./app.sock",
            "/x/../nonexistent/app.sock",
            "",
        ] {
            assert_eq!(sockets.find(path), None, "{path}");
        }
        assert_eq!(sockets.allow("app.sock"), Err(InvalidSocket::NotPlain));
    }

    #[test]
    fn a_denied_socket_stays_closed_where_all_are_open() {
        let mut sockets = AllowedSockets::all();
        sockets.deny("/nonexistent/docker.sock").expect("a path");
        assert_eq!(sockets.find("/nonexistent/docker.sock"), None);
        assert!(sockets.find("/nonexistent/other.sock").is_some());
        assert!(!sockets.is_empty());
    }
}
