//! Connections that are opened and looked into: real tools in the real walls, which trust an authority of their command's own.

use harness::{Ran, Stage};

use super::peer::{SETTINGS, can_be_shown, script, stage};

/// What the runner's own file says: which host is opened, and whose certificates its origin may have.
fn runner_settings(stage: &Stage, with_roots: bool) {
    let roots = stage.outside("ca.pem").display().to_string();
    let roots = if with_roots {
        format!("roots_file = \"{roots}\"\n")
    } else {
        String::new()
    };
    stage.runner_settings(&format!(
        "[network]\nintercepted_hosts = [\"site.test\", \"pypi.org\"]\n{roots}"
    ));
}

/// The peer, with a certificate for `site.test` of an authority that this machine does not know.
fn stage_with(mode: &str) -> Stage {
    let stage = stage();
    let made = format!(
        "set -e; cd '{}'; new='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'; \
         openssl req -x509 $new -days 1 -subj /CN=origins -keyout ca-key.pem -out ca.pem; \
         openssl req $new -subj /CN=the-origins-own -keyout key.pem -out req.pem; \
         printf 'subjectAltName=DNS:site.test\\nbasicConstraints=critical,CA:FALSE\\n' > ext; \
         openssl x509 -req -in req.pem -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 1 -extfile ext -out cert.pem; \
         chmod 644 *.pem",
        stage.outside("").display()
    );
    let status = std::process::Command::new("sh")
        .args(["-c", &made])
        .stderr(std::process::Stdio::null())
        .status()
        .expect("a shell");
    assert!(status.success(), "the certificates are made");
    std::fs::copy(stage.outside("ca.pem"), stage.workspace("origins.pem")).expect("copied");
    let opened = format!(
        "mode = \"{mode}\"\ndomains = {{ \"unknown.test\" = \"allow\", \"pypi.org\" = \"allow\", "
    );
    stage.settings(&SETTINGS.replace("domains = { ", &opened));
    runner_settings(&stage, true);
    stage
}

/// What the report says of each decision about a host.
fn verdicts(ran: &Ran, host: &str) -> Vec<String> {
    let decisions = ran.report["network"]["decisions"].as_array();
    let of_host = decisions
        .into_iter()
        .flatten()
        .filter(|decision| decision["host"] == host);
    of_host
        .filter_map(|decision| decision["verdict"].as_str().map(str::to_owned))
        .collect()
}

