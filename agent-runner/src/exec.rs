//! `agent-runner exec`: the flow, step by step. Parse, decide the route, ask where it must be asked, run, tell.
//!
//! Invariant (P1, P2): a command starts in [`inside`], or with the [`PermittedAction`] that [`asked`] and
//! [`full_access`] hold; every error path ends in a refusal.

use protocol::{
    Action, Decision, FullAccessByName, Grant, PermitSource, PermittedAction, ReviewFailure,
    SandboxPermissions,
};
use sandbox::{Command, Plan, Program, SandboxPolicy, Stdin};

use crate::answer::{Asked, ask};
use crate::cli;
use crate::config::{Environment, SandboxMode};
use crate::failure::{Failure, NOT_PERMITTED};
use crate::hold::HeldFiles;
use crate::journal::{self, JournalEntry, JournalEvent};
use crate::launch::{Ending, Screen, launch};
use crate::prepare::{Prepared, action, hold_failure, run_request, submission};
use crate::report::{Refusal, Report, shown_command};
use crate::request::{RunRequest, read_stdin};
use crate::route::{Question, Route};

/// Runs `args`; the answer is the exit status.
///
/// # Errors
/// No command ran, or none could be waited for.
pub(crate) async fn exec(
    args: &cli::Exec,
    environment: &Environment,
    report: &mut Report,
) -> Result<u8, Failure> {
    let request = run_request(args, environment)?;
    let prepared = Prepared::new(&args.settings, environment, &request.argv, &request.cwd)?;
    let route = prepared.route(request.permissions);
    report.route = route.name();
    match route {
        Route::Inside => inside(prepared, &request, environment, report).await,
        Route::FullAccess(name) => {
            full_access(prepared, &request, environment, (name, report)).await
        }
        Route::Refused(refusal) => Err(Failure {
            code: NOT_PERMITTED,
            message: Refusal::new(
                &shown(&request),
                "is refused by the approval policy",
                refusal.because(),
                "do without it, or ask the user to change the policy",
            )
            .to_string(),
        }),
        Route::Ask(question) => {
            let stdin = if args.stdin {
                Some(read_stdin()?)
            } else {
                None
            };
            asked(
                prepared,
                &request,
                environment,
                Asking {
                    question,
                    stdin,
                    report,
                },
            )
            .await
        }
    }
}

struct Asking<'a> {
    question: Question,
    stdin: Option<Vec<u8>>,
    report: &'a mut Report,
}

/// Inside the walls, asking nobody.
pub(crate) async fn inside(
    prepared: Prepared,
    request: &RunRequest,
    environment: &Environment,
    report: &mut Report,
) -> Result<u8, Failure> {
    let program = prepared.program(environment, &request.argv)?;
    let policy = prepared.policy.clone();
    let command = command(prepared, environment, request, program)?.with_stdin(Stdin::Inherit);
    let plan = Plan::confined(&policy, &command)?;
    finish(&launch(plan, command, Screen::of(request)).await?, report)
}

/// Without walls, by full access chosen by name. The crossing is on record before it happens.
async fn full_access(
    prepared: Prepared,
    request: &RunRequest,
    environment: &Environment,
    (name, report): (FullAccessByName, &mut Report),
) -> Result<u8, Failure> {
    let program = prepared.program(environment, &request.argv)?;
    let files = HeldFiles::of(
        &program,
        &request.argv,
        &request.cwd,
        &prepared.writable_roots,
    )
    .map_err(hold_failure)?;
    let action = action(&prepared, environment, request, &files, None)?;
    record(&prepared, request, &action, JournalEvent::FullAccess)?;
    let command = command(prepared, environment, request, program)?.with_stdin(Stdin::Inherit);
    let plan = Plan::full_access(PermittedAction::by_full_access(name, action), &command)?;
    finish(&launch(plan, command, Screen::of(request)).await?, report)
}

