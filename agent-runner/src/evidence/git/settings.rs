//! Which of a repository's own settings run programs or change where things go, and which hooks it has.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// The most settings and hooks that are told.
const MAX_TOLD: usize = 40;

/// The repository's own settings that matter.
#[derive(Debug, Default)]
pub(super) struct RepositorySettings {
    /// `name=value` of what runs a program.
    pub(super) programs: Vec<String>,
    /// `name=value` of what changes where a transfer goes or what is looked at.
    pub(super) redirects: Vec<String>,
}

/// Reads `git config --list -z --show-scope`: scope and `name\nvalue`, in turn.
pub(super) fn of(parts: &[&[u8]]) -> RepositorySettings {
    let mut found = RepositorySettings::default();
    for pair in parts.chunks(2) {
        let [scope, setting] = pair else { continue };
        if !matches!(*scope, b"local" | b"worktree") {
            continue;
        }
        let text = String::from_utf8_lossy(setting);
        let (name, value) = text.split_once('\n').unwrap_or((&text, "true"));
        let list = if runs_programs(name, value) {
            &mut found.programs
        } else if redirects(name) {
            &mut found.redirects
        } else {
            continue;
        };
        if list.len() < MAX_TOLD {
            let value: String = value.chars().take(200).collect();
            list.push(format!("{name}={value}"));
        }
    }
    found
}

/// See git-config(1): every setting whose value git executes, or that names a folder or file of such.
fn runs_programs(name: &str, value: &str) -> bool {
    const WHOLE: [&str; 22] = [
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
        "web.browser",
        "help.browser",
    ];
    const ENDS: [(&str, &[&str]); 12] = [
        ("diff.", &[".command", ".textconv"]),
        ("merge.", &[".driver"]),
        ("filter.", &[".clean", ".smudge", ".process"]),
        ("credential.", &[".helper"]),
        ("gpg.", &[".program"]),
        ("remote.", &[".uploadpack", ".receivepack", ".vcs"]),
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
        || name.starts_with("pager."))
}

fn redirects(name: &str) -> bool {
    name.starts_with("url.")
        || name.starts_with("include")
        || name.ends_with(".pushurl")
        || name.ends_with(".proxy")
        || name.ends_with("sslverify")
        || matches!(
            name,
            "core.worktree" | "push.default" | "remote.pushdefault" | "core.symlinks"
        )
        || (name.starts_with("branch.") && name.ends_with(".pushremote"))
}

/// The hooks of the repository that git would run: executable, and without `.sample`.
pub(super) fn hooks(common: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(common.join("hooks")) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .flatten()
        .take(1000)
        .filter(|entry| {
            // git follows links here, so these are followed too; nothing is read.
            let found = std::fs::metadata(entry.path());
            found.is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        })
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !name.ends_with(".sample"))
        .collect();
    names.sort();
    names.truncate(MAX_TOLD);
    names
}

#[cfg(test)]
mod tests {
    use super::of;

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
        let found = of(&parts);
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
}
