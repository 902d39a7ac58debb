//! What runner and server tell a collector: OpenTelemetry logs, traces and metrics over OTLP (design D11, D30).
//!
//! Off until the settings ask for it; off, it is one `None`. Our own few lines, because they cost the runner nothing at its
//! start and tell exactly what is named here: no other library's spans can slip in. Invariants: telling never waits (what
//! does not fit is dropped and counted); what is secret or said by people is told only where the settings say so. A panic is told without its text, to nobody but
//! standard error.
#![forbid(unsafe_code)]

mod buffer;
mod export;
mod grpc;
mod message;
mod panics;
mod record;
mod settings;
mod trace;

pub use buffer::{Carrier, Signal, Telemetry};
pub use export::{Export, HttpOnly, NotSent};
pub use grpc::HttpOrGrpc;
#[doc(hidden)]
pub use message::Message;
pub use panics::tell_panics_without_their_text;
pub use record::{Event, Span, SpanKind, Value};
pub use settings::{InvalidOtel, OtelTable, Prompts, Settings, Target};
pub use trace::TraceContext;
