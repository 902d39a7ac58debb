//! Asking again about a command that the walls stopped (design D24).
//!
//! Apart from the first run because it is a question of its own: settings, walls and program are looked at anew, and the
//! reviewer is told that the command ran already in part. Invariant: once; never after a signal, never where nothing that
//! leaving the walls would cure was refused, and a no leaves the first run's end as it is.

use protocol::{SandboxPermissions, TriggerKind};
use sandbox::{Reason, SandboxDenial};

use super::{Ended, Walk};
use crate::cli;
use crate::config::{ApprovalPolicy, Environment, Settings};
use crate::denials;
use crate::failure::Failure;
use crate::launch::Call;
use crate::report::{FirstRun, Report};
use crate::route::{AfterDenial, Denied, OnRequest, Question, Route, on_denial};

/// How many refusals are named to the reviewer; the report holds all that were seen.
const NAMED: usize = 8;
/// The longest line of one, in characters: paths are the command's own.
const LONGEST: usize = 300;

/// What says whether anything is asked about again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Policy {
    approval: ApprovalPolicy,
    retry: OnRequest,
}

impl Policy {
    /// What `settings` say.
    pub(super) fn of(settings: &Settings) -> Self {
        Self {
            approval: settings.approval,
            retry: settings.runner.retry,
        }
    }
}

/// A command that is asked about again.
#[derive(Debug)]
pub(super) struct Retry {
    code: u8,
    reason: String,
}

/// Whether a command that `ended` so is asked about again, by what the walls refused it.
pub(super) fn wanted(policy: Policy, ended: Ended, report: &Report) -> Option<Retry> {
    if ended.code == 0 || ended.call == Call::Signalled {
        return None;
    }
    let refused: Vec<&SandboxDenial> = report
        .denials
        .iter()
        .flatten()
        .filter(|denial| {
            let denied = kind(denial);
            let after = denied.map(|denied| on_denial(policy.approval, policy.retry, denied));
            after == Some(AfterDenial::AskAgain)
        })
        .collect();
    (!refused.is_empty()).then(|| Retry {
        code: ended.code,
        reason: reason(ended.code, &refused),
    })
}

/// What kind of refusal it is; `None` for what no leave changes.
fn kind(denial: &SandboxDenial) -> Option<Denied> {
    match denial {
        SandboxDenial::Write {
            by: Reason::NeverTouched { .. } | Reason::NeverChanged { .. },
            ..
        } => None,
        SandboxDenial::Read { .. } => Some(Denied::Secret),
        SandboxDenial::Write { .. }
        | SandboxDenial::Connect { .. }
        | SandboxDenial::Socket { .. }
        | SandboxDenial::SystemCall { .. }
        | _ => Some(Denied::Walls),
    }
}

fn reason(code: u8, refused: &[&SandboxDenial]) -> String {
    let named: Vec<String> = refused
        .iter()
        .take(NAMED)
        .map(|denial| {
            let line = denials::line(denial);
            match line.char_indices().nth(LONGEST) {
                Some((cut, _)) => format!("{}…", line.get(..cut).unwrap_or_default()),
                None => line,
            }
        })
        .collect();
    let more = match refused.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    format!(
        "it ran already inside the walls, in part or whole, and ended with status {code}; it would run again from its beginning, outside them, with no input. Refused: {}{more}",
        named.join("; ")
    )
}

/// Puts the question and runs the command again by its answer.
///
/// # Errors
/// It did not run again: the first run's status, and why.
pub(super) async fn asked(
    retry: Retry,
    args: &cli::Exec,
    environment: &Environment,
    report: &mut Report,
) -> Result<u8, Failure> {
    report.first_run = Some(FirstRun {
        exit_code: retry.code,
        denials: report.denials.take().unwrap_or_default(),
    });
    let first = report.confinement.take();
    let again = outside(&retry, args, environment, report).await;
    again.map_err(|failure| {
        // The command did run, once: how it ended is the runner's end, and the walls it had are what is told.
        report.confinement = report.confinement.take().or(first);
        Failure {
            code: retry.code,
            message: format!(
                "{}\nnote: the walls stopped a part of it; it was not run again outside them",
                failure.message
            ),
        }
    })
}

