//! What the walls cost: `cost [RUNS] [BALLAST_MIB]` runs `/bin/true` bare and confined, in turns, and prints the medians.
//!
//! The yardstick is the standard library's spawn (no fork of the page tables) in the same process and the same run.

use std::error::Error;
use std::io::Write as _;
use std::time::{Duration, Instant};

use sandbox::{Ahead, Command, Plan, Program, Sandbox, SandboxPolicy, WorkingDirectory};

fn main() -> Result<(), Box<dyn Error>> {
    let mut numbers = std::env::args().skip(1).map(|word| word.parse::<usize>());
    let runs = numbers.next().transpose()?.unwrap_or(200);
    let ballast_mib = numbers.next().transpose()?.unwrap_or(0);
    let ballast: Vec<u8> = (0..ballast_mib << 20)
        .map(|at| u8::try_from(at % 251).unwrap_or(0))
        .collect();
    let here = std::env::current_dir()?;
    let policy = SandboxPolicy::workspace_write(&here).build()?;
    let mut bare = Vec::with_capacity(runs);
    let mut confined = Vec::with_capacity(runs);
    let mut planned = Vec::with_capacity(runs);
    let mut started = Vec::with_capacity(runs);
    for _ in 0..runs {
        let kept = if std::env::args().count() > 3 { Some(Ahead::begin(policy.network())?) } else { None };
        let begin = Instant::now();
        std::process::Command::new("/bin/true")
            .env_clear()
            .spawn()?
            .wait()?;
        bare.push(begin.elapsed());
        let begin = Instant::now();
        let ahead = match kept { Some(kept) => kept, None => Ahead::begin(policy.network())? };
        let command = Command::new(
            ["true"],
            Program::open("/bin/true")?,
            WorkingDirectory::open(&here)?,
        )?;
        let plan = Plan::confined(&policy, &command)?;
        planned.push(begin.elapsed());
        let running = Sandbox::start_in(ahead, &plan, command)?;
        started.push(begin.elapsed());
        running.wait()?;
        confined.push(begin.elapsed());
    }
    let mut out = std::io::stdout();
    writeln!(
        out,
        "ballast {} MiB, {runs} runs in turns, microseconds",
        ballast.len() >> 20
    )?;
    writeln!(out, "{:<24}{:>10}{:>10}", "", "median", "least")?;
    let [bare, planned, started, confined] =
        [bare, planned, started, confined].map(median_and_least);
    let added = [confined[0] - bare[0], confined[1] - bare[1]];
    let lines = [
        ("bare spawn", bare),
        ("confined, to its plan", planned),
        ("confined, to its start", started),
        ("confined", confined),
        ("added", added),
    ];
    for (name, [median, least]) in lines {
        writeln!(out, "{name:<24}{median:>10.0}{least:>10.0}")?;
    }
    Ok(())
}

fn median_and_least(mut times: Vec<Duration>) -> [f64; 2] {
    times.sort_unstable();
    let micros = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1e6);
    [micros(times.get(times.len() / 2)), micros(times.first())]
}
