//! The reader of rules files as a program: one [`RulesFile`] as JSON on standard input; on standard output, as JSON, what it
//! holds or why it cannot be used.
//!
//! The runner carries this program and starts it from memory. It opens nothing and has no environment. Invariant: whatever
//! goes wrong, what comes out is not the JSON of rules.
#![forbid(unsafe_code)]

use std::io::{Error, Read as _, Write as _};
use std::process::ExitCode;

use rules_reader::RulesFile;
use rustix::process::{Resource, Rlimit, setrlimit};

/// The longest input: a file of the greatest length in which each byte is escaped, and the two names.
const MAX_INPUT: u64 = 8 * 1024 * 1024;
/// Memory it may map, in bytes: several times what the language may take for values, and the stack.
const MAX_MEMORY: u64 = 1024 * 1024 * 1024;
/// Processor time it may take, in seconds. The greatest file takes well under one.
const MAX_SECONDS: u64 = 20;

fn main() -> ExitCode {
    // The runner has no eyes here: what it shows is its own message.
    answer().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

fn answer() -> Result<(), Error> {
    limit(Resource::As, MAX_MEMORY)?;
    limit(Resource::Cpu, MAX_SECONDS)?;
    let mut input = Vec::new();
    let stdin = std::io::stdin().lock();
    stdin.take(MAX_INPUT).read_to_end(&mut input)?;
    let RulesFile { file, text, home } = serde_json::from_slice(&input)?;
    let read = rules_reader::read(&file, &text, &home);
    let mut output = std::io::BufWriter::new(std::io::stdout().lock());
    serde_json::to_writer(&mut output, &read)?;
    output.flush()
}

fn limit(resource: Resource, value: u64) -> Result<(), Error> {
    let limit = Rlimit {
        current: Some(value),
        maximum: Some(value),
    };
    Ok(setrlimit(resource, limit)?)
}
