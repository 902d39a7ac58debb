//! Profiles: settings under a name, chosen by `--profile` or by `profile` in the user's file.
//!
//! Apart, because two forms are read, a file `NAME.config.toml` beside the user's own and a table `[profiles.NAME]` in it;
//! the file wins. Invariant: a name that leads nowhere stops everything, and a profile chooses no other profile.

use std::path::Path;

use toml::{Table, Value};

use super::error::{ConfigError, read_table};

/// The chosen profile's settings, with the name of the file that they stand in.
pub(super) fn chosen(
    wanted: Option<&str>,
    user: &Table,
    codex_home: &Path,
) -> Result<Option<(Table, String)>, ConfigError> {
    let user_file = codex_home.join("config.toml").display().to_string();
    let invalid = |file: &str, reason: String| ConfigError::Value {
        file: file.to_owned(),
        key: "profile",
        reason,
    };
    let name = match (wanted, user.get("profile")) {
        (Some(name), _) => name,
        (None, None) => return Ok(None),
        (None, Some(Value::String(name))) => name.as_str(),
        (None, Some(other)) => {
            return Err(invalid(&user_file, format!("{other} is not a name")));
        }
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if name.is_empty() || !name.chars().all(plain) {
        return Err(invalid(
            &user_file,
            format!("`{name}` is not a plain name of letters, digits, `-` and `_`"),
        ));
    }
    let path = codex_home.join(format!("{name}.config.toml"));
    let (table, file) = match read_table(&path)? {
        Some(table) => (table, path.display().to_string()),
        None => {
            let table = user
                .get("profiles")
                .and_then(|profiles| profiles.get(name)?.as_table())
                .ok_or_else(|| {
                    let file = wanted.map_or(user_file.as_str(), |_| "--profile");
                    invalid(
                        file,
                        format!(
                            "there is neither `[profiles.{name}]` in `{user_file}` nor `{}`",
                            path.display()
                        ),
                    )
                })?;
            (table.clone(), format!("{user_file} [profiles.{name}]"))
        }
    };
    for key in ["profile", "profiles", "projects"] {
        if table.contains_key(key) {
            return Err(invalid(
                &file,
                format!("a profile has no `{key}`: profiles do not choose or hold each other"),
            ));
        }
    }
    Ok(Some((table, file)))
}
