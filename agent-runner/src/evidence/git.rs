//! What git says of a repository that a command may have written: asked inside the walls, with no network and nothing
//! writable, and of git only what runs none of the repository's programs.
//!
//! Invariant: no hook, filter, alias, helper or monitor that the repository's own settings name is started by these
//! questions; and were one, it could change nothing and reach nobody (design D23). What git printed is data between
//! marks that are drawn anew each time, and an answer is one only where git said that it ended well: what failed is null.

use std::ffi::{OsStr, OsString};
use std::io::{PipeReader, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec};
use sandbox::{Command, Output, Plan, Program, Sandbox, SandboxPolicy, WorkingDirectory};
use serde_json::{Value, json};

use super::files::Barred;
use super::inquiry::Push;

mod settings;
mod tree;

/// The most that git may say, in bytes.
const MAX_ANSWER: usize = 1024 * 1024;
/// The most files whose content is held against the last commit.
const MAX_COMPARED: usize = 2000;
/// The most bytes of a list of names that are read. What is cut is said.
const MAX_NAMES: usize = 256 * 1024;
/// The most commits that a push is told by.
const MAX_COMMITS: usize = 20;

/// The questions, each answer behind a mark and before its status. `$1` is the mark, `$2` git, `$3` the remote, `$4` how
/// many files are compared, `$5` how many committed ones are listed, `$6` how many bytes a list of names may have, then the
/// paths. Where git speaks into a pipe, its own status is the last entry.
const QUESTIONS: &str = r#"
mark=$1 git=$2 remote=$3 compared=$4 listed=$5 names=$6; shift 6
g() { "$git" -c safe.directory=* -c core.fsmonitor=false -c core.hooksPath=/dev/null -c core.untrackedCache=false \
  -c core.pager=cat -c core.attributesFile=/dev/null -c core.quotePath=true -c submodule.recurse=false -c protocol.allow=never \
  -c log.showSignature=false --literal-pathspecs --no-pager "$@" 2>/dev/null; }
ask() { printf '\n%s %s\n' "$mark" "$1"; shift; "$@"; printf '\n%s =%s\n' "$mark" "$?"; }
stage() { { g ls-files --stage; printf 'ended %s\n' "$?"; } |
  sed -n -e 's/^160000 .*/160000/p' -e '/^[0-7]* [0-9a-f]* [0-3].*\.[gG][iI][tT][aA][tT][tT][rR][iI][bB][uU][tT][eE][sS]"\{0,1\}$/p' -e '/^ended /p'; }
changed() { { g diff-tree -r --name-only --no-ext-diff --no-textconv -z '@{upstream}' HEAD --; printf 'ended %s\0' "$?"; } | head -c "$names"; }
tree() { { g ls-tree -r -z --full-name HEAD -- "$@"; printf 'ended %s\0' "$?"; } | head -z -n "$listed" | head -c "$names"; }
others() { { g ls-files -z --others -- "$@"; printf 'ended %s\0' "$?"; } | head -c "$names"; }
objects() { g ls-tree -r -z --name-only HEAD -- "$@" | head -z -n "$compared" | tr '\0' '\n' | g hash-object --no-filters --stdin-paths; }
ask top g rev-parse --show-toplevel
ask dir g rev-parse --path-format=absolute --git-dir
ask common g rev-parse --path-format=absolute --git-common-dir
ask branch g symbolic-ref -q --short HEAD
ask head g rev-parse -q --verify HEAD
ask upstream g rev-parse -q --symbolic-full-name '@{upstream}'
ask stage stage
ask settings g config --list -z --show-scope --includes
if [ -n "$remote" ]; then
ask url g remote get-url --all -- "$remote"
ask pushurl g remote get-url --push --all -- "$remote"
fi
ask count g rev-list --count '@{upstream}..HEAD' --
ask commits g log -n 20 --no-show-signature --no-ext-diff --no-textconv --format='%h %an: %s' '@{upstream}..HEAD' --
ask changed changed
if [ $# -gt 0 ]; then
ask tree tree "$@"
ask others others "$@"
ask objects objects "$@"
fi
ask end true
"#;

/// What is asked of a repository.
#[derive(Debug)]
pub(super) struct Questions<'q> {
    /// The folder in which git works.
    pub(super) folder: &'q Path,
    /// What would be pushed.
    pub(super) push: Option<&'q Push>,
    /// Paths of which it matters whether they are committed.
    pub(super) tracked: &'q [PathBuf],
}

