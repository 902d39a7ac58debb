//! What the walls cost: `/bin/true` inside them over a bare spawn, as a library call (small parent, 400 MiB parent) and
//! through the command line, with bubblewrap beside it where it is installed.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a benchmark's figures are its output")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command as Bare, Stdio};
use std::time::{Duration, Instant};

use benches::{Samples, line};
use sandbox::{
    Ahead, Command, Plan, PrivateTmp, Program, Sandbox, SandboxPolicy, WorkingDirectory,
};

const ROUNDS: usize = 200;
const TRUE: &str = "/bin/true";

fn main() -> Result<(), Box<dyn Error>> {
    let workspace = Workspace::new()?;
    let policy = SandboxPolicy::workspace_write(&workspace.0)
        .private_tmp(PrivateTmp::Fresh)
        .build()?;
    println!(
        "{ROUNDS} rounds, interleaved with the yardstick: a bare spawn of {TRUE} from the same process\n"
    );

    library_rows(&policy, &workspace.0, "small parent")?;
    let ballast = vec![1_u8; 400 * 1024 * 1024];
    library_rows(&policy, &workspace.0, "400 MiB parent")?;
    drop(std::hint::black_box(ballast));

    let program = std::env::current_exe()?.with_file_name("agent-runner");
    if program.exists() {
        let (bare, walled) = rounds(|| command_line(&program, &workspace.0))?;
        println!(
            "{}",
            line("command line: agent-runner sandbox", &walled, &bare)
        );
    } else {
        println!("command line: not measured; build agent-runner with the same profile first");
    }
    if Path::new("/usr/bin/bwrap").exists() {
        let (bare, walled) = rounds(|| bubblewrap(&workspace.0))?;
        println!(
            "{}",
            line(
                "for comparison: bwrap, the same walls by mounts",
                &walled,
                &bare
            )
        );
    } else {
        println!("for comparison: bwrap is not installed (Debian: apt-get install bubblewrap)");
    }
    Ok(())
}

/// In a process that runs commands one after the other, as an agent's session does: the namespaces of the next are begun
/// while nothing else is to be done. And for the first one, begun together with its plan.
fn library_rows(
    policy: &SandboxPolicy,
    workspace: &Path,
    parent: &str,
) -> Result<(), Box<dyn Error>> {
    let mut next = Some(Ahead::begin(policy.network())?);
    let (bare, walled) = rounds(|| {
        let ahead = match next.take() {
            Some(ahead) => ahead,
            None => Ahead::begin(policy.network())?,
        };
        let took = library(policy, workspace, || Ok(ahead))?;
        next = Some(Ahead::begin(policy.network())?);
        Ok(took)
    })?;
    println!(
        "{}",
        line(&format!("library call, {parent}"), &walled, &bare)
    );
    drop(next);
    let (bare, walled) =
        rounds(|| library(policy, workspace, || Ok(Ahead::begin(policy.network())?)))?;
    println!(
        "{}",
        line(&format!("first library call, {parent}"), &walled, &bare)
    );
    Ok(())
}

/// A private folder, removed at the end.
struct Workspace(PathBuf);

impl Workspace {
    fn new() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("auto-review-bench-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&path)?;
        path.canonicalize().map(Self)
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        // A folder that cannot be removed is left for the person who measures.
        std::fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

type Timed = Result<Duration, Box<dyn Error>>;

fn rounds(mut walled: impl FnMut() -> Timed) -> Result<(Samples, Samples), Box<dyn Error>> {
    let (mut yardstick, mut samples) = (Samples::default(), Samples::default());
    for round in 0..ROUNDS + 10 {
        let (bare, ours) = (bare()?, walled()?);
        if round >= 10 {
            yardstick.push(bare);
            samples.push(ours);
        }
    }
    Ok((yardstick, samples))
}

fn bare() -> Timed {
    run(Bare::new(TRUE).env_clear())
}

fn run(command: &mut Bare) -> Timed {
    let started = Instant::now();
    let status = command.stdin(Stdio::null()).status()?;
    let took = started.elapsed();
    if status.success() {
        Ok(took)
    } else {
        Err(format!("it ended with {status}").into())
    }
}

fn library(
    policy: &SandboxPolicy,
    workspace: &Path,
    ahead: impl FnOnce() -> Result<Ahead, Box<dyn Error>>,
) -> Timed {
    let started = Instant::now();
    let ahead = ahead()?;
    let command = Command::new(
        [TRUE],
        Program::open(TRUE)?,
        WorkingDirectory::open(workspace)?,
    )?;
    let plan = Plan::confined(policy, &command)?;
    let run = Sandbox::start_in(ahead, &plan, command)?.wait()?;
    let took = started.elapsed();
    if run.ending == sandbox::Ending::Exited(0) {
        Ok(took)
    } else {
        Err(format!("it ended with {:?}", run.ending).into())
    }
}

fn command_line(program: &Path, workspace: &Path) -> Timed {
    let mut command = Bare::new(program);
    command
        .args(["sandbox", "--sandbox", "workspace-write", "--cd"])
        .arg(workspace)
        .args(["--", TRUE]);
    run(&mut command)
}

fn bubblewrap(workspace: &Path) -> Timed {
    let mut command = Bare::new("/usr/bin/bwrap");
    command
        .args([
            "--unshare-user",
            "--unshare-pid",
            "--unshare-ipc",
            "--unshare-net",
            "--die-with-parent",
            "--new-session",
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
        ])
        .arg("--bind")
        .args([workspace, workspace])
        .args(["--cap-drop", "ALL", "--", TRUE]);
    run(&mut command)
}
