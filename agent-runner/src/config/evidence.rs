//! `[evidence]` in `agent-runner.toml`: how long and how much the runner looks before it asks.

use std::time::Duration;

use serde::Deserialize;

/// The table as it is written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct EvidenceTable {
    deadline_ms: Option<u64>,
    max_text_bytes: Option<usize>,
    max_total_bytes: Option<usize>,
    max_entries: Option<u64>,
}

/// How long and how much the runner looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EvidenceLimits {
    /// For all of it together, 100 ms to 10 s.
    pub(crate) deadline: Duration,
    /// The most of one text that is shown, in bytes: 256 to 48 KiB.
    pub(crate) max_text_bytes: usize,
    /// The most that all of it may take, in bytes as the reviewer counts them: 4 KiB to 60 KiB. The reviewer shows 62.5 KiB,
    /// and approves nothing of which it cannot show the evidence.
    pub(crate) max_total_bytes: usize,
    /// The most entries of a folder that are counted, up to a million.
    pub(crate) max_entries: u64,
}

impl Default for EvidenceLimits {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(2),
            max_text_bytes: 24 * 1024,
            max_total_bytes: 48 * 1024,
            max_entries: 50_000,
        }
    }
}

impl TryFrom<EvidenceTable> for EvidenceLimits {
    type Error = (&'static str, String);

    /// # Errors
    /// The key, and why its value is not one.
    fn try_from(table: EvidenceTable) -> Result<Self, Self::Error> {
        let usual = Self::default();
        let within = |key, value: u64, least: u64, most: u64| {
            if (least..=most).contains(&value) {
                Ok(value)
            } else {
                Err((key, format!("{value} is not between {least} and {most}")))
            }
        };
        let size = |key, value: Option<usize>, usual: usize, least: usize, most: usize| {
            let value = value.unwrap_or(usual);
            within(key, value as u64, least as u64, most as u64).map(|_| value)
        };
        let deadline = table
            .deadline_ms
            .map(|value| within("evidence.deadline_ms", value, 100, 10_000))
            .transpose()?
            .map_or(usual.deadline, Duration::from_millis);
        Ok(Self {
            deadline,
            max_text_bytes: size(
                "evidence.max_text_bytes",
                table.max_text_bytes,
                usual.max_text_bytes,
                256,
                48 * 1024,
            )?,
            max_total_bytes: size(
                "evidence.max_total_bytes",
                table.max_total_bytes,
                usual.max_total_bytes,
                4 * 1024,
                60 * 1024,
            )?,
            max_entries: within(
                "evidence.max_entries",
                table.max_entries.unwrap_or(usual.max_entries),
                1,
                1_000_000,
            )?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{EvidenceLimits, EvidenceTable};

    fn limits(text: &str) -> Result<EvidenceLimits, String> {
        let table: EvidenceTable = toml::from_str(text).map_err(|error| error.to_string())?;
        EvidenceLimits::try_from(table).map_err(|(key, reason)| format!("{key}: {reason}"))
    }

    #[test]
    fn what_is_not_said_is_as_usual_and_what_is_out_of_bounds_is_refused() {
        assert_eq!(limits(""), Ok(EvidenceLimits::default()));
        assert!(limits("deadline_ms = 500").is_ok_and(|limits| limits.deadline.as_millis() == 500));
        for text in [
            "deadline_ms = 0",
            "deadline_ms = 60000",
            "max_total_bytes = 1000000",
            "max_text_bytes = 1",
            "max_entries = 0",
            "unknown = 1",
        ] {
            assert!(limits(text).is_err(), "{text}");
        }
    }
}
