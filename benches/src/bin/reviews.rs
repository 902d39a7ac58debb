//! What a review costs: `POST /v1/reviews` with `Prefer: wait`, decided by the built-in tier and durable, beside a bare
//! axum endpoint and a bare `fdatasync` on the same disk.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a benchmark's figures are its output")]

use std::collections::BTreeSet;
use std::error::Error;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::post;
use benches::{Samples, shown};
use protocol::{Action, SubmitReview};
use reviewer::{Reviewer, ReviewerSettings};
use server::{Limits, Service, ServiceSettings, SigningKey};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

const CONNECTIONS: usize = 64;
const FOR: Duration = Duration::from_secs(8);
const ALONE: usize = 600;
/// Calls before the measurement: a server's first minutes are not its life.
const WARM_UP: usize = 400;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    let folder = Folder::new()?;
    let mut servers = JoinSet::new();
    let bare = bare_endpoint(&mut servers).await?;
    let service = service(&folder.0).await?;
    let token = service.create_token("bench").await?;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let reviewed = format!("http://{}/v1/reviews", listener.local_addr()?);
    let router = service.router();
    servers.spawn(async move { axum::serve(listener, router).await });

    // Fails only where a provider was installed before, which serves as well.
    rustls::crypto::ring::default_provider()
        .install_default()
        .unwrap_or_default();
    let client = reqwest::Client::builder()
        .no_proxy()
        .pool_max_idle_per_host(CONNECTIONS)
        .build()?;
    for (name, url) in [
        ("bare axum endpoint", bare),
        ("POST /v1/reviews, built-in tier, durable", reviewed),
    ] {
        let target = Arc::new(Target {
            client: client.clone(),
            url,
            token: token.clone(),
        });
        let (alone, syncs) = alone(&target, &folder.0).await?;
        let (rate, loaded) = loaded(&target).await?;
        println!(
            "{name:<42} alone: p50 {}, p99 {}   {CONNECTIONS} connections: {rate:.0}/s, p50 {}, p99 {}",
            shown(alone.percentile(50)),
            shown(alone.percentile(99)),
            shown(loaded.percentile(50)),
            shown(loaded.percentile(99)),
        );
        if name.starts_with("POST") {
            let sync = syncs.percentile(50);
            let over = alone.percentile(50).saturating_sub(sync * 2);
            println!(
                "  fdatasync of 4 KiB between the calls: p50 {}, p99 {}; over two of them: {}",
                shown(sync),
                shown(syncs.percentile(99)),
                shown(over)
            );
        }
    }
    servers.shutdown().await;
    service.close().await;
    Ok(())
}

struct Folder(PathBuf);

impl Folder {
    /// Beside the current directory: on the disk that is meant, not in memory.
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

struct Target {
    client: reqwest::Client,
    url: String,
    token: String,
}

async fn bare_endpoint(servers: &mut JoinSet<std::io::Result<()>>) -> Outcome<String> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let url = format!("http://{}/", listener.local_addr()?);
    let router = Router::new().route(
        "/",
        post(|body: String| async move { body.len().to_string() }),
    );
    servers.spawn(async move { axum::serve(listener, router).await });
    Ok(url)
}

async fn service(folder: &Path) -> Outcome<Service> {
    let reviewer = Reviewer::new(&ReviewerSettings::default(), &|_| None)?;
    Ok(Service::open(ServiceSettings {
        database: folder.join("reviews.sqlite"),
        tenants: std::collections::BTreeMap::new(),
        signing_key: SigningKey::ephemeral()?,
        reviewer: Arc::new(reviewer),
        speaks_for_user: BTreeSet::new(),
        limits: Limits::default(),
    })
    .await?)
}

/// A question that the built-in reviewer decides by itself.
fn question() -> Outcome<Vec<u8>> {
    let action: Action = serde_json::from_value(serde_json::json!({
        "tool": "exec_command", "command": ["ls", "/usr/share"], "cwd": "/srv/app",
        "sandbox_permissions": "require_escalated", "justification": "see what is installed",
    }))?;
    let digest = action.digest();
    let body: SubmitReview = serde_json::from_value(serde_json::json!({
        "version": 1,
        "client": {"name": "bench", "version": "1", "channel": "runner"},
        "environment": {"host": "h", "user": "u", "cwd": "/srv/app", "workspace_roots": ["/srv/app"],
                        "sandbox_mode": "workspace-write", "approval_policy": "on-request"},
        "action": action, "action_digest": digest,
        "trigger": {"kind": "escalation_requested"},
    }))?;
    Ok(serde_json::to_vec(&body)?)
}

async fn ask(target: &Target, body: Vec<u8>) -> Outcome<Duration> {
    let started = Instant::now();
    let answer = target
        .client
        .post(&target.url)
        .bearer_auth(&target.token)
        .header("idempotency-key", uuid::Uuid::new_v4().to_string())
        .header("prefer", "wait=30")
        .header("content-type", "application/json")
        .body(body)
        .send()
        .await?;
    let status = answer.status();
    let text = answer.text().await?;
    let took = started.elapsed();
    if status != 200 || (text.starts_with('{') && !text.contains("\"approved\"")) {
        return Err(format!("answered {status}: {text}").into());
    }
    Ok(took)
}

/// One call after the other, each beside a sync of the same disk.
async fn alone(target: &Target, folder: &Path) -> Outcome<(Samples, Samples)> {
    let body = question()?;
    for _ in 0..WARM_UP {
        ask(target, body.clone()).await?;
    }
    let mut yardstick = std::fs::File::create(folder.join("yardstick"))?;
    let (mut samples, mut syncs) = (Samples::default(), Samples::default());
    for _ in 0..ALONE {
        samples.push(ask(target, body.clone()).await?);
        let started = Instant::now();
        yardstick.write_all(&[7; 4096])?;
        yardstick.sync_data()?;
        syncs.push(started.elapsed());
    }
    Ok((samples, syncs))
}

async fn loaded(target: &Arc<Target>) -> Outcome<(f64, Samples)> {
    let body = question()?;
    let started = Instant::now();
    let mut workers = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (target, body) = (Arc::clone(target), body.clone());
        workers.spawn(async move {
            let mut samples = Vec::new();
            while started.elapsed() < FOR {
                samples.push(ask(&target, body.clone()).await?);
            }
            Outcome::Ok(samples)
        });
    }
    let mut samples = Samples::default();
    while let Some(worker) = workers.join_next().await {
        samples.extend(worker??);
    }
    let count = u32::try_from(samples.count()).unwrap_or(u32::MAX);
    Ok((f64::from(count) / started.elapsed().as_secs_f64(), samples))
}
