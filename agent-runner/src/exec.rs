//! `agent-runner exec`: the flow, step by step. Parse, decide the route, ask where it must be asked, run, tell.
//!
//! Invariant (P1, P2): a command starts inside the walls, or with the [`PermittedAction`] that [`Walk::asked`] and
//! [`Walk::full_access`] hold; every error path ends in a refusal.

mod again;

use std::io::{IsTerminal as _, Write as _};
use std::time::Instant;

use jiff::Timestamp;
use protocol::{
    Action, FullAccessByName, PermitSource, PermittedAction, Printable, SandboxPermissions,
    StandingLeave, SubmitReview, TriggerKind,
};
use sandbox::{Ahead, Command, Network, Observing, Plan, PlanError, Program, SandboxPolicy, Stdin};

use crate::answer::ask;
use crate::cli;
use crate::config::{Environment, Feature, SandboxMode};
use crate::door::{NetworkRecord, NetworkReport, OpenDoor, network_of};
use crate::evidence::{self, Gathered, Subject};
use crate::failure::{Failure, NOT_PERMITTED};
use crate::hold::HeldFiles;
use crate::journal::JournalEvent;
use crate::launch::{Call, Screen, Stage, launch};
use crate::leaves;
use crate::permit::{permit, record};
use crate::prepare::{Prepared, action, hold_failure, run_request, submission};
use crate::ran::RunTeller;
use crate::report::{Refusal, Report, shown_request};
use crate::request::{RunRequest, read_stdin};
use crate::route::{Question, Route};
use crate::session_tmp::SessionTmp;
use crate::signals::{EndSignal, Signals};
use crate::telemetry::{Observation, Tool};
use crate::walls::{self, Standing};

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
    /// What this turn or session has leave for beside what the policy allows.
    leave: Option<StandingLeave>,
    /// The `/tmp` of its session, in use until it has ended.
    session_tmp: Option<SessionTmp>,
    /// That it ran before, where the walls stopped it.
    retry_reason: Option<String>,
}

/// How a command ended.
#[derive(Debug, Clone, Copy)]
struct Ended {
    /// Its exit status, as the runner passes it on.
    code: u8,
    /// Whether somebody wanted it to end.
    call: Call,
}

/// What a plan inside the walls is made of.
#[derive(Clone, Copy)]
struct Inside<'a> {
    standing: &'a Standing,
    observing: Observing,
    policy: &'a SandboxPolicy,
    leave: Option<&'a StandingLeave>,
}

impl Inside<'_> {
    fn plan(self, command: &Command) -> Result<Plan, PlanError> {
        let plan = match self.leave {
            Some(leave) => Plan::with_leave(self.policy, leave, command),
            None => self.standing.plan(self.policy, command),
        };
        Ok(plan?.observing(self.observing))
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
    let mut walk = Walk::begin(args, environment, &mut *report)?;
    walk.ahead = ahead.filter(|_| args.wish.permissions() == SandboxPermissions::UseDefault);
    let route = walk.prepared.route(walk.request.permissions);
    walk.report.route = route.name();
    let policy = again::Policy::of(&walk.prepared.settings);
    let observed = walk.observed(Tool::Exec);
    let ended = match Box::pin(walk.along(route, args)).await {
        Ok(Way::Over(code)) => Ok(code),
        Ok(Way::Stopped(ended)) => match again::wanted(policy, ended, report) {
            Some(retry) => Box::pin(again::asked(retry, args, environment, report)).await,
            None => Ok(ended.code),
        },
        Err(failure) => Err(failure),
    };
    if let Some((observation, typed)) = observed {
        Box::pin(observation.end(typed, report, &ended)).await;
    }
    ended
}

/// Where a way led.
enum Way {
    /// To its end.
    Over(u8),
    /// To an end within the walls, after which somebody may still be asked.
    Stopped(Ended),
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
    let mut walk = Walk {
        environment,
        request,
        prepared,
        report: &mut *report,
        signals: Signals::listen()?,
        ahead,
        leave: None,
        session_tmp: None,
        retry_reason: None,
    };
    let observed = walk.observed(Tool::Sandbox);
    let ended = Box::pin(walk.inside()).await.map(|ended| ended.code);
    if let Some((observation, typed)) = observed {
        Box::pin(observation.end(typed, report, &ended)).await;
    }
    ended
}

