//! What the `#!` line of a script brings along: its interpreter, and the files that the line gives it.
//!
//! Apart from the scripts that a command names, because the kernel finds these and no word of the command tells of them.
//! Pure. Invariant: every word of the line that can lead to a file is named.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// How much of a script the kernel looks at for its first line, in bytes (`BINPRM_BUF_SIZE`, Linux 5.1).
pub(super) const LONGEST_LINE: usize = 256;
/// How many interpreters the kernel follows before it refuses (execve(2), "Interpreter scripts").
pub(super) const MOST_INTERPRETERS: usize = 4;

/// The paths that the first line of `text` names: the interpreter first, then whatever it is given. Empty where `text` is
/// no script.
pub(super) fn named(text: &[u8], cwd: &Path) -> Vec<PathBuf> {
    let text = text.get(..LONGEST_LINE).unwrap_or(text);
    let Some(line) = text.strip_prefix(b"#!") else {
        return Vec::new();
    };
    line.split(|byte| matches!(byte, b'\n' | 0))
        .next()
        .unwrap_or_default()
        .split(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'='))
        .filter(|word| !word.is_empty())
        .map(|word| cwd.join(OsStr::from_bytes(word)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::named;

    #[test]
    fn the_interpreter_and_what_it_is_given_are_named() {
        let of = |text: &str| named(text.as_bytes(), Path::new("/w"));
        let paths = |all: &[&str]| all.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(of("#!/bin/sh\nx"), paths(&["/bin/sh"]));
        assert_eq!(
            of("#! \t./tool /w/rc -x\n/y"),
            paths(&["/w/./tool", "/w/rc", "/w/-x"])
        );
        assert_eq!(
            of("#!/usr/bin/env -S A=/w/a tool"),
            paths(&["/usr/bin/env", "/w/-S", "/w/A", "/w/a", "/w/tool"])
        );
        assert!(of("echo #!/bin/sh").is_empty());
        assert!(of("#!").is_empty());
    }
}
