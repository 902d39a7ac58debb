//! The text for each mode, whole. A person reads these before a Mac does.

use std::path::PathBuf;

use super::*;

/// A folder of this test's own, with the paths that the policies name.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("seatbelt-{name}-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("code/docs/drafts")).unwrap();
        std::fs::create_dir_all(folder.join("code/.git")).unwrap();
        std::fs::create_dir_all(folder.join("state")).unwrap();
        Self(folder.canonicalize().unwrap())
    }

    fn work(&self) -> PathBuf {
        self.0.join("code")
    }

    /// The profile behind its base, with this folder called `/u`.
    fn profile(&self, builder: crate::PolicyBuilder) -> String {
        let text = seatbelt_profile(&builder.build().unwrap()).unwrap();
        let rest = text
            .strip_prefix(BASE)
            .unwrap()
            .replace(PLATFORM, "(platform)\n");
        rest.replace(self.0.to_str().unwrap(), "/u")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn reading_alone() {
    let folder = Folder::new("read");
    let builder = SandboxPolicy::read_only().hide(folder.0.join("state"));
    insta::assert_snapshot!(folder.profile(builder), @r##"
    ; reads: everything
    (allow file-read*)

    ; rules by path, the deeper ones later

    ; names that decide what runs later

    ; what no command may read, change or touch
    (deny file-read* file-write* (subpath "/u/state"))

    ; network: none, the host's loopback included
    (deny network*)
    "##);
}

#[test]
fn a_workspace_to_write() {
    let folder = Folder::new("write");
    let builder = SandboxPolicy::workspace_write(folder.work())
        .access(folder.0.join("code/docs"), Access::Read)
        .access(folder.0.join("code/docs/drafts"), Access::Write)
        .deny_matching(folder.work(), "**/*.env")
        .hide(folder.0.join("state"));
    insta::assert_snapshot!(folder.profile(builder), @r##"
    ; reads: everything
    (allow file-read*)

    ; rules by path, the deeper ones later
    (allow file-read* file-write* (subpath "/u/code"))
    (allow file-read* (subpath "/u/code/docs"))
    (deny file-write* (subpath "/u/code/docs"))
    (allow file-read* file-write* (subpath "/u/code/docs/drafts"))

    ; names that decide what runs later
    (deny file-write* (subpath "/u/code/.git"))
    (deny file-write* (subpath "/u/code/.agents"))
    (deny file-write* (subpath "/u/code/.codex"))
    (deny file-write* (subpath "/u/code/.claude"))
    (deny file-write* (subpath "/u/code/.cursor"))
    (deny file-write* (subpath "/u/code/.envrc"))
    (deny file-write* (subpath "/u/code/.gemini"))
    (deny file-write* (subpath "/u/code/.gitmodules"))
    (deny file-write* (subpath "/u/code/.idea"))
    (deny file-write* (subpath "/u/code/.mcp.json"))
    (deny file-write* (subpath "/u/code/.pre-commit-config.yaml"))
    (deny file-write* (subpath "/u/code/.vscode"))
    (deny file-write* (regex #"^/u/code/(.*/)?\.git(/.*)?$"))
    (deny file-write* (subpath "/u/code/docs/drafts/.git"))
    (deny file-write* (subpath "/u/code/docs/drafts/.agents"))
    (deny file-write* (subpath "/u/code/docs/drafts/.codex"))
    (deny file-write* (subpath "/u/code/docs/drafts/.claude"))
    (deny file-write* (subpath "/u/code/docs/drafts/.cursor"))
    (deny file-write* (subpath "/u/code/docs/drafts/.envrc"))
    (deny file-write* (subpath "/u/code/docs/drafts/.gemini"))
    (deny file-write* (subpath "/u/code/docs/drafts/.gitmodules"))
    (deny file-write* (subpath "/u/code/docs/drafts/.idea"))
    (deny file-write* (subpath "/u/code/docs/drafts/.mcp.json"))
    (deny file-write* (subpath "/u/code/docs/drafts/.pre-commit-config.yaml"))
    (deny file-write* (subpath "/u/code/docs/drafts/.vscode"))
    (deny file-write* (regex #"^/u/code/docs/drafts/(.*/)?\.git(/.*)?$"))

    ; what no command may read, change or touch
    (deny file-read* file-write* (regex #"^/u/code/(.*/)?[^/]*\.env(/.*)?$"))
    (deny file-read* file-write* (subpath "/u/state"))

    ; network: none, the host's loopback included
    (deny network*)
    "##);
}

#[test]
fn only_what_is_listed_a_repository_by_name_and_the_network() {
    let folder = Folder::new("listed");
    let builder = SandboxPolicy::workspace_write(folder.work())
        .access(folder.0.join("code/.git"), Access::Write)
        .reads(Reads::Listed)
        .network(Network::Full);
    insta::assert_snapshot!(folder.profile(builder), @r##"
    ; reads: the platform's own, and what is listed
    (platform)

    ; rules by path, the deeper ones later
    (allow file-read* file-write* (subpath "/u/code"))
    (allow file-read* file-write* (subpath "/u/code/.git"))

    ; names that decide what runs later
    (deny file-write* (subpath "/u/code/.git"))
    (deny file-write* (subpath "/u/code/.agents"))
    (deny file-write* (subpath "/u/code/.codex"))
    (deny file-write* (subpath "/u/code/.claude"))
    (deny file-write* (subpath "/u/code/.cursor"))
    (deny file-write* (subpath "/u/code/.envrc"))
    (deny file-write* (subpath "/u/code/.gemini"))
    (deny file-write* (subpath "/u/code/.gitmodules"))
    (deny file-write* (subpath "/u/code/.idea"))
    (deny file-write* (subpath "/u/code/.mcp.json"))
    (deny file-write* (subpath "/u/code/.pre-commit-config.yaml"))
    (deny file-write* (subpath "/u/code/.vscode"))
    (deny file-write* (regex #"^/u/code/(.*/)?\.git(/.*)?$"))
    (allow file-write* (subpath "/u/code/.git"))

    ; what no command may read, change or touch

    ; network: the host's
    (allow network*)
    (allow system-socket)
    "##);
}

#[test]
fn the_base_denies_by_default_and_says_that_it_was_not_run() {
    assert!(BASE.contains("(deny default)") && BASE.contains("has not been run"));
    for text in [BASE, PLATFORM] {
        let count = |wanted| text.chars().filter(|found| *found == wanted).count();
        assert_eq!(count('('), count(')'));
        assert!(!text.contains("(allow default)") && !text.contains("(allow file-write*)"));
    }
}

#[test]
fn nothing_in_a_path_ends_a_string_or_begins_a_rule() {
    let quoted_path = quoted(Path::new("/u/a\" ) (allow default) \\")).unwrap();
    assert_eq!(quoted_path, "/u/a\\\" ) (allow default) \\\\");
    assert!(quoted(Path::new("/u/a\nb")).is_err());
    assert!(expression(Path::new("/u/a\"b")).is_err());
    assert_eq!(expression(Path::new("/u/a.b+c")).unwrap(), "/u/a\\.b\\+c");
}

#[test]
fn a_pattern_is_whole_or_an_error() {
    let of = |text: &str| {
        let pattern = DeniedPattern::parse(Path::new("/u"), text).unwrap();
        pattern_expression(&pattern)
    };
    assert_eq!(of("**/*.env").unwrap(), "^/u/(.*/)?[^/]*\\.env(/.*)?$");
    assert_eq!(of("a?/b*").unwrap(), "^/u/a[^/]/b[^/]*(/.*)?$");
    for unwritable in ["[ab].env", "{a,b}", "a\\*b", "a\"b"] {
        assert!(of(unwritable).is_err(), "{unwritable}");
    }
}
