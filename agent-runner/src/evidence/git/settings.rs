//! Which of a repository's own settings run programs, change where things go or are not known, and which hooks it has.
//!
//! Apart from the asking, because it is pure but for the one look at the hooks. Invariant: a setting is passed over only
//! where its name and its value are written here as harmless; whatever git learns to obey tomorrow is told.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// The most settings and hooks that are told.
const MAX_TOLD: usize = 40;
/// The most entries of the folder of hooks that are looked at: far more than git has hooks.
const MAX_HOOKS: usize = 1000;

/// The repository's own settings that matter.
#[derive(Debug, Default)]
pub(super) struct RepositorySettings {
    /// `name=value` of what runs a program.
    pub(super) programs: Vec<String>,
    /// `name=value` of what changes where a transfer goes or what is looked at.
    pub(super) redirects: Vec<String>,
    /// `name=value` of what is none of these and not known to be harmless.
    pub(super) unknown: Vec<String>,
    /// The remotes whose address is a plain one of another machine.
    pub(super) remotes: BTreeSet<String>,
}

/// Reads `git config --list -z --show-scope`: scope and `name\nvalue`, in turn. `None` where it is not of that form.
pub(super) fn of(parts: &[&[u8]]) -> Option<RepositorySettings> {
    let mut own = Vec::new();
    for pair in parts.chunks(2) {
        let [scope, setting] = pair else { return None };
        match *scope {
            b"local" | b"worktree" => own.push(String::from_utf8_lossy(setting)),
            b"system" | b"global" | b"command" => {}
            _ => return None,
        }
    }
    let own: Vec<(&str, &str)> = own
        .iter()
        .map(|text| text.split_once('\n').unwrap_or((text, "true")))
        .collect();
    let remotes = plain_remotes(&own);
    let mut found = RepositorySettings::default();
    for (name, value) in own {
        let list = if runs_programs(name, value) {
            &mut found.programs
        } else if redirects(name) {
            &mut found.redirects
        } else if is_harmless(name, value, &remotes) {
            continue;
        } else {
            &mut found.unknown
        };
        if list.len() < MAX_TOLD {
            let value: String = value.chars().take(200).collect();
            list.push(format!("{name}={value}"));
        }
    }
    found.remotes = remotes;
    Some(found)
}

/// The remotes of which every address is plain.
fn plain_remotes(own: &[(&str, &str)]) -> BTreeSet<String> {
    let addresses = || {
        own.iter().filter_map(|(name, value)| {
            let remote = name.strip_prefix("remote.")?.strip_suffix(".url")?;
            Some((remote, *value))
        })
    };
    let odd: BTreeSet<&str> = addresses()
        .filter_map(|(remote, value)| (!is_plain_address(value)).then_some(remote))
        .collect();
    addresses()
        .filter(|(remote, _)| !odd.contains(remote) && is_plain_name(remote))
        .map(|(remote, _)| remote.to_owned())
        .collect()
}

/// Whether a setting starts nothing, reads no other file, and sends nothing elsewhere: by its name and, where the value
/// is a name or an address, by its value too.
///
/// Each with its reason: what git itself writes when a repository is made or cloned (`core.*`, `remote.*`, `branch.*`),
/// who commits, how it is shown, and how line ends are written.
fn is_harmless(name: &str, value: &str, remotes: &BTreeSet<String>) -> bool {
    const WHOLE: [&str; 19] = [
        "core.repositoryformatversion",
        "core.filemode",
        "core.logallrefupdates",
        "core.ignorecase",
        "core.precomposeunicode",
        "core.symlinks",
        "core.autocrlf",
        "core.eol",
        "core.safecrlf",
        "core.quotepath",
        "core.abbrev",
        "extensions.objectformat",
        "user.name",
        "user.email",
        "author.name",
        "author.email",
        "init.defaultbranch",
        "pull.ff",
        "fetch.prune",
    ];
    if WHOLE.contains(&name) || name.starts_with("advice.") || name.starts_with("color.") {
        return true;
    }
    // A work tree's repository that says of itself that it has none is odd enough to ask.
    if name == "core.bare" {
        return value == "false";
    }
    if let Some(rest) = name.strip_prefix("remote.") {
        return match rest.rsplit_once('.') {
            Some((remote, "url")) => remotes.contains(remote),
            Some((_, "fetch")) => fetches_beside(value),
            _ => false,
        };
    }
    let Some(rest) = name.strip_prefix("branch.") else {
        return false;
    };
    match rest.rsplit_once('.') {
        // What is no remote's name is a path or an address to git. A dot is the repository itself.
        Some((_, "remote")) => value == "." || remotes.contains(value),
        Some((_, "merge")) => value.starts_with("refs/heads/"),
        // An editor writes this; git reads it not.
        Some((_, "vscode-merge-base")) => true,
        _ => false,
    }
}