async fn outside(
    retry: &Retry,
    args: &cli::Exec,
    environment: &Environment,
    report: &mut Report,
) -> Result<u8, Failure> {
    let mut walk = Walk::begin(args, environment, report)?;
    walk.request.permissions = SandboxPermissions::RequireEscalated;
    walk.request.additional = None;
    let shown = crate::shown::Shown::by(walk.prepared.state.mask_key()?);
    walk.retry_reason = Some(shown.prose(&retry.reason));
    // What was decided before the first run may have been changed since; only a question may come of it.
    let of = match walk.prepared.route(SandboxPermissions::RequireEscalated) {
        // A person where either kind says so.
        Route::Ask(question) => question
            .of
            .min(walk.prepared.settings.asks(TriggerKind::SandboxDenied)),
        route @ (Route::Refused(_) | Route::Inside | Route::ByRule | Route::FullAccess(_)) => {
            let because = match route {
                Route::Refused(_) => route.because(&walk.prepared.ruled),
                Route::Inside | Route::ByRule | Route::FullAccess(_) | Route::Ask(_) => {
                    "the settings have changed since it began".to_owned()
                }
            };
            return Err(walk.refused(&because));
        }
    };
    let question = Question {
        of,
        trigger: TriggerKind::SandboxDenied,
    };
    Ok(Box::pin(walk.asked(question, None)).await?.code)
}

#[cfg(test)]
mod tests {
    use sandbox::{Reason, SandboxDenial};

    use super::{Policy, wanted};
    use crate::config::ApprovalPolicy;
    use crate::exec::Ended;
    use crate::launch::Call;
    use crate::report::Report;
    use crate::route::OnRequest;

    const POLICY: Policy = Policy {
        approval: ApprovalPolicy::OnFailure,
        retry: OnRequest::AgentAsks,
    };

    fn write(path: &str, by: Reason) -> SandboxDenial {
        SandboxDenial::Write {
            call: "openat".to_owned(),
            path: path.into(),
            by,
        }
    }

    fn after(code: u8, call: Call, denials: Vec<SandboxDenial>) -> Option<String> {
        let report = Report {
            denials: Some(denials),
            ..Report::default()
        };
        wanted(POLICY, Ended { code, call }, &report).map(|retry| retry.reason)
    }

    #[test]
    fn only_a_failed_run_that_the_walls_stopped_is_asked_about_again() {
        let outside = || vec![write("/etc/x", Reason::Default)];
        assert!(after(1, Call::None, outside()).is_some());
        assert!(after(0, Call::None, outside()).is_none());
        assert!(after(130, Call::Signalled, outside()).is_none());
        assert!(after(1, Call::None, Vec::new()).is_none());
        let path = || "/home/u/.local/state/auto-review".into();
        let never = [
            write("/x", Reason::NeverTouched { path: path() }),
            write("/x", Reason::NeverChanged { path: path() }),
            SandboxDenial::Read {
                path: "/w/.env".into(),
                by: Reason::Default,
            },
        ];
        for denial in never {
            assert!(after(1, Call::None, vec![denial]).is_none());
        }
        let system_call = SandboxDenial::SystemCall {
            name: "mount".to_owned(),
        };
        assert!(after(159, Call::None, vec![system_call]).is_some());
    }

    #[test]
    fn what_is_told_has_a_bound_and_says_how_it_ended() {
        let long = format!("/{}", "x".repeat(5_000));
        let many = (0..50).map(|_| write(&long, Reason::Default)).collect();
        let reason = after(7, Call::None, many).expect("a retry");
        assert!(reason.contains("ended with status 7") && reason.contains("and 42 more"));
        assert!(reason.len() < 4_000, "{}", reason.len());
    }
}
