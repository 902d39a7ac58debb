//! Durable submissions per second through real HTTP, beside what the disk gives.
//!
//! `cargo run --release -p server --example load -- [CONNECTIONS [SECONDS]]` starts the program that was built beside it
//! on a fresh database, submits distinct actions that the built-in reviewer allows (`Prefer: wait`), and prints rate and
//! percentiles next to the time of a bare 4 KiB write with fdatasync on the same disk. Client and server share the
//! machine. Build the program first: `cargo build --release -p server`.

use std::error::Error;
use std::io::{BufRead as _, BufReader as Lines, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use protocol::{Action, SubmitReview};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let connections = arguments
        .next()
        .map_or(Ok(64), |text| text.parse::<usize>())?;
    let seconds = arguments.next().map_or(Ok(5), |text| text.parse::<u64>())?;
    let folder = std::env::temp_dir().join(format!("auto-review-load-{}", std::process::id()));
    std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
    let measured = measure(&folder, connections, Duration::from_secs(seconds)).await;
    std::fs::remove_dir_all(&folder)?;
    measured
}

async fn measure(folder: &Path, connections: usize, time: Duration) -> Outcome<()> {
    let mut out = std::io::stdout();
    let sync = percentile(&mut syncs(folder)?, 50);
    writeln!(out, "fdatasync of 4 KiB: p50 {sync:?}")?;
    let program = Program::new(folder)?;
    let token = program.run(&["token", "create"])?;
    let (mut child, address, ready) = program.serve()?;
    writeln!(
        out,
        "ready after {ready:?}, resident {} KiB idle",
        resident(&child)?
    )?;
    let calls = bare_calls(&address, connections, time / 2).await?;
    writeln!(
        out,
        "{connections} connections: {calls:.0} bare calls of /healthz a second"
    )?;
    for clients in [1, connections] {
        let (started, spent) = (Instant::now(), processor_time(&child)?);
        let mut tasks = JoinSet::new();
        for client in 0..clients {
            let (address, token) = (address.clone(), token.clone());
            tasks.spawn(async move { submit_for(&address, &token, client, time).await });
        }
        let mut times = Vec::new();
        while let Some(done) = tasks.join_next().await {
            times.extend(done??);
        }
        let spent = processor_time(&child)?.saturating_sub(spent);
        let each = spent / u32::try_from(times.len().max(1))?;
        let rate = times.len() as f64 / started.elapsed().as_secs_f64();
        let (middle, late) = (percentile(&mut times, 50), percentile(&mut times, 99));
        writeln!(
            out,
            "{clients} connections: {rate:.0} reviews/s, p50 {middle:?}, p99 {late:?} ({:.1} fdatasync), server CPU {each:?} each",
            middle.as_secs_f64() / sync.as_secs_f64()
        )?;
    }
    writeln!(out, "resident {} KiB after it", resident(&child)?)?;
    child.kill()?;
    child.wait()?;
    Ok(())
}

fn syncs(folder: &Path) -> Outcome<Vec<Duration>> {
    let mut file = std::fs::File::create(folder.join("sync"))?;
    let mut times = Vec::new();
    for _ in 0..500 {
        let started = Instant::now();
        file.write_all(&[1; 4096])?;
        file.sync_data()?;
        times.push(started.elapsed());
    }
    Ok(times)
}

fn percentile(times: &mut [Duration], share: usize) -> Duration {
    times.sort_unstable();
    let last = times.len().saturating_sub(1);
    times.get(last * share / 100).copied().unwrap_or_default()
}

struct Program {
    path: PathBuf,
    settings: PathBuf,
}

impl Program {
    fn new(folder: &Path) -> Outcome<Self> {
        let settings = folder.join("settings.toml");
        let database = folder.join("reviews.db");
        std::fs::write(
            &settings,
            format!("database_url = \"sqlite:{}\"\n", database.display()),
        )?;
        let example = std::env::current_exe()?;
        let built = example.ancestors().nth(2).ok_or("no target folder")?;
        Ok(Self {
            path: built.join("auto-review-server"),
            settings,
        })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command.args(arguments).arg("--config").arg(&self.settings);
        command
    }

