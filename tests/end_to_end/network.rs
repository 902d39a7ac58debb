//! The network's door: real tools inside the real walls, in namespaces of the test's own, with a peer that has a public
//! address and names that the runner's machine knows. No packet leaves the namespaces.

mod answers;
mod beside;
mod opened;
mod past;
mod peer;
mod proof;
mod queued;
mod tools;

use harness::{Ran, Script, ScriptedModel, Stage, TestServer, assessment};
use serde_json::Value;

use peer::{SETTINGS, can_be_shown, run, script, stage, verdict};

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

/// The team's record has what the door of `ran` decided, as its report has it.
fn is_on_record(server: &TestServer, ran: &Ran) {
    let listed = server.call("GET", "/v1/network-reports?host=nowhere.invalid", None);
    let listed: Value = serde_json::from_slice(&listed.body).expect("JSON");
    let reports = listed["reports"].as_array().expect("reports").clone();
    assert_eq!(reports.len(), 1, "{reports:?}");
    let told = &reports[0]["report"];
    assert_eq!(told["execution"], ran.report["network"]["execution"]);
    assert_eq!(told["decisions"], ran.report["network"]["decisions"]);
    assert_eq!(told["refused"], ran.report["network"]["refused"]);
    assert_eq!(told["program"], "sh");
    assert_eq!(told["session"]["session_id"], "s-1");
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
        if let Some(server) = server {
            is_on_record(&server, &ran);
        }
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
            let network = &history[0];
            assert_eq!(network["event"]["kind"], "network", "{history:?}");
            let history = &history[1..];
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
