//! What looking things up costs when the history is long: pages, filters and words over as many reviews as are asked
//! for (`history 1000000`; 100,000 where nothing is said), beside an open page of a history of one. A folder behind the
//! number (`history 1000000 FOLDER`) keeps the record there, and finds it there the next time.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a benchmark's figures are its output")]

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use benches::{Samples, shown};
use http_body_util::BodyExt as _;
use protocol::Action;
use reviewer::{Reviewer, ReviewerSettings};
use server::{Limits, Service, ServiceSettings, SigningKey};
use tokio::task::JoinSet;
use tower::ServiceExt as _;

const WRITERS: usize = 128;
const ROUNDS: usize = 200;
/// How long one question is asked again and again at most.
const PATIENCE: Duration = Duration::from_secs(20);
/// The largest answer that is read.
const ANSWER: usize = 16 << 20;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// What is looked up, and by which words.
const LOOKED_UP: [(&str, &str); 9] = [
    ("first page", ""),
    ("one of 50 users", "user=u7"),
    ("one of 50 users, one of 20 hosts", "user=u7&host=h7"),
    ("a status that most have", "status=approved"),
    ("a status that none has", "status=timed_out&user=u7"),
    ("a word that one in a thousand has", "q=word77"),
    ("a word that all have, of one user", "q=installed&user=u7"),
    ("two words", "q=installed+word77"),
    ("opened in the last year", "since=2026-01-01T00:00:00Z"),
];

#[tokio::main]
async fn main() -> Outcome<()> {
    let count = std::env::args()
        .nth(1)
        .map(|text| text.parse())
        .transpose()?;
    let count: usize = count.unwrap_or(100_000);
    let folder = Folder::new(std::env::args_os().nth(2))?;
    let service = service(&folder.path).await?;
    let roles = ["runner", "auditor"];
    let token = service.create_token_for("bench", &roles).await?;
    let asking = Arc::new(Asking {
        router: service.router(),
        token,
        next: AtomicUsize::new(0),
    });
    if !folder.had_a_record {
        fill(&asking, 1).await?;
        println!("a history of one, {}", told(&asking, "user=u0").await?);
        write_all(&asking, count).await?;
    }
    look_up(&asking).await?;
    export_all(&asking).await?;
    drop(asking);
    service.close().await;
    let bytes = std::fs::metadata(folder.path.join("reviews.sqlite"))?.len();
    println!("the database has {} MiB", bytes >> 20);
    test_policy(&folder.path, count)
}

async fn write_all(asking: &Arc<Asking>, count: usize) -> Outcome<()> {
    let started = Instant::now();
    fill(asking, count).await?;
    let took = started.elapsed().as_secs_f64();
    println!(
        "{count} reviews written in {took:.1} s, {}",
        a_second(count, took)
    );
    let started = Instant::now();
    let mut steps = 0;
    while behind(asking).await? > 0 {
        steps += 1;
    }
    let took = started.elapsed().as_secs_f64();
    println!(
        "index brought up to them in {took:.1} s, {}, {steps} calls",
        a_second(count, took)
    );
    Ok(())
}

/// Has the program that was built beside this one judge all of it again by other rules.
fn test_policy(folder: &std::path::Path, count: usize) -> Outcome<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let program = std::env::current_exe()?.with_file_name("auto-review-server");
    if !program.exists() {
        println!("no `auto-review-server` beside this program: `cargo build --release -p server`");
        return Ok(());
    }
    let write = |name: &str, text: String| -> Outcome<PathBuf> {
        let path = folder.join(name);
        std::fs::write(&path, text)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(path)
    };
    let database = folder.join("reviews.sqlite");
    let config = format!("database_url = \"sqlite:{}\"\n", database.display());
    let config = write("server.toml", config)?;
    let next = write(
        "next.toml",
        "[policy]\ndeny = [\"program:ls\"]\n".to_owned(),
    )?;
    let started = Instant::now();
    let output = std::process::Command::new(program)
        .args(["policy", "test", "--json", "--flips", "1", "--with"])
        .arg(next)
        .arg("--config")
        .arg(config)
        .output()?;
    let took = started.elapsed().as_secs_f64();
    let told: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let counted = |name: &str| told.get(name).and_then(serde_json::Value::as_u64);
    println!(
        "policy test: {:?} judged again, {:?} another way, {:?} skipped, in {took:.1} s, {}",
        counted("reviews"),
        counted("flipped"),
        counted("skipped"),
        a_second(count, took)
    );
    Ok(())
}

async fn look_up(asking: &Asking) -> Outcome<()> {
    for (name, query) in LOOKED_UP {
        println!("{name:<36} {}", told(asking, query).await?);
    }
    let counted = "status=approved&count=true";
    println!(
        "{:<36} {}",
        "the same, counted",
        told(asking, counted).await?
    );
    Ok(())
}

async fn export_all(asking: &Asking) -> Outcome<()> {
    for format in ["jsonl", "csv", "ocsf", "opa"] {
        let (before, cpu) = (resident_kib()?, processor_ms()?);
        let started = Instant::now();
        let (lines, bytes) = export(asking, format).await?;
        let took = started.elapsed().as_secs_f64();
        let cpu = f64::from(processor_ms()? - cpu) * 1e3;
        println!(
            "export as {format:<5} {lines} lines, {} MiB in {took:.1} s, {}, {:.1} µs of processor time each, memory \
             {before} to {} KiB",
            bytes >> 20,
            a_second(lines, took),
            cpu / f64::from(u32::try_from(lines)?),
            resident_kib()?
        );
    }
    Ok(())
}

struct Asking {
    router: Router,
    token: String,
    next: AtomicUsize,
}

