//! The package managers that people work with, through the real door to small registries on the peer.
//!
//! Each is shown where it is installed; what is not is said loudly.

use std::path::PathBuf;

use harness::{Missing, Ran, Stage, lacks};

use super::peer::{can_be_shown, run, stage, verdict};

/// Where this machine's own tools lie.
fn path() -> String {
    let own = std::env::vars_os().find(|(name, _)| name == "PATH");
    let own = own
        .map(|(_, value)| value.to_string_lossy().into_owned())
        .unwrap_or_default();
    format!("/usr/local/bin:/usr/bin:/bin:{own}")
}

/// The folder that `tool` lies in.
fn folder_of(tool: &str) -> Option<PathBuf> {
    let found = std::env::split_paths(&path())
        .map(|folder| folder.join(tool))
        .find(|candidate| candidate.is_file());
    if found.is_none() {
        lacks(Missing::Tool, &format!("{tool} behind the door"));
    }
    found
}

/// Runs `text` with the peer beside it, and what the registries hold made by `made`.
fn with_registry(made: &str, text: &str) -> (Stage, Ran) {
    let stage = stage();
    let origin = stage.outside("origin");
    let status = std::process::Command::new("sh")
        .args(["-ec", made])
        .current_dir(&origin)
        .env("PATH", path())
        .status()
        .expect("a shell");
    assert!(status.success(), "the registry is made");
    std::fs::copy(stage.outside("cert.pem"), stage.workspace("cert.pem")).expect("copied");
    stage.file("task.sh", text);
    let ran = run(&stage, &[], ["sh", "task.sh"]);
    (stage, ran)
}

fn reached(ran: &Ran, port: u16) {
    assert_eq!(
        verdict(ran, "site.test", port).as_deref(),
        Some("allowed"),
        "{} {}",
        ran.text(),
        ran.stderr
    );
}

#[test]
fn git_speaks_through_a_transport_like_sshs_that_knows_of_no_proxy() {
    if !can_be_shown("git over a transport like ssh's") {
        return;
    }
    // What git starts in place of ssh: it connects, waits for the banner, names the service, and passes on both ways.
    let transport = r#"cat > transport.py <<'END'
import os, socket, sys, threading
host = sys.argv[-2].split('@')[-1]; service = sys.argv[-1]
s = socket.create_connection((host, 22), 20); s.settimeout(60)
banner = b''
while not banner.endswith(b'\n'): banner += s.recv(1)
assert banner.startswith(b'SSH-2.0-'), banner
s.sendall(service.encode() + b'\n')
def out():
    while True:
        data = os.read(0, 65536)
        if not data: break
        s.sendall(data)
threading.Thread(target=out, daemon=True).start()
while True:
    data = s.recv(65536)
    if not data: break
    while data: data = data[os.write(1, data):]
END
GIT_SSH_COMMAND="python3 $PWD/transport.py" GIT_SSH_VARIANT=simple git clone -q git@site.test:repo.git by-ssh && echo "git ssh $(cat by-ssh/file)"
GIT_SSH_COMMAND="python3 $PWD/transport.py" GIT_SSH_VARIANT=simple git clone -q git@denied.test:repo.git no 2>/dev/null || echo "closed"
echo "tls by its own authority $(curl -sS -m 20 --cacert cert.pem https://site.test/)"
GIT_SSL_CAINFO=$PWD/cert.pem git clone -q https://site.test/repo.git by-tls && echo "git tls $(cat by-tls/file)"
"#;
    let (_stage, ran) = with_registry("true", transport);
    assert_eq!(
        ran.text(),
        "git ssh one\nclosed\ntls by its own authority what the origin holds\ngit tls one\n",
        "{}",
        ran.stderr
    );
    reached(&ran, 22);
    reached(&ran, 443);
    assert_ne!(verdict(&ran, "denied.test", 22).as_deref(), Some("allowed"));
}