    fn run(&self, arguments: &[&str]) -> Outcome<String> {
        let output = self.command(arguments).output()?;
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    fn serve(&self) -> Outcome<(Child, String, Duration)> {
        let started = Instant::now();
        let mut command = self.command(&["serve", "--listen", "127.0.0.1:0"]);
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        Lines::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        let address = line.trim().strip_prefix("listening on http://");
        let address = address.ok_or("it did not start")?.to_owned();
        Ok((child, address, started.elapsed()))
    }
}

fn resident(child: &Child) -> Outcome<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let digits = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(digits.ok_or("no VmRSS")?.parse()?)
}

/// User and system time so far, in steps of 10 ms (`proc_pid_stat(5)`, fields 14 and 15).
fn processor_time(child: &Child) -> Outcome<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id()))?;
    let (_, fields) = stat.rsplit_once(')').ok_or("no stat")?;
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: Result<Vec<u64>, _> = ticks.map(str::parse).collect();
    Ok(Duration::from_millis(10 * ticks?.iter().sum::<u64>()))
}

/// Submits one after another for `time`; how long each took.
async fn submit_for(
    address: &str,
    token: &str,
    client: usize,
    time: Duration,
) -> Outcome<Vec<Duration>> {
    let connection = TcpStream::connect(address).await?;
    connection.set_nodelay(true)?;
    let mut connection = BufReader::new(connection);
    let mut times = Vec::new();
    let started = Instant::now();
    while started.elapsed() < time {
        let body = submission(client, times.len())?;
        let request = format!(
            "POST /v1/reviews HTTP/1.1\r\nhost: load\r\nauthorization: Bearer {token}\r\nprefer: wait=30\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let asked = Instant::now();
        connection.write_all(request.as_bytes()).await?;
        let answer = read_answer(&mut connection).await?;
        times.push(asked.elapsed());
        if !answer.contains("\"status\":\"approved\"") {
            return Err(format!("not approved: {answer}").into());
        }
    }
    Ok(times)
}

/// The yardstick: the same server and client without token, body or store; calls per second.
async fn bare_calls(address: &str, connections: usize, time: Duration) -> Outcome<f64> {
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let address = address.to_owned();
        tasks.spawn(async move { call_for(&address, time).await });
    }
    let mut calls = 0.0;
    while let Some(done) = tasks.join_next().await {
        calls += done??;
    }
    Ok(calls / time.as_secs_f64())
}

async fn call_for(address: &str, time: Duration) -> Outcome<f64> {
    let connection = TcpStream::connect(address).await?;
    connection.set_nodelay(true)?;
    let mut connection = BufReader::new(connection);
    let (started, mut calls) = (Instant::now(), 0.0);
    while started.elapsed() < time {
        connection
            .write_all(b"GET /healthz HTTP/1.1\r\nhost: load\r\n\r\n")
            .await?;
        read_answer(&mut connection).await?;
        calls += 1.0;
    }
    Ok(calls)
}

async fn read_answer(connection: &mut BufReader<TcpStream>) -> Outcome<String> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        connection.read_line(&mut line).await?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body).await?;
    Ok(String::from_utf8(body)?)
}

/// About 1.5 KiB, as a runner sends it.
fn submission(client: usize, number: usize) -> Outcome<String> {
    let action: Action = serde_json::from_value(json!({
        "tool": "exec_command", "command": ["ls", format!("/usr/share/{client}/{number}")], "cwd": "/srv/app",
        "sandbox_permissions": "require_escalated", "justification": "look at what is installed there",
    }))?;
    let body: SubmitReview = serde_json::from_value(json!({
        "version": 1,
        "client": {"name": "load", "version": "0", "channel": "runner"},
        "session": {"session_id": format!("s-{client}"), "turn_id": "t-1"},
        "environment": {
            "host": "h", "user": "u", "cwd": "/srv/app", "workspace_roots": ["/srv/app"],
            "sandbox_mode": "workspace-write", "approval_policy": "on-request",
        },
        "action": action,
        "action_digest": action.digest(),
        "trigger": {"kind": "escalation_requested"},
        "transcript": {"complete": true, "entries": [
            {"n": 1, "author": "user", "trust": "untrusted", "text": "look around ".repeat(40)},
            {"n": 2, "author": "assistant", "trust": "untrusted", "text": "I will list it.".repeat(20)},
        ]},
    }))?;
    Ok(serde_json::to_string(&body)?)
}
