//! Real tools through the real door, in a network and mount namespace of the test's own: with the proxy variables, and
//! without them over the transparent path. Names are the test's, origins are on loopback; no packet leaves the namespace.
#![forbid(unsafe_code)]
#![cfg(test)]

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener, UdpSocket as StdUdp};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use network_proxy::{
    DialTarget, Dialer, Door, HostName, Listeners, NoEvents, NoGate, Ports, RawNetworkProxy,
    ResolveError, Resolver, Settings, Setup, Surroundings, SystemDialer, UnawarePrograms,
    environment,
};
use tokio::net::{TcpStream, UdpSocket, UnixStream};

/// Where the origins are.
const HTTP: u16 = 18_080;
const TLS: u16 = 18_443;
const GIT: u16 = 19_418;
#[path = "support/secured.rs"]
mod secured;

const CONTENT: &str = "what the origin holds";

/// Names of the test; the addresses are public ones that nobody reaches from here.
#[derive(Debug)]
struct Names;

impl Resolver for Names {
    fn resolve<'a>(
        &'a self,
        name: &'a HostName,
    ) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>> {
        let known = name.as_str() == "site.test";
        let answer = if known {
            Ok(vec![IpAddr::from([198, 41, 0, 4])])
        } else {
            Err(ResolveError::NoAddress)
        };
        Box::pin(std::future::ready(answer))
    }
}

/// The public address's ports are the origins.
#[derive(Debug)]
struct ToOrigins;

impl Dialer for ToOrigins {
    fn tcp(&self, to: DialTarget) -> BoxFuture<'_, io::Result<TcpStream>> {
        assert_eq!(
            to.address().ip(),
            IpAddr::from([198, 41, 0, 4]),
            "only the vetted address is dialled"
        );
        let port = match to.address().port() {
            80 => HTTP,
            443 => TLS,
            9418 => GIT,
            _ => {
                return Box::pin(std::future::ready(Err(
                    io::ErrorKind::ConnectionRefused.into()
                )));
            }
        };
        Box::pin(TcpStream::connect(("127.0.0.1", port)))
    }

    fn udp(&self, to: DialTarget) -> BoxFuture<'_, io::Result<UdpSocket>> {
        SystemDialer.udp(to)
    }

    fn unix<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<UnixStream>> {
        SystemDialer.unix(path)
    }
}

/// A program that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("the test needs `{program}`: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The tools' world: a folder that the origin serves, and the variables.
struct World {
    folder: PathBuf,
    variables: Vec<(String, String)>,
}

impl World {
    fn tool(&self, program: &str, aware: Aware) -> Command {
        let mut command = Command::new("timeout");
        command
            .arg("60")
            .arg(program)
            .current_dir(&self.folder)
            .stdin(Stdio::null());
        command
            .env("HOME", self.folder.join("home"))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0");
        for (name, value) in &self.variables {
            match aware {
                Aware::OfTheProxy => command.env(name, value),
                Aware::OfNothing => command.env_remove(name),
            };
        }
        command
    }

    fn says(&self, program: &str, aware: Aware, arguments: &[&str]) -> Output {
        let output = self.tool(program, aware).args(arguments).output();
        output.unwrap_or_else(|error| panic!("the test needs `{program}`: {error}"))
    }

    #[track_caller]
    fn gets(&self, program: &str, aware: Aware, arguments: &[&str]) {
        let output = self.says(program, aware, arguments);
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(
            output.status.success() && out.contains(CONTENT),
            "{program} {arguments:?}: {out}{err}"
        );
    }

    #[track_caller]
    fn refused(&self, program: &str, (aware, words): (Aware, &str), arguments: &[&str]) {
        let output = self.says(program, aware, arguments);
        let all = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(
            all.contains(words) && !all.contains(CONTENT),
            "{program} {arguments:?}: {all}"
        );
    }

    fn has(program: &str) -> bool {
        let found = Command::new("sh")
            .args(["-c", &format!("command -v {program}")])
            .output();
        found.is_ok_and(|output| output.status.success())
    }
}

/// Whether a tool is given the variables.
#[derive(Clone, Copy)]
enum Aware {
    OfTheProxy,
    OfNothing,
}