/// Begins with what most commands need. Where it cannot be, the start itself says why.
pub(crate) fn begin_ahead() -> Option<Ahead> {
    Ahead::begin(Network::Off).ok()
}

/// Tells a person at the terminal what the settings are not held to; a program has the report.
fn tell(notes: &[String]) {
    let mut stderr = std::io::stderr();
    if !stderr.is_terminal() {
        return;
    }
    for note in notes {
        // Where nobody can read it any more, the report still says it.
        writeln!(stderr, "agent-runner: note: {}", Printable(note)).unwrap_or_default();
    }
}

impl<'a> Walk<'a> {
    /// Everything that is found out before anybody decides.
    fn begin(
        args: &cli::Exec,
        environment: &'a Environment,
        report: &'a mut Report,
    ) -> Result<Self, Failure> {
        let signals = Signals::listen()?;
        let mut request = run_request(args, environment)?;
        let overrides = args.settings.overrides();
        let mut prepared = Prepared::new(&overrides, environment, &request.argv, &request.cwd)?;
        report.add_notes(&prepared.settings.notes);
        tell(&prepared.settings.notes);
        prepared.keep_managed_denials(environment, request.additional.as_ref())?;
        let feature = Feature::AdditionalPermissions;
        if request.additional.is_some() && !prepared.settings.is_on(feature) {
            let message = format!("{}; nothing ran", feature.off());
            let code = NOT_PERMITTED;
            return Err(Failure { code, message });
        }
        let standing = leaves::standing(&prepared, environment, &request.session)?;
        prepared.opened_by(standing.leave.as_ref());
        report.add_notes(&standing.notes);
        standing.remove_ended()?;
        // What the turn or session has leave for already is not asked again.
        let covered = |leave: &StandingLeave| {
            let wanted = request.additional.as_ref().map(leaves::resolved);
            wanted.is_some_and(|wanted| wanted.is_ok_and(|wanted| leave.covers(&wanted)))
        };
        if standing.leave.as_ref().is_some_and(covered) {
            request.keep_inside();
        }
        Ok(Self {
            environment,
            request,
            prepared,
            report,
            signals,
            ahead: None,
            leave: standing.leave,
            session_tmp: None,
            retry_reason: None,
        })
    }

    /// What tells a collector of this run, where one is to be told, and what was typed, as it is told.
    fn observed(&mut self, tool: Tool) -> Option<(Observation, Vec<String>)> {
        let session = self.request.session.session_id.as_deref();
        let (settings, notes) = (&self.prepared.settings, &mut self.report.notes);
        let observation = Observation::begin(tool, settings, self.environment, session, notes)?;
        let typed = observation.typed(&self.request.argv, &self.prepared.state);
        Some((observation, typed))
    }

    /// The way of `route`, step by step.
    async fn along(mut self, route: Route, args: &cli::Exec) -> Result<Way, Failure> {
        match route {
            Route::Inside => {
                // Whatever was wished for, the walls stand as they are: variables and door have to be theirs.
                self.request.keep_inside();
                self.join_session()?;
                Ok(Way::Stopped(Box::pin(self.inside()).await?))
            }
            Route::FullAccess(name) => Ok(Way::Over(Box::pin(self.full_access(name)).await?.code)),
            Route::ByRule => {
                let stdin = self.given_stdin(args).await?;
                Ok(Way::Over(Box::pin(self.by_rule(stdin)).await?.code))
            }
            Route::Refused(_) => {
                let because = route.because(&self.prepared.ruled);
                Err(self.refused(&because))
            }
            Route::Ask(question) => {
                self.ahead = None;
                let inside = self.stays_inside();
                let stdin = self.given_stdin(args).await?;
                let ended = Box::pin(self.asked(question, stdin)).await?;
                Ok(if inside {
                    Way::Stopped(ended)
                } else {
                    Way::Over(ended.code)
                })
            }
        }
    }

    /// Inside the walls, asking nobody. Walls that a leave moved are on record before anything runs within them.
    async fn inside(self) -> Result<Ended, Failure> {
        let program = self
            .prepared
            .program(self.environment, &self.request.argv)?;
        self.record_leave()?;
        self.run(program, Stdin::Inherit, |inside, command| {
            Ok(inside.plan(command)?)
        })
        .await
    }

