//! What reviews cost in memory while their model does not answer: as many as are asked for (`in-flight 10000`), all open at
//! once, in this process, with the model's end of every connection in it as well; then how long going down takes.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a benchmark's figures are its output")]

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use protocol::Action;
use reviewer::{Reviewer, ReviewerSettings};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use server::{Limits, Service, ServiceSettings, SigningKey};
use tokio::task::JoinSet;
use tower::ServiceExt as _;

const WRITERS: usize = 64;
/// How long all of them may take to be open and asked about.
const PATIENCE: Duration = Duration::from_secs(300);

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    let count = std::env::args().nth(1).map(|text| text.parse());
    let count: usize = count.transpose()?.unwrap_or(10_000);
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    )?;
    // Both ends of each connection are here.
    let wanted = u64::try_from(2 * count + 100)?;
    if limit.maximum.is_some_and(|most| most < wanted) {
        return Err(format!("{wanted} open files are wanted, and the hard limit is lower").into());
    }
    let (model, asked) = silent_model()?;
    let folder = Folder::new()?;
    let service = service(&folder.0, model).await?;
    let token = service.create_token("bench").await?;
    let before = resident_kib()?;
    let started = Instant::now();
    open(&service.router(), &token, count).await?;
    while asked.load(Ordering::Relaxed) < count {
        if started.elapsed() > PATIENCE {
            return Err(format!("only {} were asked about", asked.load(Ordering::Relaxed)).into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let after = resident_kib()?;
    println!(
        "{count} reviews in flight after {:.1} s: {} MiB, {before} KiB before, {:.1} KiB each; {} threads",
        started.elapsed().as_secs_f64(),
        after >> 10,
        f64::from(u32::try_from(after - before)?) / f64::from(u32::try_from(count)?),
        std::fs::read_dir("/proc/self/task")?.count(),
    );
    let started = Instant::now();
    service.close().await;
    println!(
        "every one on record as ended {:.2} s after going down began",
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Takes connections and holds them; how many so far.
fn silent_model() -> Outcome<(SocketAddr, Arc<AtomicUsize>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    // It ends with the process, as the connections do.
    std::thread::spawn(move || {
        let mut held: Vec<TcpStream> = Vec::new();
        while let Ok((connection, _)) = listener.accept() {
            held.push(connection);
            counted.store(held.len(), Ordering::Relaxed);
        }
    });
    Ok((address, asked))
}

struct Folder(PathBuf);

impl Folder {
    fn new() -> std::io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let path = std::env::current_dir()?.join(format!("target/bench-{}", uuid::Uuid::new_v4()));
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A folder that cannot be removed is left for the person who measures.
        std::fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

async fn service(folder: &std::path::Path, model: SocketAddr) -> Outcome<Service> {
    let settings: ReviewerSettings = serde_json::from_value(serde_json::json!({
        "reviewer": {"deadline_secs": 3_600, "model": [
            {"provider": "openai-chat", "base_url": format!("http://{model}/v1"), "model": "m", "timeout_secs": 3_600}
        ]},
    }))?;
    let reviewer = Reviewer::new(&settings, &|_| None)?;
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

async fn open(router: &Router, token: &str, count: usize) -> Outcome<()> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS.min(count) {
        let (router, token, next) = (router.clone(), token.to_owned(), Arc::clone(&next));
        writers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Outcome::Ok(());
                }
                ask(&router, &token, number).await?;
            }
        });
    }
    while let Some(done) = writers.join_next().await {
        done??;
    }
    Ok(())
}

async fn ask(router: &Router, token: &str, number: usize) -> Outcome<()> {
    let action: Action = serde_json::from_value(serde_json::json!({
        "tool": "mcp_tool_call", "server": "tickets", "tool_name": "close", "arguments": {"id": number},
    }))?;
    let body = serde_json::json!({
        "version": 1,
        "client": {"name": "bench", "version": "1", "channel": "runner"},
        "environment": {"host": "h", "user": "u", "cwd": "/srv/app", "workspace_roots": ["/srv/app"],
                        "sandbox_mode": "workspace-write", "approval_policy": "on-request"},
        "action": action, "action_digest": action.digest(),
        "trigger": {"kind": "escalation_requested"},
        "deadline_ms": 3_600_000,
    });
    let request = Request::post("/v1/reviews")
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))?;
    let status = router.clone().oneshot(request).await?.status();
    if status != 202 {
        return Err(format!("answered {status}").into());
    }
    Ok(())
}

/// What this process holds in memory (`VmRSS` of `proc_pid_status(5)`).
fn resident_kib() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.ok_or("no VmRSS in /proc/self/status")?.parse()?)
}
