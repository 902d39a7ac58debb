//! `agent-runner request-permissions`: more permissions for what follows in a turn or session, asked for once.
//!
//! The answer on standard output is what the tool of that name gives back: the permissions that stand now, and for how
//! long. Invariant: what is kept is what was reviewed, paths resolved, never more than what was asked; a refusal keeps
//! nothing and answers with no permissions.

use std::io::Write;

use protocol::{
    Action, AdditionalPermissions, LeavePlace, PermissionRequest, PermissionScope,
    SandboxPermissions, TriggerKind,
};
use serde_json::json;

use crate::answer::ask;
use crate::cli;
use crate::config::{
    ApprovalPolicy, ApprovalsReviewer, Environment, Feature, SandboxMode, Settings,
};
use crate::failure::{Failure, NOT_PERMITTED};
use crate::leaves::{self, Leaves, resolved};
use crate::permit::permit;
use crate::prepare::{Prepared, submission};
use crate::report::{Refusal, Report};
use crate::request::{self, RunRequest, TerminalWish};
use crate::route::{Category, Refusal as Refused, may_ask};
use crate::session_tmp;
use crate::shown::Shown;
use crate::signals::Signals;
use crate::telemetry::{Observation, Tool};

/// What becomes of a request for permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// There are no walls that could be moved.
    NoWalls,
    /// It is asked about.
    Ask(ApprovalsReviewer),
    /// It is refused.
    Refused(Refused),
}

impl Way {
    /// The way's name, for programs.
    fn name(self) -> &'static str {
        match self {
            Self::NoWalls => "full_access",
            Self::Ask(_) => "ask",
            Self::Refused(_) => "refused",
        }
    }
}

/// Asks for what `args` names, or ends what was given.
///
/// # Errors
/// Nothing was given: it is not permitted, or cannot be.
pub(crate) async fn request_permissions(
    args: &cli::RequestPermissions,
    environment: &Environment,
    out: &mut dyn Write,
) -> Result<u8, Failure> {
    let request = run_request(args, environment)?;
    let prepared = Prepared::new(
        &args.settings.overrides(),
        environment,
        &request.argv,
        &request.cwd,
    )?;
    let place = leaves::place(&request.session, &request.cwd).ok_or_else(|| {
        let message = "permissions last for a turn or session, and none is named\nhint: pass --session and --turn, or ask for one command with `exec --additional-permissions`";
        Failure::because(message)
    })?;
    if args.end {
        return end(&prepared, &request, place, out);
    }
    let wanted = request.additional.clone().ok_or_else(|| {
        Failure::because(
            "it asks for nothing\nhint: --permissions '{\"file_system\":{\"write\":[\"…\"]}}'",
        )
    })?;
    if !prepared.settings.is_on(Feature::RequestPermissions) {
        return Err(refused(&request, &Feature::RequestPermissions.off()));
    }
    let scope = args.scope.scope();
    if scope == PermissionScope::Turn && place.turn_id.is_none() {
        let message =
            "permissions for a turn need the turn's name\nhint: pass --turn, or --scope session";
        return Err(Failure::because(message));
    }
    let way = decide(&prepared.settings);
    let mut report = Report {
        route: way.name(),
        ..Report::default()
    };
    let (tool, session) = (Tool::RequestPermissions, &request.session);
    let observed = Observation::of(tool, &prepared, environment, session, &request.argv);
    let given = match way {
        Way::NoWalls => Ok(()),
        Way::Refused(refusal) => Err(refused(&request, refusal.because())),
        Way::Ask(of) => {
            grantable(&prepared, environment, &wanted)?;
            let leaves = Leaves::new(&prepared.state, place)?;
            asked(&prepared, environment, (&request, scope), of, &mut report)
                .await
                .and_then(|permitted| Ok(leaves.keep(permitted).map(|_| ())?))
        }
    };
    let ended = given.map(|()| 0);
    if let Some((observation, typed)) = observed {
        Box::pin(observation.end(typed, &report, &ended)).await;
    }
    let stands = match &ended {
        Ok(_) => wanted,
        Err(_) => AdditionalPermissions::default(),
    };
    writeln!(out, "{}", answer(&stands, scope))?;
    ended
}

/// Ends what the session has: its leave in this workspace, and its temporary folder.
fn end(
    prepared: &Prepared,
    request: &RunRequest,
    place: LeavePlace,
    out: &mut dyn Write,
) -> Result<u8, Failure> {
    let ended = Leaves::new(&prepared.state, place)?.end()?;
    let tmp = session_tmp::end(&prepared.state, &request.session)?.name();
    writeln!(
        out,
        "{}",
        json!({ "ended": ended, "temporary_folder": tmp })
    )?;
    Ok(0)
}

