//! The names by which npm knows each of its commands: aliases, misspellings it forgives, and any beginning of a name.
//!
//! Apart, because it is a table of one program (npm 6 to 11, `lib/utils/cmd-list.js`). Invariant: it only ever widens what
//! restricts; a beginning that npm itself finds ambiguous, or knows in some version alone, counts as all that it may be.

/// Each command, and behind it its other names.
const COMMANDS: &[&str] = &[
    "access",
    "adduser add-user",
    "audit",
    "bin",
    "birthday",
    "bugs issues",
    "cache",
    "ci install-clean clean-install ic isntall-clean clean-isntall",
    "completion",
    "config c",
    "dedupe ddp",
    "deprecate",
    "diff",
    "dist-tag dist-tags",
    "docs home",
    "doctor",
    "edit",
    "exec x",
    "explain why",
    "explore",
    "find-dupes",
    "fund",
    "get",
    "help hlep",
    "help-search",
    "hook",
    "init create innit",
    "install i in ins inst insta instal isnt isnta isntal isntall add",
    "install-ci-test cit clean-install-test sit",
    "install-test it",
    "link ln",
    "ll la",
    "login",
    "logout",
    "ls list",
    "org ogr",
    "outdated",
    "owner author",
    "pack",
    "ping",
    "pkg",
    "prefix",
    "profile",
    "prune",
    "publish",
    "query",
    "rebuild rb",
    "repo",
    "restart",
    "root",
    "run-script run rum urn",
    "sbom",
    "search find s se",
    "set",
    "set-script",
    "shrinkwrap",
    "star",
    "stars",
    "start",
    "stop",
    "team",
    "test tst t",
    "token",
    "trust",
    "undeprecate",
    "uninstall unlink remove rm r un",
    "unpublish",
    "unstar",
    "update upgrade udpate up",
    "version verison",
    "view info show v",
    "whoami",
];

/// Whether npm may take `word` and `other` for the same command.
pub(super) fn same(word: &str, other: &str) -> bool {
    if word == other {
        return true;
    }
    let (word, other) = (kebab(word), kebab(other));
    COMMANDS.iter().any(|names| {
        let meant = means(&word, names);
        meant && means(&other, names)
    })
}

/// Whether `word` may mean the command of these `names`: it is one of them, or no name at all and the beginning of one.
fn means(word: &str, names: &str) -> bool {
    let exact = |names: &str| names.split_whitespace().any(|name| name == word);
    if exact(names) {
        return true;
    }
    !word.is_empty()
        && names.split_whitespace().any(|name| name.starts_with(word))
        && !COMMANDS.iter().any(|names| exact(names))
}

/// `runScript` is `run-script`.
fn kebab(word: &str) -> String {
    let mut out = String::with_capacity(word.len() + 2);
    for letter in word.chars() {
        if letter.is_ascii_uppercase() {
            out.push('-');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::same;

    #[test]
    fn a_command_is_known_by_its_aliases_and_by_every_beginning_of_a_name() {
        for (word, command) in [
            ("publish", "publish"),
            ("publ", "publish"),
            ("pub", "publish"),
            ("p", "publish"),
            ("i", "install"),
            ("isntall", "i"),
            ("ad", "adduser"),
            ("runScript", "run"),
            ("exe", "x"),
            ("unp", "unpublish"),
            ("inf", "view"),
        ] {
            assert!(same(word, command), "{word} {command}");
            assert!(same(command, word), "{command} {word}");
        }
        for (word, other) in [
            ("pack", "publish"),
            ("pkg", "publish"),
            ("unpublish", "publish"),
            ("publisher", "publish"),
            ("", "publish"),
            // A name of its own, not the beginning of another.
            ("star", "start"),
            ("init", "install"),
            ("install", "install-test"),
            ("my-script", "publish"),
        ] {
            assert!(!same(word, other), "{word} {other}");
        }
    }
}
