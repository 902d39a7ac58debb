//! What the walls cost where there is something to look through: `git status`, and a tree of 50,000 files with one and with
//! fifteen patterns of denied reads. As a library call in a running process and through the command line; bubblewrap, which
//! knows no patterns, beside it where it is installed.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a benchmark's figures are its output")]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command as Bare, Stdio};
use std::time::{Duration, Instant};

use benches::{Samples, line};
use sandbox::{Command, Output, Plan, Program, Sandbox, SandboxPolicy, WorkingDirectory};

const ROUNDS: usize = 60;
const FOLDERS: usize = 500;
const FILES: usize = 100;
const GIT: &str = "/usr/bin/git";
const TRUE: &str = "/bin/true";
/// One pattern, or all: what people hide.
const PATTERNS: [&str; 15] = [
    "**/*.env",
    "**/*.pem",
    "**/*.key",
    "**/id_rsa",
    "**/id_ed25519",
    "**/*.p12",
    "**/*.pfx",
    "**/.npmrc",
    "**/.pypirc",
    "**/.netrc",
    "**/secrets.yaml",
    "**/credentials.json",
    "**/*.kdbx",
    "**/*.tfstate",
    "**/.htpasswd",
];

type Timed = Result<Duration, Box<dyn Error>>;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Folder::new()?;
    println!("{ROUNDS} rounds, each interleaved with the same command started bare\n");
    git_status(&folder)?;
    let tree = folder.0.join("tree");
    println!("\n{} files in {FOLDERS} folders, {TRUE}:", FOLDERS * FILES);
    plant(&tree)?;
    for patterns in [0, 1, PATTERNS.len()] {
        tree_rows(&folder.0, &tree, patterns)?;
    }
    Ok(())
}

fn git_status(folder: &Folder) -> Result<(), Box<dyn Error>> {
    let repository = folder.0.join("repository");
    fs::create_dir(&repository)?;
    for file in 0..200 {
        fs::write(repository.join(format!("file-{file}")), "text\n")?;
    }
    for words in [&["init", "--quiet"][..], &["add", "."]] {
        run(Bare::new(GIT).args(words).current_dir(&repository))?;
    }
    let policy = SandboxPolicy::workspace_write(&repository).build()?;
    let words = [GIT, "status", "--short"];
    let bare = || {
        run(Bare::new(GIT)
            .args(["status", "--short"])
            .current_dir(&repository))
    };
    let (yardstick, ours) = rounds(bare, || library(&policy, &repository, &words))?;
    println!(
        "{}",
        line("git status, 200 files, library call", &ours, &yardstick)
    );
    if Path::new("/usr/bin/bwrap").exists() {
        let (yardstick, ours) = rounds(bare, || bubblewrap(&repository, &words))?;
        println!(
            "{}",
            line("for comparison: bwrap, mounts alone", &ours, &yardstick)
        );
    }
    Ok(())
}

fn tree_rows(home: &Path, tree: &Path, patterns: usize) -> Result<(), Box<dyn Error>> {
    let chosen = PATTERNS.get(..patterns).unwrap_or_default();
    let memory = home.join("memory");
    fs::create_dir_all(&memory)?;
    let builder = SandboxPolicy::workspace_write(tree).remember_in(&memory);
    let builder = chosen.iter().fold(builder, |builder, pattern| {
        builder.deny_matching(tree, *pattern)
    });
    let policy = builder.build()?;
    let started = Instant::now();
    library(&policy, tree, &[TRUE])?;
    let cold = started.elapsed();
    let bare = || run(Bare::new(TRUE).current_dir(tree));
    let (yardstick, ours) = rounds(bare, || library(&policy, tree, &[TRUE]))?;
    let name = format!(
        "library call, {patterns} patterns (first time {} ms)",
        cold.as_millis()
    );
    println!("{}", line(&name, &ours, &yardstick));
    let program = std::env::current_exe()?.with_file_name("agent-runner");
    if program.exists() {
        settings(home, chosen)?;
        let (yardstick, ours) = rounds(bare, || command_line(&program, home, tree))?;
        println!(
            "{}",
            line(
                &format!("command line, {patterns} patterns"),
                &ours,
                &yardstick
            )
        );
    } else {
        println!("command line: not measured; build agent-runner with the same profile first");
    }
    Ok(())
}

