//! Which variables a command sees, and what of them is shown to a reviewer.
//!
//! Invariant (P9): a variable whose name speaks of a secret reaches neither a command nor the wire.

use std::ffi::{OsStr, OsString};

use protocol::{EnvEntry, EnvValue};

use crate::config::Environment;
use crate::shown::Shown;
use crate::state::MaskKey;

/// What a name that speaks of a secret contains, upper case.
const SECRET_PARTS: &[&str] = &[
    "KEY",
    "SECRET",
    "TOKEN",
    "PASSW",
    "PASSPHRASE",
    "CREDENTIAL",
    "COOKIE",
    "BEARER",
    "SESSION_ID",
    "AUTH",
];

/// Words of a name, between `_`, that speak of a secret.
const SECRET_WORDS: &[&str] = &[
    "PASS", "PWD", "PAT", "DSN", "PRIVATE", "SIGNING", "JWT", "OTP",
];

/// Names that speak so and are no secret.
const NOT_SECRET: &[&str] = &[
    "PWD",
    "OLDPWD",
    "SSH_AUTH_SOCK",
    "XAUTHORITY",
    "GIT_AUTHOR_NAME",
    "GIT_AUTHOR_EMAIL",
    "GIT_AUTHOR_DATE",
];

/// Names that make a loader or a shell do something else than the action says, inside the walls too.
const STEERING: &[&str] = &[
    "LD_PRELOAD",
    "LD_AUDIT",
    "BASH_ENV",
    "ENV",
    "SHELLOPTS",
    "BASHOPTS",
    "PROMPT_COMMAND",
];

/// The environment of a command.
#[derive(Debug, Clone)]
pub(crate) struct PassedEnv(Vec<(OsString, OsString)>);

impl PassedEnv {
    /// What of `environment` is passed on; `key_variables` are not, whatever their names say.
    pub(crate) fn of(environment: &Environment, key_variables: &[String]) -> Self {
        let mut passed: Vec<_> = environment
            .all
            .iter()
            .filter(|(name, _)| {
                may_pass(name) && !key_variables.iter().any(|key| name == key.as_str())
            })
            .cloned()
            .collect();
        passed.sort();
        passed.dedup_by(|later, earlier| later.0 == earlier.0);
        Self(passed)
    }

    /// Takes out what steers programs: for what runs outside the walls, where no workspace may have a say.
    pub(crate) fn without_steering(&mut self) {
        self.0
            .retain(|(name, _)| name.to_str().is_some_and(|name| !exec_policy::steers(name)));
    }

    /// Sets one variable, in place of what it was.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<OsString>) {
        self.0.retain(|(other, _)| other != name);
        self.0.push((name.into(), value.into()));
        self.0.sort();
    }

    /// The pairs, sorted by name.
    pub(crate) fn pairs(&self) -> &[(OsString, OsString)] {
        &self.0
    }

    /// The pairs as a reviewer sees them, or the name of one that is not UTF-8.
    pub(crate) fn shown(&self, key: &MaskKey) -> Result<Vec<EnvEntry>, String> {
        self.0
            .iter()
            .map(|(name, value)| entry(name, value, key))
            .collect()
    }
}

fn may_pass(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else {
        return false;
    };
    !(names_secret(name)
        || STEERING.contains(&name)
        || name.starts_with("AUTO_REVIEW_")
        || name.starts_with("BASH_FUNC_"))
}

fn names_secret(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    let speaks = SECRET_PARTS.iter().any(|part| upper.contains(part))
        || upper.split('_').any(|word| SECRET_WORDS.contains(&word));
    speaks && !NOT_SECRET.contains(&upper.as_str())
}

fn entry(name: &OsStr, value: &OsStr, key: &MaskKey) -> Result<EnvEntry, String> {
    let text = name
        .to_str()
        .ok_or_else(|| name.to_string_lossy().into_owned())?
        .to_owned();
    let shown = value.to_str().ok_or_else(|| text.clone())?;
    let value = if carries_secret(shown) {
        let length = shown.len() as u64;
        EnvValue::Masked {
            kind: "url_credentials".to_owned(),
            length,
            keyed_hash: key.hash(shown.as_bytes()),
        }
    } else {
        Shown::by(key.clone()).variable(shown)
    };
    Ok(EnvEntry { name: text, value })
}

/// A URL with a user and password in it, as proxies and databases have them.
fn carries_secret(value: &str) -> bool {
    value.split("://").skip(1).any(|rest| {
        let authority = rest.split(['/', '?', '#', ' ']).next().unwrap_or_default();
        authority.contains('@')
    })
}

#[cfg(test)]
mod tests {
    use super::{carries_secret, may_pass};

    #[test]
    fn a_name_that_speaks_of_a_secret_is_not_passed() {
        for name in [
            "OPENAI_API_KEY",
            "aws_secret_access_key",
            "GITHUB_TOKEN",
            "AUTO_REVIEW_TOKEN",
            "PGPASSWORD",
            "DB_PASS",
            "MYSQL_PWD",
            "GITHUB_PAT",
            "GPG_PASSPHRASE",
            "SENTRY_DSN",
            "NPM_CONFIG__AUTH",
            "LD_PRELOAD",
            "BASH_ENV",
            "BASH_FUNC_ls%%",
            "AUTO_REVIEW_SESSION",
        ] {
            assert!(!may_pass(name.as_ref()), "{name} was passed");
        }
        for name in [
            "PATH",
            "PWD",
            "HOME",
            "LANG",
            "TERM",
            "SSH_AUTH_SOCK",
            "CARGO_HOME",
            "GIT_AUTHOR_NAME",
        ] {
            assert!(may_pass(name.as_ref()), "{name} was not passed");
        }
    }

    #[test]
    fn a_url_with_credentials_is_masked_and_one_without_is_shown() {
        assert!(carries_secret("http://user:pass@proxy:3128/"));
        assert!(carries_secret("x postgres://u:p@h/db"));
        assert!(!carries_secret("https://example.com/@scope"));
        assert!(!carries_secret("ana@example.com"));
    }
}