const TOOLS: &str = r#"
told() { rm -f told; curl -s -m 20 -o told -w '%{http_code} ' "$@"; [ ! -e told ] || grep -o '"reason":"[a-z_]*"' told || head -c 22 told; }
python() { python3 -c 'import sys, urllib.request as u, urllib.error as e
try: print(u.urlopen(u.Request(sys.argv[1], method=sys.argv[2]), timeout=20).status)
except e.HTTPError as error: print(error.code, error.headers["x-proxy-reason"])
except e.URLError as error: print("closed")' "$@"; }
issuer() { python3 - "$1" <<'END'
import socket, ssl, sys
c = ssl.create_default_context(); c.check_hostname = False; c.verify_mode = ssl.CERT_NONE
try:
    s = c.wrap_socket(socket.create_connection((sys.argv[1], 443), 20), server_hostname=sys.argv[1])
    der = s.getpeercert(True)
    print('its own' if b'the-origins-own' in der else 'ours' if b'network-proxy' in der else 'another')
except OSError: print('closed')
END
}
"#;

const ATTEMPTS: &str = r#"
echo "get $(told https://site.test/)"
echo "post $(told -d x=1 https://site.test/)"
echo "delete $(told -X DELETE https://site.test/)"
echo "upgrade $(told -H 'Connection: Upgrade' -H 'Upgrade: websocket' https://site.test/)"
echo "fronted $(told -H 'Host: denied.test' https://site.test/)"
echo "unaware $(told --noproxy '*' https://site.test/)"
echo "unaware post $(told --noproxy '*' -d x=1 https://site.test/)"
echo "python $(python https://site.test/ GET) $(python https://site.test/ POST)"
git clone -q https://site.test/repo.git cloned && echo "git $(cat cloned/file)"
echo "not told of it $(env -u CURL_CA_BUNDLE -u SSL_CERT_FILE curl -s -m 20 https://site.test/)"
echo "pinned $(python3 -c 'import ssl, urllib.request as u
try: print(u.urlopen("https://site.test/", timeout=20, context=ssl.create_default_context(cafile="origins.pem")).status)
except OSError as e: print("closed")')"
echo "another name $(told https://pypi.org/)"
echo "not listed $(told https://unknown.test/) $(issuer unknown.test)"
bundle=$SSL_CERT_FILE
for name in CURL_CA_BUNDLE REQUESTS_CA_BUNDLE NODE_EXTRA_CA_CERTS GIT_SSL_CAINFO CARGO_HTTP_CAINFO PIP_CERT npm_config_cafile AWS_CA_BUNDLE DENO_CERT; do
    [ "$(printenv $name)" = "$bundle" ] || echo "no $name"
done
grep -c 'PRIVATE' $bundle
(: > $bundle) 2>/dev/null && echo emptied
mv $bundle elsewhere 2>/dev/null && echo moved
rm -f $bundle 2>/dev/null && echo removed
umount $bundle 2>/dev/null && echo uncovered
echo end
"#;

#[test]
fn limited_mode_holds_inside_tls_for_the_hosts_that_are_listed_and_tools_trust_it_unasked() {
    if !can_be_shown("connections that are opened") {
        return;
    }
    let stage = stage_with("limited");
    let ran = script(&stage, &format!("{TOOLS}{ATTEMPTS}"));
    assert_eq!(
        ran.text(),
        "get 200 what the origin holds\n\
         post 403 \"reason\":\"method_not_allowed\"\n\
         delete 403 \"reason\":\"method_not_allowed\"\n\
         upgrade 403 \"reason\":\"method_not_allowed\"\n\
         fronted 421 \"reason\":\"malformed\"\n\
         unaware 200 what the origin holds\n\
         unaware post 403 \"reason\":\"method_not_allowed\"\n\
         python 200 403 method_not_allowed\n\
         git one\n\
         not told of it what the origin holds\n\
         pinned closed\n\
         another name 502 \"reason\":\"upstream_invalid\"\n\
         not listed 000  closed\n\
         0\nend\n",
        "{}",
        ran.stderr
    );
    assert!(
        verdicts(&ran, "unknown.test").contains(&"mitm_required".to_owned()),
        "{:#}",
        ran.report["network"]
    );
    assert!(
        verdicts(&ran, "site.test").contains(&"method_not_allowed".to_owned()),
        "{:#}",
        ran.report["network"]
    );
    let notes = ran.report["notes"].to_string();
    assert!(notes.contains("opened and looked into"), "{notes}");
}

#[test]
fn in_full_mode_only_the_listed_hosts_are_opened_and_an_unknown_authority_is_refused() {
    if !can_be_shown("which connections are opened") {
        return;
    }
    let stage = stage_with("full");
    runner_settings(&stage, false);
    let text = format!(
        r#"{TOOLS}
echo "unknown authority $(told https://site.test/)"
echo "listed $(issuer site.test)"
echo "not listed $(issuer unknown.test)"
"#
    );
    let ran = script(&stage, &text);
    assert_eq!(
        ran.text(),
        "unknown authority 502 \"reason\":\"upstream_invalid\"\nlisted ours\nnot listed its own\n",
        "{}",
        ran.stderr
    );
}

#[test]
fn no_variable_is_set_where_nothing_is_opened_and_an_authority_that_commands_may_write_is_refused()
{
    let stage = Stage::new();
    stage.settings(SETTINGS);
    let words = [
        "sh",
        "-c",
        "env | grep -c -e CA_BUNDLE -e CERT_FILE -e CAINFO; grep -c network-proxy /etc/ssl/certs/* 2>/dev/null | grep -v ':0$'; echo end",
    ];
    let ran = stage.exec(&[], &words).ran();
    assert_eq!(ran.text(), "0\nend\n", "{}", ran.stderr);

    let own = stage.file("own.pem", "no matter what");
    stage.runner_settings(&format!(
        "[network]\nintercepted_hosts = [\"site.test\"]\nroots_file = \"{}\"\n",
        own.display()
    ));
    let ran = stage.exec(&[], &words).ran();
    assert_eq!(ran.code(), 125, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("which commands may write"),
        "{}",
        ran.stderr
    );

    for wrong in ["intercepted_hosts = [\"a*b\"]", "intercept = true"] {
        stage.runner_settings(&format!("[network]\n{wrong}\n"));
        let ran = stage.exec(&[], &["true"]).ran();
        assert_eq!(ran.code(), 125, "{wrong}: {}", ran.stderr);
    }
}
