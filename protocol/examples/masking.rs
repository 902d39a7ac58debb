//! How long masking takes: `cargo run --release -p protocol --example masking`. Prints milliseconds for 1 MiB of each kind of
//! text, or of the one named, the middle of eleven runs, beside hashing the same bytes.
#![expect(clippy::print_stdout, reason = "figures are what this program is for")]

use std::time::Instant;

use protocol::{Sha256Hex, TextKind, mask};
use sha2::{Digest as _, Sha256};

const BYTES: usize = 1024 * 1024;

fn main() {
    let source = include_str!("../src/action.rs");
    let lock = include_str!("../../Cargo.lock");
    let secrets = format!(
        "login --token q7{}\nexport PASSWORD=hunter2{}\n",
        "a1B2".repeat(8),
        "z".repeat(8)
    );
    let texts = [
        ("source code", source.to_owned()),
        ("a lock file", lock.to_owned()),
        ("nothing but secrets", secrets),
        ("nothing but `=`", "=".to_owned()),
        ("`password=/`", "password=/".to_owned()),
        ("`-eyJ`", "-eyJ".to_owned()),
        ("one word", "aB3".to_owned()),
        ("`://`", "://".to_owned()),
        ("options", "--password ".to_owned()),
        ("assignments", "password=q7a ".to_owned()),
        (
            "key blocks",
            "-----BEGIN PRIVATE KEY-----\nq7Ab\n".to_owned(),
        ),
        ("addresses", "a://b:q7a@c ".to_owned()),
        ("password file", "h:1:d:u:q7a\n".to_owned()),
    ];
    let wanted = std::env::args().nth(1);
    for (name, part) in texts {
        if wanted.as_ref().is_some_and(|wanted| wanted != name) {
            continue;
        }
        let text: String = part.chars().cycle().take(BYTES).collect();
        let masking = middle(|| {
            mask(&text, TextKind::Code, &|bytes| {
                Sha256Hex::of(&Sha256::digest(bytes).into())
            })
            .len()
        });
        let hashing = middle(|| Sha256::digest(text.as_bytes()).len());
        println!("{name:<22} {masking:>7.2} ms   (SHA-256 of it {hashing:>5.2} ms)");
    }
}

fn middle(work: impl Fn() -> usize) -> f64 {
    let mut times: Vec<f64> = (0..11)
        .map(|_| {
            let start = Instant::now();
            std::hint::black_box(work());
            start.elapsed().as_secs_f64() * 1000.0
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times.get(5).copied().unwrap_or_default()
}
