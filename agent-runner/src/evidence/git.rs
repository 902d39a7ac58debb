//! What git says of a repository that a command may have written: asked inside the walls, with no network and nothing
//! writable, and of git only what runs none of the repository's programs.
//!
//! Invariant: no hook, filter, alias, helper or monitor that the repository's own settings name is started by these
//! questions; and were one, it could change nothing and reach nobody (design D23). What git printed is data between
//! marks that are drawn anew each time.

use std::ffi::OsString;
use std::io::{PipeReader, Read as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec};
use sandbox::{Command, Output, Plan, Program, Sandbox, SandboxPolicy, WorkingDirectory};
use serde_json::{Value, json};

use super::files::Barred;
use super::inquiry::Push;

mod settings;

/// The most that git may say, in bytes.
const MAX_ANSWER: usize = 1024 * 1024;
/// The most files whose content is held against the last commit.
const MAX_COMPARED: usize = 2000;
/// The most bytes of a list of names that are read. What is cut is said.
const MAX_NAMES: usize = 256 * 1024;
/// The most commits that a push is told by.
const MAX_COMMITS: usize = 20;

/// The questions, each answer behind a mark: `$1`. `$2` is git, `$3` the remote, `$4` how many files are compared, `$5` how
/// many committed ones are listed, `$6` how many bytes a list of names may have, then the paths.
const QUESTIONS: &str = r#"
mark=$1 git=$2 remote=$3 compared=$4 listed=$5 names=$6; shift 6
g() { "$git" -c safe.directory=* -c core.fsmonitor=false -c core.hooksPath=/dev/null -c core.untrackedCache=false \
  -c core.pager=cat -c core.attributesFile=/dev/null -c submodule.recurse=false -c protocol.allow=never \
  -c log.showSignature=false --literal-pathspecs --no-pager "$@" 2>/dev/null; }
say() { printf '\n%s %s\n' "$mark" "$1"; }
say top; g rev-parse --show-toplevel
say dir; g rev-parse --path-format=absolute --git-dir
say common; g rev-parse --path-format=absolute --git-common-dir
say branch; g symbolic-ref -q --short HEAD
say head; g rev-parse -q --verify HEAD
say upstream; g rev-parse -q --symbolic-full-name '@{upstream}'
say stage; g ls-files --stage | cut -c 1-7 | grep -c "^160000 "
say settings; g config --list -z --show-scope --includes
say url; [ -n "$remote" ] && g remote get-url --all -- "$remote"
say pushurl; [ -n "$remote" ] && g remote get-url --push --all -- "$remote"
say count; g rev-list --count '@{upstream}..HEAD' --
say commits; g log -n 20 --no-show-signature --no-ext-diff --no-textconv --format='%h %an: %s' '@{upstream}..HEAD' --
say changed; g diff-tree -r --name-only --no-ext-diff --no-textconv -z '@{upstream}' HEAD -- | head -c "$names"
if [ $# -gt 0 ]; then
say tree; g ls-tree -r -z --full-name HEAD -- "$@" | head -z -n "$listed" | head -c "$names"
say others; g ls-files -z --others -- "$@" | head -c "$names"
say objects; g ls-tree -r -z --name-only HEAD -- "$@" | head -z -n "$compared" | tr '\0' '\n' | g hash-object --no-filters --stdin-paths
fi
say end
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
    if answers.text("top").is_empty() && answers.text("dir").is_empty() {
        return Err(Silent::Failed);
    }
    Ok(told(questions, &answers))
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

/// What stands behind each mark.
struct Answers<'p> {
    parts: Vec<(&'p str, &'p [u8])>,
    complete: bool,
}

impl<'p> Answers<'p> {
    fn read(printed: &'p [u8], mark: &str) -> Self {
        let mark = format!("\n{mark} ");
        let mut parts = Vec::new();
        let mut rest = printed;
        while let Some(at) = position(rest, mark.as_bytes()) {
            let behind = rest.get(at + mark.len()..).unwrap_or_default();
            let line = behind
                .iter()
                .position(|byte| *byte == b'\n')
                .unwrap_or(behind.len());
            let name =
                std::str::from_utf8(behind.get(..line).unwrap_or_default()).unwrap_or_default();
            rest = behind.get(line + 1..).unwrap_or_default();
            let end = position(rest, mark.as_bytes()).unwrap_or(rest.len());
            parts.push((name, rest.get(..end).unwrap_or_default()));
        }
        let complete = parts.last().is_some_and(|(name, _)| *name == "end");
        Self { parts, complete }
    }

