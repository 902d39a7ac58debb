//! A case is driven through a real listener, and what happened is written down ([`Observed`]).

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use network_proxy::{Door, Event, Interceptor, NetworkPolicy, Ports, Setup};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::client;
use crate::ports::{Decider, Dials, Log, Manner, Names, Origin, Script};
use crate::tls::Tls;
use crate::wire::Wire;
use crate::wording::{compile, filled, moved};

/// The most that a case may take.
const LONGEST: Duration = Duration::from_secs(40);

/// What happened.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    pub(crate) statuses: Vec<u16>,
    pub(crate) reason: Option<String>,
    pub(crate) socks: Option<u8>,
    pub(crate) bound: Option<SocketAddr>,
    pub(crate) closed: Option<Duration>,
    pub(crate) took: Duration,
    pub(crate) inner: Option<u16>,
    pub(crate) answer: Vec<u8>,
    pub(crate) grown_kib: u64,
    pub(crate) config: Option<Result<Vec<String>, String>>,
    pub(crate) answered_while_pending: bool,
    pub(crate) reload_refused: bool,
}

/// A driven case: what happened, and what everybody saw.
pub(crate) struct Driven {
    pub(crate) observed: Observed,
    pub(crate) log: Log,
}

/// A folder of the case's own, removed at its end.
pub(crate) struct Root(pub(crate) PathBuf);

impl Root {
    fn new() -> io::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!(
            "network-proxy-cases-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let folder = std::env::temp_dir().canonicalize()?.join(name);
        std::fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _left = std::fs::remove_dir_all(&self.0);
    }
}

/// Everything that stands while a case is driven.
pub(crate) struct Stage {
    pub(crate) door: Door,
    pub(crate) at: SocketAddr,
    pub(crate) wire: Arc<Wire>,
    pub(crate) log: Log,
    pub(crate) tls: Arc<Tls>,
    script: Arc<Mutex<Script>>,
    root: Root,
    end: Option<oneshot::Sender<()>>,
    serving: tokio::task::JoinSet<()>,
    _origin: Origin,
}

impl Stage {
    #[expect(
        clippy::too_many_lines,
        reason = "what stands while a case is driven, in one place"
    )]
    async fn build(
        policy: NetworkPolicy,
        case: &Value,
        root: Root,
        tls: Arc<Tls>,
    ) -> Result<Self, String> {
        let said = |error: io::Error| error.to_string();
        let request = &case["request"];
        let log = Log::default();
        let intercepts = case["policy_value"]["mitm"] == true;
        let manner = manner(request);
        let acceptor = intercepts.then(|| {
            if request["upstream_cert"].is_string() {
                tls.self_signed.clone()
            } else {
                tls.origin.clone()
            }
        });
        let status = request["upstream_status"].as_u64().unwrap_or(200);
        let mut origin = Origin::start(&log, manner.clone(), acceptor, status)
            .await
            .map_err(said)?;
        build_files(case, &root, &mut origin, (&log, &manner)).map_err(said)?;
        let (wire, listeners) = Wire::open()?;
        let at = wire.at();
        let own: Option<SocketAddr> = case["policy_value"]["upstream_proxy"]
            .as_str()
            .and_then(|url| url.strip_prefix("http://")?.parse().ok());
        let script = Arc::new(Mutex::new(script_of(request)));
        let resolver = serde_json::from_str(&filled(&case["resolver"].to_string(), Some(at)))
            .unwrap_or(Value::Null);
        let ports = Ports {
            resolver: Arc::new(Names {
                log: log.clone(),
                table: resolver,
                turns: Mutex::default(),
            }),
            dialer: Arc::new(Dials {
                log: log.clone(),
                faults: request["dialer"].clone(),
                origin: origin.tcp,
                datagrams: origin.udp,
                upstream: own.map(|own| (own, origin.upstream)),
                root: root.0.clone(),
            }),
            gate: Arc::new(Decider {
                log: log.clone(),
                script: Arc::clone(&script),
            }),
            events: Arc::new(log.clone()),
        };
        let interceptor = if intercepts {
            Some(Arc::new(
                Interceptor::new(tls.origins.clone()).map_err(|error| error.to_string())?,
            ))
        } else {
            None
        };
        if let Some(interceptor) = &interceptor {
            tls.trust(interceptor.authority_pem());
        }
        let setup = Setup {
            execution: "case".into(),
            interceptor,
            ..Setup::default()
        };
        let door = Door::new(policy, ports, setup);
        let (end, ended) = oneshot::channel::<()>();
        let mut serving = tokio::task::JoinSet::new();
        let served = door.clone();
        let _handle = serving.spawn(async move {
            let _ended = served.serve(listeners, async { drop(ended.await) }).await;
        });
        Ok(Self {
            door,
            at,
            wire: Arc::new(wire),
            log,
            tls,
            script,
            root,
            end: Some(end),
            serving,
            _origin: origin,
        })
    }

    fn say(&self, step: &Value) {
        *self.script.lock().unwrap_or_else(PoisonError::into_inner) = script_of(step);
    }

    async fn finish(mut self) -> Log {
        if let Some(end) = self.end.take() {
            let _gone = end.send(());
        }
        let _late = timeout(Duration::from_secs(2), self.serving.join_next()).await;
        self.log
    }
}

