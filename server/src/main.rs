//! The program `auto-review-server`. Everything it does is in the library.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    server::run()
}
