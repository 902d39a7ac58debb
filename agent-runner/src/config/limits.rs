//! `[limits]` in `agent-runner.toml`: how much a command may use, and how much of what it prints is passed on.

use std::time::Duration;

use sandbox::Limits;
use serde::Deserialize;

/// The table as it is written. 0 lifts a limit.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LimitsTable {
    memory_mebibytes: Option<u64>,
    processes: Option<u64>,
    descriptors: Option<u64>,
    file_mebibytes: Option<u64>,
    cpu_secs: Option<u64>,
    wall_secs: Option<u64>,
    temporary_mebibytes: Option<u32>,
    shared_mebibytes: Option<u32>,
    max_output_bytes: Option<u64>,
    filter_escapes: Option<bool>,
}

/// What commands are held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunLimits {
    /// Inside the walls: what is used.
    pub(crate) used: Limits,
    /// Everywhere, where no terminal is attached: what is passed on.
    pub(crate) output: OutputLimits,
}

/// What is done with what a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct OutputLimits {
    /// Bytes that are passed on of standard output and error together; the rest is thrown away. `None`: all.
    pub(crate) most: Option<u64>,
    /// What becomes of characters that steer a terminal.
    pub(crate) escapes: Escapes,
}

/// What becomes of characters that steer a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Escapes {
    /// They are passed on.
    #[default]
    Passed,
    /// They are spelled out; colours and styles are taken out.
    SpelledOut,
}

impl OutputLimits {
    /// These, with what was said for one run.
    pub(crate) fn over(self, most: Option<u64>, escapes: Option<Escapes>) -> Self {
        Self {
            most: most.or(self.most),
            escapes: escapes.unwrap_or(self.escapes),
        }
    }
}

impl TryFrom<LimitsTable> for RunLimits {
    type Error = (&'static str, String);

    /// # Errors
    /// The key, and why its value is not one.
    fn try_from(table: LimitsTable) -> Result<Self, Self::Error> {
        let usual = Limits::default();
        let limit = |said: Option<u64>, usual: Option<u64>| match said {
            None => usual,
            Some(0) => None,
            Some(most) => Some(most),
        };
        let bytes =
            |said: Option<u64>, usual| limit(said.map(|mebi| mebi.saturating_mul(1 << 20)), usual);
        let folder = |key, said: Option<u32>, usual| match said {
            Some(0) => Err((key, "a folder in memory needs a size".to_owned())),
            said => Ok(said.unwrap_or(usual)),
        };
        let time = limit(table.wall_secs, None).map(Duration::from_secs);
        let escapes = match table.filter_escapes {
            Some(true) => Escapes::SpelledOut,
            Some(false) | None => Escapes::Passed,
        };
        Ok(Self {
            used: Limits {
                processes: limit(table.processes, usual.processes),
                descriptors: limit(table.descriptors, usual.descriptors),
                file_bytes: bytes(table.file_mebibytes, usual.file_bytes),
                cpu_seconds: limit(table.cpu_secs, usual.cpu_seconds),
                memory_bytes: bytes(table.memory_mebibytes, usual.memory_bytes),
                temporary_mebibytes: folder(
                    "limits.temporary_mebibytes",
                    table.temporary_mebibytes,
                    usual.temporary_mebibytes,
                )?,
                shared_mebibytes: folder(
                    "limits.shared_mebibytes",
                    table.shared_mebibytes,
                    usual.shared_mebibytes,
                )?,
                wall_time: time.or(usual.wall_time),
            },
            output: OutputLimits {
                most: limit(table.max_output_bytes, None),
                escapes,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sandbox::Limits;

    use super::{Escapes, LimitsTable, OutputLimits, RunLimits};

    fn limits(text: &str) -> Result<RunLimits, String> {
        let table: LimitsTable = toml::from_str(text).map_err(|error| error.to_string())?;
        RunLimits::try_from(table).map_err(|(key, reason)| format!("{key}: {reason}"))
    }

    #[test]
    fn what_is_not_said_is_as_usual_and_a_nought_lifts_a_limit() {
        let usual = limits("").expect("limits");
        assert_eq!(
            (usual.used, usual.output),
            (Limits::default(), OutputLimits::default())
        );
        let said = limits(
            "memory_mebibytes = 0\nprocesses = 7\nwall_secs = 60\nmax_output_bytes = 9\nfilter_escapes = true",
        );
        let said = said.expect("limits");
        let used = Limits {
            memory_bytes: None,
            processes: Some(7),
            wall_time: Some(Duration::from_secs(60)),
            ..Limits::default()
        };
        assert_eq!(said.used, used);
        let output = OutputLimits {
            most: Some(9),
            escapes: Escapes::SpelledOut,
        };
        assert_eq!(said.output, output);
        assert_eq!(output.over(Some(1), Some(Escapes::Passed)).most, Some(1));
        for text in ["shared_mebibytes = 0", "processes = -1", "memory = 1"] {
            assert!(limits(text).is_err(), "{text}");
        }
    }
}
