//! A peer with a public address beside the runner, in namespaces of the test's own: what is reached behind the door.
//!
//! Apart because every test of the network needs it. No packet leaves the namespaces.

use std::process::{Command, Stdio};

use harness::{Missing, Ran, Stage, is_root, lacks, launches};

/// The peer at 198.41.0.4: web servers, a git daemon, something that speaks first as ssh does, and a name server that writes
/// down what it is asked.
const PEER: &str = r#"
import http.server, os, socket, ssl, subprocess, sys, threading, time
HOME = sys.argv[1]; ADDRESS = '198.41.0.4'
def bound(kind, port):
    s = socket.socket(socket.AF_INET, kind); s.setsockopt(0, 15, 1); s.setsockopt(1, 2, 1); s.bind((ADDRESS, port)); return s
class Files(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *a): super().__init__(*a, directory=HOME + '/origin')
    def log_message(self, *a): pass
def web(port, tls):
    s = bound(socket.SOCK_STREAM, port); s.listen(64)
    server = http.server.ThreadingHTTPServer((ADDRESS, port), Files, bind_and_activate=False)
    if tls:
        c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); c.load_cert_chain(HOME + '/cert.pem', HOME + '/key.pem')
        s = c.wrap_socket(s, server_side=True)
    server.socket = s; server.serve_forever()
def spoken(c):
    c.sendall(b'SSH-2.0-origin\r\n'); line = b''
    while not line.endswith(b'\n'):
        byte = c.recv(1)
        if not byte: return c.close()
        line += byte
    if line.startswith(b'git-upload-pack'):
        subprocess.run(['git', 'upload-pack', HOME + '/origin/repo.git'], stdin=c, stdout=c)
    c.close()
def banner():
    s = bound(socket.SOCK_STREAM, 22); s.listen(8)
    while True: threading.Thread(target=spoken, args=(s.accept()[0],), daemon=True).start()
def names():
    s = bound(socket.SOCK_DGRAM, 53)
    while True:
        q, _ = s.recvfrom(512); open(HOME + '/queries', 'ab').write(q + b'\n')
for run in ((web, 80, False), (web, 8080, False), (web, 443, True), (banner,), (names,)):
    threading.Thread(target=run[0], args=run[1:], daemon=True).start()
subprocess.Popen(['git', 'daemon', '--reuseaddr', '--export-all', '--base-path=' + HOME + '/origin', '--listen=0.0.0.0'])
print('up', flush=True); time.sleep(120)
"#;

/// What the runner's machine knows without asking anybody.
const HOSTS: &str = "127.0.0.1 localhost\n198.41.0.4 site.test denied.test unknown.test pypi.org\n\
    127.0.0.1 rebound.test\n10.1.2.3 inner.test\n169.254.169.254 meta.test\n198.41.0.1 self.test\n";

pub(super) const SETTINGS: &str = "sandbox_mode = \"workspace-write\"\napprovals_reviewer = \"auto_review\"\n\
    [sandbox_workspace_write]\nnetwork_access = true\n[features.network_proxy]\nenabled = true\n\
    domains = { \"site.test\" = \"allow\", \"denied.test\" = \"deny\", \"rebound.test\" = \"allow\", \
    \"inner.test\" = \"allow\", \"meta.test\" = \"allow\", \"self.test\" = \"allow\", \"127.0.0.1:7000\" = \"allow\" }\n";

