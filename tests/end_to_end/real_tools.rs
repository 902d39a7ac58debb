//! The tools that people work with, inside the walls as they stand by default in a workspace: what a wall must not break.
//!
//! `cargo xtask test` installs what is missing, and a missing tool fails there.

use std::fs;
use std::path::PathBuf;

use harness::{Missing, Ran, Stage, lacks};

/// The folders of this machine's own tools, which may lie in a home folder.
fn path() -> String {
    let ours = std::env::vars_os().find(|(name, _)| name == "PATH");
    let ours = ours
        .map(|(_, value)| value.to_string_lossy().into_owned())
        .unwrap_or_default();
    format!("{ours}:/usr/local/bin:/usr/bin:/bin")
}

/// A variable of this process, where it has it.
fn own(name: &str) -> Option<String> {
    let found = std::env::vars_os().find(|(other, _)| other == name);
    found.and_then(|(_, value)| value.into_string().ok())
}

fn there(tool: &str) -> bool {
    let folders: Vec<PathBuf> = std::env::split_paths(&path()).collect();
    let found = folders.iter().any(|folder| folder.join(tool).is_file());
    if !found {
        lacks(Missing::Tool, tool);
    }
    found
}

fn run(stage: &Stage, words: &[&str]) -> Ran {
    let mut run = stage.exec(&[], words).env("PATH", path());
    // Where cargo and rustup keep themselves when HOME is not theirs.
    for (name, folder) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
        let home = own("HOME").map(|home| format!("{home}/{folder}"));
        if let Some(value) = own(name).or(home) {
            run = run.env(name, value);
        }
    }
    run.ran()
}

/// Runs it and holds that it worked. While some program of this machine listens at a socket whose path the kernel does
/// not tell, commands get no Unix sockets: then it is tried again.
fn works(stage: &Stage, words: &[&str]) -> String {
    let mut ran = run(stage, words);
    for _ in 0..60 {
        if ran.report["confinement"]["unix_sockets_refused"].is_null() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(500));
        ran = run(stage, words);
    }
    assert_eq!(
        ran.code(),
        0,
        "{words:?}\nout: {}\nerr: {}\ndenials: {}",
        ran.text(),
        ran.stderr,
        ran.report["denials"]
    );
    ran.text()
}

#[test]
fn git_reads_a_repository_and_commits_in_a_work_tree_that_was_granted_for_it() {
    if !there("git") {
        return;
    }
    let stage = Stage::new();
    stage.file("a", "one\n");
    stage.git(&["add", "a"]);
    stage.git(&["commit", "--quiet", "-m", "first"]);
    stage.file("a", "two\n");
    assert!(works(&stage, &["git", "status", "--short"]).contains("M a"));
    assert!(works(&stage, &["git", "diff"]).contains("+two"));
    assert!(works(&stage, &["git", "log", "--oneline"]).contains("first"));
    let refused = run(&stage, &["git", "commit", "--quiet", "-am", "not granted"]);
    assert_ne!(refused.code(), 0, "the repository was not granted");
    // A linked work tree whose repository lies elsewhere, granted by name.
    let tree = stage.outside("tree");
    stage.git(&[
        "worktree",
        "add",
        "--quiet",
        tree.to_str().expect("text"),
        "-b",
        "side",
    ]);
    fs::write(tree.join("a"), "three\n").expect("a file");
    stage.settings(&format!(
        "sandbox_mode = \"workspace-write\"\n[sandbox_workspace_write]\nwritable_roots = [\"{}\"]\n",
        stage.workspace(".git").display()
    ));
    let words = [
        "git",
        "-c",
        "user.name=T",
        "-c",
        "user.email=t@example.com",
        "commit",
        "--quiet",
        "-am",
        "inside",
    ];
    let ran = stage
        .exec(&["--cd", tree.to_str().expect("text")], &words)
        .env("PATH", path())
        .ran();
    assert_eq!(ran.code(), 0, "{} {}", ran.stderr, ran.report["denials"]);
    assert!(stage.git(&["log", "--oneline", "side"]).contains("inside"));
}

#[test]
fn cargo_builds_and_tests_a_crate() {
    if !there("cargo") {
        return;
    }
    let stage = Stage::new();
    fs::create_dir(stage.workspace("src")).expect("a folder");
    stage.file(
        "Cargo.toml",
        "[package]\nname = \"small\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[workspace]\n",
    );
    stage.file(
        "src/lib.rs",
        "pub fn one() -> u8 { 1 }\n#[test] fn it_is_one() { assert_eq!(one(), 1); }\n",
    );
    works(&stage, &["cargo", "build", "--offline", "--quiet"]);
    let tested = works(&stage, &["cargo", "test", "--offline", "--quiet"]);
    assert!(tested.contains("1 passed"), "{tested}");
    assert!(stage.workspace("target/debug").is_dir());
}