    /// Gives it the `/tmp` of its session, where it has one.
    fn join_session(&mut self) -> Result<(), Failure> {
        let prepared = &mut self.prepared;
        if matches!(prepared.standing, Standing::Reduced(_)) {
            return Ok(());
        }
        let session = &self.request.session;
        let Some(tmp) = SessionTmp::of(&prepared.state, session, Timestamp::now())? else {
            return Ok(());
        };
        let policy = prepared.policy.clone().in_session(tmp.path());
        prepared.policy = policy.map_err(walls::WallsError::from)?;
        self.session_tmp = Some(tmp);
        Ok(())
    }

    /// That it runs within walls that a leave moved, where it does.
    fn record_leave(&self) -> Result<(), Failure> {
        let Some(leave) = &self.leave else {
            return Ok(());
        };
        let action = action(&self.prepared, self.environment, &self.request, None, None)?;
        let reviews = leave.reviews().to_vec();
        let event = JournalEvent::StandingLeave { reviews };
        record(&self.prepared, &self.request, &action, event)
    }

    /// Without walls, by full access chosen by name. The crossing is on record before it happens.
    async fn full_access(self, name: FullAccessByName) -> Result<Ended, Failure> {
        let program = self
            .prepared
            .program(self.environment, &self.request.argv)?;
        let action = action(
            &self.prepared,
            self.environment,
            &self.request,
            Some(&self.hold(&program)?),
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
    async fn by_rule(mut self, stdin: Option<Vec<u8>>) -> Result<Ended, Failure> {
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
            Some(&files),
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
        self.confirm(&files, &program)?;
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
    async fn asked(mut self, question: Question, stdin: Option<Vec<u8>>) -> Result<Ended, Failure> {
        let program = self
            .prepared
            .trusted_program(self.environment, &self.request.argv)?;
        let files = self.hold(&program)?;
        let action = action(
            &self.prepared,
            self.environment,
            &self.request,
            Some(&files),
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

        self.confirm(&files, &program)?;
        Box::pin(gathered.confirm()).await?;
        if self.stays_inside() {
            self.record_leave()?;
        }
        let stdin = match stdin {
            Some(bytes) => Stdin::Bytes(bytes),
            // What was not reviewed reaches nobody who has no walls.
            None if self.stays_as_it_is() => Stdin::Inherit,
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
        if let (Some(teller), Ok(ended)) = (teller, &ended) {
            teller
                .tell(environment, ended.code, started.elapsed())
                .await;
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
        body.retry_reason.clone_from(&self.retry_reason);
        Ok((gathered, body))
    }

    async fn run(
        self,
        program: Program,
        stdin: Stdin,
        plan: impl FnOnce(Inside<'_>, &Command) -> Result<Plan, Failure>,
    ) -> Result<Ended, Failure> {
        self.run_sealed(program, stdin, Vec::new(), plan).await
    }

    /// Starts the command by its plan, unless it was called off in the meantime, and waits for its end.
    async fn run_sealed(
        mut self,
        program: Program,
        stdin: Stdin,
        mut sealed: Vec<sandbox::Sealed>,
        plan: impl FnOnce(Inside<'_>, &Command) -> Result<Plan, Failure>,
    ) -> Result<Ended, Failure> {
        let env = self.prepared.env(self.environment, &self.request)?;
        let mut door = self.door()?;
        if let Some(door) = &mut door {
            sealed.extend(door.take_sealed());
            Box::pin(door.prove(&self.prepared, self.environment)).await?;
        }
        let network = NetworkRecord::of(
            door.as_ref(),
            &self.prepared,
            &self.request,
            self.environment,
        );
        let words = self.request.argv.iter().cloned();
        let command = Command::new(words, program, self.prepared.directory)?
            .with_environment(env.pairs().iter().cloned())?
            .with_stdin(stdin);
        let command = sealed.into_iter().fold(command, Command::with_sealed);
        let inside = Inside {
            standing: &self.prepared.standing,
            observing: self.prepared.observing,
            policy: &self.prepared.policy,
            leave: self.leave.as_ref(),
        };
        let mut plan = plan(inside, &command)?;
        self.report.add_notes(plan.notes());
        if let Some(door) = &door {
            plan = plan.with_doorway(door.doorway().clone());
            self.report.add_notes(door.notes());
        }
        if let Some(signal) = self.signals.pending().await {
            return Err(called_off(signal));
        }
        let stage = Stage {
            ahead: self.ahead.take(),
            screen: Screen::of(&self.request, self.prepared.settings.runner.limits.output),
            door,
        };
        let ending = launch(&plan, command, stage, &mut self.signals).await?;
        self.report.confinement = serde_json::to_value(&ending.run.confinement).ok();
        self.report.denials.clone_from(&ending.run.denials);
        self.report.unlisted_denials = ending.run.unlisted_denials;
        self.report.signal = ending.signal();
        self.report.limit = ending.run.limit;
        self.report.lost_guard.clone_from(&ending.run.lost_guard);
        self.report.output_thrown_away = ending.thrown_away;
        let ended = Ended {
            code: ending.exit_code(),
            call: ending.call(),
        };
        if let Some(end) = ending.network {
            tell_person(&end.lines);
            Box::pin(keep_network(self.report, network, end.report)).await;
        }
        Ok(ended)
    }

    /// What serves the command's network, where that has a door.
    fn door(&self) -> Result<Option<OpenDoor>, Failure> {
        let (prepared, request) = (&self.prepared, &self.request);
        let additional = request.additional.as_ref();
        match network_of(prepared, request.permissions, additional) {
            Network::Off | Network::Full => Ok(None),
            Network::Door => OpenDoor::of(prepared, self.environment, request).map(Some),
        }
    }

    /// Whether it runs within the walls as they stand.
    fn stays_as_it_is(&self) -> bool {
        self.request.permissions == SandboxPermissions::UseDefault
            && self.prepared.settings.sandbox != SandboxMode::DangerFullAccess
    }

    /// Whether it runs within walls, widened or not.
    fn stays_inside(&self) -> bool {
        self.stays_as_it_is()
            || self.request.permissions == SandboxPermissions::WithAdditionalPermissions
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

    /// Holds `files` against what is there now.
    fn confirm(&self, files: &HeldFiles, program: &Program) -> Result<(), Failure> {
        files
            .confirm(
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
            "is refused by policy",
            because,
            "do without it, or ask the user to change the policy",
        );
        Failure {
            code: NOT_PERMITTED,
            message: refusal.to_string(),
        }
    }
}

/// What the door decided, in the report and on record.
async fn keep_network(report: &mut Report, record: Option<NetworkRecord>, network: NetworkReport) {
    if let Some(record) = record {
        let review = report.review.as_ref().map(|review| review.review_id);
        let notes = record.keep(&network, review).await;
        report.add_notes(&notes);
    }
    report.network = Some(network);
}

/// Says behind the command's own output which hosts stayed closed, where somebody looks; the report has it anyway.
fn tell_person(lines: &[String]) {
    use std::io::{IsTerminal as _, Write as _};
    let mut out = std::io::stderr();
    if lines.is_empty() || !out.is_terminal() {
        return;
    }
    let text = lines.join("\n      ");
    // A standard error that is gone takes it to nobody.
    writeln!(out, "agent-runner: hosts that stayed closed:\n      {text}").unwrap_or_default();
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
    let permissions = match permitted.action() {
        Action::Command(action) => Some(action.sandbox_permissions),
        Action::FileChange(_)
        | Action::NetworkAccess(_)
        | Action::ToolCall(_)
        | Action::PermissionRequest(_) => None,
    };
    let stays = permissions == Some(SandboxPermissions::UseDefault);
    // What a leave opens stays open beside what one command asks for; outside the walls it is nothing more.
    let leave = inside
        .leave
        .filter(|_| permissions == Some(SandboxPermissions::WithAdditionalPermissions));
    Ok(match permitted.source() {
        PermitSource::FullAccess => Plan::full_access(permitted, command)?,
        PermitSource::Review(_) | PermitSource::Person(_) | PermitSource::AllowRule(_) if stays => {
            inside.plan(command)?
        }
        PermitSource::Review(_) | PermitSource::Person(_) | PermitSource::AllowRule(_) => {
            let policy = leave.map(|leave| inside.policy.with_leave(leave));
            let policy = policy.transpose().map_err(PlanError::Widened)?;
            Plan::permitted(policy.as_ref().unwrap_or(inside.policy), permitted, command)?
        }
    })
}
