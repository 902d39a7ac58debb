//! What observing costs: `observed RUNS COMMAND…` runs the command confined, in turns with nothing, with changes and with
//! everything observed, and prints the medians. The yardstick is the first, in the same process and the same run.

use std::error::Error;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use sandbox::{Command, Observing, Plan, Program, Sandbox, SandboxPolicy, WorkingDirectory};

const MODES: [(Observing, &str); 3] = [
    (Observing::Nothing, "nothing observed"),
    (Observing::Changes, "changes observed"),
    (Observing::Everything, "everything observed"),
];

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let runs: usize = words.next().ok_or("how many runs?")?.parse()?;
    let words: Vec<String> = words.collect();
    let name = words.first().ok_or("which command?")?;
    let path = std::env::vars().find(|(known, _)| known == "PATH");
    let path = path.map(|(_, value)| value).unwrap_or_default();
    let folders = std::env::split_paths(&path);
    let program = folders
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    let program = program.unwrap_or_else(|| PathBuf::from(name));
    let here = std::env::current_dir()?;
    let policy = SandboxPolicy::workspace_write(&here).build()?;
    let mut times = [const { Vec::new() }; MODES.len()];
    for _ in 0..runs {
        for ((observing, _), times) in MODES.iter().zip(&mut times) {
            let begin = Instant::now();
            let program = Program::open(&program)?;
            let environment = std::env::vars_os();
            let command = Command::new(words.clone(), program, WorkingDirectory::open(&here)?)?
                .with_environment(environment)?;
            let plan = Plan::confined(&policy, &command)?.observing(*observing);
            Sandbox::start(&plan, command)?.wait()?;
            times.push(begin.elapsed());
        }
    }
    let mut out = std::io::stdout();
    writeln!(out, "{runs} runs in turns, microseconds")?;
    for ((_, name), mut times) in MODES.iter().zip(times) {
        times.sort_unstable();
        let micros = |time: Option<&Duration>| time.map_or(0, Duration::as_micros);
        let [median, least] = [times.get(times.len() / 2), times.first()].map(micros);
        writeln!(out, "{name:<24}{median:>10}{least:>10}")?;
    }
    Ok(())
}
