//! What the door costs: new tunnels, bulk, plain requests and a decision, beside a direct connection, a bare relay,
//! tinyproxy and squid. Door, origin and load are processes of their own, so that the door's processor time is its own.
//!
//! `inside` is the real shape: the load runs in a network namespace of its own, makes the listener there and passes it out.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a benchmark's figures are its output")]

use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;

mod load;
mod roles;
mod yardsticks;

type Anyhow<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        [] => yardsticks::compare(3),
        ["quick"] => yardsticks::compare(1),
        ["origin"] => roles::origin(),
        ["relay"] => roles::relay(),
        ["door"] => roles::door(None),
        ["door", socket] => roles::door(Some(socket)),
        ["load", kind, proxy, origin] => load::run(kind, load::Via::parse(proxy), origin),
        ["load-inside", kind, socket, origin] => load::inside(kind, socket, origin),
        _ => Err("usage: network-proxy [quick]".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("network-proxy: {error}");
            ExitCode::FAILURE
        }
    }
}

/// An address that a process printed.
fn address(text: &str) -> Anyhow<SocketAddr> {
    text.trim()
        .parse()
        .map_err(|_| format!("`{text}` is no address").into())
}