/// What the origin serves.
fn furnish(folder: &Path) {
    let web = folder.join("web");
    for sub in ["simple/demo", "npm", "index/de/mo"] {
        std::fs::create_dir_all(web.join(sub)).expect("a folder");
    }
    std::fs::create_dir_all(folder.join("home")).expect("a folder");
    std::fs::write(web.join("hello.txt"), CONTENT).expect("a file");
    std::fs::write(web.join("simple/demo/index.html"), "<a href=\"/hello.txt#x\">no</a><a href=\"/demo-1.0-py3-none-any.whl\">demo-1.0-py3-none-any.whl</a>").expect("a file");
    let package = r#"{"name":"demo","dist-tags":{"latest":"1.0.0"},"versions":{"1.0.0":{"name":"demo","version":"1.0.0","description":"what the origin holds","dist":{"tarball":"http://site.test/npm/demo.tgz","shasum":"0"}}}}"#;
    std::fs::write(web.join("npm/demo"), package).expect("a file");
    std::fs::write(
        web.join("index/config.json"),
        "{\"dl\":\"http://site.test/dl\"}",
    )
    .expect("a file");
    let line = format!(
        "{{\"name\":\"demo\",\"vers\":\"1.0.0\",\"deps\":[],\"cksum\":\"{}\",\"features\":{{}},\"yanked\":false}}\n",
        "0".repeat(64)
    );
    std::fs::write(web.join("index/de/mo/demo"), line).expect("a file");
    let source = folder.join("source");
    let text = source.display().to_string();
    run("git", &["init", "-q", "-b", "main", &text]);
    std::fs::write(source.join("hello.txt"), CONTENT).expect("a file");
    let identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"];
    run("git", &[&["-C", &text][..], &["add", "."]].concat());
    run(
        "git",
        &[&["-C", &text][..], &identity, &["commit", "-qm", "one"]].concat(),
    );
    let bare = web.join("repo.git").display().to_string();
    run("git", &["clone", "-q", "--bare", &text, &bare]);
    run("git", &["-C", &bare, "update-server-info"]);
    let wheel = "import zipfile\nwith zipfile.ZipFile('web/demo-1.0-py3-none-any.whl','w') as z:\n z.writestr('demo.py','')\n z.writestr('demo-1.0.dist-info/METADATA','Metadata-Version: 2.1\\nName: demo\\nVersion: 1.0\\n')\n z.writestr('demo-1.0.dist-info/WHEEL','Wheel-Version: 1.0\\nGenerator: t\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')\n z.writestr('demo-1.0.dist-info/RECORD','')\n";
    let made = Command::new("python3")
        .args(["-c", wheel])
        .current_dir(folder)
        .status();
    assert!(
        made.is_ok_and(|status| status.success()),
        "the test needs `python3`"
    );
}

/// The namespace's own network: loopback, every address on it, and our DNS.
fn set_up_network(folder: &Path) {
    run("ip", &["link", "set", "lo", "up"]);
    run("ip", &["route", "add", "local", "default", "dev", "lo"]);
    let own = folder.join("resolv.conf");
    std::fs::write(&own, "nameserver 127.0.0.1\noptions timeout:2 attempts:1\n").expect("a file");
    let real = Path::new("/etc/resolv.conf")
        .canonicalize()
        .expect("a machine has /etc/resolv.conf");
    run(
        "mount",
        &[
            "--bind",
            &own.display().to_string(),
            &real.display().to_string(),
        ],
    );
}

fn listeners() -> Listeners {
    let mut listeners = Listeners::on_loopback().expect("loopback");
    listeners.names = Some(StdUdp::bind("127.0.0.1:53").expect("port 53 of the namespace"));
    for port in [80, 443, 9418] {
        let wild = SocketAddr::from(([0; 4], port));
        listeners
            .transparent
            .push(StdListener::bind(wild).expect("a port of the namespace"));
    }
    listeners
}

/// Says that the namespaces are there.
const INSIDE: &str = "NETWORK_PROXY_TEST_INSIDE";

/// Runs this very test program again, inside new namespaces.
fn inside(test: &str) {
    let own = std::env::current_exe().expect("this program");
    let output = Command::new("unshare")
        .args([
            "--user",
            "--map-root-user",
            "--net",
            "--mount",
            "--propagation",
            "private",
            "--",
        ])
        .arg(own)
        .args(["--ignored", "--exact", "--nocapture", test])
        .env(INSIDE, "1")
        .output()
        .expect("the test needs `unshare`");
    let all = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success() && all.contains("1 passed"), "{all}");
}

