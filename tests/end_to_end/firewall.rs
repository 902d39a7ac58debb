//! The firewall of the secure development container, in network namespaces with a peer of its own: the real rules, the real
//! kernel, the real `dig`, and a name server that answers as one does.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use harness::{Missing, Stage, is_root, lacks, launches};

/// The peer (its addresses come after its sockets: `IP_FREEBIND`, ip(7)): answers names on port 53 and connections on the others, for half a minute.
const PEER: &str = r#"
import socket, struct, threading, time
NAMES = {b'good': [(7, '203.0.113.2')], b'turned': [(60, '10.7.7.7'), (60, '127.0.0.1'), (60, '169.254.169.254')],
         b'short': [(1, '203.0.113.4')]}
def dns():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.setsockopt(0, 15, 1); s.bind(('203.0.113.2', 53))
    while True:
        q, a = s.recvfrom(512); n = q[13:13 + q[12]]; end = q.index(b'\0', 12) + 5
        kind = struct.unpack('>H', q[end - 4:end - 2])[0]
        r = NAMES.get(n, []) if kind == 1 else []
        p = q[:2] + b'\x81\x80' + struct.pack('>HHHH', 1, len(r), 0, 0) + q[12:end]
        for ttl, ip in r: p += b'\xc0\x0c' + struct.pack('>HHIH', 1, 1, ttl, 4) + socket.inet_aton(ip)
        s.sendto(p, a)
def tcp(ip, port):
    s = socket.socket(); s.setsockopt(0, 15, 1); s.bind((ip, port)); s.listen()
    while True: s.accept()[0].close()
for ip in ('203.0.113.2', '203.0.113.3', '203.0.113.4'):
    for port in (22, 80, 443): threading.Thread(target=tcp, args=(ip, port), daemon=True).start()
threading.Thread(target=dns, daemon=True).start()
print('up', flush=True); time.sleep(30)
"#;

/// Tries connections from behind the firewall and prints which came off.
const TRY: &str = r#"
import socket, sys
def reaches(ip, port):
    s = socket.socket(socket.AF_INET6 if ':' in ip else socket.AF_INET); s.settimeout(1)
    try: s.connect((ip, port)); return True
    except OSError: return False
print(' '.join(f'{ip}:{port}' for ip, port in
      [(w.rsplit(':', 1)[0], int(w.rsplit(':', 1)[1])) for w in sys.argv[1:]] if reaches(ip, port)))
"#;

/// Lays the two namespaces out, then does what the rest says; every process in them ends with the outer one.
const LAYOUT: &str = r#"
set -eu
mount -t tmpfs none /run
ip link set lo up
unshare --net python3 peer.py >/run/peer & peer=$!
trap 'kill $peer' EXIT
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    [ "$(readlink /proc/$peer/ns/net)" = "$(readlink /proc/self/ns/net)" ] || break; sleep 0.1
done
ip link add out type veth peer name in netns $peer
ip addr add 203.0.113.1/24 dev out; ip link set out up
nsenter --target $peer --net sh -c 'ip link set lo up; for n in 2 3 4; do ip addr add 203.0.113.$n/24 dev in; done; ip link set in up'
"#;

fn script() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.join("../.devcontainer/init-firewall.sh")
}

fn tools_are_there() -> bool {
    let all = ["nft", "dig", "ip", "nsenter", "python3"];
    let missing = all.iter().find(|tool| {
        let found = Command::new("sh")
            .args([
                "-c",
                &format!("PATH=$PATH:/usr/sbin:/sbin command -v {tool}"),
            ])
            .stdout(Stdio::null())
            .status();
        !found.is_ok_and(|status| status.success())
    });
    if let Some(tool) = missing {
        lacks(Missing::Tool, &format!("the firewall, without {tool}"));
    }
    missing.is_none()
}