/// An address on another machine, by a protocol that git speaks itself, with nothing in it for a helper or a shell. Paths
/// are none: a push to a folder runs the hooks that lie there.
fn is_plain_address(value: &str) -> bool {
    let plain = |text: &str| {
        text.chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_./:@~+%".contains(c))
    };
    let host = |text: &str| {
        text.chars()
            .next()
            .is_some_and(|c| c.is_ascii_alphanumeric())
            && !text.contains("@-")
    };
    if !plain(value) || value.contains("::") {
        return false;
    }
    let by_scheme = value
        .strip_prefix("https://")
        .or_else(|| value.strip_prefix("ssh://"));
    match by_scheme {
        Some(rest) => host(rest),
        // `me@host:path`, as for scp; without an account the word before the colon could be a helper's or a folder's name.
        None => value.split_once(':').is_some_and(|(place, path)| {
            place.contains('@') && !place.contains('/') && host(place) && !path.is_empty()
        }),
    }
}

/// A remote's name that can be no path.
fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('-')
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
}

/// A refspec that writes to nothing but what is known of a remote.
fn fetches_beside(value: &str) -> bool {
    value.split_once(':').is_some_and(|(from, to)| {
        from.trim_start_matches('+').starts_with("refs/heads/") && to.starts_with("refs/remotes/")
    })
}

/// See git-config(1): settings whose value git executes, that name a folder or file of such, or that let others run. Only
/// to be told by the right name: what is not here is not harmless for that.
fn runs_programs(name: &str, value: &str) -> bool {
    const WHOLE: [&str; 25] = [
        "core.fsmonitor",
        "core.hookspath",
        "core.sshcommand",
        "core.pager",
        "core.editor",
        "core.gitproxy",
        "core.askpass",
        "core.alternaterefscommand",
        "sequence.editor",
        "diff.external",
        "credential.helper",
        "gpg.program",
        "gpg.ssh.defaultkeycommand",
        "uploadpack.packobjectshook",
        "init.templatedir",
        "interactive.difffilter",
        "imap.tunnel",
        "sendemail.smtpserver",
        "sendemail.tocmd",
        "receive.procreceiverefs",
        "gc.recentobjectshook",
        "log.showsignature",
        "extensions.partialclone",
        "web.browser",
        "help.browser",
    ];
    const ENDS: [(&str, &[&str]); 14] = [
        ("diff.", &[".command", ".textconv"]),
        ("merge.", &[".driver"]),
        ("filter.", &[".clean", ".smudge", ".process"]),
        ("credential.", &[".helper"]),
        ("gpg.", &[".program"]),
        ("remote.", &[".uploadpack", ".receivepack", ".vcs"]),
        ("hook.", &[".command"]),
        ("protocol.", &[".allow"]),
        ("mergetool.", &[".cmd", ".path"]),
        ("difftool.", &[".cmd", ".path"]),
        ("guitool.", &[".cmd"]),
        ("trailer.", &[".command", ".cmd"]),
        ("browser.", &[".cmd", ".path"]),
        ("man.", &[".cmd", ".path"]),
    ];
    let off = matches!(name, "core.fsmonitor") && matches!(value, "false" | "0" | "no" | "off");
    let ends = ENDS
        .iter()
        .any(|(start, ends)| name.starts_with(start) && ends.iter().any(|end| name.ends_with(end)));
    let submodule =
        name.starts_with("submodule.") && name.ends_with(".update") && value.starts_with('!');
    !off && (WHOLE.contains(&name)
        || ends
        || submodule
        || name.starts_with("alias.")
        // What is not there now, or not seen from here, may be there when it runs.
        || name.starts_with("include")
        || name.starts_with("pager."))
}

fn redirects(name: &str) -> bool {
    name.starts_with("url.")
        || name.ends_with(".pushurl")
        || name.ends_with(".proxy")
        || name.ends_with("sslverify")
        || matches!(
            name,
            "core.worktree" | "push.default" | "remote.pushdefault"
        )
        || (name.starts_with("branch.") && name.ends_with(".pushremote"))
}

