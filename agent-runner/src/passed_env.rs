//! Which variables a command sees, and what of them is shown to a reviewer.
//!
//! Invariant (P9): the variables that hold the runner's own tokens and keys, and what steers loaders, reach no command,
//! whatever the settings say; a name that speaks of a secret reaches one only where the user has written that it may, and
//! its value never reaches the wire.

use std::ffi::{OsStr, OsString};

use protocol::{EnvEntry, EnvValue};

use crate::config::{Environment, Inherit, SecretNames, ShellEnvironment};
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

/// What programs need to find themselves: `inherit = "core"`, with every `LC_*`.
const CORE: &[&str] = &[
    "HOME",
    "PATH",
    "SHELL",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "LANG",
    "LANGUAGE",
    "TERM",
    "COLORTERM",
    "TZ",
    "PWD",
];

/// The environment of a command.
#[derive(Debug, Clone)]
pub(crate) struct PassedEnv(Vec<(OsString, OsString)>);

impl PassedEnv {
    /// What of `environment` is passed on under `policy`; `key_variables` are not, whatever their names say.
    pub(crate) fn of(
        environment: &Environment,
        policy: &ShellEnvironment,
        key_variables: &[String],
    ) -> Self {
        let inherited = environment
            .all
            .iter()
            .filter_map(|(name, value)| Some((name.to_str()?, value)))
            .filter(|(name, _)| inherits(policy.inherit, name))
            .filter(|(name, _)| policy.secret_names == SecretNames::Passed || !names_secret(name))
            .filter(|(name, _)| !policy.exclude.iter().any(|pattern| pattern.matches(name)))
            .filter(|(name, _)| !policy.set.contains_key(*name))
            .map(|(name, value)| (name.into(), value.clone()));
        let set = policy
            .set
            .iter()
            .map(|(name, value)| (name.into(), value.into()));
        let mut passed: Vec<(OsString, OsString)> = inherited.chain(set).collect();
        passed.retain(|(name, _)| {
            name.to_str().is_some_and(|name| {
                let kept = policy.include_only.is_empty()
                    || policy
                        .include_only
                        .iter()
                        .any(|pattern| pattern.matches(name));
                kept && !never_passes(name) && !key_variables.iter().any(|key| name == key.as_str())
            })
        });
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

/// What reaches no command, inside the walls or outside, whatever the settings say.
pub(crate) fn never_passes(name: &str) -> bool {
    STEERING.contains(&name) || name.starts_with("AUTO_REVIEW_") || name.starts_with("BASH_FUNC_")
}

fn inherits(inherit: Inherit, name: &str) -> bool {
    match inherit {
        Inherit::All => true,
        Inherit::Core => CORE.contains(&name) || name.starts_with("LC_"),
        Inherit::None => false,
    }
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
    let kind = if names_secret(&text) {
        Some("secret_name")
    } else if carries_secret(shown) {
        Some("url_credentials")
    } else {
        None
    };
    let value = if let Some(kind) = kind {
        let length = shown.len() as u64;
        EnvValue::Masked {
            kind: kind.to_owned(),
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
mod tests;
