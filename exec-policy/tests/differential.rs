//! Holds the reading against bash itself: the same text runs in a real bash whose PATH has nothing but stand-ins that
//! write down how they were started, and everything that started must stand in the reading.
//!
//! Invariant under test: where a reading says that it is complete, no program starts that is not in it.

#![expect(
    clippy::expect_used,
    reason = "a test that cannot set its bench up has to end"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use exec_policy::{Piece, Reading, Word};
use proptest::prelude::*;

const STAND_INS: &[&str] = &[
    "rm", "ls", "cat", "git", "curl", "tail", "sh1", "a", "b", "x",
];

/// A folder of its own with stand-ins; gone when dropped.
struct Bench(PathBuf);

impl Bench {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("exec-policy-{name}-{}", std::process::id()));
        fs::create_dir_all(dir.join("bin")).expect("a folder");
        fs::create_dir_all(dir.join("cwd")).expect("a folder");
        fs::write(dir.join("cwd/f1.txt"), "one\n").expect("a file");
        fs::write(dir.join("cwd/f2.txt"), "two\n").expect("a file");
        let log = dir.join("log");
        let stand_in = format!(
            "#!/bin/sh\nprintf '%s\\0' \"$#\" \"${{0##*/}}\" \"$@\" >> {}\n",
            log.display()
        );
        for name in STAND_INS {
            let path = dir.join("bin").join(name);
            fs::write(&path, &stand_in).expect("a stand-in");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
        }
        for name in [
            "env", "nice", "nohup", "timeout", "xargs", "bash", "sh", "printf",
        ] {
            let real = ["/usr/bin", "/bin"]
                .iter()
                .map(|dir| Path::new(dir).join(name))
                .find(|path| path.exists());
            if let Some(real) = real {
                std::os::unix::fs::symlink(real, dir.join("bin").join(name)).expect("a link");
            }
        }
        Self(dir)
    }

    /// Runs `script` in bash and tells what started.
    fn started(&self, script: &str) -> Vec<Vec<String>> {
        let log = self.0.join("log");
        fs::write(&log, "").expect("a log");
        let bash = ["/usr/bin/bash", "/bin/bash"]
            .into_iter()
            .find(|path| Path::new(path).exists());
        let mut child = Command::new(bash.expect("bash"))
            .args(["-c", script])
            .current_dir(self.0.join("cwd"))
            .env_clear()
            .env("PATH", self.0.join("bin"))
            .env("HOME", self.0.join("cwd"))
            .env("LC_ALL", "C.UTF-8")
            .env("FUNCNEST", "5")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("bash starts");
        child.wait().expect("bash ends");
        // What ran beside the script may still be writing its line.
        if ["&", "<(", "coproc"]
            .iter()
            .any(|mark| script.contains(mark))
        {
            std::thread::sleep(std::time::Duration::from_millis(30));
        }
        parse(&fs::read(&log).expect("the log"))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

fn parse(log: &[u8]) -> Vec<Vec<String>> {
    let mut fields = log
        .split(|byte| *byte == 0)
        .map(|field| String::from_utf8_lossy(field).into_owned());
    let mut all = Vec::new();
    while let Some(count) = fields.next().and_then(|count| count.parse::<usize>().ok()) {
        all.push(fields.by_ref().take(count + 1).collect());
    }
    all
}

fn read(script: &str) -> Reading {
    Reading::of_argv(&["bash".to_owned(), "-c".to_owned(), script.to_owned()])
}

/// Whether some command of the reading may be the one that started.
fn has(reading: &Reading, started: &[String]) -> bool {
    reading.commands().iter().any(|command| {
        let mut words = command.words().iter().peekable();
        let mut real = started.iter();
        let mut first = true;
        loop {
            match (words.next(), real.next()) {
                (None, None) => return true,
                (Some(word), _) if open(word) => return true,
                (Some(word), Some(text)) => {
                    let literal = word.literal().unwrap_or_default();
                    let literal = if first {
                        literal.rsplit('/').next().unwrap_or_default()
                    } else {
                        literal
                    };
                    first = false;
                    if literal != text {
                        return false;
                    }
                }
                _ => return false,
            }
        }
    })
}

/// A word that may be any number of words.
fn open(word: &Word) -> bool {
    word.pieces().iter().any(|piece| {
        matches!(
            piece,
            Piece::Unknown | Piece::Glob(_) | Piece::Home | Piece::WorkingDirectory
        )
    })
}

fn check(bench: &Bench, script: &str) -> Result<(), String> {
    let reading = read(script);
    if !reading.is_complete() {
        return Ok(());
    }
    for started in bench.started(script) {
        if !has(&reading, &started) {
            return Err(format!(
                "bash started {started:?} for {script:?}, the reading has {:?}",
                reading.commands()
            ));
        }
    }
    Ok(())
}

/// Texts whose reading is known to be hard, and those that must be readable at all.
const SCRIPTS: &[(&str, bool)] = &[
    ("rm a b", true),
    ("r'm' a", true),
    ("r\"m\" a", true),
    ("\\rm -rf a", true),
    ("'rm' '-rf' a", true),
    ("$'\\x72m' a", true),
    ("$'rm' $'a\\'b'", true),
    ("rm a; ls b && git c || curl d", true),
    ("ls | tail -1 | cat", true),
    ("ls |& cat", true),
    ("(rm a)", true),
    ("{ rm a; }", true),
    ("! rm a", true),
    ("rm a & ls", true),
    ("if rm a; then ls; else cat; fi", true),
    ("for f in 1 2; do rm $f; done", true),
    ("while false; do rm a; done; ls", true),
    ("until true; do rm a; done", true),
    ("case x in x) rm a;; *) ls;; esac", true),
    ("f() { rm a; }; f", true),
    ("function f { rm a; }; f", true),
    ("X=1 rm a", true),
    ("X=$(rm a)", true),
    ("echo $(rm a)", true),
    ("echo `rm a`", true),
    ("echo \"$(rm a)\"", true),
    ("echo \"${X:-$(rm a)}\"", true),
    ("cat <(rm a)", true),
    ("cat > f3.txt rm", true),
    ("> f3.txt rm a", true),
    ("rm a > f3.txt b", true),
    ("rm a 2>&1 b", true),
    ("rm &> f3.txt a", true),
    ("cat <<E\nhello\nE\nrm a", true),
    ("cat <<'E'\n$(rm a)\nE\nls", true),
    ("cat <<E\n$(rm a)\nE\nls", true),
    ("cat <<-E\n\thello\n\tE\nrm a", true),
    ("cat <<E | tail\nx\nE\n", true),
    ("cat <<E && rm a\nx\nE\nls", true),
    ("cat <<E; rm a\nx\nE\nls", false),
    ("cat <<< rm", true),
    ("rm a # ls", true),
    ("rm a#b", true),
    ("rm '#' a", true),
    ("# rm a\nls", true),
    ("rm *.txt", true),
    ("rm ~/a", true),
    ("rm \"$HOME/a\"", true),
    ("rm {a,b}", true),
    ("rm a{1..3}", true),
    ("rm a \\\n b", true),
    ("r\\\nm a", false),
    ("rm\\ a", true),
    ("rm a\\ b", true),
    ("rm \\ a", false),
    ("rm\ta", true),
    ("rm\u{a0}a", false),
    ("rm\u{3000}a", false),
    ("rm\ra", false),
    ("eval rm a", true),
    ("eval 'rm a; ls'", true),
    ("eval \"rm\" $X", false),
    ("command rm a", true),
    ("exec rm a", true),
    ("builtin echo a; rm a", true),
    ("env rm a", true),
    ("env X=1 rm a", true),
    ("env -i -u Y rm a", true),
    ("nice -n 5 rm a", true),
    ("nohup rm a", true),
    ("timeout 5 rm a", true),
    ("timeout -s KILL 5 rm a", true),
    ("time rm a", true),
    ("time -p rm a", true),
    ("printf 'a\\n' | xargs rm", true),
    ("printf 'a\\n' | xargs -I{} rm {} b", true),
    ("bash -c 'rm a'", true),
    ("bash -ec 'rm a'", true),
    ("sh -c 'rm a' x y", true),
    ("bash -c \"bash -c 'rm a'\"", true),
    ("bash <<< 'rm a'", true),
    ("bash <<E\nrm a\nE", true),
    ("printf 'rm a' | bash", false),
    ("trap 'rm a' EXIT", true),
    ("a=rm; $a x", false),
    ("X=rm; ${X} a", false),
    ("[ -f f1.txt ] && rm a", true),
    ("[[ -f f1.txt ]] && rm a", true),
    ("[ $(rm a) ]", true),
    ("export X=$(rm a)", true),
    ("declare -a x=($(rm a))", true),
    ("x=(1 $(rm a)); ls", true),
    ("((1)) && rm a", false),
    ("echo $((1+1)); rm a", false),
    ("alias ls='rm a'; ls", false),
    ("shopt -s expand_aliases\nalias zz='rm a'\nzz", false),
    ("rm a;ls;;", true),
    ("rm 'a", false),
    ("rm $(", false),
    ("echo \"a $(rm \"b c\") d\"", true),
    ("echo ${X/$(rm a)/b}", true),
    ("coproc rm a", true),
    ("select x in a; do rm $x; done < /dev/null", true),
    ("rm a || { ls; exit; } ; cat", true),
    ("cat f1.txt | while read l; do rm $l; done", true),
    ("{ rm a; ls; } > f3.txt 2>&1", true),
    ("if true; then rm a; fi > f3.txt", true),
    ("x=1 y=2; rm a", true),
    ("rm -- -f", true),
    ("echo 'rm -rf /'", true),
    ("echo a\\;rm b", true),
    ("echo a';'rm b", true),
    ("echo \"`rm a`\"", true),
    ("echo $'a\\\\' ; rm 'x'", false),
    ("echo \"\\\"; rm a; \\\"\"", true),
    ("echo '\\'; rm a; echo '\\'", true),
    ("cat <<\"E\" ; rm a\nx\nE\n", false),
    ("echo \"a\nb\"; rm c", true),
    ("rm a\n\n\nls b\n", true),
];

#[test]
fn what_bash_starts_stands_in_the_reading() {
    let bench = Bench::new("table");
    let mut wrong = Vec::new();
    for (script, readable) in SCRIPTS {
        if let Err(fault) = check(&bench, script) {
            wrong.push(fault);
        }
        if *readable && !read(script).is_complete() {
            wrong.push(format!("not read: {script:?}: {:?}", read(script).unread()));
        }
        if !*readable && read(script).is_complete() {
            wrong.push(format!("read: {script:?}: {:?}", read(script).commands()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Pieces of shell from which texts are thrown together. No loop without an end and no function can be made of them.
const PIECES: &[&str] = &[
    "{ ",
    "; }",
    "! ",
    "time ",
    "( ",
    " )",
    "coproc ",
    "for i in 1; do ",
    "; done",
    "case x in x) ",
    ";; esac",
    "rm",
    "ls",
    "cat",
    "a",
    "b",
    "-f",
    " ",
    " ",
    " ",
    "\t",
    "\n",
    ";",
    "|",
    "||",
    "&&",
    "'",
    "\"",
    "\\",
    "$",
    "$(",
    ")",
    "`",
    "<",
    ">",
    "2>&1",
    "#",
    "x=",
    "=",
    "*",
    "?",
    "[",
    "]",
    "~",
    "{",
    "}",
    ",",
    "!",
    "<<E\n",
    "\nE\n",
    "<<<",
    "if ",
    "; then ",
    "; fi",
    "$X",
    "${X}",
    "${X:-",
    "$'",
    "-c",
    "env ",
    "eval ",
    "bash -c ",
    "é",
    "\\\n",
    "%",
    "@",
    ":",
    "/",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_text_starts_a_program_that_a_complete_reading_does_not_have(
        pieces in proptest::collection::vec(proptest::sample::select(PIECES), 1..14)
    ) {
        let bench = Bench::new(&format!("random-{:?}", std::thread::current().id()));
        let script = format!("rm a; {}", pieces.concat());
        if let Err(fault) = check(&bench, &script) {
            prop_assert!(false, "{}", fault);
        }
    }

    #[test]
    fn any_text_is_read_without_a_panic(text in any::<String>()) {
        let reading = read(&text);
        prop_assert!(reading.commands().len() <= exec_policy::MAX_COMMANDS + 1);
    }
}
