//! `/metrics`: what reviews came to since the process began, in the text format of Prometheus.
//!
//! Apart from what is told to collectors, because here each tenant sees its own alone. Invariant: the number of series
//! follows from names in code and in the settings, never from what is asked.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use protocol::{FailedStep, RiskLevel, TenantId};

use super::Attempt;
use crate::verdict::Verdict;

/// The upper bounds of the buckets, in seconds.
const BOUNDS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 45.0, 90.0,
];

/// The sums of all tenants.
#[derive(Debug, Default)]
pub(crate) struct Measures(Mutex<BTreeMap<TenantId, Sums>>);

/// The sums of one tenant.
#[derive(Debug, Default)]
struct Sums {
    /// By status, who decided, risk and failed step.
    reviews: BTreeMap<[&'static str; 4], u64>,
    /// As many as took no longer than each bound, and all.
    within: [u64; BOUNDS.len()],
    count: u64,
    seconds: f64,
    /// By model and outcome.
    calls: BTreeMap<(String, String), u64>,
    /// By model and kind.
    tokens: BTreeMap<(String, &'static str), u64>,
}

/// What is measured when it is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gauges {
    pub(crate) in_flight: usize,
    pub(crate) streams: usize,
}

impl Measures {
    pub(super) fn ended(
        &self,
        tenant: &TenantId,
        verdict: &Verdict,
        took: jiff::SignedDuration,
        attempts: &[Attempt],
    ) {
        let step = verdict.failure.as_ref().map(|it| it.step);
        let labels = [
            verdict.status.as_str(),
            verdict.decided_by.as_str(),
            verdict.risk_level.map_or("", RiskLevel::as_str),
            step.map_or("", FailedStep::as_str),
        ];
        let seconds = took.as_secs_f64().max(0.0);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sums = all.entry(tenant.clone()).or_default();
        *sums.reviews.entry(labels).or_default() += 1;
        for (within, bound) in sums.within.iter_mut().zip(BOUNDS) {
            *within += u64::from(seconds <= bound);
        }
        sums.count += 1;
        sums.seconds += seconds;
        for attempt in attempts {
            let call = (attempt.model.clone(), attempt.outcome().to_owned());
            *sums.calls.entry(call).or_default() += 1;
            let Some(tokens) = &attempt.tokens else {
                continue;
            };
            for (kind, count) in [("input", tokens.input), ("output", tokens.output)] {
                let tokens = sums
                    .tokens
                    .entry((attempt.model.clone(), kind))
                    .or_default();
                *tokens = tokens.saturating_add(count);
            }
        }
    }

    /// The page of one tenant.
    pub(crate) fn page(&self, tenant: &TenantId, gauges: Gauges) -> String {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let none = Sums::default();
        let sums = all.get(tenant).unwrap_or(&none);
        let mut page = String::new();
        // Writing to a String cannot fail.
        sums.write(&mut page).unwrap_or_default();
        gauges.write(&mut page).unwrap_or_default();
        page
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) -> std::fmt::Result {
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}")
}

impl Sums {
    fn write(&self, out: &mut String) -> std::fmt::Result {
        head(
            out,
            "auto_review_reviews_total",
            "counter",
            "Reviews that ended.",
        )?;
        for ([status, decided_by, risk, step], count) in &self.reviews {
            writeln!(
                out,
                "auto_review_reviews_total{{status=\"{status}\",decided_by=\"{decided_by}\",risk_level=\"{risk}\",\
                 failed_step=\"{step}\"}} {count}"
            )?;
        }
        let name = "auto_review_review_duration_seconds";
        head(
            out,
            name,
            "histogram",
            "From acceptance to the end on record.",
        )?;
        for (bound, within) in BOUNDS.iter().zip(self.within) {
            writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {within}")?;
        }
        let (count, seconds) = (self.count, self.seconds);
        writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {count}")?;
        writeln!(out, "{name}_sum {seconds}\n{name}_count {count}")?;
        head(
            out,
            "auto_review_model_calls_total",
            "counter",
            "Calls of models.",
        )?;
        for ((model, outcome), count) in &self.calls {
            let (model, outcome) = (escaped(model), escaped(outcome));
            writeln!(
                out,
                "auto_review_model_calls_total{{model=\"{model}\",outcome=\"{outcome}\"}} {count}"
            )?;
        }
        head(
            out,
            "auto_review_model_tokens_total",
            "counter",
            "Tokens of models.",
        )?;
        for ((model, kind), count) in &self.tokens {
            let model = escaped(model);
            writeln!(
                out,
                "auto_review_model_tokens_total{{model=\"{model}\",type=\"{kind}\"}} {count}"
            )?;
        }
        Ok(())
    }
}

impl Gauges {
    fn write(&self, out: &mut String) -> std::fmt::Result {
        for (name, help, value) in [
            (
                "auto_review_reviews_in_flight",
                "Reviews under way here.",
                self.in_flight,
            ),
            (
                "auto_review_streams_open",
                "Streams of events that are open here.",
                self.streams,
            ),
        ] {
            head(out, name, "gauge", help)?;
            writeln!(out, "{name} {value}")?;
        }
        let version = env!("CARGO_PKG_VERSION");
        head(out, "auto_review_info", "gauge", "The server's version.")?;
        writeln!(out, "auto_review_info{{version=\"{version}\"}} 1")
    }
}

/// A label's value, as the text format wants it.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
