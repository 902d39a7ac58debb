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
        command_lines(&program, &workspace.0)?;
    } else {
        println!("command line: not measured; build agent-runner with the same profile first");
    }
    Ok(())
}

/// Both command lines in the same rounds, since what else the machine does moves them more than what they do themselves.
fn command_lines(program: &Path, workspace: &Path) -> Result<(), Box<dyn Error>> {
    if !Path::new("/usr/bin/bwrap").exists() {
        println!("for comparison: bwrap is not installed (Debian: apt-get install bubblewrap)");
        let (bare, [ours]) = rounds([&mut || command_line(program, workspace)])?;
        println!(
            "{}",
            line("command line: agent-runner sandbox", &ours, &bare)
        );
        return Ok(());
    }
    let (bare, [ours, theirs]) = rounds([&mut || command_line(program, workspace), &mut || {
        bubblewrap(workspace)
    }])?;
    for (what, samples) in [
        ("command line: agent-runner sandbox", &ours),
        ("for comparison: bwrap, the same walls by mounts", &theirs),
    ] {
        println!("{}", line(what, samples, &bare));
    }
    let added = |samples: &Samples| {
        let added = samples.percentile(50).saturating_sub(bare.percentile(50));
        added.as_secs_f64()
    };
    let ratio = added(&ours) / added(&theirs).max(f64::EPSILON);
    println!("what the command line adds is ×{ratio:.2} of what bwrap adds");
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
    let (bare, [walled]) = rounds([&mut || {
        let ahead = match next.take() {
            Some(ahead) => ahead,
            None => Ahead::begin(policy.network())?,
        };
        let took = library(policy, workspace, || Ok(ahead))?;
        next = Some(Ahead::begin(policy.network())?);
        Ok(took)
    }])?;
    println!(
        "{}",
        line(&format!("library call, {parent}"), &walled, &bare)
    );
    drop(next);
    let begun_now = || Ok(Ahead::begin(policy.network())?);
    let (bare, [walled]) = rounds([&mut || library(policy, workspace, begun_now)])?;
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

/// Rounds of a bare spawn and of each of `walled`.
fn rounds<const N: usize>(
    mut walled: [&mut dyn FnMut() -> Timed; N],
) -> Result<(Samples, [Samples; N]), Box<dyn Error>> {
    let mut yardstick = Samples::default();
    let mut samples = std::array::from_fn(|_| Samples::default());
    for round in 0..ROUNDS + 10 {
        let bare = bare()?;
        for (walled, samples) in walled.iter_mut().zip(&mut samples) {
            let took = walled()?;
            if round >= 10 {
                samples.push(took);
            }
        }
        if round >= 10 {
            yardstick.push(bare);
        }
    }
    Ok((yardstick, samples))
}

fn bare() -> Timed {
    run(Bare::new(TRUE).env_clear())
}

fn run(command: &mut Bare) -> Timed {
    let started = Instant::now();
    // What prints has somewhere to print that costs nobody anything.
    let nowhere = [Stdio::null(), Stdio::null(), Stdio::null()];
    let [stdin, stdout, stderr] = nowhere;
    let status = command
        .stdin(stdin)
        .stdout(stdout)
        .stderr(stderr)
        .status()?;
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