/// The runner's settings with these patterns.
fn settings(home: &Path, patterns: &[&str]) -> std::io::Result<()> {
    let denied: String = patterns
        .iter()
        .map(|pattern| format!("\"{pattern}\" = \"deny\"\n"))
        .collect();
    fs::create_dir_all(home.join("codex"))?;
    fs::write(
        home.join("codex/config.toml"),
        format!(
            "default_permissions = \"p\"\n[permissions.p]\nextends = \":workspace\"\n\
             [permissions.p.filesystem.\":workspace_roots\"]\n\".\" = \"write\"\n{denied}"
        ),
    )
}

/// The tree: every folder with one file that a pattern names.
fn plant(tree: &Path) -> std::io::Result<()> {
    for folder in 0..FOLDERS {
        let folder = tree.join(format!("area-{}/folder-{folder}", folder % 20));
        fs::create_dir_all(&folder)?;
        for file in 1..FILES {
            fs::write(folder.join(format!("file-{file}.txt")), "")?;
        }
        let last = if folder.ends_with("folder-0") {
            ".env"
        } else {
            "notes.md"
        };
        fs::write(folder.join(last), "")?;
    }
    Ok(())
}

/// A folder of this measurement's own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("auto-review-bench-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&path)?;
        path.canonicalize().map(Self)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A folder that cannot be removed is left for the person who measures.
        fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

fn rounds(
    mut bare: impl FnMut() -> Timed,
    mut walled: impl FnMut() -> Timed,
) -> Result<(Samples, Samples), Box<dyn Error>> {
    let (mut yardstick, mut samples) = (Samples::default(), Samples::default());
    for round in 0..ROUNDS + 5 {
        let (bare, ours) = (bare()?, walled()?);
        if round >= 5 {
            yardstick.push(bare);
            samples.push(ours);
        }
    }
    Ok((yardstick, samples))
}

fn run(command: &mut Bare) -> Timed {
    let started = Instant::now();
    let output = command.stdin(Stdio::null()).output()?;
    let took = started.elapsed();
    if output.status.success() {
        Ok(took)
    } else {
        Err(format!(
            "it ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        )
        .into())
    }
}

fn library(policy: &SandboxPolicy, folder: &Path, words: &[&str]) -> Timed {
    let started = Instant::now();
    let program = Program::open(words.first().copied().unwrap_or(TRUE))?;
    let command = Command::new(
        words.iter().copied(),
        program,
        WorkingDirectory::open(folder)?,
    )?;
    // What it prints is not the figure.
    let nowhere = fs::File::options().write(true).open("/dev/null")?;
    let command = command.with_output(Output::Only(nowhere.into()));
    let plan = Plan::confined(policy, &command)?;
    let run = Sandbox::start(&plan, command)?.wait()?;
    let took = started.elapsed();
    if run.ending == sandbox::Ending::Exited(0) {
        Ok(took)
    } else {
        Err(format!("it ended with {:?}", run.ending).into())
    }
}

fn command_line(program: &Path, home: &Path, tree: &Path) -> Timed {
    let mut command = Bare::new(program);
    command
        .env("CODEX_HOME", home.join("codex"))
        .env("XDG_STATE_HOME", home.join("state"))
        .args(["sandbox", "--cd"])
        .arg(tree)
        .args(["--", TRUE]);
    run(&mut command)
}

fn bubblewrap(folder: &Path, words: &[&str]) -> Timed {
    let mut command = Bare::new("/usr/bin/bwrap");
    command
        .args([
            "--unshare-user",
            "--unshare-pid",
            "--unshare-ipc",
            "--unshare-net",
            "--die-with-parent",
        ])
        .args([
            "--ro-bind",
            "/",
            "/",
            "--dev",
            "/dev",
            "--proc",
            "/proc",
            "--tmpfs",
            "/run",
            "--bind",
        ])
        .args([folder, folder])
        .arg("--chdir")
        .arg(folder)
        .args(["--cap-drop", "ALL", "--"])
        .args(words);
    run(&mut command)
}
