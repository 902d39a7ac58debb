//! Where a patch reaches, and what becomes of it: the decision for file changes. Pure but for looking paths up.
//!
//! Invariant: a path is inside only where its folder, every link in it resolved, lies beneath a writable root and no
//! protected name stands on the way.

use std::path::{Component, Path, PathBuf};

use protocol::TriggerKind;
use sandbox::PROTECTED_NAMES;

use crate::config::{ApprovalPolicy, ApprovalsReviewer, SandboxMode, Settings};
use crate::route::{Category, Question, Refusal, may_ask};

/// What becomes of a patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PatchRoute {
    /// It is made inside the walls.
    Inside,
    /// It is made without walls, by full access.
    FullAccess,
    /// It is asked about.
    Ask(Question),
    /// It is not made.
    Refused(Refusal),
}

impl PatchRoute {
    /// The way's name, for programs.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Inside => "inside",
            Self::FullAccess => "full_access",
            Self::Ask(_) => "ask",
            Self::Refused(_) => "refused",
        }
    }
}

/// Whether all that a patch touches lies where commands may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// It does.
    Inside,
    /// Something does not.
    Outside,
}

/// `path` of a patch as an absolute path: the folder that exists is resolved, every link in it followed; what does not
/// exist yet is taken as written, without `..`. `None`: it leads nowhere.
pub(super) fn resolve(cwd: &Path, path: &str) -> Option<PathBuf> {
    let joined = cwd.join(path);
    let name = joined.file_name()?.to_owned();
    let mut missing = Vec::new();
    let mut folder = joined.parent()?.to_owned();
    let resolved = loop {
        match folder.canonicalize() {
            Ok(resolved) => break resolved,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                // A folder that is not there yet; `..` in one is a trick.
                let Some(Component::Normal(last)) = folder.components().next_back() else {
                    return None;
                };
                missing.push(last.to_owned());
                folder = folder.parent()?.to_owned();
            }
            Err(_) => return None,
        }
    };
    let folder = missing
        .into_iter()
        .rev()
        .fold(resolved, |path, name| path.join(name));
    Some(folder.join(name))
}

/// Whether `path`, resolved, lies where commands may write.
pub(super) fn reach(path: &Path, roots: &[PathBuf]) -> Reach {
    let inside = roots.iter().any(|root| {
        path.strip_prefix(root).is_ok_and(|below| {
            below.components().next().is_some()
                && !below.components().any(|part| {
                    let name = part.as_os_str();
                    PROTECTED_NAMES.iter().any(|protected| name == *protected)
                })
        })
    });
    if inside {
        Reach::Inside
    } else {
        Reach::Outside
    }
}

/// The table of file changes (the page's, and design D28 for `untrusted`).
pub(super) fn decide(settings: &Settings, reach: Reach) -> PatchRoute {
    match (settings.sandbox, reach) {
        (SandboxMode::DangerFullAccess, _) => return PatchRoute::FullAccess,
        (SandboxMode::WorkspaceWrite, Reach::Inside) => return PatchRoute::Inside,
        (SandboxMode::WorkspaceWrite, Reach::Outside) | (SandboxMode::ReadOnly, _) => {}
    }
    if let Err(refusal) = may_ask(settings.approval, Category::Sandbox) {
        return PatchRoute::Refused(refusal);
    }
    let of = match settings.approval {
        ApprovalPolicy::Untrusted => ApprovalsReviewer::User,
        ApprovalPolicy::Never
        | ApprovalPolicy::Granular(_)
        | ApprovalPolicy::OnRequest
        | ApprovalPolicy::OnFailure => settings.asks(TriggerKind::EscalationRequested),
    };
    PatchRoute::Ask(Question {
        of,
        trigger: TriggerKind::EscalationRequested,
    })
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{Reach, reach, resolve};

    #[test]
    fn only_what_lies_beneath_a_root_and_no_protected_name_is_inside() {
        let roots = [PathBuf::from("/w/app")];
        for inside in [
            "/w/app/a",
            "/w/app/src/b.rs",
            "/w/app/.github/x",
            "/w/app/git",
        ] {
            assert_eq!(reach(Path::new(inside), &roots), Reach::Inside, "{inside}");
        }
        for outside in [
            "/w/app",
            "/w/apple/a",
            "/w/b",
            "/",
            "/w/app/.git/config",
            "/w/app/.git",
            "/w/app/.codex/config.toml",
            "/w/app/.agents/x",
            "/w/app/sub/.git/hooks/x",
        ] {
            assert_eq!(
                reach(Path::new(outside), &roots),
                Reach::Outside,
                "{outside}"
            );
        }
    }

    #[test]
    fn links_and_dots_are_seen_through() {
        let folder =
            std::env::temp_dir().join(format!("auto-review-patch-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(folder.join("app/src")).expect("a folder");
        let folder = folder.canonicalize().expect("a folder");
        std::os::unix::fs::symlink("/etc", folder.join("app/link")).expect("a link");
        let app = folder.join("app");
        assert_eq!(resolve(&app, "src/a"), Some(app.join("src/a")));
        assert_eq!(
            resolve(&app, "link/passwd"),
            Some(PathBuf::from("/etc/passwd"))
        );
        assert_eq!(resolve(&app, "src/../../x"), Some(folder.join("x")));
        assert_eq!(resolve(&app, "new/deep/a"), Some(app.join("new/deep/a")));
        assert_eq!(resolve(&app, "new/../../x"), None);
        assert_eq!(resolve(&app, ".."), None);
        std::fs::remove_dir_all(folder).expect("removed");
    }
}
