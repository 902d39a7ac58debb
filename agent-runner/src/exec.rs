//! `agent-runner exec`: the flow, step by step. Parse, decide the route, ask where it must be asked, run, tell.
//!
//! Invariant (P1, P2): a command starts inside the walls, or with the [`PermittedAction`] that [`Walk::asked`] and
//! [`Walk::full_access`] hold; every error path ends in a refusal.

use std::time::Instant;

use protocol::{
    Action, FullAccessByName, PermitSource, PermittedAction, SandboxPermissions, SubmitReview,
    TriggerKind,
};
use sandbox::{Ahead, Command, Network, Observing, Plan, PlanError, Program, SandboxPolicy, Stdin};

use crate::answer::ask;
use crate::cli;
use crate::config::{Environment, SandboxMode};
use crate::evidence::{self, Gathered, Subject};
use crate::failure::{Failure, NOT_PERMITTED};
use crate::hold::HeldFiles;
use crate::journal::JournalEvent;
use crate::launch::{Screen, launch};
use crate::permit::{permit, record};
use crate::prepare::{Prepared, action, hold_failure, run_request, submission};
use crate::ran::RunTeller;
use crate::report::{Refusal, Report, shown_request};
use crate::request::{RunRequest, read_stdin};
use crate::route::{Question, Route};
use crate::signals::{EndSignal, Signals};
use crate::telemetry::Observation;
use crate::walls::Standing;

/// One run, from what was typed to how it ended.
struct Walk<'a> {
    environment: &'a Environment,
    request: RunRequest,
    prepared: Prepared,
    report: &'a mut Report,
    /// Listened for from the start, so that no signal falls between two steps.
    signals: Signals,
    /// Namespaces for a command that runs inside, made while the rest of this was found out.
    ahead: Option<Ahead>,
}

/// What a plan inside the walls is made of.
#[derive(Clone, Copy)]
struct Inside<'a> {
    standing: &'a Standing,
    observing: Observing,
    policy: &'a SandboxPolicy,
}

impl Inside<'_> {
    fn plan(self, command: &Command) -> Result<Plan, PlanError> {
        let plan = self.standing.plan(self.policy, command)?;
        Ok(plan.observing(self.observing))
    }
}

/// Runs `args`, in what was begun `ahead` where it stays inside; the answer is the exit status.
///
/// # Errors
/// No command ran, or none could be waited for.
pub(crate) async fn exec(
    args: &cli::Exec,
    environment: &Environment,
    ahead: Option<Ahead>,
    report: &mut Report,
) -> Result<u8, Failure> {
    let ahead = ahead.filter(|_| args.wish.permissions() == SandboxPermissions::UseDefault);
    let signals = Signals::listen()?;
    let request = run_request(args, environment)?;
    let prepared = Prepared::new(
        &args.settings.overrides(),
        environment,
        &request.argv,
        &request.cwd,
    )?;
    let route = prepared.route(request.permissions);
    report.route = route.name();
    report.notes.clone_from(&prepared.settings.notes);
    let session = request.session.session_id.as_deref();
    let (settings, notes) = (&prepared.settings, &mut report.notes);
    let observation = Observation::begin(settings, environment, session, notes);
    let Some(observation) = observation else {
        return Box::pin(walk(
            args,
            environment,
            (request, prepared, route),
            (signals, ahead, report),
        ))
        .await;
    };
    let typed = observation.typed(&request.argv, &prepared.state);
    let ended = Box::pin(walk(
        args,
        environment,
        (request, prepared, route),
        (signals, ahead, &mut *report),
    ))
    .await;
    Box::pin(observation.end(typed, report, &ended)).await;
    ended
}

/// The way of `route`, step by step.
async fn walk(
    args: &cli::Exec,
    environment: &Environment,
    (request, prepared, route): (RunRequest, Prepared, Route),
    (signals, ahead, report): (Signals, Option<Ahead>, &mut Report),
) -> Result<u8, Failure> {
    let walk = Walk {
        environment,
        request,
        prepared,
        report,
        signals,
        ahead,
    };
    match route {
        Route::Inside => walk.inside().await,
        Route::FullAccess(name) => Box::pin(walk.full_access(name)).await,
        Route::ByRule => {
            let mut walk = walk;
            let stdin = walk.given_stdin(args).await?;
            Box::pin(walk.by_rule(stdin)).await
        }
        Route::Refused(_) => {
            let because = route.because(&walk.prepared.ruled);
            Err(walk.refused(&because))
        }
        Route::Ask(question) => {
            let mut walk = walk;
            walk.ahead = None;
            let stdin = walk.given_stdin(args).await?;
            Box::pin(walk.asked(question, stdin)).await
        }
    }
}

