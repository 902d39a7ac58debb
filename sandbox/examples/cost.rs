//! What the walls cost: `cost [RUNS] [BALLAST_MIB]` runs `/bin/true` bare and confined, in turns, and prints the medians.
//!
//! The yardstick is the standard library's spawn (no fork of the page tables) in the same process and the same run.
//! Confined twice: with the namespaces begun together with the plan, and with those begun before, while there was nothing
//! else to do.

use std::error::Error;
use std::io::Write as _;
use std::path::Path;
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
    let mut times: [Vec<Duration>; 4] = [const { Vec::new() }; 4];
    for _ in 0..runs {
        let kept = Ahead::begin(policy.network())?;
        let bare = bare()?;
        let (_, after) = confined(&policy, &here, || Ok(kept))?;
        let (started, together) = confined(&policy, &here, || Ok(Ahead::begin(policy.network())?))?;
        for (times, time) in times.iter_mut().zip([bare, started, together, after]) {
            times.push(time);
        }
    }
    let mut out = std::io::stdout();
    writeln!(
        out,
        "ballast {} MiB, {runs} runs in turns, microseconds",
        ballast.len() >> 20
    )?;
    writeln!(out, "{:<40}{:>10}{:>10}", "", "median", "least")?;
    let [bare, started, together, after] = times.map(median_and_least);
    let over = |one: [f64; 2]| [one[0] - bare[0], one[1] - bare[1]];
    let lines = [
        ("bare spawn", bare),
        ("to its start, begun with the plan", started),
        ("added, begun with the plan", over(together)),
        ("added, begun before", over(after)),
    ];
    for (name, [median, least]) in lines {
        writeln!(out, "{name:<40}{median:>10.0}{least:>10.0}")?;
    }
    Ok(())
}

fn bare() -> Result<Duration, Box<dyn Error>> {
    let begin = Instant::now();
    std::process::Command::new("/bin/true")
        .env_clear()
        .spawn()?
        .wait()?;
    Ok(begin.elapsed())
}

/// How long it took to its start and to its end.
fn confined(
    policy: &SandboxPolicy,
    here: &Path,
    ahead: impl FnOnce() -> Result<Ahead, Box<dyn Error>>,
) -> Result<(Duration, Duration), Box<dyn Error>> {
    let begin = Instant::now();
    let ahead = ahead()?;
    let command = Command::new(
        ["true"],
        Program::open("/bin/true")?,
        WorkingDirectory::open(here)?,
    )?;
    let plan = Plan::confined(policy, &command)?;
    let running = Sandbox::start_in(ahead, &plan, command)?;
    let started = begin.elapsed();
    running.wait()?;
    Ok((started, begin.elapsed()))
}

fn median_and_least(mut times: Vec<Duration>) -> [f64; 2] {
    times.sort_unstable();
    let micros = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1e6);
    [micros(times.get(times.len() / 2)), micros(times.first())]
}