/// Where the programs are, and what may not be read.
#[derive(Debug)]
pub(super) struct Tools<'t> {
    /// The folders of programs that no command can have put there.
    pub(super) path: &'t [PathBuf],
    /// What the command may not read.
    pub(super) barred: &'t Barred,
    /// Until when git may speak.
    pub(super) until: Instant,
}

/// Why a repository says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Silent {
    /// The folder lies in no repository.
    NoRepository,
    /// There is no git, or no shell.
    NoProgram,
    /// No walls could be put up, or git did not end well.
    Failed,
    /// There was no time, or git said too much.
    TimedOut,
}

impl Silent {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::NoRepository => "no_repository",
            Self::NoProgram => "no_program",
            Self::Failed => "git_failed",
            Self::TimedOut => "timed_out",
        }
    }
}

/// Asks.
pub(super) fn ask(questions: &Questions<'_>, tools: &Tools<'_>) -> Result<Value, Silent> {
    let top = top_of(questions.folder).ok_or(Silent::NoRepository)?;
    let mark = uuid::Uuid::new_v4().simple().to_string();
    let printed = run(questions, tools, &top, &mark)?;
    let answers = Answers::read(&printed, &mark);
    if !answers.complete {
        return Err(Silent::TimedOut);
    }
    let place = Place::told(&answers).ok_or(Silent::Failed)?;
    let tree = tree::of(&place.top, tools.barred, tools.until);
    Ok(told(questions, &answers, &place, tree.as_ref()))
}

/// The folder with the `.git` that rules `folder`, found without git.
fn top_of(folder: &Path) -> Option<PathBuf> {
    let folder = folder.canonicalize().ok()?;
    let mut above = folder.ancestors();
    above
        .find(|above| above.join(".git").symlink_metadata().is_ok())
        .map(Path::to_owned)
}

/// The paths that lie in the repository, as git names them.
fn below<'q>(questions: &Questions<'q>, top: &Path) -> impl Iterator<Item = &'q Path> + use<'q> {
    let top = top.to_owned();
    let paths = questions.tracked.iter();
    paths
        .filter_map(move |path| path.strip_prefix(&top).ok())
        .map(|path| {
            if path.as_os_str().is_empty() {
                Path::new(".")
            } else {
                path
            }
        })
}

fn run(
    questions: &Questions<'_>,
    tools: &Tools<'_>,
    top: &Path,
    mark: &str,
) -> Result<Vec<u8>, Silent> {
    let find = |name: &str| {
        let mut places = tools.path.iter().map(|folder| folder.join(name));
        places.find_map(|place| Program::open(place).ok())
    };
    let shell = find("sh").ok_or(Silent::NoProgram)?;
    let git = find("git").ok_or(Silent::NoProgram)?;
    let policy = tools
        .barred
        .paths()
        .iter()
        .fold(SandboxPolicy::read_only().readable(top), |policy, path| {
            policy.hide(path)
        });
    let policy = policy.build().map_err(|_| Silent::Failed)?;
    let remote = questions
        .push
        .map(|push| push.remote.clone().unwrap_or_else(|| "origin".to_owned()));
    let mut words: Vec<OsString> = ["sh", "-c", QUESTIONS, "sh", mark]
        .map(OsString::from)
        .to_vec();
    words.push(git.path().into());
    words.push(remote.unwrap_or_default().into());
    // Where files are denied by pattern, git reads none of them: names and commits only.
    let compared = if tools.barred.has_patterns() {
        0
    } else {
        MAX_COMPARED
    };
    // One more than are compared, so that it shows where there are more.
    let numbers = [compared, MAX_COMPARED + 1, MAX_NAMES];
    words.extend(numbers.map(|number| OsString::from(number.to_string())));
    words.extend(below(questions, top).map(OsString::from));
    let directory = WorkingDirectory::open(top).map_err(|_| Silent::Failed)?;
    let (answer, output) = std::io::pipe().map_err(|_| Silent::Failed)?;
    let command = Command::new(words, shell, directory)
        .and_then(|command| command.with_environment(environment()))
        .map_err(|_| Silent::Failed)?
        .with_output(Output::Only(output.into()));
    let plan = Plan::confined(&policy, &command).map_err(|_| Silent::Failed)?;
    let running = Sandbox::start(&plan, command).map_err(|_| Silent::Failed)?;
    let printed = read(answer, tools.until);
    if printed.is_err() {
        // It may have ended by itself meanwhile.
        running.kill().unwrap_or_default();
    }
    running.wait().map_err(|_| Silent::Failed)?;
    printed
}

