//! What a program says when it panics: where, and never what about.
//!
//! Apart, because the text of a panic is made of whatever was at hand: a slice that ends inside a character quotes the whole
//! string, a failed `expect` its error. Invariant (P9): nothing of it reaches standard error, which is a log; the place in
//! the source is enough to find it by.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::Write as _;
use std::io::Write as _;
use std::panic::Location;

/// From now on a panic of this process is told as its place in the source, by the name `program`.
///
/// The calls that led there come with it where `RUST_BACKTRACE` asks for them. Called once, before anything else runs.
pub fn tell_panics_without_their_text(program: &'static str) {
    std::panic::set_hook(Box::new(move |panicked| {
        let told = told(program, panicked.location(), &Backtrace::capture());
        // A standard error that is gone takes it to nobody.
        std::io::stderr()
            .write_all(told.as_bytes())
            .unwrap_or_default();
    }));
}

fn told(program: &str, place: Option<&Location<'_>>, calls: &Backtrace) -> String {
    let mut text = match place {
        Some(place) => format!("{program}: panicked at {place}\n"),
        None => format!("{program}: panicked\n"),
    };
    if calls.status() == BacktraceStatus::Captured {
        // Writing to a String cannot fail.
        write!(text, "{calls}").unwrap_or_default();
    }
    text.push_str("hint: this is a fault of the program; please report the place\n");
    text
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    const SECRET: &str = "password=canary-in-a-panic-31d0";

    /// Each way in which a text of the outside gets into a panic's own.
    fn panics(way: &str) {
        match way {
            "format" => panic!("cannot take {SECRET}"),
            "slice" => {
                let text = format!("{SECRET}\u{e9}");
                let end = text.len() - 1;
                assert!(text.split_at(end).0.is_empty());
            }
            "expect" => {
                let read: Result<u8, _> = SECRET.parse().map_err(|_| SECRET);
                assert_eq!(read.expect("it can be read"), 0);
            }
            "equal" => assert_eq!(way, SECRET),
            "thread" => {
                let thread = std::thread::spawn(|| panic!("{SECRET}"));
                assert!(thread.join().is_ok());
            }
            other => std::panic::panic_any(format!("{SECRET} {other}")),
        }
    }

    macro_rules! in_a_process_of_its_own {
        ($($name:ident)*) => {$(
            #[test]
            #[ignore = "started by another test in a process of its own, since a hook is the whole process's"]
            #[should_panic]
            fn $name() {
                super::tell_panics_without_their_text("a-program");
                panics(stringify!($name));
            }
        )*};
    }

    in_a_process_of_its_own! { format slice expect equal thread any }

    #[test]
    fn a_panic_says_where_and_nothing_of_what_it_was_about() {
        let this = std::env::current_exe().expect("this program");
        for way in ["format", "slice", "expect", "equal", "thread", "any"] {
            for backtrace in ["0", "1"] {
                let name = format!("panics::tests::{way}");
                let ended = Command::new(&this)
                    .args(["--ignored", "--exact", &name, "--nocapture"])
                    .env("RUST_BACKTRACE", backtrace)
                    .output()
                    .expect("it ran");
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let (out, err) = (text(&ended.stdout), text(&ended.stderr));
                assert!(ended.status.success() && out.contains("1 passed"), "{out}");
                assert!(
                    err.contains("a-program: panicked at ") && err.contains(".rs:"),
                    "{way}: {err}"
                );
                assert!(!format!("{out}{err}").contains("canary"), "{way}: {err}");
            }
        }
    }
}
