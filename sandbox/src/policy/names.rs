//! Names that only a person may write, because what they hold decides what runs later, without anybody being asked.
//!
//! Pure lists and the question whether a path leads through one. `.git` is protected wherever it lies in a writable tree;
//! the other names where editors, agents and shells look for them: at the top of a writable root.

use std::path::{Path, PathBuf};

/// Names at the top of every writable root, whether they exist yet or not.
///
/// `.git` holds hooks and the programs that git starts; `.agents`, `.codex`, `.claude`, `.cursor`, `.gemini` and
/// `.mcp.json` tell agents what to do and which servers to start; `.vscode` and `.idea` hold tasks that an editor runs;
/// `.envrc` is run by a shell that enters the folder, `.pre-commit-config.yaml` by the next commit, and `.gitmodules`
/// says from where code is fetched.
pub const PROTECTED_NAMES: [&str; 12] = [
    ".git",
    ".agents",
    ".codex",
    ".claude",
    ".cursor",
    ".envrc",
    ".gemini",
    ".gitmodules",
    ".idea",
    ".mcp.json",
    ".pre-commit-config.yaml",
    ".vscode",
];

/// The name that is protected at every depth.
pub(crate) const REPOSITORY: &str = ".git";

/// The protected path that `path`, in the writable tree `root`, is or lies in.
pub(crate) fn protected_in(root: &Path, path: &Path) -> Option<PathBuf> {
    let below = path.strip_prefix(root).ok()?;
    let mut here = root.to_path_buf();
    for (at, name) in below.iter().enumerate() {
        here.push(name);
        let at_the_top = at == 0 && PROTECTED_NAMES.iter().any(|known| name == *known);
        if at_the_top || name == REPOSITORY {
            return Some(here);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_protected_at_every_depth_and_the_others_at_the_top() {
        let root = Path::new("/w");
        let of = |path: &str| protected_in(root, Path::new(path));
        assert_eq!(of("/w/.git/hooks/x"), Some("/w/.git".into()));
        assert_eq!(of("/w/a/b/.git/config"), Some("/w/a/b/.git".into()));
        assert_eq!(of("/w/.vscode/tasks.json"), Some("/w/.vscode".into()));
        assert_eq!(of("/w/a/.vscode/tasks.json"), None);
        assert_eq!(of("/w/.gitignore"), None);
        assert_eq!(of("/elsewhere/.git"), None);
    }
}
