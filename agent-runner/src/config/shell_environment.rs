//! `[shell_environment_policy]`: which variables commands get, as the user wishes it.
//!
//! Parsed here, decided by [`crate::passed_env`], which holds back what no wish lets through. One deliberate difference
//! from the documented default: names that speak of secrets are left out unless `ignore_default_excludes = true` is
//! written down.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Value;

use super::error::{ConfigError, read_value};

/// What of the runner's own environment is the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Inherit {
    /// All of it.
    #[default]
    All,
    /// What programs need to find themselves: home, path, user, language, terminal.
    Core,
    /// Nothing.
    None,
}

/// Whether names that speak of secrets are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum SecretNames {
    /// They are.
    #[default]
    LeftOut,
    /// The user has said that they may pass.
    Passed,
}

/// A pattern over a whole name: `*` any run of characters, `?` one, case does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern(String);

/// The policy in force.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ShellEnvironment {
    /// The start.
    pub(crate) inherit: Inherit,
    /// What is left out by name.
    pub(crate) secret_names: SecretNames,
    /// What is taken away.
    pub(crate) exclude: Vec<Pattern>,
    /// What is put in place, whatever was there.
    pub(crate) set: BTreeMap<String, String>,
    /// Where there is any: what alone stays, at the end.
    pub(crate) include_only: Vec<Pattern>,
}

/// The table as one layer writes it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    inherit: Option<Inherit>,
    ignore_default_excludes: Option<bool>,
    exclude: Option<Vec<String>>,
    include_only: Option<Vec<String>>,
    filters: Option<BTreeMap<String, FilterWord>>,
    set: Option<BTreeMap<String, String>>,
    // Whether a login shell runs first is the agent's business: this program starts no shell of its own.
    #[serde(rename = "experimental_use_profile")]
    _use_profile: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FilterWord {
    Include,
    Exclude,
}

impl Pattern {
    /// Reads one.
    ///
    /// # Errors
    /// It is empty, or has a NUL.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.contains('\0') {
            return Err(format!("`{}` is no pattern", text.escape_default()));
        }
        Ok(Self(text.to_ascii_uppercase()))
    }

    /// Whether the whole of `name` is of this shape. Linear in the name for each star.
    pub(crate) fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.to_ascii_uppercase());
        let name = name.as_bytes();
        let (mut p, mut n) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        while n < name.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p, n));
                    p += 1;
                }
                Some(b'?') => (p, n) = (p + 1, n + 1),
                Some(byte) if name.get(n) == Some(byte) => (p, n) = (p + 1, n + 1),
                Some(_) | None => {
                    let Some((at, taken)) = star else {
                        return false;
                    };
                    star = Some((at, taken + 1));
                    (p, n) = (at + 1, taken + 1);
                }
            }
        }
        pattern
            .get(p..)
            .is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
    }
}

impl ShellEnvironment {
    /// Lays one layer's table over what is there, key by key.
    pub(super) fn apply(&mut self, value: &Value, file: &str) -> Result<(), ConfigError> {
        const KEY: &str = "shell_environment_policy";
        let invalid = |reason: String| ConfigError::Value {
            file: file.to_owned(),
            key: KEY,
            reason,
        };
        let raw: Raw = read_value(value, file, KEY)?;
        if raw.filters.is_some() && (raw.exclude.is_some() || raw.include_only.is_some()) {
            let reason = "`filters` and the lists `exclude` and `include_only` say the same thing in two ways\nhint: keep one of them";
            return Err(invalid(reason.to_owned()));
        }
        let patterns = |texts: Vec<String>| -> Result<Vec<Pattern>, ConfigError> {
            texts
                .iter()
                .map(|text| Pattern::parse(text).map_err(&invalid))
                .collect()
        };
        if let Some(inherit) = raw.inherit {
            self.inherit = inherit;
        }
        match raw.ignore_default_excludes {
            Some(true) => self.secret_names = SecretNames::Passed,
            Some(false) => self.secret_names = SecretNames::LeftOut,
            None => {}
        }
        if let Some(exclude) = raw.exclude {
            self.exclude = patterns(exclude)?;
        }
        if let Some(include_only) = raw.include_only {
            self.include_only = patterns(include_only)?;
        }
        if let Some(filters) = raw.filters {
            let of = |word| {
                filters
                    .iter()
                    .filter(move |(_, w)| **w == word)
                    .map(|(text, _)| text.clone())
            };
            self.exclude = patterns(of(FilterWord::Exclude).collect())?;
            self.include_only = patterns(of(FilterWord::Include).collect())?;
        }
        for (name, value) in raw.set.unwrap_or_default() {
            check_set(&name, &value).map_err(&invalid)?;
            self.set.insert(name, value);
        }
        Ok(())
    }
}