/// Who is asked, if anybody. The table of `route/expected.txt`, section `kinds`.
fn decide(settings: &Settings) -> Way {
    if let Err(refusal) = may_ask(settings.approval, Category::Permissions) {
        return Way::Refused(refusal);
    }
    match (settings.sandbox, settings.approval) {
        (SandboxMode::DangerFullAccess, _) => Way::NoWalls,
        (SandboxMode::ReadOnly | SandboxMode::WorkspaceWrite, ApprovalPolicy::Untrusted) => {
            Way::Ask(ApprovalsReviewer::User)
        }
        (SandboxMode::ReadOnly | SandboxMode::WorkspaceWrite, _) => {
            Way::Ask(settings.asks(TriggerKind::PermissionRequested))
        }
    }
}

/// What no yes could give is not asked about.
fn grantable(
    prepared: &Prepared,
    environment: &Environment,
    wanted: &AdditionalPermissions,
) -> Result<(), Failure> {
    let not_given = |failure: Failure| Failure {
        code: NOT_PERMITTED,
        ..failure
    };
    prepared.keep_managed_denials(environment, Some(wanted))?;
    prepared
        .policy
        .could_grant(wanted)
        .map_err(|error| not_given(Failure::runner(&error)))
}

async fn asked(
    prepared: &Prepared,
    environment: &Environment,
    (request, scope): (&RunRequest, PermissionScope),
    of: ApprovalsReviewer,
    report: &mut Report,
) -> Result<protocol::PermittedAction, Failure> {
    let shown = Shown::by(prepared.state.mask_key()?);
    let action = Action::PermissionRequest(PermissionRequest {
        reason: request
            .justification
            .as_deref()
            .map(|text| shown.prose(text)),
        permissions: request.additional.clone().unwrap_or_default(),
        scope,
    })
    .checked()?;
    let trigger = TriggerKind::PermissionRequested;
    let body = submission(prepared, environment, request, action.clone(), trigger)?;
    let mut signals = Signals::listen()?;
    let asked = ask(prepared, environment, of, body, &mut signals).await;
    report.review.clone_from(&asked.review);
    report.status = Some(asked.decision.status());
    let permitted = permit(prepared, request, asked, action).await;
    permitted.map_err(|refused| {
        report.status = refused.status.or(report.status);
        refused.failure
    })
}

fn run_request(
    args: &cli::RequestPermissions,
    environment: &Environment,
) -> Result<RunRequest, Failure> {
    let cwd = request::working_directory(args.settings.cd.as_deref())?;
    let wanted = match &args.permissions {
        Some(text) => Some(resolved(&request::permissions(text, &cwd)?)?),
        None => None,
    };
    // What people read of a refusal.
    let shown = wanted.iter().map(leaves::shown_permissions);
    let argv = std::iter::once("request-permissions".to_owned()).chain(shown);
    Ok(RunRequest {
        argv: argv.map(Into::into).collect(),
        additional: wanted,
        cwd,
        permissions: SandboxPermissions::UseDefault,
        justification: args.reason.clone(),
        session: request::session(&args.context, environment),
        transcript: request::transcript(&args.context)?,
        terminal: TerminalWish::Inherit,
        max_output: None,
        escapes: None,
    })
}

/// The answer in the tool's own form.
fn answer(permissions: &AdditionalPermissions, scope: PermissionScope) -> serde_json::Value {
    let mut given = serde_json::Map::new();
    let mut files = serde_json::Map::new();
    for (name, paths) in [("read", &permissions.read), ("write", &permissions.write)] {
        if !paths.is_empty() {
            files.insert(name.to_owned(), json!(paths));
        }
    }
    if !files.is_empty() {
        given.insert("file_system".to_owned(), files.into());
    }
    if permissions.network {
        given.insert("network".to_owned(), json!({"enabled": true}));
    }
    json!({"permissions": given, "scope": scope})
}

fn refused(request: &RunRequest, because: &str) -> Failure {
    let refusal = Refusal::new(
        &crate::report::shown_request(request),
        "is refused by policy",
        because,
        "do without, or ask the user to change the policy",
    );
    Failure {
        code: NOT_PERMITTED,
        message: refusal.to_string(),
    }
}