/// Runs `request` inside the walls, with nobody to ask: `agent-runner sandbox`.
///
/// # Errors
/// Nothing ran.
pub(crate) async fn inside(
    request: RunRequest,
    prepared: Prepared,
    ahead: Option<Ahead>,
    environment: &Environment,
    report: &mut Report,
) -> Result<u8, Failure> {
    let walk = Walk {
        environment,
        request,
        prepared,
        report,
        signals: Signals::listen()?,
        ahead,
    };
    walk.inside().await
}

/// Begins with what most commands need. Where it cannot be, the start itself says why.
pub(crate) fn begin_ahead() -> Option<Ahead> {
    Ahead::begin(Network::Off).ok()
}

impl Walk<'_> {
    /// Inside the walls, asking nobody.
    async fn inside(self) -> Result<u8, Failure> {
        let program = self
            .prepared
            .program(self.environment, &self.request.argv)?;
        self.run(program, Stdin::Inherit, |inside, command| {
            Ok(inside.plan(command)?)
        })
        .await
    }

    /// Without walls, by full access chosen by name. The crossing is on record before it happens.
    async fn full_access(self, name: FullAccessByName) -> Result<u8, Failure> {
        let program = self
            .prepared
            .program(self.environment, &self.request.argv)?;
        let action = action(
            &self.prepared,
            self.environment,
            &self.request,
            &self.hold(&program)?,
            None,
        )?;
        record(
            &self.prepared,
            &self.request,
            &action,
            JournalEvent::FullAccess,
        )?;
        let permitted = PermittedAction::by_full_access(name, action);
        self.run(program, Stdin::Inherit, |_, command| {
            Ok(Plan::full_access(permitted, command)?)
        })
        .await
    }

    /// Outside the walls, by an allow rule: as far as an approved escalation. The crossing is on record before it happens.
    async fn by_rule(mut self, stdin: Option<Vec<u8>>) -> Result<u8, Failure> {
        self.request.permissions = SandboxPermissions::RequireEscalated;
        self.request.additional = None;
        self.ahead = None;
        let (prepared, request) = (&self.prepared, &self.request);
        let program = prepared.trusted_program(self.environment, &request.argv)?;
        let files = self.hold(&program)?;
        let action = action(
            prepared,
            self.environment,
            request,
            &files,
            stdin.as_deref(),
        )?;
        let rule = prepared.ruled.rule_id();
        record(
            prepared,
            request,
            &action,
            JournalEvent::AllowRule { rule: rule.clone() },
        )?;
        let permitted = PermittedAction::by_allow_rule(rule, action);
        files.confirm(&program).map_err(hold_failure)?;
        let sealed = files.sealed;
        let stdin = stdin.map_or(Stdin::Null, Stdin::Bytes);
        self.run_sealed(program, stdin, sealed, |inside, command| {
            plan(inside, permitted, command)
        })
        .await
    }

    /// Standard input, whole, where `--stdin` says so; a signal calls it off.
    async fn given_stdin(&mut self, args: &cli::Exec) -> Result<Option<Vec<u8>>, Failure> {
        if !args.stdin {
            return Ok(None);
        }
        let reading = tokio::task::spawn_blocking(read_stdin);
        tokio::select! {
            read = reading => Ok(Some(read.map_err(std::io::Error::other)??)),
            signal = self.signals.next() => Err(called_off(signal)),
        }
    }

    /// Asked first; run by what the answer permits and by nothing else.
    async fn asked(mut self, question: Question, stdin: Option<Vec<u8>>) -> Result<u8, Failure> {
        let program = self
            .prepared
            .trusted_program(self.environment, &self.request.argv)?;
        let files = self.hold(&program)?;
        let action = action(
            &self.prepared,
            self.environment,
            &self.request,
            &files,
            stdin.as_deref(),
        )?;
        let held = (&program, &files);
        let body = self.put(question.trigger, held, action.clone(), stdin.as_deref());
        let (gathered, body) = Box::pin(body).await?;

        let (prepared, request) = (&self.prepared, &self.request);
        let asked = ask(
            prepared,
            self.environment,
            question.of,
            body,
            &mut self.signals,
        )
        .await;
        self.report.review.clone_from(&asked.review);
        self.report.status = Some(asked.decision.status());
        let permitted = match permit(prepared, request, asked, action).await {
            Ok(permitted) => permitted,
            Err(refused) => {
                self.report.status = refused.status.or(self.report.status);
                return Err(refused.failure);
            }
        };

        files.confirm(&program).map_err(hold_failure)?;
        Box::pin(gathered.confirm()).await?;
        let stdin = match stdin {
            Some(bytes) => Stdin::Bytes(bytes),
            // What was not reviewed reaches nobody who has no walls.
            None if self.is_confined() => Stdin::Inherit,
            None => Stdin::Null,
        };
        let sealed = files.sealed;
        let (environment, prepared) = (self.environment, &self.prepared);
        let review = self.report.review.as_ref();
        let teller = RunTeller::of(&prepared.settings, &prepared.state, review);
        let started = Instant::now();
        let ended = self
            .run_sealed(program, stdin, sealed, |inside, command| {
                plan(inside, permitted, command)
            })
            .await;
        if let (Some(teller), Ok(code)) = (teller, &ended) {
            teller.tell(environment, *code, started.elapsed()).await;
        }
        ended
    }

    /// What is put to a reviewer about `action`, with what the runner finds out itself; a signal calls it off.
    async fn put(
        &mut self,
        trigger: TriggerKind,
        (program, files): (&Program, &HeldFiles),
        action: Action,
        stdin: Option<&[u8]>,
    ) -> Result<(Gathered, SubmitReview), Failure> {
        let (prepared, request) = (&self.prepared, &self.request);
        let subject = Subject {
            prepared,
            environment: self.environment,
            request,
            files,
            program,
            stdin,
            trigger,
        };
        let gathered = tokio::select! {
            gathered = Box::pin(evidence::gather(subject)) => gathered?,
            signal = self.signals.next() => return Err(called_off(signal)),
        };
        let mut body = submission(prepared, self.environment, request, action, trigger)?;
        body.evidence = gathered.evidence();
        Ok((gathered, body))
    }

    async fn run(
        self,
        program: Program,
        stdin: Stdin,
        plan: impl FnOnce(Inside<'_>, &Command) -> Result<Plan, Failure>,
    ) -> Result<u8, Failure> {
        self.run_sealed(program, stdin, Vec::new(), plan).await
    }

    /// Starts the command by its plan, unless it was called off in the meantime, and waits for its end.
    async fn run_sealed(
        mut self,
        program: Program,
        stdin: Stdin,
        sealed: Vec<sandbox::Sealed>,
        plan: impl FnOnce(Inside<'_>, &Command) -> Result<Plan, Failure>,
    ) -> Result<u8, Failure> {
        let env = self
            .prepared
            .env(self.environment, self.request.permissions);
        let words = self.request.argv.iter().cloned();
        let command = Command::new(words, program, self.prepared.directory)?
            .with_environment(env.pairs().iter().cloned())?
            .with_stdin(stdin);
        let command = sealed.into_iter().fold(command, Command::with_sealed);
        let inside = Inside {
            standing: &self.prepared.standing,
            observing: self.prepared.observing,
            policy: &self.prepared.policy,
        };
        let plan = plan(inside, &command)?;
        self.report.add_notes(plan.notes());
        if let Some(signal) = self.signals.pending().await {
            return Err(called_off(signal));
        }
        let ending = launch(
            &plan,
            self.ahead.take(),
            command,
            Screen::of(&self.request),
            &mut self.signals,
        )
        .await?;
        self.report.confinement = serde_json::to_value(&ending.run.confinement).ok();
        self.report.denials.clone_from(&ending.run.denials);
        self.report.unlisted_denials = ending.run.unlisted_denials;
        self.report.signal = ending.signal();
        Ok(ending.exit_code())
    }

    fn is_confined(&self) -> bool {
        self.request.permissions == SandboxPermissions::UseDefault
            && self.prepared.settings.sandbox != SandboxMode::DangerFullAccess
    }

    fn hold(&self, program: &Program) -> Result<HeldFiles, Failure> {
        HeldFiles::of(
            program,
            &self.prepared.reading,
            &self.request.cwd,
            &self.prepared.changeable(),
        )
        .map_err(hold_failure)
    }

    fn refused(&self, because: &str) -> Failure {
        let refusal = Refusal::new(
            &shown_request(&self.request),
            "is refused by the approval policy",
            because,
            "do without it, or ask the user to change the policy",
        );
        Failure {
            code: NOT_PERMITTED,
            message: refusal.to_string(),
        }
    }
}

fn called_off(signal: EndSignal) -> Failure {
    let message = "called off by a signal before it started; nothing ran".to_owned();
    Failure {
        code: signal.exit_code(),
        message,
    }
}

/// The plan that `permitted` leads to. Leave to run inside the walls moves none of them.
fn plan(
    inside: Inside<'_>,
    permitted: PermittedAction,
    command: &Command,
) -> Result<Plan, Failure> {
    let stays = match permitted.action() {
        Action::Command(action) => action.sandbox_permissions == SandboxPermissions::UseDefault,
        Action::FileChange(_)
        | Action::NetworkAccess(_)
        | Action::ToolCall(_)
        | Action::PermissionRequest(_) => false,
    };
    Ok(match permitted.source() {
        PermitSource::FullAccess => Plan::full_access(permitted, command)?,
        PermitSource::Review(_) | PermitSource::Person(_) | PermitSource::AllowRule(_) if stays => {
            inside.plan(command)?
        }
        PermitSource::Review(_) | PermitSource::Person(_) | PermitSource::AllowRule(_) => {
            Plan::permitted(inside.policy, permitted, command)?
        }
    })
}