fn here(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Whether this machine can make such namespaces, and has the tools that CI must have.
pub(super) fn can_be_shown(what: &str) -> bool {
    let namespaces: &[&str] = if is_root() {
        &["unshare", "--net", "--mount", "--"]
    } else {
        &[
            "unshare",
            "--user",
            "--map-root-user",
            "--net",
            "--mount",
            "--",
        ]
    };
    for tool in ["curl", "git", "python3", "openssl", "ip", "nsenter"] {
        if !here(
            "sh",
            &[
                "-c",
                &format!("PATH=$PATH:/usr/sbin:/sbin command -v {tool}"),
            ],
        ) {
            lacks(Missing::Tool, &format!("{what}, without {tool}"));
            return false;
        }
    }
    if !launches(namespaces) {
        lacks(Missing::MountNamespace, what);
        return false;
    }
    true
}

/// A stage whose runner is started with the peer beside it.
pub(super) fn stage() -> Stage {
    let stage = Stage::new();
    stage.settings(SETTINGS);
    let peer = stage.outside("");
    std::fs::create_dir_all(peer.join("origin")).expect("a folder");
    std::fs::write(peer.join("origin/index.html"), "what the origin holds\n").expect("written");
    std::fs::write(peer.join("peer.py"), PEER).expect("written");
    std::fs::write(peer.join("hosts"), HOSTS).expect("written");
    std::fs::write(
        peer.join("resolv.conf"),
        "nameserver 198.41.0.4\noptions timeout:1 attempts:1\n",
    )
    .expect("written");
    let made = format!(
        "set -e; cd '{}'; openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=site.test \
         -addext subjectAltName=DNS:site.test -keyout key.pem -out cert.pem; chmod 644 key.pem cert.pem; \
         git init -q work; cd work; echo one > file; git add file; git -c user.name=T -c user.email=t@example.com commit -qm one; \
         cd ../origin; git clone -q --bare ../work repo.git; git -C repo.git update-server-info; chmod -R a+rX .",
        peer.display()
    );
    assert!(here("sh", &["-c", &made]), "the origin is made");
    stage
}

/// Starts `agent-runner` with these words, with the peer beside it.
pub(super) fn run<W: Into<String>>(
    stage: &Stage,
    flags: &[&str],
    words: impl IntoIterator<Item = W>,
) -> Ran {
    let words: Vec<String> = words.into_iter().map(Into::into).collect();
    let peer = stage.outside("");
    let peer = peer.display();
    let back = if is_root() {
        String::new()
    } else {
        let user = rustix::process::geteuid().as_raw();
        let group = rustix::process::getegid().as_raw();
        format!("unshare --user --map-user={user} --map-group={group} -- ")
    };
    let layout = format!(
        r#"
set -eu
mount --bind {peer}hosts /etc/hosts
if [ -e /etc/resolv.conf ]; then mount --bind {peer}resolv.conf /etc/resolv.conf; fi
OLD=$PATH; PATH=$PATH:/usr/sbin:/sbin
ip link set lo up
unshare --net python3 {peer}peer.py {peer} >{peer}up 2>{peer}errors & peer=$!
sockets=
if [ -e {peer}with-sockets ]; then python3 -c 'import socket,time
for name in ("{peer}host.sock", "\0host-abstract"):
    s = socket.socket(socket.AF_UNIX); s.bind(name); s.listen(); globals()[name] = s
time.sleep(120)' & sockets=$!; fi
python3 -m http.server --bind 127.0.0.1 7000 --directory {peer}origin >/dev/null 2>&1 & own=$!
trap 'kill $peer $own $sockets' EXIT
for i in $(seq 50); do [ "$(readlink /proc/$peer/ns/net)" = "$(readlink /proc/self/ns/net)" ] || break; sleep 0.1; done
ip link add out type veth peer name in netns $peer
ip addr add 198.41.0.1/24 dev out; ip link set out up
nsenter --target $peer --net sh -c 'ip link set lo up; ip addr add 198.41.0.4/24 dev in; ip link set in up'
for i in $(seq 100); do grep -q up {peer}up && break; sleep 0.1; done
for i in $(seq 100); do curl -s -o /dev/null --noproxy '*' http://127.0.0.1:7000/ && break; sleep 0.1; done
for i in $(seq 100); do curl -s -o /dev/null --noproxy '*' http://198.41.0.4/ && break; sleep 0.1; done
PATH=$OLD
set +e
{back}setsid --wait "$@"
"#
    );
    let namespaces: Vec<&str> = if is_root() {
        vec!["unshare", "--net", "--mount", "--"]
    } else {
        vec![
            "unshare",
            "--user",
            "--map-root-user",
            "--net",
            "--mount",
            "--",
        ]
    };
    let launcher = namespaces
        .into_iter()
        .chain(["sh", "-c", layout.as_str(), "sh"]);
    stage.exec(flags, &words).launched_by(launcher).ran()
}

/// Runs the shell script `text` behind the door.
pub(super) fn script(stage: &Stage, text: &str) -> Ran {
    stage.file("task.sh", text);
    run(stage, &[], ["sh", "task.sh"])
}

/// The verdict of the report's first decision about a host and port.
pub(super) fn verdict(ran: &Ran, host: &str, port: u16) -> Option<String> {
    let decisions = ran.report["network"]["decisions"].as_array()?;
    let found = decisions
        .iter()
        .find(|decision| decision["host"] == host && decision["port"] == port)?;
    found["verdict"].as_str().map(str::to_owned)
}