    fn bytes(&self, name: &str) -> &'p [u8] {
        let mut parts = self.parts.iter();
        parts
            .find(|(of, _)| *of == name)
            .map_or(&[], |(_, bytes)| bytes)
    }

    fn text(&self, name: &str) -> String {
        String::from_utf8_lossy(self.bytes(name))
            .trim_end_matches('\n')
            .to_owned()
    }

    /// Whether a list of names was longer than what is read of it.
    fn is_cut(&self, name: &str) -> bool {
        self.bytes(name).len() >= MAX_NAMES
    }

    /// The parts that a NUL ends.
    fn list(&self, name: &str) -> Vec<&'p [u8]> {
        let parts = self.bytes(name).split(|byte| *byte == 0);
        parts.filter(|part| !part.is_empty()).collect()
    }
}

fn position(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes
        .windows(needle.len())
        .position(|window| window == needle)
}

fn told(questions: &Questions<'_>, answers: &Answers<'_>) -> Value {
    let settings = settings::of(&answers.list("settings"));
    let common = PathBuf::from(answers.text("common"));
    let mut value = json!({
        "root": answers.text("top"),
        "git_dir": answers.text("dir"),
        "branch": optional(answers.text("branch")),
        "head": optional(answers.text("head")),
        "upstream": optional(answers.text("upstream")),
        "hooks": settings::hooks(&common),
        "nested_repositories": answers.text("stage").parse::<u64>().ok(),
        "settings_that_run_programs": settings.programs,
        "settings_that_redirect": settings.redirects,
    });
    if let (Some(push), Some(fields)) = (questions.push, value.as_object_mut()) {
        fields.insert("push".to_owned(), push_value(push, answers));
    }
    if let (false, Some(fields)) = (questions.tracked.is_empty(), value.as_object_mut()) {
        fields.insert("paths".to_owned(), tracked(questions, answers));
    }
    value
}

fn optional(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn push_value(push: &Push, answers: &Answers<'_>) -> Value {
    let lines = |name: &str| {
        answers
            .text(name)
            .lines()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let changed = answers.list("changed");
    let files: Vec<String> = changed
        .iter()
        .take(50)
        .map(|file| String::from_utf8_lossy(file).into_owned())
        .collect();
    json!({
        "remote": push.remote.clone().unwrap_or_else(|| "origin".to_owned()),
        "remote_named": push.remote.is_some(),
        "urls": lines("url"),
        "push_urls": lines("pushurl"),
        "refspecs": push.refspecs,
        "options": push.options,
        "commits": answers.text("count").parse::<u64>().ok(),
        "newest_commits": lines("commits").into_iter().take(MAX_COMMITS).collect::<Vec<_>>(),
        "changed_files": changed.len(),
        "changed_file_names": files,
        "more_changed": answers.is_cut("changed"),
    })
}

/// What of the paths that would be lost is in the last commit, unchanged.
fn tracked(questions: &Questions<'_>, answers: &Answers<'_>) -> Value {
    let root = PathBuf::from(answers.text("top"));
    let committed: Vec<(&[u8], &[u8])> =
        answers.list("tree").into_iter().filter_map(entry).collect();
    let objects = answers.text("objects");
    let now: Vec<&str> = objects.lines().collect();
    // Counted off against each other: one answer missing, and none of it is believed.
    let comparable =
        committed.len().min(MAX_COMPARED) == now.len() && committed.len() <= MAX_COMPARED;
    let same = committed
        .iter()
        .zip(&now)
        .filter(|((object, _), now)| *object == now.as_bytes())
        .count();
    let git_dir = PathBuf::from(answers.text("dir"));
    let takes_git = questions
        .tracked
        .iter()
        .any(|path| git_dir.starts_with(path));
    let others = answers.list("others").len();
    let unchanged = if comparable { Some(same) } else { None };
    let recoverable = if takes_git {
        "no_the_repository_itself_is_lost"
    } else if unchanged == Some(committed.len()) && others == 0 && !committed.is_empty() {
        "from_the_last_commit"
    } else if committed.is_empty() {
        "no"
    } else {
        "in_part"
    };
    json!({
        "paths": questions.tracked.iter().map(|path| path.to_string_lossy().into_owned()).collect::<Vec<_>>(),
        "inside_repository": questions.tracked.iter().all(|path| path.starts_with(&root)),
        "committed_files": committed.len(),
        "committed_unchanged": unchanged,
        "not_committed_files": others,
        "more": committed.len() > MAX_COMPARED || answers.is_cut("tree") || answers.is_cut("others"),
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