#[test]
fn pip_installs_from_an_index() {
    if !can_be_shown("pip behind the door") {
        return;
    }
    let python = "/usr/bin/python3";
    let has_pip = std::process::Command::new(python)
        .args(["-m", "pip", "--version"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !has_pip {
        lacks(Missing::Tool, "pip behind the door");
        return;
    }
    let made = r#"
mkdir -p simple/tiny files
python3 - <<'END'
import zipfile
with zipfile.ZipFile('files/tiny-1.0-py3-none-any.whl', 'w') as wheel:
    wheel.writestr('tiny.py', 'WORD = "from the index"\n')
    wheel.writestr('tiny-1.0.dist-info/METADATA', 'Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n')
    wheel.writestr('tiny-1.0.dist-info/WHEEL', 'Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n')
    wheel.writestr('tiny-1.0.dist-info/RECORD', 'tiny.py,,\ntiny-1.0.dist-info/METADATA,,\ntiny-1.0.dist-info/WHEEL,,\ntiny-1.0.dist-info/RECORD,,\n')
END
echo '<!DOCTYPE html><html><body><a href="/files/tiny-1.0-py3-none-any.whl">tiny-1.0-py3-none-any.whl</a></body></html>' > simple/tiny/index.html
"#;
    let text = r#"
/usr/bin/python3 -m pip install -q --disable-pip-version-check --no-cache-dir --no-deps --target out --cert cert.pem --index-url https://site.test/simple tiny || exit 1
PYTHONPATH=out /usr/bin/python3 -c 'import tiny; print(tiny.WORD)'
/usr/bin/python3 -m pip install -q --disable-pip-version-check --no-cache-dir --no-deps --retries 0 --target no --cert cert.pem --index-url https://denied.test/simple tiny 2>/dev/null || echo closed
"#;
    let (_stage, ran) = with_registry(made, text);
    assert_eq!(ran.text(), "from the index\nclosed\n", "{}", ran.stderr);
    reached(&ran, 443);
}

#[test]
fn node_and_npm_fetch_from_a_registry() {
    if !can_be_shown("node and npm behind the door") {
        return;
    }
    let (Some(node), Some(npm)) = (folder_of("node"), folder_of("npm")) else {
        return;
    };
    let made = r#"
mkdir -p npm package
echo '{"name":"tiny","version":"1.0.0","main":"index.js"}' > package/package.json
echo 'module.exports = "from the registry";' > package/index.js
tar -czf npm/tiny-1.0.0.tgz package
echo '{"name":"tiny","dist-tags":{"latest":"1.0.0"},"versions":{"1.0.0":{"name":"tiny","version":"1.0.0","main":"index.js","dist":{"tarball":"https://site.test/npm/tiny-1.0.0.tgz"}}}}' > npm/tiny
"#;
    let text = format!(
        r#"
export npm_config_cafile=$PWD/cert.pem npm_config_cache=$PWD/cache npm_config_update_notifier=false
NODE_EXTRA_CA_CERTS=$PWD/cert.pem {node} -e 'fetch("https://site.test/").then(r => r.text()).then(t => console.log("node", t.trim()))'
{node} {npm} install --silent --no-audit --no-fund --ignore-scripts --prefix app --registry https://site.test/npm/ tiny >/dev/null 2>npm-errors || cat npm-errors
{node} -p 'require("./app/node_modules/tiny")'
"#,
        node = node.display(),
        npm = npm.display()
    );
    let (_stage, ran) = with_registry(made, &text);
    assert_eq!(
        ran.text(),
        "node what the origin holds\nfrom the registry\n",
        "{}",
        ran.stderr
    );
    reached(&ran, 443);
}

#[test]
fn cargo_fetches_from_a_sparse_registry() {
    if !can_be_shown("cargo behind the door") {
        return;
    }
    // The toolchain's own program, past rustup, so that nothing of a home folder is needed.
    let found = std::process::Command::new("rustc")
        .args(["--print", "sysroot"])
        .output();
    let sysroot = found
        .ok()
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let cargo = sysroot.map(|root| PathBuf::from(root).join("bin/cargo"));
    let Some(cargo) = cargo.filter(|cargo| cargo.is_file()) else {
        lacks(Missing::Tool, "cargo behind the door");
        return;
    };
    let made = r#"
mkdir -p index/ti/ny dl/tiny tiny-1.0.0/src
printf '[package]\nname = "tiny"\nversion = "1.0.0"\nedition = "2021"\n' > tiny-1.0.0/Cargo.toml
echo 'pub const WORD: &str = "from the registry";' > tiny-1.0.0/src/lib.rs
tar -czf dl/tiny/1.0.0.crate tiny-1.0.0
sum=$(sha256sum dl/tiny/1.0.0.crate | cut -d' ' -f1)
echo '{"dl":"https://site.test/dl/{crate}/{version}.crate"}' > index/config.json
echo '{"name":"tiny","vers":"1.0.0","deps":[],"cksum":"'$sum'","features":{},"yanked":false}' > index/ti/ny/tiny
"#;
    let text = format!(
        r#"
export RUSTC={} CARGO_HOME=$PWD/home CARGO_HTTP_CAINFO=$PWD/cert.pem
mkdir -p home app/src
printf '[source.crates-io]\nreplace-with = "own"\n[source.own]\nregistry = "sparse+https://site.test/index/"\n' > home/config.toml
printf '[workspace]\n[package]\nname = "app"\nversion = "0.1.0"\nedition = "2021"\n[dependencies]\ntiny = "1"\n' > app/Cargo.toml
echo 'fn main() {{}}' > app/src/main.rs
cd app && {} fetch -q && cat ../home/registry/src/*/tiny-1.0.0/src/lib.rs
"#,
        cargo.with_file_name("rustc").display(),
        cargo.display()
    );
    let (_stage, ran) = with_registry(made, &text);
    assert_eq!(
        ran.text(),
        "pub const WORD: &str = \"from the registry\";\n",
        "{}",
        ran.stderr
    );
    reached(&ran, 443);
}