fn script_of(request: &Value) -> Script {
    Script {
        says: request["decider"].as_str().map(str::to_owned),
        delay: Duration::from_millis(request["decider_delay_ms"].as_u64().unwrap_or(0)),
    }
}

fn manner(request: &Value) -> Manner {
    if let Some(count) = request["transfer_bytes"].as_u64() {
        return Manner::Sends(count);
    }
    if request["half_close"].is_string() {
        return Manner::AfterEnd(vec![b'z'; 100_000]);
    }
    let answer = request["upstream_response_latin1"]
        .as_str()
        .map(client::latin1);
    Manner::Http(
        answer.unwrap_or_else(|| b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()),
    )
}

/// Sockets and links of the case, where it speaks of any.
fn build_files(
    case: &Value,
    root: &Root,
    origin: &mut Origin,
    (log, manner): (&Log, &Manner),
) -> io::Result<()> {
    let listed = case["policy_value"]["unix_sockets"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(path, _)| path.as_str());
    let links = case["expect"]["fs"]
        .as_object()
        .or_else(|| case["fs"].as_object())
        .cloned()
        .unwrap_or_default();
    for path in listed.chain(["/run/docker.sock"]).filter(|path| {
        path.starts_with('/')
            && case["id"].as_str().is_some_and(|id| id.starts_with('J'))
            && !links.contains_key(*path)
    }) {
        let path = PathBuf::from(moved(path, &root.0));
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        origin.add_unix(log, manner.clone(), &path)?;
    }
    for (path, kind) in &links {
        if let Some(target) = kind.as_str().and_then(|kind| kind.strip_prefix("symlink:")) {
            let path = PathBuf::from(moved(path, &root.0));
            path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            std::os::unix::fs::symlink(moved(target, &root.0), path)?;
        }
    }
    Ok(())
}

/// Drives one case.
pub(crate) async fn drive(case: &Value, tls: Arc<Tls>) -> Result<Driven, String> {
    let root = Root::new().map_err(|error| error.to_string())?;
    let request = &case["request"];
    let mut policy_value = case["policy_value"].clone();
    if request["attribution"].is_string() {
        policy_value["listener_token"] = Value::from("the right one");
    }
    let compiled = compile(&policy_value, &root.0);
    if request["via"] == "config" {
        let config = Some(compiled.map(|compiled| compiled.warnings));
        return Ok(Driven {
            observed: Observed {
                config,
                ..Observed::default()
            },
            log: Log::default(),
        });
    }
    let stage = Stage::build(compiled?.policy, case, root, tls).await?;
    let started = Instant::now();
    let driven = timeout(LONGEST, by_kind(&stage, case))
        .await
        .map_err(|_| "the case took too long".to_owned())?;
    let mut observed = driven?;
    observed.took = started.elapsed();
    if observed.reason.is_none() {
        observed.reason = stage
            .log
            .with(|seen| seen.events.iter().rev().find_map(refused));
    }
    Ok(Driven {
        observed,
        log: stage.finish().await,
    })
}

