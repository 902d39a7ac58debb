//! Whether the user trusts a folder, by their own file: exact keys, no inheritance from folders above.
//!
//! Apart, because three things hang on it: the walls' default, whether a project's settings are read, and `status`.
//! Invariant: nothing that a repository holds makes it trusted.

use std::path::{Path, PathBuf};

use toml::Table;

use super::error::ConfigError;

const TRUSTED: &str = "trusted";
const UNTRUSTED: &str = "untrusted";

/// What the user's file says of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Nothing.
    Unknown,
    /// The user trusts the folder that is named.
    Trusted(PathBuf),
    /// The user does not.
    Untrusted(PathBuf),
}

impl Trust {
    /// The name, for people and programs.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Trusted(_) => "trusted",
            Self::Untrusted(_) => "untrusted",
        }
    }

    /// The trusted folder whose project settings are read.
    pub(crate) fn root(&self) -> Option<&Path> {
        match self {
            Self::Trusted(root) => Some(root),
            Self::Unknown | Self::Untrusted(_) => None,
        }
    }
}

/// The root of the project around `cwd`: the nearest folder with a marker, by default `.git`.
pub(crate) fn project_root(user: &Table, cwd: &Path) -> Option<PathBuf> {
    let markers: Vec<String> = user
        .get("project_root_markers")
        .and_then(|value| value.clone().try_into().ok())
        .unwrap_or_else(|| vec![".git".to_owned()]);
    let marked = |folder: &&Path| {
        markers
            .iter()
            .any(|marker| folder.join(marker).symlink_metadata().is_ok())
    };
    cwd.ancestors().find(marked).map(Path::to_owned)
}

/// What `user`, the user's own file, says of `cwd`: of itself, else of its project's root, else of the repository that a
/// linked worktree belongs to.
pub(super) fn trust(user: &Table, file: &str, cwd: &Path) -> Result<Trust, ConfigError> {
    check_levels(user, file)?;
    let root = project_root(user, cwd);
    let main = root.as_deref().and_then(main_repository);
    let folders = [Some(cwd.to_owned()), root.clone(), main];
    for folder in folders.into_iter().flatten() {
        let level = folder.to_str().and_then(|key| {
            user.get("projects")?
                .as_table()?
                .get(key)?
                .as_table()?
                .get("trust_level")
        });
        let Some(level) = level else { continue };
        // What is trusted is where the command runs, not the repository that the leave was found at.
        let here = root.as_deref().unwrap_or(cwd).to_owned();
        return Ok(match level.as_str() {
            Some(TRUSTED) => Trust::Trusted(here),
            Some(_) | None => Trust::Untrusted(here),
        });
    }
    Ok(Trust::Unknown)
}

/// Every folder's level is one of the two, also where it is not asked about now.
fn check_levels(user: &Table, file: &str) -> Result<(), ConfigError> {
    let folders = user.get("projects").and_then(toml::Value::as_table);
    for (folder, said) in folders.into_iter().flatten() {
        let Some(level) = said.as_table().and_then(|said| said.get("trust_level")) else {
            continue;
        };
        if !matches!(level.as_str(), Some(TRUSTED | UNTRUSTED)) {
            return Err(ConfigError::Value {
                file: file.to_owned(),
                key: "projects.*.trust_level",
                reason: format!("{level} for `{folder}` is neither `trusted` nor `untrusted`"),
            });
        }
    }
    Ok(())
}

/// The main repository of the linked worktree at `root`, where that repository knows it too: a `.git` file alone could
/// point at anybody's (gitrepository-layout(5)).
fn main_repository(root: &Path) -> Option<PathBuf> {
    let pointer = root.join(".git");
    let text = small_text(&pointer)?;
    let linked = PathBuf::from(text.trim().strip_prefix("gitdir:")?.trim());
    let linked = linked.canonicalize().ok()?;
    let back = PathBuf::from(small_text(&linked.join("gitdir"))?.trim().to_owned());
    if back.canonicalize().ok()? != pointer.canonicalize().ok()? {
        return None;
    }
    let repository = linked.parent()?.parent()?;
    (linked.parent()?.file_name()? == "worktrees" && repository.file_name()? == ".git")
        .then(|| repository.parent().map(Path::to_owned))
        .flatten()
}

fn small_text(path: &Path) -> Option<String> {
    let found = path.symlink_metadata().ok()?;
    (found.is_file() && found.len() <= 4096)
        .then(|| std::fs::read_to_string(path).ok())
        .flatten()
}

/// Writes `level` for `folder` into the text of the user's file.
///
/// # Errors
/// The text is not TOML afterwards, or names the folder in a form that is not changed by hand of a program.
pub(crate) fn with_trust(text: &str, folder: &str, level: &str) -> Result<String, String> {
    let key = toml::Value::String(folder.to_owned()).to_string();
    let header = format!("[projects.{key}]");
    let known = text
        .parse::<Table>()
        .map_err(|error| error.message().to_owned())?
        .get("projects")
        .and_then(|projects| projects.get(folder))
        .is_some();
    let line = format!("trust_level = \"{level}\"");
    let changed = if known {
        replace_level(text, &header, &line).ok_or_else(|| {
            format!("it names `{folder}` in another form than `{header}`; change it by hand")
        })?
    } else {
        let gap = if text.is_empty() || text.ends_with('\n') {
            ""
        } else {
            "\n"
        };
        format!("{text}{gap}\n{header}\n{line}\n")
    };
    let found = changed.parse::<Table>().ok().and_then(|table| {
        let projects = table.get("projects")?.get(folder)?;
        projects.get("trust_level")?.as_str().map(str::to_owned)
    });
    if found.as_deref() == Some(level) {
        Ok(changed)
    } else {
        Err(format!("`{header}` cannot be added to it; add it by hand"))
    }
}

fn replace_level(text: &str, header: &str, line: &str) -> Option<String> {
    let mut lines: Vec<&str> = text.lines().collect();
    let at = lines.iter().position(|found| found.trim() == header)?;
    let below = lines
        .iter()
        .skip(at + 1)
        .take_while(|found| !found.trim_start().starts_with('['));
    let offset = below
        .into_iter()
        .position(|found| found.trim_start().starts_with("trust_level"))?;
    *lines.get_mut(at + 1 + offset)? = line;
    Some(lines.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::with_trust;

    #[test]
    fn trust_is_added_or_changed_and_nothing_else_is_touched() {
        let text = "# mine\nmodel = \"x\" # keep\n";
        let added = with_trust(text, "/home/u/code", "trusted").expect("added");
        assert_eq!(
            added,
            "# mine\nmodel = \"x\" # keep\n\n[projects.\"/home/u/code\"]\ntrust_level = \"trusted\"\n"
        );
        let changed = with_trust(&added, "/home/u/code", "untrusted").expect("changed");
        assert_eq!(changed, added.replace("\"trusted\"", "\"untrusted\""));
        let inline = "projects = { \"/a\" = { trust_level = \"trusted\" } }\n";
        assert!(with_trust(inline, "/a", "untrusted").is_err());
        assert!(with_trust(inline, "/b", "trusted").is_err());
        assert!(with_trust("x = ", "/b", "trusted").is_err());
    }

    #[test]
    fn a_folder_with_marks_in_its_name_is_quoted() {
        let added = with_trust("", "/home/u/a\"b\\c", "trusted").expect("added");
        let table: toml::Table = added.parse().expect("TOML");
        assert!(table["projects"].get("/home/u/a\"b\\c").is_some());
    }
}