#[test]
fn real_tools_reach_what_is_allowed_and_nothing_else() {
    inside("in_a_network_of_its_own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs inside the namespaces that `real_tools_reach_what_is_allowed_and_nothing_else` makes"]
async fn in_a_network_of_its_own() {
    // Whoever runs every ignored test runs this one as well, and the machine's own names and ports are not to be touched.
    if std::env::vars_os().any(|(name, _)| name == INSIDE) {
        reaches_what_is_allowed().await;
    }
}

/// A web server and one of git's, for the folder `web`.
fn origins(web: &str) -> [Running; 2] {
    let http = Running(serve(&[
        "python3",
        "-m",
        "http.server",
        "18080",
        "--bind",
        "127.0.0.1",
        "--directory",
        web,
    ]));
    let git = Running(serve(&[
        "git",
        "daemon",
        "--listen=127.0.0.1",
        "--port=19418",
        "--export-all",
        &format!("--base-path={web}"),
        web,
    ]));
    [http, git]
}

async fn reaches_what_is_allowed() {
    let folder = std::env::temp_dir().join(format!("network-proxy-tools-{}", std::process::id()));
    furnish_and_clear(&folder);
    set_up_network(&folder);
    let (authority, acceptor) = secured::certificates();
    let pem = folder.join("authority.pem");
    std::fs::write(&pem, authority).expect("a file");
    let web = folder.join("web").display().to_string();
    let _origins = origins(&web);

    let listeners = listeners();
    let proxy = listeners.address().expect("an address");
    let pem = pem.display().to_string();
    let (door, variables) = door(proxy, &pem);
    let mut tasks = tokio::task::JoinSet::new();
    let serving = door.clone();
    let _handle =
        tasks.spawn(async move { serving.serve(listeners, std::future::pending()).await });
    let _handle = tasks.spawn(secured::serve_tls(acceptor, (TLS, HTTP)));
    let world = World {
        folder: folder.clone(),
        variables,
    };
    let tools = tokio::task::spawn_blocking(move || {
        wait_for_origins();
        with_the_variables(&world, proxy);
        without_the_variables(&world, &pem);
        where_installed(&world);
    });
    let outcome = tools.await;
    let blocked = door.blocked();
    let _left = std::fs::remove_dir_all(&folder);
    outcome.expect("the tools did what they should");
    let lines = blocked.lines().join("\n");
    assert!(
        blocked.total >= 5
            && lines.contains("bad.test:443: a rule denies this host, rule `bad.test`"),
        "{lines}"
    );
    assert!(
        lines.contains("other.test:443: no rule allows this host"),
        "{lines}"
    );
}

/// The door, and the variables that lead to it.
fn door(proxy: SocketAddr, pem: &str) -> (Door, Vec<(String, String)>) {
    let table = "domains = { \"site.test\" = \"allow\", \"bad.test\" = \"deny\" }";
    let user: RawNetworkProxy = toml::from_str(table).expect("a table");
    let policy = Settings {
        user,
        ..Settings::default()
    }
    .policy()
    .expect("valid")
    .policy;
    let surroundings = Surroundings {
        proxy,
        unaware: UnawarePrograms::Covered,
        authorities: Some(pem),
    };
    let variables = environment(&policy, surroundings);
    let ports = Ports {
        resolver: Arc::new(Names),
        dialer: Arc::new(ToOrigins),
        gate: Arc::new(NoGate),
        events: Arc::new(NoEvents),
    };
    let setup = Setup {
        execution: "tools".into(),
        ..Setup::default()
    };
    (Door::new(policy, ports, setup), variables)
}

fn furnish_and_clear(folder: &Path) {
    let _left = std::fs::remove_dir_all(folder);
    std::fs::create_dir_all(folder).expect("a folder");
    furnish(folder);
}

fn serve(words: &[&str]) -> Child {
    let (program, arguments) = words.split_first().expect("a program");
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    child.unwrap_or_else(|error| panic!("the test needs `{program}`: {error}"))
}

fn wait_for_origins() {
    for port in [HTTP, GIT, TLS] {
        let up = (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(50));
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        assert!(up, "the origin on port {port} does not come up");
    }
}

/// Tools that know of proxies.
fn with_the_variables(world: &World, proxy: SocketAddr) {
    let aware = Aware::OfTheProxy;
    world.gets("curl", aware, &["-sS", "http://site.test/hello.txt"]);
    world.gets("curl", aware, &["-sS", "https://site.test/hello.txt"]);
    world.gets(
        "curl",
        aware,
        &[
            "-sS",
            "--noproxy",
            "",
            "--socks5-hostname",
            &proxy.to_string(),
            "https://site.test/hello.txt",
        ],
    );
    world.refused(
        "curl",
        (aware, "response 403"),
        &["-sS", "https://bad.test/"],
    );
    world.refused(
        "curl",
        (aware, "\"reason\":\"not_allowed\""),
        &["-sS", "http://other.test/"],
    );
    let python =
        "import sys,urllib.request\nprint(urllib.request.urlopen(sys.argv[1]).read().decode())";
    for url in ["http://site.test/hello.txt", "https://site.test/hello.txt"] {
        world.gets("python3", aware, &["-c", python, url]);
    }
    world.refused(
        "python3",
        (aware, "403 other.test:443: no rule allows this host"),
        &["-c", python, "https://other.test/"],
    );
    for (url, into) in [
        ("http://site.test/repo.git", "one"),
        ("https://site.test/repo.git", "two"),
    ] {
        let cloned = world.says("git", aware, &["clone", "-q", url, into]);
        assert!(
            cloned.status.success(),
            "{}",
            String::from_utf8_lossy(&cloned.stderr)
        );
        let text = std::fs::read_to_string(world.folder.join(into).join("hello.txt"));
        assert_eq!(text.ok().as_deref(), Some(CONTENT));
    }
    world.refused(
        "git",
        (aware, "403"),
        &["clone", "-q", "https://bad.test/repo.git", "three"],
    );
}

/// Tools that know of none, or are not told.
fn without_the_variables(world: &World, pem: &str) {
    let unaware = Aware::OfNothing;
    let socket = "import socket,sys\ns=socket.create_connection((sys.argv[1],80),10)\ns.sendall(b'GET /hello.txt HTTP/1.0\\r\\nHost: site.test\\r\\n\\r\\n')\ndata=b''\nwhile True:\n piece=s.recv(65536)\n if not piece: break\n data+=piece\nprint(data.decode())";
    world.gets("python3", unaware, &["-c", socket, "site.test"]);
    world.refused(
        "python3",
        (unaware, "gaierror"),
        &["-c", socket, "other.test"],
    );
    world.refused(
        "python3",
        (unaware, "not_allowed"),
        &["-c", socket, "198.41.0.5"],
    );
    world.refused(
        "python3",
        (unaware, "not_allowed_local"),
        &["-c", socket, "10.1.2.3"],
    );
    world.gets(
        "curl",
        unaware,
        &["-sS", "--cacert", pem, "https://site.test/hello.txt"],
    );
    let cloned = world.says(
        "git",
        unaware,
        &["clone", "-q", "git://site.test/repo.git", "four"],
    );
    assert!(
        cloned.status.success(),
        "{}",
        String::from_utf8_lossy(&cloned.stderr)
    );
    assert_eq!(
        std::fs::read_to_string(world.folder.join("four/hello.txt"))
            .ok()
            .as_deref(),
        Some(CONTENT)
    );
}

/// Tools that a machine may have.
fn where_installed(world: &World) {
    if World::has("node") {
        let fetch = "fetch('https://site.test/hello.txt').then(r=>r.text()).then(console.log)";
        world.gets("node", Aware::OfTheProxy, &["-e", fetch]);
    }
    if World::has("npm") {
        world.gets(
            "npm",
            Aware::OfTheProxy,
            &[
                "view",
                "--registry",
                "http://site.test/npm/",
                "demo",
                "description",
            ],
        );
    }
    if World::has("pip") {
        let output = world.says(
            "pip",
            Aware::OfTheProxy,
            &[
                "download",
                "-q",
                "--no-deps",
                "--disable-pip-version-check",
                "--trusted-host",
                "site.test",
                "--index-url",
                "http://site.test/simple",
                "demo",
            ],
        );
        let there = world.folder.join("demo-1.0-py3-none-any.whl").exists();
        assert!(there, "{}", String::from_utf8_lossy(&output.stderr));
    }
    cargo_where_it_runs(world);
}

/// The toolchain's own cargo, where this user may run it.
fn cargo_where_it_runs(world: &World) {
    let cargo = env!("CARGO");
    if Command::new(cargo)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
    {
        let project = world.folder.join("project");
        std::fs::create_dir_all(project.join("src")).expect("a folder");
        std::fs::create_dir_all(project.join(".cargo")).expect("a folder");
        std::fs::write(project.join("src/lib.rs"), "").expect("a file");
        std::fs::write(
            project.join(".cargo/config.toml"),
            "registries.site.index = \"sparse+http://site.test/index/\"\n",
        )
        .expect("a file");
        std::fs::write(project.join("Cargo.toml"), "[package]\nname = \"project\"\n[dependencies]\ndemo = { version = \"1\", registry = \"site\" }\n[workspace]\n").expect("a file");
        let mut command = world.tool(cargo, Aware::OfTheProxy);
        command
            .current_dir(&project)
            .env("CARGO_HOME", world.folder.join("home/cargo"));
        let output = command
            .arg("generate-lockfile")
            .output()
            .expect("cargo runs");
        let lock = std::fs::read_to_string(project.join("Cargo.lock")).unwrap_or_default();
        assert!(
            lock.contains("name = \"demo\""),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