/// A variable that may be put in place: one that is one, and that steers no loader or shell past what a command says.
fn check_set(name: &str, value: &str) -> Result<(), String> {
    let shown = name.escape_default();
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(format!("`set.{shown}` is no name of a variable"));
    }
    if value.contains('\0') {
        return Err(format!("`set.{shown}` has a NUL in its value"));
    }
    if crate::passed_env::never_passes(name) {
        return Err(format!(
            "`set.{shown}` would steer programs past what a command says, or is the runner's own"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Inherit, Pattern, SecretNames, ShellEnvironment};

    fn applied(layers: &[&str]) -> Result<ShellEnvironment, String> {
        let mut policy = ShellEnvironment::default();
        for text in layers {
            let value = text.parse::<toml::Table>().expect("TOML").into();
            policy
                .apply(&value, "f")
                .map_err(|error| error.to_string())?;
        }
        Ok(policy)
    }

    #[test]
    fn a_pattern_is_over_the_whole_name_whatever_its_case() {
        for (pattern, name, matches) in [
            ("AWS_*", "aws_profile", true),
            ("AWS_*", "MY_AWS_X", false),
            ("*KEY*", "apikeys", true),
            ("A?C", "abc", true),
            ("A?C", "ac", false),
            ("*", "", true),
            ("*A*B*", "xxaxxbxx", true),
            ("*A*B", "xxaxxbxx", false),
            ("PATH", "PATHS", false),
        ] {
            let parsed = Pattern::parse(pattern).expect("a pattern");
            assert_eq!(parsed.matches(name), matches, "{pattern} on {name}");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_ends() {
        let pattern = Pattern::parse(&"*a".repeat(2000)).expect("a pattern");
        assert!(!pattern.matches(&"a".repeat(1999)));
        assert!(pattern.matches(&"a".repeat(2000)));
    }

    #[test]
    fn a_stronger_layer_replaces_only_the_keys_it_names() {
        let policy = applied(&[
            "inherit = \"core\"\nexclude = [\"A\"]\nset = { X = \"1\", Y = \"1\" }",
            "ignore_default_excludes = true\nset = { Y = \"2\" }",
        ])
        .expect("valid");
        assert_eq!(policy.inherit, Inherit::Core);
        assert_eq!(policy.secret_names, SecretNames::Passed);
        assert_eq!(policy.exclude.len(), 1);
        assert_eq!(policy.set["X"], "1");
        assert_eq!(policy.set["Y"], "2");
    }

    #[test]
    fn the_map_and_the_lists_do_not_mix_and_the_map_means_the_lists() {
        assert!(applied(&["filters = { A = \"include\" }\nexclude = [\"B\"]"]).is_err());
        let policy =
            applied(&["filters = { \"A*\" = \"include\", B = \"exclude\" }"]).expect("valid");
        assert!(policy.include_only[0].matches("AB") && policy.exclude[0].matches("b"));
    }

    #[test]
    fn nothing_that_steers_a_loader_can_be_set() {
        for text in [
            "set = { LD_PRELOAD = \"/x.so\" }",
            "set = { BASH_ENV = \"/x\" }",
            "set = { AUTO_REVIEW_SESSION = \"s\" }",
            "set = { \"A=B\" = \"x\" }",
            "set = { \"\" = \"x\" }",
            "set = { A = 1 }",
            "inherit = \"most\"",
            "exclude = \"A\"",
            "exclude = [\"\"]",
            "excludes = [\"A\"]",
        ] {
            assert!(applied(&[text]).is_err(), "{text} was taken");
        }
    }
}