/// The hooks of the repository that git would run, for all that can be seen: what is not named `.sample`, and is not a
/// regular file that nobody may execute. `None` where they cannot all be seen.
pub(super) fn hooks(common: &Path) -> Option<Vec<String>> {
    if !common.metadata().ok()?.is_dir() {
        return None;
    }
    let entries = match std::fs::read_dir(common.join("hooks")) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // A link that leads nowhere now may lead somewhere later.
            let there = common.join("hooks").symlink_metadata().is_ok();
            return (!there).then(Vec::new);
        }
        Err(_) => return None,
    };
    let mut names = Vec::new();
    for (at, entry) in entries.enumerate() {
        let entry = entry.ok()?;
        if at >= MAX_HOOKS {
            return None;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        let found = entry.path().symlink_metadata().ok()?;
        let idle = found.is_file() && found.permissions().mode() & 0o111 == 0;
        if !name.ends_with(".sample") && !idle {
            names.push(name);
        }
    }
    names.sort();
    names.truncate(MAX_TOLD);
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::{hooks, of};

    #[test]
    fn only_the_repository_s_own_settings_that_run_or_redirect_are_told() {
        let parts: Vec<&[u8]> = vec![
            b"local",
            b"core.fsmonitor\n/w/evil",
            b"local",
            b"user.name\nAna",
            b"global",
            b"alias.st\nstatus",
            b"local",
            b"filter.lfs.process\ngit-lfs",
            b"local",
            b"url.https://e.example/.insteadof\nhttps://g.example/",
            b"worktree",
            b"alias.x\n!sh",
            b"local",
            b"core.bare",
        ];
        let found = of(&parts).expect("pairs");
        assert_eq!(
            found.programs,
            [
                "core.fsmonitor=/w/evil",
                "filter.lfs.process=git-lfs",
                "alias.x=!sh"
            ]
        );
        assert_eq!(
            found.redirects,
            ["url.https://e.example/.insteadof=https://g.example/"]
        );
    }

    /// Whether a repository with one more setting than a clone has still says nothing.
    fn is_quiet_with(name: &str, value: &str) -> bool {
        let clone = [
            "core.bare\nfalse",
            "remote.origin.url\nhttps://git.example/a.git",
            "remote.origin.fetch\n+refs/heads/*:refs/remotes/origin/*",
            "branch.main.remote\norigin",
            "branch.main.merge\nrefs/heads/main",
        ];
        let more = format!("{name}\n{value}");
        let all = clone.into_iter().chain([more.as_str()]);
        let parts: Vec<&[u8]> = all
            .flat_map(|setting| [&b"local"[..], setting.as_bytes()])
            .collect();
        let found = of(&parts).expect("pairs");
        found.programs.is_empty() && found.redirects.is_empty() && found.unknown.is_empty()
    }

    #[test]
    fn only_settings_that_are_written_here_are_passed_over() {
        for (name, value) in [
            ("user.name", "Ana"),
            ("core.autocrlf", "input"),
            ("color.ui", "auto"),
            ("remote.mine.url", "git@git.example:a/b.git"),
            ("remote.mine.url", "ssh://git@git.example/a/b.git"),
            ("branch.other.remote", "."),
        ] {
            assert!(is_quiet_with(name, value), "{name}={value}");
        }
        for (name, value) in [
            ("include.path", "/tmp/x"),
            ("includeif.gitdir:/w.path", "~/x"),
            ("protocol.ext.allow", "always"),
            ("hook.x.command", "/w/evil"),
            ("gc.recentobjectshook", "/w/evil"),
            ("log.showsignature", "true"),
            ("core.gitproxy", "/w/evil"),
            ("core.bare", "true"),
            ("remote.origin.vcs", "ext"),
            ("remote.origin.promisor", "true"),
            ("remote.mine.url", "ext::sh -c x"),
            ("remote.mine.url", "../evil"),
            ("remote.mine.url", "file:///w/evil"),
            ("remote.mine.url", "evil:x"),
            ("remote.mine.url", "ssh://-oProxyCommand=x/y"),
            ("remote.mine.url", "me@-oProxyCommand:y"),
            ("remote.mine.url", ""),
            ("remote.origin.url", "ext::sh -c x"),
            ("remote.origin.fetch", "+refs/heads/*:refs/heads/*"),
            ("branch.main.remote", "../evil"),
            ("branch.main.remote", "evil"),
            ("core.worktree", "/elsewhere"),
            ("a.setting.of.tomorrow", "x"),
        ] {
            assert!(!is_quiet_with(name, value), "{name}={value}");
        }
        assert!(of(&[b"local"]).is_none(), "a half");
        assert!(of(&[b"core.x\n1", b"core.y\n2"]).is_none(), "no scopes");
    }

    #[test]
    fn hooks_that_cannot_all_be_seen_are_not_taken_for_none() {
        let folder =
            std::env::temp_dir().join(format!("auto-review-hooks-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).expect("a folder");
        assert_eq!(hooks(&folder), Some(Vec::new()), "no such folder");
        assert_eq!(hooks(&folder.join("x")), None, "no repository");
        let place = folder.join("hooks");
        std::fs::create_dir(&place).expect("a folder");
        std::fs::write(place.join("pre-commit.sample"), "").expect("a file");
        std::fs::write(place.join("README"), "").expect("a file");
        assert_eq!(hooks(&folder), Some(Vec::new()));
        std::os::unix::fs::symlink("/nowhere", place.join("pre-push")).expect("a link");
        assert_eq!(hooks(&folder), Some(vec!["pre-push".to_owned()]));
        std::fs::remove_file(place.join("pre-push")).expect("a link");
        for number in 0..1100 {
            std::fs::write(place.join(format!("junk{number}")), "").expect("a file");
        }
        assert_eq!(hooks(&folder), None, "more than are looked at");
        std::fs::remove_dir_all(&place).expect("a folder");
        std::os::unix::fs::symlink("/nowhere", &place).expect("a link");
        assert_eq!(hooks(&folder), None, "a link that leads nowhere");
        std::fs::remove_file(&place).expect("a link");
        std::fs::write(&place, "").expect("a file");
        assert_eq!(hooks(&folder), None, "no folder");
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