fn refused(event: &Event) -> Option<String> {
    match event {
        Event::Decided(decided) => decided.verdict.err().map(|reason| reason.code().to_owned()),
        Event::Closed { failure, .. } => failure.map(|reason| reason.code().to_owned()),
    }
}

async fn by_kind(stage: &Stage, case: &Value) -> Result<Observed, String> {
    let request = &case["request"];
    let outcome = match request["kind"].as_str().unwrap_or_default() {
        "connect" => connect(stage, case).await,
        "raw" => raw(stage, case).await,
        "socks5" => socks(stage, request).await,
        "udp" => client::udp(&stage.wire, request).await,
        "sequence" => sequence(stage, request).await,
        "concurrent" | "flood" => concurrent(stage, request).await,
        kind => return Err(format!("no driver for `{kind}`")),
    };
    outcome.map_err(|error| error.to_string())
}

/// The bytes of a CONNECT.
fn connect_bytes(stage: &Stage, request: &Value) -> Vec<u8> {
    let authority = filled(
        request["authority"].as_str().unwrap_or_default(),
        Some(stage.at),
    );
    let shown = if request["attribution"].is_string() {
        Some("another one")
    } else {
        request["token"].as_str()
    };
    let shown = shown.map_or_else(String::new, |token| {
        format!(
            "Proxy-Authorization: Basic {}\r\n",
            base64::engine::general_purpose::STANDARD.encode(format!("x:{token}"))
        )
    });
    client::latin1(&format!(
        "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{shown}\r\n"
    ))
}

async fn connect(stage: &Stage, case: &Value) -> io::Result<Observed> {
    let request = &case["request"];
    let mut observed = Observed::default();
    let attempts = case["expect"]["attempts"]
        .as_u64()
        .or_else(|| request["repeat"].as_u64())
        .unwrap_or(1);
    for _ in 0..attempts.min(100_000) {
        let begun = Instant::now();
        let mut stream = stage.wire.connect().await?;
        stream.write_all(&connect_bytes(stage, request)).await?;
        if let Some(wait) = request["client_closes_after_ms"].as_u64() {
            tokio::time::sleep(Duration::from_millis(wait)).await;
            drop(stream);
            tokio::time::sleep(Duration::from_millis(700)).await;
            return Ok(observed);
        }
        if request["decider"] == "record" {
            let answered = timeout(Duration::from_millis(500), stream.read_u8())
                .await
                .is_ok();
            observed.answered_while_pending = answered;
            return Ok(observed);
        }
        let answer = client::read_answer(&mut stream).await?;
        observed.statuses.extend(answer.status);
        observed.reason = answer.reason.or(observed.reason);
        if answer.status == Some(200) {
            client::inside_tunnel(stage, request, stream, &mut observed).await?;
        } else if client::ends(&mut stream, Duration::from_secs(2)).await {
            observed.closed = Some(begun.elapsed());
        }
    }
    Ok(observed)
}