#[test]
fn npm_runs_the_tests_of_a_package() {
    if !there("npm") || !there("node") {
        return;
    }
    let stage = Stage::new();
    stage.file(
        "package.json",
        "{\"name\":\"small\",\"version\":\"1.0.0\",\"scripts\":{\"test\":\"node test.js\"}}",
    );
    stage.file("test.js", "require('assert').strictEqual(1 + 1, 2); require('fs').writeFileSync('made', 'x'); console.log('tested');\n");
    assert!(works(&stage, &["npm", "test", "--silent"]).contains("tested"));
    assert!(stage.workspace("made").exists());
}

#[test]
fn node_talks_to_its_children() {
    if !there("node") {
        return;
    }
    let stage = Stage::new();
    stage.file(
        "parent.js",
        "const { fork } = require('child_process'); const net = require('net');\n\
         const child = fork('child.js'); child.on('message', m => { console.log('child says ' + m);\n\
         const s = net.createServer(c => c.end('unix')).listen('./s.sock', () => net.connect('./s.sock').on('data', d => { console.log(String(d)); s.close(); child.disconnect(); })); });\n\
         child.send('hello');\n",
    );
    stage.file(
        "child.js",
        "process.on('message', m => process.send(m + ' back'));\n",
    );
    let said = works(&stage, &["node", "parent.js"]);
    assert!(
        said.contains("child says hello back") && said.contains("unix"),
        "{said}"
    );
}

#[test]
fn python_shares_work_between_processes_in_every_way_it_knows() {
    if !there("python3") {
        return;
    }
    let stage = Stage::new();
    stage.file(
        "work.py",
        "import multiprocessing as m, sys\n\
         def double(x): return 2 * x\n\
         if __name__ == '__main__':\n    \
             for way in m.get_all_start_methods():\n        \
                 c = m.get_context(way)\n        \
                 with c.Pool(2) as pool: print(way, pool.map(double, [1, 2, 3]))\n    \
             lock = m.Lock(); value = m.Value('i', 7)\n    \
             with lock: print('shared', value.value)\n    \
             from multiprocessing import shared_memory as s\n    \
             block = s.SharedMemory(create=True, size=64); block.buf[0] = 9; print('memory', block.buf[0]); block.close(); block.unlink()\n",
    );
    let said = works(&stage, &["python3", "work.py"]);
    for line in [
        "fork [2, 4, 6]",
        "spawn [2, 4, 6]",
        "forkserver [2, 4, 6]",
        "shared 7",
        "memory 9",
    ] {
        assert!(said.contains(line), "`{line}` is not in: {said}");
    }
}

#[test]
fn python_serves_and_asks_itself_on_loopback_and_by_a_socket_file() {
    if !there("python3") {
        return;
    }
    let stage = Stage::new();
    stage.file(
        "serve.py",
        "import asyncio, urllib.request, threading, http.server\n\
         async def main():\n    \
             async def hello(r, w): w.write(await r.readline()); await w.drain(); w.close()\n    \
             s = await asyncio.start_unix_server(hello, path='a.sock')\n    \
             r, w = await asyncio.open_unix_connection('a.sock'); w.write(b'by file\\n'); print((await r.readline()).decode(), end='')\n    \
             t = await asyncio.start_server(hello, '127.0.0.1', 0); port = t.sockets[0].getsockname()[1]\n    \
             r, w = await asyncio.open_connection('127.0.0.1', port); w.write(b'by port\\n'); print((await r.readline()).decode(), end='')\n    \
             p = await asyncio.create_subprocess_exec('echo', 'by child', stdout=asyncio.subprocess.PIPE); print((await p.communicate())[0].decode(), end='')\n\
         asyncio.run(main())\n\
         h = http.server.ThreadingHTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler)\n\
         threading.Thread(target=h.serve_forever, daemon=True).start()\n\
         print(urllib.request.urlopen(f'http://127.0.0.1:{h.server_port}/serve.py').status)\n",
    );
    let said = works(&stage, &["python3", "serve.py"]);
    for line in ["by file", "by port", "by child", "200"] {
        assert!(said.contains(line), "`{line}` is not in: {said}");
    }
}

#[test]
fn make_builds_by_its_rules_in_parallel() {
    if !there("make") || !there("cc") {
        return;
    }
    let stage = Stage::new();
    stage.file("one.c", "int one(void) { return 1; }\n");
    stage.file("main.c", "#include <stdio.h>\nint one(void);\nint main(void) { printf(\"built %d\\n\", one()); return 0; }\n");
    stage.file(
        "Makefile",
        "all: main\n\t./main\nmain: one.o main.o\n\tcc -o $@ $^\n%.o: %.c\n\tcc -c -o $@ $<\n",
    );
    assert!(works(&stage, &["make", "-j2"]).contains("built 1"));
}