struct Folder {
    path: PathBuf,
    /// It is the caller's, and stays.
    stays: bool,
    had_a_record: bool,
}

impl Folder {
    /// `kept`, or one beside the current directory: on the disk that is meant, not in memory.
    fn new(kept: Option<std::ffi::OsString>) -> Outcome<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let stays = kept.is_some();
        let path = match kept {
            Some(kept) => std::path::absolute(kept)?,
            None => std::env::current_dir()?.join(format!("target/bench-{}", uuid::Uuid::new_v4())),
        };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)?;
        Ok(Self {
            had_a_record: path.join("reviews.sqlite").exists(),
            path,
            stays,
        })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.stays {
            // A folder that cannot be removed is left for the person who measures.
            std::fs::remove_dir_all(&self.path).unwrap_or_default();
        }
    }
}

async fn service(folder: &std::path::Path) -> Outcome<Service> {
    let reviewer = Reviewer::new(&ReviewerSettings::default(), &|_| None)?;
    Ok(Service::open(ServiceSettings {
        database: folder.join("reviews.sqlite"),
        tenants: BTreeMap::new(),
        signing_key: SigningKey::ephemeral()?,
        reviewer: Arc::new(reviewer),
        speaks_for_user: BTreeSet::new(),
        limits: Limits::default(),
    })
    .await?)
}

/// Writes reviews, each about another action, until there are `count`.
async fn fill(asking: &Arc<Asking>, count: usize) -> Outcome<()> {
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS.min(count) {
        let asking = Arc::clone(asking);
        writers.spawn(async move {
            loop {
                let number = asking.next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    asking.next.store(count, Ordering::Relaxed);
                    return Outcome::Ok(());
                }
                write(&asking, number).await?;
            }
        });
    }
    while let Some(written) = writers.join_next().await {
        written??;
    }
    Ok(())
}

async fn write(asking: &Asking, number: usize) -> Outcome<()> {
    let action: Action = serde_json::from_value(serde_json::json!({
        "tool": "exec_command", "command": ["ls", format!("/usr/share/{number}")], "cwd": "/srv/app",
        "sandbox_permissions": "require_escalated",
        "justification": format!("see what is installed word{}", number % 1_000),
    }))?;
    let body = serde_json::json!({
        "version": 1,
        "client": {"name": "bench", "version": "1", "channel": "runner"},
        "environment": {"host": format!("h{}", number / 50 % 20), "user": format!("u{}", number % 50), "cwd": "/srv/app",
                        "workspace_roots": ["/srv/app"], "sandbox_mode": "workspace-write",
                        "approval_policy": "on-request"},
        "action": action, "action_digest": action.digest(),
        "trigger": {"kind": "escalation_requested"},
    });
    let request = Request::post("/v1/reviews")
        .header("authorization", format!("Bearer {}", asking.token))
        .header("prefer", "wait=30")
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))?;
    let status = asking.router.clone().oneshot(request).await?.status();
    if status != 200 {
        return Err(format!("answered {status}").into());
    }
    Ok(())
}

async fn look(asking: &Asking, query: &str) -> Outcome<serde_json::Value> {
    let request = Request::get(format!("/v1/reviews?limit=50&{query}"))
        .header("authorization", format!("Bearer {}", asking.token))
        .body(Body::empty())?;
    let answer = asking.router.clone().oneshot(request).await?;
    let bytes = to_bytes(answer.into_body(), ANSWER).await?;
    Ok(serde_json::from_slice(&bytes)?)
}

async fn behind(asking: &Asking) -> Outcome<u64> {
    let page = look(asking, "user=u0").await?;
    let behind = page.get("behind").and_then(serde_json::Value::as_u64);
    behind.ok_or_else(|| "a page without `behind`".into())
}

/// Reads a whole export as it comes; its lines and bytes.
async fn export(asking: &Asking, format: &str) -> Outcome<(usize, usize)> {
    let request = Request::get(format!("/v1/export?format={format}"))
        .header("authorization", format!("Bearer {}", asking.token))
        .body(Body::empty())?;
    let mut body = asking.router.clone().oneshot(request).await?.into_body();
    let (mut lines, mut bytes) = (0, 0);
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            bytes += data.len();
            lines += memchr::memchr_iter(b'\n', &data).count();
        }
    }
    Ok((lines, bytes))
}

/// What this process holds in memory (`VmRSS` of `proc_pid_status(5)`).
fn resident_kib() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.ok_or("no VmRSS in /proc/self/status")?.parse()?)
}

/// What this process has taken of its processors, in milliseconds (`utime` and `stime` of `proc_pid_stat(5)`, which
/// count hundredths of a second).
fn processor_ms() -> Outcome<u32> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let times = fields.split_whitespace().skip(11).take(2);
    let ticks: u32 = times.map(str::parse::<u32>).sum::<Result<_, _>>()?;
    Ok(ticks * 10)
}

fn a_second(count: usize, took: f64) -> String {
    let count = f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    format!("{:.0}/s", count / took)
}

/// How long `query` takes, and how much it finds.
async fn told(asking: &Asking, query: &str) -> Outcome<String> {
    let (mut samples, mut found) = (Samples::default(), 0);
    let begun = Instant::now();
    for _ in 0..ROUNDS {
        if begun.elapsed() > PATIENCE {
            break;
        }
        let started = Instant::now();
        let page = look(asking, query).await?;
        samples.push(started.elapsed());
        let reviews = page.get("reviews").and_then(serde_json::Value::as_array);
        found = reviews.map_or(0, Vec::len);
    }
    Ok(format!(
        "p50 {:>8}  p99 {:>8}  ({found} on the page, {} times)",
        shown(samples.percentile(50)),
        shown(samples.percentile(99)),
        samples.count()
    ))
}