/// Runs `steps` behind the layout, with `$firewall` and `reaches` to call.
fn behind(steps: &str) -> Option<Output> {
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
    if !tools_are_there() {
        return None;
    }
    if !launches(namespaces) {
        lacks(Missing::MountNamespace, "the firewall");
        return None;
    }
    let stage = Stage::new();
    for (name, text) in [("peer.py", PEER), ("try.py", TRY)] {
        stage.file(name, text);
    }
    stage.file(
        "allowed",
        "# where to\ngood 22\nturned\nshort\nnot!a!name\n\n",
    );
    stage.file("resolv.conf", "nameserver 203.0.113.2\noptions timeout:1\n");
    let shell = format!(
        "PATH=$PATH:/usr/sbin:/sbin\n{LAYOUT}\nmount --bind resolv.conf /etc/resolv.conf\n\
         for i in 1 2 3 4 5 6 7 8 9 10; do grep -q up /run/peer && break; sleep 0.2; done\n\
         export ALLOWED_HOSTS=$PWD/allowed\nfirewall() {{ sh '{}' \"$@\"; }}\nreaches() {{ python3 try.py \"$@\"; }}\n{steps}",
        script().display()
    );
    let output = Command::new(namespaces[0])
        .args(&namespaces[1..])
        .args(["sh", "-c", &shell])
        .current_dir(stage.workspace(""))
        .stdin(Stdio::null())
        .output()
        .expect("unshare starts");
    Some(output)
}

fn lines(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text.lines().map(str::to_owned).collect()
}

#[test]
fn only_the_addresses_of_allowed_names_are_reached_and_only_at_their_ports() {
    let steps = "reaches 203.0.113.2:443 203.0.113.3:443\nfirewall up\n\
        reaches 203.0.113.2:443 203.0.113.2:22 203.0.113.2:80 203.0.113.3:443 203.0.113.4:443 203.0.113.4:22\n\
        dig +short +time=1 +tries=1 good; dig +short +time=1 +tries=1 @203.0.113.3 good | grep -v '^;' || true\n\
        python3 -c 'import socket; s = socket.socket(); s.bind((\"127.0.0.1\", 0)); s.listen(); socket.create_connection(s.getsockname()); print(\"loopback\")'";
    let Some(output) = behind(steps) else { return };
    assert_eq!(
        lines(&output),
        [
            "203.0.113.2:443 203.0.113.3:443",
            "203.0.113.2:443 203.0.113.2:22 203.0.113.4:443",
            "203.0.113.2",
            "loopback"
        ]
    );
    let said = String::from_utf8_lossy(&output.stderr);
    for address in ["10.7.7.7", "127.0.0.1", "169.254.169.254"] {
        assert!(
            said.contains(&format!("turned is {address}, which is not public")),
            "{said}"
        );
    }
    assert!(said.contains("`not!a!name` is no name"), "{said}");
}

#[test]
fn an_address_counts_as_long_as_its_answer_and_is_renewed_by_the_next() {
    let steps = "firewall up\nnft list set inet auto_review web4 | grep -c expires\n\
        nft list set inet auto_review web4 | grep -o 'timeout 1m' | sort -u\n\
        firewall once; nft list set inet auto_review web4 | grep -o '203.0.113.[0-9]*' | sort -u | wc -l";
    let Some(output) = behind(steps) else { return };
    // TTLs of 7 s and 1 s count as the least, 30 s, and as long again.
    assert_eq!(
        lines(&output),
        ["1", "timeout 1m", "30", "2"].map(str::to_owned).to_vec()
    );
}

#[test]
fn a_firewall_without_a_resolver_or_a_list_is_shut_and_says_so() {
    let steps = "echo > empty\nRESOLV_CONF=$PWD/empty firewall up && echo up\nreaches 203.0.113.2:443 203.0.113.3:80\n\
        ALLOWED_HOSTS=/none firewall up && echo up\nfirewall sideways && echo up\ntrue";
    let Some(output) = behind(steps) else { return };
    assert_eq!(lines(&output), [""]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("no resolver") && said.contains("cannot read /none"),
        "{said}"
    );
}

#[test]
fn the_container_files_are_what_the_documents_say() {
    let folder = script().parent().expect("a folder").to_path_buf();
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect("a file");
    let dockerfile = read("Dockerfile.secure");
    assert!(dockerfile.contains("FROM ubuntu:24.04"));
    let up = dockerfile.find("init-firewall up").expect("the firewall");
    assert!(
        up < dockerfile.find("exec \\\"$@\\\"").expect("the command"),
        "the firewall comes first"
    );
    let settings: String = read("devcontainer.secure.json")
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    let settings: serde_json::Value = serde_json::from_str(&settings).expect("JSON with comments");
    assert_eq!(settings["build"]["dockerfile"], "Dockerfile.secure");
    assert_ne!(settings["remoteUser"], "root");
    assert!(
        settings["mounts"]
            .as_array()
            .is_some_and(|mounts| mounts.len() == 3)
    );
}
