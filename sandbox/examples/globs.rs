//! What denied patterns cost in a large tree: `globs PATTERNS RUNS FOLDER` plans a command in the working directory with so
//! many patterns, first without anything remembered, then from `FOLDER`, then in the same process, and prints the times.

use std::error::Error;
use std::io::Write as _;
use std::time::Instant;

use sandbox::{Command, Plan, Program, SandboxPolicy, WorkingDirectory};

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let patterns: usize = words.next().ok_or("how many patterns?")?.parse()?;
    let runs: usize = words.next().ok_or("how many runs?")?.parse()?;
    let memory = words.next().ok_or("which folder to remember in?")?;
    let here = std::env::current_dir()?;
    let mut times = Vec::with_capacity(runs);
    for _ in 0..runs {
        let begin = Instant::now();
        let mut policy = SandboxPolicy::workspace_write(&here).remember_in(&memory);
        for number in 0..patterns {
            let kind = if number == 0 {
                "env".to_owned()
            } else {
                format!("key{number}")
            };
            policy = policy.deny_matching(&here, format!("**/*.{kind}"));
        }
        let policy = policy.build()?;
        let program = Program::open("/bin/true")?;
        let command = Command::new(["true"], program, WorkingDirectory::open(&here)?)?;
        Plan::confined(&policy, &command)?;
        times.push(begin.elapsed());
    }
    let first = times.first().map_or(0, std::time::Duration::as_micros);
    times.sort_unstable();
    let [median, least] =
        [times.len() / 2, 0].map(|at| times.get(at).map_or(0, std::time::Duration::as_micros));
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{patterns} patterns, microseconds: first {first}, median of {runs} {median}, least {least}"
    )?;
    Ok(())
}
