//! The program `auto-review-server`. Everything it does is in the library.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    telemetry::tell_panics_without_their_text("auto-review-server");
    server::run()
}
