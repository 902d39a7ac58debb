//! The text for each mode, whole. A person reads these before a Mac does.

use std::path::PathBuf;

use super::*;

/// A folder of this test's own, with the paths that the policies name.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("seatbelt-{name}-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("work/docs/drafts")).unwrap();
        std::fs::create_dir_all(folder.join("work/.git")).unwrap();
        std::fs::create_dir_all(folder.join("state")).unwrap();
        Self(folder.canonicalize().unwrap())
    }

    fn work(&self) -> PathBuf {
        self.0.join("work")
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
        .access(folder.0.join("work/docs"), Access::Read)
        .access(folder.0.join("work/docs/drafts"), Access::Write)
        .deny_matching(folder.work(), "**/*.env")
        .hide(folder.0.join("state"));
    insta::assert_snapshot!(folder.profile(builder), @r##"
    ; reads: everything
    (allow file-read*)

    ; rules by path, the deeper ones later
    (allow file-read* file-write* (subpath "/u/work"))
    (allow file-read* (subpath "/u/work/docs"))
    (deny file-write* (subpath "/u/work/docs"))
    (allow file-read* file-write* (subpath "/u/work/docs/drafts"))

    ; names that decide what runs later
    (deny file-write* (subpath "/u/work/.git"))
    (deny file-write* (subpath "/u/work/.agents"))
    (deny file-write* (subpath "/u/work/.codex"))
    (deny file-write* (subpath "/u/work/.claude"))
    (deny file-write* (subpath "/u/work/.cursor"))
    (deny file-write* (subpath "/u/work/.envrc"))
    (deny file-write* (subpath "/u/work/.gemini"))
    (deny file-write* (subpath "/u/work/.gitmodules"))
    (deny file-write* (subpath "/u/work/.idea"))
    (deny file-write* (subpath "/u/work/.mcp.json"))
    (deny file-write* (subpath "/u/work/.pre-commit-config.yaml"))
    (deny file-write* (subpath "/u/work/.vscode"))
    (deny file-write* (regex #"^/u/work/(.*/)?\.git(/.*)?$"))
    (deny file-write* (subpath "/u/work/docs/drafts/.git"))
    (deny file-write* (subpath "/u/work/docs/drafts/.agents"))
    (deny file-write* (subpath "/u/work/docs/drafts/.codex"))
    (deny file-write* (subpath "/u/work/docs/drafts/.claude"))
    (deny file-write* (subpath "/u/work/docs/drafts/.cursor"))
    (deny file-write* (subpath "/u/work/docs/drafts/.envrc"))
    (deny file-write* (subpath "/u/work/docs/drafts/.gemini"))
    (deny file-write* (subpath "/u/work/docs/drafts/.gitmodules"))
    (deny file-write* (subpath "/u/work/docs/drafts/.idea"))
    (deny file-write* (subpath "/u/work/docs/drafts/.mcp.json"))
    (deny file-write* (subpath "/u/work/docs/drafts/.pre-commit-config.yaml"))
    (deny file-write* (subpath "/u/work/docs/drafts/.vscode"))
    (deny file-write* (regex #"^/u/work/docs/drafts/(.*/)?\.git(/.*)?$"))

    ; what no command may read, change or touch
    (deny file-read* file-write* (regex #"^/u/work/(.*/)?[^/]*\.env(/.*)?$"))
    (deny file-read* file-write* (subpath "/u/state"))

    ; network: none, the host's loopback included
    (deny network*)
    "##);
}

#[test]
fn only_what_is_listed_a_repository_by_name_and_the_network() {
    let folder = Folder::new("listed");
    let builder = SandboxPolicy::workspace_write(folder.work())
        .access(folder.0.join("work/.git"), Access::Write)
        .reads(Reads::Listed)
        .network(Network::Full);
    insta::assert_snapshot!(folder.profile(builder), @r##"
    ; reads: the platform's own, and what is listed
    (platform)

    ; rules by path, the deeper ones later
    (allow file-read* file-write* (subpath "/u/work"))
    (allow file-read* file-write* (subpath "/u/work/.git"))

    ; names that decide what runs later
    (deny file-write* (subpath "/u/work/.git"))
    (deny file-write* (subpath "/u/work/.agents"))
    (deny file-write* (subpath "/u/work/.codex"))
    (deny file-write* (subpath "/u/work/.claude"))
    (deny file-write* (subpath "/u/work/.cursor"))
    (deny file-write* (subpath "/u/work/.envrc"))
    (deny file-write* (subpath "/u/work/.gemini"))
    (deny file-write* (subpath "/u/work/.gitmodules"))
    (deny file-write* (subpath "/u/work/.idea"))
    (deny file-write* (subpath "/u/work/.mcp.json"))
    (deny file-write* (subpath "/u/work/.pre-commit-config.yaml"))
    (deny file-write* (subpath "/u/work/.vscode"))
    (deny file-write* (regex #"^/u/work/(.*/)?\.git(/.*)?$"))
    (allow file-write* (subpath "/u/work/.git"))

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