async fn raw(stage: &Stage, case: &Value) -> io::Result<Observed> {
    let (request, expect) = (&case["request"], &case["expect"]);
    let text = filled(
        request["bytes_latin1"].as_str().unwrap_or_default(),
        Some(stage.at),
    );
    let text = if case["id"].as_str().is_some_and(|id| id.starts_with('J')) {
        text.replace(" /run/", &format!(" {}/run/", stage.root.0.display()))
            .replace(" /var/", &format!(" {}/var/", stage.root.0.display()))
    } else {
        text
    };
    let mut stream = stage.wire.connect().await?;
    let begun = Instant::now();
    stream.write_all(&client::latin1(&text)).await?;
    let mut observed = Observed::default();
    if request["via"] == "socks5" {
        let mut all = Vec::new();
        let wait = if request["then"] == "stall" {
            12_000
        } else {
            3_000
        };
        let ended = timeout(Duration::from_millis(wait), stream.read_to_end(&mut all))
            .await
            .is_ok();
        observed.closed = ended.then(|| begun.elapsed());
        // The first two bytes answer the greeting, where it came to that.
        observed.socks = all.get(3).copied();
        return Ok(observed);
    }
    if request["then"] == "stream" {
        return client::stream_on(stream, observed).await;
    }
    let wanted = expect["statuses"].as_array().map_or(1, Vec::len);
    if request["then"] != "stall" {
        for _ in 0..wanted {
            let answer = client::read_answer(&mut stream).await?;
            observed.statuses.extend(answer.status);
            observed.reason = answer.reason.or(observed.reason);
        }
    }
    let upstream = [
        "upstream_first_bytes_latin1",
        "upstream_bytes",
        "forwarded_request_line",
    ];
    if upstream.iter().any(|key| !expect[key].is_null()) {
        // What was sent along is on its way.
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    if expect["close"] == true || request["then"] == "stall" {
        let ended = client::ends(&mut stream, Duration::from_secs(12)).await;
        observed.closed = ended.then(|| begun.elapsed());
    }
    Ok(observed)
}

async fn socks(stage: &Stage, request: &Value) -> io::Result<Observed> {
    let mut stream = stage.wire.connect().await?;
    let begun = Instant::now();
    let early = request["early_data_latin1"]
        .as_str()
        .map(client::latin1)
        .unwrap_or_default();
    let reply = client::socks(&mut stream, request, &early).await?;
    let mut observed = Observed {
        socks: reply.map(|(code, _)| code),
        bound: reply.map(|(_, bound)| bound),
        ..Observed::default()
    };
    if observed.socks == Some(0) {
        tokio::time::sleep(Duration::from_millis(150)).await;
    } else if client::ends(&mut stream, Duration::from_secs(2)).await {
        observed.closed = Some(begun.elapsed());
    }
    Ok(observed)
}

async fn sequence(stage: &Stage, request: &Value) -> io::Result<Observed> {
    let mut observed = Observed::default();
    for step in request["steps"].as_array().into_iter().flatten() {
        if !step["reload"].is_null() {
            match compile(&step["reload"], &stage.root.0) {
                Ok(compiled) => stage.door.replace_policy(compiled.policy),
                // A bad reload keeps what was there.
                Err(_) => observed.reload_refused = true,
            }
            continue;
        }
        stage.say(step);
        let mut stream = stage.wire.connect().await?;
        stream.write_all(&connect_bytes(stage, step)).await?;
        let answer = client::read_answer(&mut stream).await?;
        observed.statuses.extend(answer.status);
        observed.reason = answer.reason.or(observed.reason);
    }
    Ok(observed)
}

async fn concurrent(stage: &Stage, request: &Value) -> io::Result<Observed> {
    let mut tasks = tokio::task::JoinSet::new();
    let bytes = connect_bytes(stage, request);
    for place in 0..request["n"].as_u64().unwrap_or(1) {
        let mut bytes = bytes.clone();
        if let Some(authorities) = request["authorities"].as_array() {
            let step = serde_json::json!({"authority": authorities.get(usize::try_from(place).unwrap_or_default() % authorities.len().max(1))});
            bytes = connect_bytes(stage, &step);
        }
        if let Some(authority) = request["authority"]
            .as_str()
            .filter(|text| text.contains("$N") || text.contains("$I"))
        {
            let place = place.to_string();
            let authority = authority.replace("$N", &place).replace("$I", &place);
            bytes = connect_bytes(stage, &serde_json::json!({ "authority": authority }));
        }
        let wire = Arc::clone(&stage.wire);
        let _handle = tasks.spawn(async move {
            let mut stream = wire.connect().await?;
            stream.write_all(&bytes).await?;
            let answer = client::read_answer(&mut stream).await?;
            Ok::<_, io::Error>((answer, stream))
        });
    }
    let (mut observed, mut held) = (Observed::default(), Vec::new());
    while let Some(done) = tasks.join_next().await {
        let Ok(Ok((answer, stream))) = done else {
            observed.statuses.push(0);
            continue;
        };
        observed.statuses.push(answer.status.unwrap_or(0));
        observed.reason = answer.reason.or(observed.reason);
        held.push(stream);
    }
    Ok(observed)
}