/// Asked first; run by what the answer permits and by nothing else.
async fn asked(
    prepared: Prepared,
    request: &RunRequest,
    environment: &Environment,
    asking: Asking<'_>,
) -> Result<u8, Failure> {
    let program = prepared.trusted_program(environment, &request.argv)?;
    let files = HeldFiles::of(
        &program,
        &request.argv,
        &request.cwd,
        &prepared.writable_roots,
    )
    .map_err(hold_failure)?;
    let action = action(
        &prepared,
        environment,
        request,
        &files,
        asking.stdin.as_deref(),
    )?;
    let body = submission(
        &prepared,
        environment,
        request,
        action.clone(),
        asking.question.trigger,
    )?;

    let asked = ask(&prepared, environment, asking.question.of, body).await;
    asking.report.review.clone_from(&asked.review);
    asking.report.status = Some(asked.decision.status());
    let permitted = match permit(&prepared, request, asked, action).await {
        Ok(permitted) => permitted,
        Err(refused) => {
            if let Some(status) = refused.status {
                asking.report.status = Some(status);
            }
            return Err(refused.failure);
        }
    };

    files.confirm(&program).map_err(hold_failure)?;
    let policy = prepared.policy.clone();
    let mut command = command(prepared, environment, request, program)?;
    for sealed in files.sealed {
        command = command.with_sealed(sealed);
    }
    let command = command.with_stdin(match asking.stdin {
        Some(bytes) => Stdin::Bytes(bytes),
        None if request.permissions == SandboxPermissions::UseDefault => Stdin::Inherit,
        None => Stdin::Null,
    });
    let plan = plan(&policy, permitted, &command)?;
    finish(
        &launch(plan, command, Screen::of(request)).await?,
        asking.report,
    )
}

/// The plan that `permitted` leads to. Leave to run inside the walls moves none of them.
fn plan(
    policy: &SandboxPolicy,
    permitted: PermittedAction,
    command: &Command,
) -> Result<Plan, Failure> {
    let inside = match permitted.action() {
        Action::Command(action) => action.sandbox_permissions == SandboxPermissions::UseDefault,
        Action::FileChange(_)
        | Action::NetworkAccess(_)
        | Action::ToolCall(_)
        | Action::PermissionRequest(_) => false,
    };
    Ok(match permitted.source() {
        PermitSource::FullAccess => Plan::full_access(permitted, command)?,
        PermitSource::Review(_) | PermitSource::Person(_) | PermitSource::AllowRule(_)
            if inside =>
        {
            Plan::confined(policy, command)?
        }
        PermitSource::Review(_) | PermitSource::Person(_) | PermitSource::AllowRule(_) => {
            Plan::permitted(policy, permitted, command)?
        }
    })
}

struct Refused {
    failure: Failure,
    status: Option<protocol::ReviewStatus>,
}

/// Spends an approval; everything else is a refusal.
async fn permit(
    prepared: &Prepared,
    request: &RunRequest,
    asked: Asked,
    action: Action,
) -> Result<PermittedAction, Refused> {
    let Asked {
        decision,
        review,
        session,
        interrupted,
    } = asked;
    let redeemed = match (decision, session) {
        (Decision::Approved(grant), Some(session)) => {
            session.redeem(grant).await.map_err(Decision::Failed)
        }
        // An approval that nobody can redeem is worth nothing.
        (Decision::Approved(_), None) => Err(Decision::Aborted),
        (other, session) => {
            if let Some(session) = session {
                session.close().await;
            }
            Err(other)
        }
    };
    let decision = match redeemed {
        Ok((grant, receipt)) => return trade(prepared, request, (grant, &receipt), action),
        Err(decision) => decision,
    };
    let mut message = Refusal::of(&shown(request), &decision)
        .map_or_else(String::new, |refusal| refusal.to_string());
    if let Decision::Failed(failure) = &decision
        && let Err(unwritten) = note_failure(prepared, request, &action, failure, review.as_ref())
    {
        message = format!("{message}\nnote: {}", unwritten.message);
    }
    let code = interrupted.map_or(Refusal::CODE, |signal| signal.exit_code());
    Err(Refused {
        failure: Failure { code, message },
        status: Some(decision.status()),
    })
}

