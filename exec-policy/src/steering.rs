//! Variables that make a loader, an interpreter or a tool do something else than its command line says.
//!
//! One list for both who need it: the runner keeps them from what crosses the walls, the built-in reviewer allows nothing
//! that brings one along.

/// Whole names.
const NAMES: &[&str] = &[
    "BROWSER",
    "CDPATH",
    "CURL_HOME",
    "EDITOR",
    "ENV",
    "FCEDIT",
    "FPATH",
    "GCONV_PATH",
    "GLIBC_TUNABLES",
    "GLOBIGNORE",
    "HOSTALIASES",
    "IFS",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "LOCPATH",
    "LOCALDOMAIN",
    "MAKEFILES",
    "MAKEFLAGS",
    "MANPAGER",
    "NLSPATH",
    "PAGER",
    "PROMPT_COMMAND",
    "PS4",
    "RES_OPTIONS",
    "SHELLOPTS",
    "SUDO_ASKPASS",
    "SSH_ASKPASS",
    "VISUAL",
    "WGETRC",
    "ZDOTDIR",
    "_JAVA_OPTIONS",
];

/// How names begin.
const PREFIXES: &[&str] = &[
    "BASH",
    "CARGO_",
    "DYLD_",
    "GIT_",
    "GTK_",
    "LD_",
    "LESS",
    "LUA_",
    "MALLOC_",
    "NODE_",
    "NPM_CONFIG_",
    "OPENSSL_",
    "PERL",
    "PHP",
    "PIP_",
    "PYTHON",
    "QT_",
    "RUBY",
    "RUSTC",
    "RUSTDOC",
    "RUSTFLAGS",
    "TCL",
    "TERMINFO",
    "UV_",
];

/// Names that begin so and steer nothing.
const HARMLESS: &[&str] = &[
    "CARGO_HOME",
    "CARGO_TERM_COLOR",
    "GIT_AUTHOR_",
    "GIT_COMMITTER_",
    "NODE_VERSION",
];

/// Whether the variable `name` steers programs. Upper and lower case count as the same.
#[must_use]
pub fn steers(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let steering =
        NAMES.contains(&name.as_str()) || PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    steering && !HARMLESS.iter().any(|harmless| name.starts_with(harmless))
}

#[cfg(test)]
mod tests {
    use super::steers;

    #[test]
    fn what_loaders_and_interpreters_obey_steers() {
        for name in [
            "LD_PRELOAD",
            "LD_LIBRARY_PATH",
            "PYTHONPATH",
            "NODE_OPTIONS",
            "GIT_SSH_COMMAND",
            "npm_config_prefix",
            "BASH_ENV",
            "IFS",
        ] {
            assert!(steers(name), "{name}");
        }
        for name in [
            "PATH",
            "HOME",
            "LANG",
            "LC_ALL",
            "TERM",
            "CARGO_HOME",
            "GIT_AUTHOR_NAME",
            "SSH_AUTH_SOCK",
            "TZ",
        ] {
            assert!(!steers(name), "{name}");
        }
    }
}