/// Nothing of the user's own: no settings but the repository's, no editor, no helper, no prompt.
fn environment() -> [(&'static str, &'static str); 10] {
    [
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ("HOME", "/nonexistent"),
        ("LC_ALL", "C.UTF-8"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_ATTR_NOSYSTEM", "1"),
        ("GIT_OPTIONAL_LOCKS", "0"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_NO_LAZY_FETCH", "1"),
        ("GIT_NO_REPLACE_OBJECTS", "1"),
    ]
}

/// What comes, to its end.
fn read(mut answer: PipeReader, until: Instant) -> Result<Vec<u8>, Silent> {
    let mut printed = Vec::new();
    let mut part = vec![0; 64 * 1024];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let wait = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or_default(),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let ready = {
            let mut watched = [PollFd::from_borrowed_fd(answer.as_fd(), PollFlags::IN)];
            rustix::io::retry_on_intr(|| rustix::event::poll(&mut watched, Some(&wait)))
        };
        if ready.map_err(|_| Silent::Failed)? == 0 {
            return Err(Silent::TimedOut);
        }
        match answer.read(&mut part).map_err(|_| Silent::Failed)? {
            0 => return Ok(printed),
            read => printed.extend_from_slice(part.get(..read).unwrap_or_default()),
        }
        if printed.len() > MAX_ANSWER {
            return Err(Silent::TimedOut);
        }
    }
}

/// Where the repository is, as git says.
struct Place {
    top: PathBuf,
    dir: PathBuf,
    common: PathBuf,
}

impl Place {
    /// `None` where git did not say so in full: an older git echoes an option that it does not know.
    fn told(answers: &Answers<'_>) -> Option<Self> {
        let path = |name: &str| {
            let path = PathBuf::from(OsStr::from_bytes(answers.line(name)?));
            path.is_absolute().then_some(path)
        };
        Some(Self {
            top: path("top")?,
            dir: path("dir")?,
            common: path("common")?,
        })
    }
}

/// Names, and whether there are more.
struct Names<'p> {
    names: Vec<&'p [u8]>,
    more: bool,
}

/// What stands behind each mark.
struct Answers<'p> {
    parts: Vec<(&'p str, &'p [u8])>,
    complete: bool,
}

impl<'p> Answers<'p> {
    /// Reads what was printed; what did not end well is left out.
    fn read(printed: &'p [u8], mark: &str) -> Self {
        let mark = format!("\n{mark} ");
        let mut parts = Vec::new();
        let mut open = None;
        let mut rest = printed;
        while let Some(at) = position(rest, mark.as_bytes()) {
            let behind = rest.get(at + mark.len()..).unwrap_or_default();
            let line = behind
                .iter()
                .position(|byte| *byte == b'\n')
                .unwrap_or(behind.len());
            let name =
                std::str::from_utf8(behind.get(..line).unwrap_or_default()).unwrap_or_default();
            match (name, open.take()) {
                ("=0", Some(asked)) => parts.push((asked, rest.get(..at).unwrap_or_default())),
                (status, _) if status.starts_with('=') => {}
                (asked, _) => open = Some(asked),
            }
            rest = behind.get(line + 1..).unwrap_or_default();
        }
        let complete = parts.last().is_some_and(|(name, _)| *name == "end");
        Self { parts, complete }
    }

