//! How long the rules take to decide one command: `cargo run --release -p exec-policy --example decisions`.
//!
//! For 100 and for 10,000 rules the whole way from words to ruling, over a mix of commands as agents send them, beside the
//! yardstick in the same run: a linear search for a first word in a list as long. Nothing passes or fails.
#![expect(clippy::print_stdout, reason = "the figures are the output")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use exec_policy::{Reading, RuleSet};
use rules_reader::load_rules;

const COMMANDS: &[&str] = &[
    "git status",
    "cargo test -p exec-policy && git diff | head -50",
    "ls -la src && cat src/main.rs",
    "git -C . push origin main",
    "for f in *.rs; do grep -n todo \"$f\"; done",
    "A=1 env B=2 timeout 5 make -j8 all > log 2>&1",
    "cd web && npm run build --silent && tar czf out.tgz dist",
    "bash -c 'echo hi; rm -rf target'",
    "find . -name '*.log' -exec rm {} +",
    "x=$(git rev-parse HEAD); echo \"$x\"",
    "tool42 run job --fast --level=3",
    "python3 -c 'print(1)'",
];

const ROUNDS: usize = 4_000;

fn main() {
    for count in [100, 10_000] {
        for (shape, rules) in [
            ("many programs", spread(count)),
            ("one program", alike(count)),
        ] {
            report(count, shape, &rules);
        }
    }
}

/// Rules about as many programs.
fn spread(count: usize) -> RuleSet {
    let line = |at: usize| {
        let decision = ["allow", "prompt", "forbidden"]
            .get(at % 3)
            .copied()
            .unwrap_or("prompt");
        format!("prefix_rule([\"tool{at}\", [\"run\", \"do\"], \"job\"], \"{decision}\")\n")
    };
    loaded(&(0..count).map(line).collect::<String>())
}

/// Rules about one program: each is held against each of its commands.
fn alike(count: usize) -> RuleSet {
    let line = |at: usize| format!("prefix_rule([\"git\", \"sub{at}\"], \"prompt\")\n");
    loaded(&(0..count).map(line).collect::<String>())
}

fn loaded(text: &str) -> RuleSet {
    let mut rules = RuleSet::default();
    if let Err(error) = load_rules(&mut rules, "bench.rules", text, "/home/u") {
        println!("the rules do not load: {error}");
    }
    rules
}

fn report(count: usize, shape: &str, rules: &RuleSet) {
    let argvs: Vec<Vec<String>> = COMMANDS
        .iter()
        .map(|script| ["bash", "-lc", script].map(str::to_owned).to_vec())
        .collect();
    let names: Vec<String> = (0..count).map(|at| format!("tool{at}")).collect();
    let (mut decisions, mut yardstick) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let Some(argv) = argvs.get(round % argvs.len()) else {
            continue;
        };
        let start = Instant::now();
        black_box(rules.judge(&Reading::of_argv(black_box(argv))).verdict());
        decisions.push(start.elapsed());
        let start = Instant::now();
        black_box(names.iter().any(|name| Some(name) == argv.last()));
        yardstick.push(start.elapsed());
    }
    let (decision, search) = (quantiles(decisions), quantiles(yardstick));
    println!(
        "{count:>6} rules, {shape:<13}: p50 {:>8.1?}  p99 {:>8.1?}   linear search p50 {:>8.1?}  p99 {:>8.1?}  ratio of p99 {:.1}",
        decision.0,
        decision.1,
        search.0,
        search.1,
        decision.1.as_secs_f64() / search.1.as_secs_f64().max(f64::EPSILON)
    );
}

fn quantiles(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    let at = |share: usize| {
        times
            .get(times.len() * share / 100)
            .copied()
            .unwrap_or_default()
    };
    (at(50), at(99))
}