fn trade(
    prepared: &Prepared,
    request: &RunRequest,
    (grant, receipt): (Grant, &protocol::Receipt),
    action: Action,
) -> Result<PermittedAction, Refused> {
    let refused = |failure| Refused {
        failure,
        status: None,
    };
    let permitted = grant
        .permit(receipt, action)
        .map_err(|error| refused(Failure::runner(&error)))?;
    // Where full access stood and the question was only about the command itself, a yes leaves what stood.
    if prepared.settings.sandbox == SandboxMode::DangerFullAccess
        && let Some(name) = FullAccessByName::parse(prepared.settings.sandbox.as_str())
    {
        let action = permitted.action().clone();
        record(prepared, request, &action, JournalEvent::FullAccess).map_err(refused)?;
        return Ok(PermittedAction::by_full_access(name, action));
    }
    Ok(permitted)
}

fn command(
    prepared: Prepared,
    environment: &Environment,
    request: &RunRequest,
    program: Program,
) -> Result<Command, Failure> {
    let env = prepared.env(environment, request.permissions);
    let command = Command::new(request.argv.iter().cloned(), program, prepared.directory)?;
    Ok(command.with_environment(env.pairs().iter().cloned())?)
}

/// A failure that the server may not have been able to record is recorded here (design D25).
fn note_failure(
    prepared: &Prepared,
    request: &RunRequest,
    action: &Action,
    failure: &ReviewFailure,
    review: Option<&protocol::ReviewResource>,
) -> Result<(), Failure> {
    let recorded = review.is_some_and(|review| review.failure.as_ref() == Some(failure));
    if recorded {
        return Ok(());
    }
    let review_id = review.map(|review| review.review_id);
    record(
        prepared,
        request,
        action,
        JournalEvent::ReviewFailed {
            failure: failure.clone(),
            review_id,
        },
    )
}

fn record(
    prepared: &Prepared,
    request: &RunRequest,
    action: &Action,
    event: JournalEvent,
) -> Result<(), Failure> {
    let entry = JournalEntry {
        at: jiff::Timestamp::now(),
        event,
        action: action.clone(),
        action_digest: action.digest(),
        session: request.session.clone(),
    };
    Ok(journal::append(&prepared.state.journal(), &entry)?)
}

fn finish(ending: &Ending, report: &mut Report) -> Result<u8, Failure> {
    report.confinement = serde_json::to_value(&ending.run.confinement).ok();
    report.denials = serde_json::to_value(&ending.run.denials).ok();
    report.signal = ending.signal();
    Ok(ending.exit_code())
}

fn shown(request: &RunRequest) -> String {
    let words: Vec<_> = request
        .argv
        .iter()
        .map(|word| word.to_string_lossy())
        .collect();
    let line = shown_command(&words);
    // One line of a refusal names the command; the record holds it whole.
    match line.char_indices().nth(200) {
        Some((cut, _)) => format!("{}…", line.get(..cut).unwrap_or_default()),
        None => line,
    }
}

/// `agent-runner sandbox`: inside the walls, with nobody to ask.
///
/// # Errors
/// Nothing ran.
pub(crate) async fn sandbox(args: &cli::Sandbox, environment: &Environment) -> Result<u8, Failure> {
    let request = RunRequest {
        argv: args.command.clone(),
        cwd: crate::request::working_directory(args.settings.cd.as_deref())?,
        permissions: SandboxPermissions::UseDefault,
        justification: None,
        session: protocol::SessionReference::default(),
        transcript: protocol::Transcript::default(),
        terminal: crate::request::TerminalWish::Inherit,
    };
    let prepared = Prepared::new(&args.settings, environment, &request.argv, &request.cwd)?;
    if prepared.settings.sandbox == SandboxMode::DangerFullAccess {
        return Err(Failure::because(
            "`danger-full-access` has no walls to show\nhint: name another mode with --sandbox",
        ));
    }
    inside(prepared, &request, environment, &mut Report::default()).await
}
