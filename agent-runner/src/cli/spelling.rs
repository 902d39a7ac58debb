//! Older and other ways to spell `agent-runner sandbox`: a platform's word behind it, or `debug` before that word.
//!
//! Pure: words in, words out, before the command line is read. What no spelling explains is left as it is.

use std::ffi::{OsStr, OsString};

use clap::ValueEnum;

/// Whose walls a spelling names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Platform {
    /// Linux: Landlock, seccomp, namespaces.
    #[value(alias = "landlock")]
    Linux,
    /// macOS: Seatbelt.
    #[value(alias = "seatbelt")]
    Macos,
    /// Windows.
    Windows,
}

/// `sandbox linux …`, `sandbox landlock …` and `debug landlock …` as `sandbox --platform linux …`.
///
/// Only the first two words count: behind `--` a program may be called `linux`.
pub(crate) fn spelled(words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<OsString> = words.into_iter().collect();
    let first = words
        .get(1)
        .and_then(|word| word.to_str())
        .unwrap_or_default();
    let platform = words.get(2).map(OsString::as_os_str).and_then(platform);
    if let (true, Some(platform)) = (matches!(first, "sandbox" | "debug"), platform) {
        let named = platform
            .to_possible_value()
            .map(|value| value.get_name().to_owned());
        let flag = format!("--platform={}", named.unwrap_or_default());
        words.splice(1..3, ["sandbox".into(), flag.into()]);
    }
    words
}

fn platform(word: &OsStr) -> Option<Platform> {
    Platform::from_str(word.to_str()?, false).ok()
}

#[cfg(test)]
mod tests {
    use super::spelled;

    fn of(line: &str) -> String {
        let words = spelled(line.split(' ').map(Into::into));
        words.join(" ".as_ref()).into_string().expect("text")
    }

    #[test]
    fn every_spelling_leads_to_one_command() {
        for (typed, meant) in [
            ("a sandbox linux -- ls", "a sandbox --platform=linux -- ls"),
            (
                "a sandbox landlock ls -l",
                "a sandbox --platform=linux ls -l",
            ),
            ("a sandbox macos ls", "a sandbox --platform=macos ls"),
            ("a sandbox seatbelt ls", "a sandbox --platform=macos ls"),
            ("a sandbox windows ls", "a sandbox --platform=windows ls"),
            ("a debug landlock ls", "a sandbox --platform=linux ls"),
            ("a debug seatbelt ls", "a sandbox --platform=macos ls"),
        ] {
            assert_eq!(of(typed), meant);
        }
    }

    #[test]
    fn a_program_that_is_called_like_a_platform_keeps_its_name() {
        for typed in [
            "a sandbox -- linux",
            "a sandbox ls linux",
            "a exec linux",
            "a debug ls",
            "a",
            "a sandbox",
        ] {
            assert_eq!(of(typed), typed);
        }
    }
}