    /// What was answered, where it was.
    fn bytes(&self, name: &str) -> Option<&'p [u8]> {
        let mut parts = self.parts.iter();
        parts.find(|(of, _)| *of == name).map(|(_, bytes)| *bytes)
    }

    /// An answer of one line, without its end: a path may end in one of its own.
    fn line(&self, name: &str) -> Option<&'p [u8]> {
        self.bytes(name)?.strip_suffix(b"\n")
    }

    fn text(&self, name: &str) -> Option<String> {
        let text = String::from_utf8_lossy(self.bytes(name)?);
        let text = text.trim_end_matches('\n');
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// The lines of an answer, which may be none.
    fn lines(&self, name: &str) -> Option<Vec<String>> {
        let text = String::from_utf8_lossy(self.bytes(name)?);
        Some(text.lines().map(str::to_owned).collect())
    }

    /// A list of names, of which no more than a part is read. `None` where git did not end well.
    fn names(&self, name: &str) -> Option<Names<'p>> {
        if let Some(names) = self.ended(name, 0) {
            return Some(Names { names, more: false });
        }
        let bytes = self.bytes(name)?;
        let names: Vec<_> = bytes
            .split(|byte| *byte == 0)
            .filter(|part| !part.is_empty())
            .collect();
        // Cut off before its status, or it has none to show.
        let more = bytes.len() >= MAX_NAMES || names.len() > MAX_COMPARED;
        more.then_some(Names { names, more })
    }

    /// The parts that a NUL ends.
    fn list(&self, name: &str) -> Option<Vec<&'p [u8]>> {
        let parts = self.bytes(name)?.split(|byte| *byte == 0);
        Some(parts.filter(|part| !part.is_empty()).collect())
    }

    /// The parts of an answer whose status is its last part; `None` where that is missing or not good.
    fn ended(&self, name: &str, end: u8) -> Option<Vec<&'p [u8]>> {
        let mut parts: Vec<&[u8]> = self.bytes(name)?.split(|byte| *byte == end).collect();
        if parts.last().is_some_and(|last| last.is_empty()) {
            parts.pop();
        }
        (parts.pop()? == b"ended 0").then_some(parts)
    }
}

fn position(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes
        .windows(needle.len())
        .position(|window| window == needle)
}

fn told(
    questions: &Questions<'_>,
    answers: &Answers<'_>,
    place: &Place,
    tree: Option<&tree::Tree>,
) -> Value {
    let listed = answers.list("settings");
    let settings = listed.and_then(|listed| settings::of(&listed));
    let staged = answers.ended("stage", b'\n');
    let by_index = staged.as_ref().map(|lines| gitlinks(lines));
    let drivers = tree
        .zip(staged.as_ref())
        .map(|(tree, lines)| drivers(tree, lines));
    let mut value = json!({
        "root": place.top.to_str(),
        "git_dir": place.dir.to_str(),
        "common_dir": place.common.to_str(),
        "branch": answers.text("branch"),
        "head": answers.text("head"),
        "upstream": answers.text("upstream"),
        "hooks": settings::hooks(&place.common),
        "nested_repositories": by_index.zip(tree).map(|(index, tree)| index.max(tree.nested)),
        "attributes_that_name_drivers": drivers,
        "settings_that_run_programs": settings.as_ref().map(|settings| &settings.programs),
        "settings_that_redirect": settings.as_ref().map(|settings| &settings.redirects),
        "settings_not_known": settings.as_ref().map(|settings| &settings.unknown),
        "remotes": settings.as_ref().map(|settings| &settings.remotes),
    });
    if let (Some(push), Some(fields)) = (questions.push, value.as_object_mut()) {
        fields.insert("push".to_owned(), push_value(push, answers));
    }
    if let (false, Some(fields)) = (questions.tracked.is_empty(), value.as_object_mut()) {
        fields.insert("paths".to_owned(), tracked(questions, answers, place));
    }
    value
}

