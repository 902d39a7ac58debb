//! Two commands at the same time: each has a door of its own, and neither is in the other's network.

use harness::{Answer, Loopback, Ran, Reply, Stage};
use serde_json::Value;

/// The hosts that a run's door decided about.
fn decided(ran: &Ran) -> Vec<String> {
    let decisions = ran.report["network"]["decisions"].as_array();
    let hosts = decisions
        .into_iter()
        .flatten()
        .filter_map(|decision| decision["host"].as_str().map(str::to_owned));
    let mut hosts: Vec<String> = hosts.collect();
    hosts.dedup();
    hosts
}

/// Waits for `file`, at most half a minute.
const WAITS: &str =
    "waits() { for i in $(seq 300); do [ -e $1 ] && return; sleep 0.1; done; echo \"no $1\"; }\n";

/// Serves something of its own, reaches what its rules allow, and lives until the second is done.
const FIRST: &str = r#"
python3 -m http.server --bind 0.0.0.0 5000 >/dev/null 2>&1 & own=$!
for i in $(seq 100); do curl -s -o /dev/null --noproxy '*' http://127.0.0.1:5000/ && break; sleep 0.1; done
echo "reached $(curl -s -m 20 -x http://127.0.0.1:3128 "$ORIGIN/")"
readlink /proc/self/ns/net > first-network
touch first-stands
waits second-done
echo "still $(curl -s -m 20 -x http://127.0.0.1:3128 "$ORIGIN/")"
kill $own
"#;

/// Looks for the first's server and listeners while the first lives.
const SECOND: &str = r#"
waits first-stands
[ "$(readlink /proc/self/ns/net)" != "$(cat first-network)" ] && echo apart
curl -s -m 5 -o /dev/null --noproxy '*' http://127.0.0.1:5000/ && echo "reached the first's server"
curl -s -m 5 -x http://127.0.0.1:3128 http://127.0.0.1:5000/ | grep -o '"reason":"[a-z_]*"'
curl -s -m 5 http://only-second.test/ | grep -o '"reason":"[a-z_]*"'
for address in 127.0.0.2 10.0.2.2 169.254.1.1; do
    curl -s -m 5 -o /dev/null -x "http://$address:3128" "$ORIGIN/" && echo "a door at $address"
done
touch second-done
"#;

#[test]
fn two_commands_at_once_have_a_door_each_and_neither_reaches_the_others() {
    let origin =
        Loopback::start(|_| Answer::Reply(Reply::typed(200, "text/plain", b"origin".to_vec())));
    let stage = Stage::new();
    let at = origin.address();
    stage.settings(&format!(
        "sandbox_mode = \"workspace-write\"\napproval_policy = \"never\"\n[sandbox_workspace_write]\nnetwork_access = true\n\
         [features.network_proxy]\nenabled = true\ndomains = {{ \"{at}\" = \"allow\" }}\n"
    ));
    let script = |name: &str, text: &str| {
        stage.file(name, &format!("ORIGIN={}\n{WAITS}{text}", origin.url()));
    };
    script("first.sh", FIRST);
    script("second.sh", SECOND);
    let first = stage.exec(&[], &["sh", "first.sh"]).start();
    let second = stage.exec(&[], &["sh", "second.sh"]).ran();
    let first = first.wait();
    assert_eq!(
        second.text(),
        "apart\n\"reason\":\"not_allowed_local\"\n\"reason\":\"not_allowed\"\n",
        "{}",
        second.stderr
    );
    assert_eq!(
        first.text(),
        "reached origin\nstill origin\n",
        "{}",
        first.stderr
    );
    assert_eq!(decided(&first), ["127.0.0.1"]);
    assert!(decided(&second).contains(&"only-second.test".to_owned()));
    let of = |ran: &Ran| ran.report["network"]["execution"].clone();
    assert_ne!(of(&first), Value::Null);
    assert_ne!(of(&first), of(&second));
}