/// How many of the lines of `git ls-files --stage` are other repositories' commits.
fn gitlinks(lines: &[&[u8]]) -> u64 {
    lines.iter().map(|line| u64::from(*line == b"160000")).sum()
}

/// The attributes that name drivers, and the files of attributes that only the index has: git reads those too.
fn drivers(tree: &tree::Tree, lines: &[&[u8]]) -> Vec<String> {
    let only_in_index = lines.iter().filter_map(|line| {
        let tab = line.iter().position(|byte| *byte == b'\t')?;
        let name = line.get(tab + 1..)?;
        let seen = tree.attributes.contains(Path::new(OsStr::from_bytes(name)));
        (!seen).then(|| format!("{}: only in the index", String::from_utf8_lossy(name)))
    });
    let told = tree.drivers.iter().cloned();
    told.chain(only_in_index).take(40).collect()
}

fn push_value(push: &Push, answers: &Answers<'_>) -> Value {
    let changed = answers.names("changed");
    let files: Option<Vec<String>> = changed.as_ref().map(|changed| {
        let names = changed.names.iter().take(50);
        names
            .map(|file| String::from_utf8_lossy(file).into_owned())
            .collect()
    });
    let commits = answers.lines("commits");
    json!({
        "remote": push.remote.clone().unwrap_or_else(|| "origin".to_owned()),
        "remote_named": push.remote.is_some(),
        "urls": answers.lines("url").unwrap_or_default(),
        "push_urls": answers.lines("pushurl").unwrap_or_default(),
        "refspecs": push.refspecs,
        "options": push.options,
        "commits": answers.text("count").and_then(|count| count.parse::<u64>().ok()),
        "newest_commits": commits.map(|lines| lines.into_iter().take(MAX_COMMITS).collect::<Vec<_>>()),
        "changed_files": changed.as_ref().map(|changed| changed.names.len()),
        "changed_file_names": files,
        "more_changed": changed.map(|changed| changed.more),
    })
}

/// What of the paths that would be lost is in the last commit, unchanged.
fn tracked(questions: &Questions<'_>, answers: &Answers<'_>, place: &Place) -> Value {
    let (listed, others) = (answers.names("tree"), answers.names("others"));
    let more = [&listed, &others]
        .iter()
        .any(|names| names.as_ref().is_some_and(|names| names.more));
    let listed = listed.into_iter().flat_map(|listed| listed.names);
    let committed: Vec<(&[u8], &[u8])> = listed.filter_map(entry).collect();
    let now = answers.lines("objects");
    // Counted off against each other: one answer missing, and none of it is believed.
    let now = now.filter(|now| committed.len() <= MAX_COMPARED && committed.len() == now.len());
    let unchanged = now.map(|now| {
        let both = committed.iter().zip(&now);
        both.filter(|((object, _), now)| *object == now.as_bytes())
            .count()
    });
    let takes_git = questions
        .tracked
        .iter()
        .any(|path| place.dir.starts_with(path));
    let others = others.map(|others| others.names.len());
    let recoverable = if takes_git {
        "no_the_repository_itself_is_lost"
    } else if unchanged == Some(committed.len())
        && others == Some(0)
        && !more
        && !committed.is_empty()
    {
        "from_the_last_commit"
    } else if committed.is_empty() {
        "no"
    } else {
        "in_part"
    };
    json!({
        "paths": questions.tracked.iter().map(|path| path.to_string_lossy().into_owned()).collect::<Vec<_>>(),
        "inside_repository": questions.tracked.iter().all(|path| path.starts_with(&place.top)),
        "committed_files": committed.len(),
        "committed_unchanged": unchanged,
        "not_committed_files": others,
        "more": more,
        "recoverable": recoverable,
    })
}

/// `mode type object<TAB>name`: object and name of a file.
fn entry(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let tab = line.iter().position(|byte| *byte == b'\t')?;
    let (head, name) = (line.get(..tab)?, line.get(tab + 1..)?);
    let mut fields = head.split(|byte| *byte == b' ');
    let (_, kind, object) = (fields.next()?, fields.next()?, fields.next()?);
    (kind == b"blob").then_some((object, name))
}

#[cfg(test)]
mod tests {
    use super::{Answers, MAX_COMPARED, Place};

    #[test]
    fn an_answer_that_did_not_end_well_is_none() {
        let printed = b"\nM a\none\n\nM =0\n\nM b\ntwo\n\nM =128\n\nM c\n\nM =0\n\nM d\nthree\n\nM end\n\nM =0\n";
        let answers = Answers::read(printed, "M");
        assert!(answers.complete);
        assert_eq!(answers.text("a").as_deref(), Some("one"));
        assert_eq!(answers.text("b"), None, "failed");
        assert_eq!(answers.lines("c"), Some(Vec::new()), "empty, and well");
        assert_eq!(answers.bytes("d"), None, "never ended");
        assert!(!Answers::read(b"\nM end\n\nM =1\n", "M").complete);
        assert!(!Answers::read(b"\nM end\n", "M").complete);
    }

    #[test]
    fn a_pipe_s_answer_needs_the_status_of_what_spoke_into_it() {
        let read = |printed: &'static [u8]| Answers::read(printed, "M").ended("s", b'\n');
        assert_eq!(
            read(b"\nM s\n160000\nended 0\n\nM =0\n"),
            Some(vec![&b"160000"[..]])
        );
        assert_eq!(read(b"\nM s\nended 0\n\nM =0\n"), Some(Vec::new()));
        for failed in [
            &b"\nM s\n\nM =0\n"[..],
            b"\nM s\nended 128\n\nM =0\n",
            b"\nM s\n160000\n\nM =0\n",
            b"\nM s\nended 0\n160000\n\nM =0\n",
            b"\nM s\nended 0\n\nM =1\n",
        ] {
            assert_eq!(read(failed), None, "{}", String::from_utf8_lossy(failed));
        }
    }

    #[test]
    fn a_list_that_is_cut_says_so_and_one_that_failed_is_none() {
        let names = |printed: &[u8]| {
            let answers = Answers::read(printed, "M");
            answers
                .names("s")
                .map(|names| (names.names.len(), names.more))
        };
        assert_eq!(names(b"\nM s\na\0b\0ended 0\0\nM =0\n"), Some((2, false)));
        assert_eq!(names(b"\nM s\nended 0\0\nM =0\n"), Some((0, false)));
        assert_eq!(names(b"\nM s\na\0ended 128\0\nM =0\n"), None);
        assert_eq!(
            names(b"\nM s\na\0\nM =0\n"),
            None,
            "no status, and not long"
        );
        let many = [
            b"\nM s\n".as_slice(),
            &b"a\0".repeat(MAX_COMPARED + 1),
            b"\nM =0\n",
        ]
        .concat();
        assert_eq!(names(&many), Some((MAX_COMPARED + 1, true)));
    }

    #[test]
    fn a_place_is_one_only_as_a_whole_path() {
        let place = |dir: &str| {
            let printed = format!(
                "\nM top\n/w\n\nM =0\n\nM dir\n{dir}\n\nM =0\n\nM common\n/w/.git\n\nM =0\n"
            );
            Place::told(&Answers::read(printed.as_bytes(), "M")).map(|place| place.dir)
        };
        assert_eq!(place("/w/.git").as_deref(), Some("/w/.git".as_ref()));
        assert_eq!(
            place("/w\n").as_deref(),
            Some("/w\n".as_ref()),
            "a name's own line end"
        );
        assert_eq!(place("--path-format=absolute\n.git"), None);
        assert_eq!(place(""), None);
    }
}
