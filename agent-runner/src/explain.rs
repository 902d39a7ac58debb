//! `agent-runner explain`: what `exec` would do, by which rule, and in which walls. Nothing runs, nothing is asked.

mod matrix;
mod tool;

use std::collections::BTreeMap;
use std::io::Write;

use protocol::{Printable, SandboxPermissions, shown_command};
use sandbox::{Command, Plan};
use serde::Serialize;

use crate::cli;
use crate::config::{ApprovalsReviewer, Environment};
use crate::failure::Failure;
#[cfg(feature = "embedded")]
use crate::hold::HeldFiles;
use crate::leaves;
use crate::prepare::Prepared;
#[cfg(feature = "embedded")]
use crate::prepare::{action, hold_failure, submission};
use crate::request::{self, RunRequest, TerminalWish};
use crate::route::{AfterDenial, Denied, Question, Route, on_denial};
use crate::ruled::{RuleHit, shown_words};

/// What would happen.
#[derive(Debug, Serialize)]
struct Explanation {
    command: Vec<String>,
    cwd: String,
    program: Option<String>,
    settings: Vec<Setting>,
    notes: Vec<String>,
    reading: Reading,
    route: &'static str,
    because: String,
    rules: Rules,
    asked: Option<Question>,
    reviewer: Option<String>,
    built_in: Option<serde_json::Value>,
    plan: Option<serde_json::Value>,
    #[serde(skip)]
    unconfined: bool,
    /// What follows where the walls stop it: `asked_again` or `stays`.
    #[serde(skip_serializing_if = "Option::is_none")]
    when_stopped: Option<&'static str>,
    #[serde(skip)]
    plan_text: Option<String>,
}

#[derive(Debug, Serialize)]
struct Setting {
    key: &'static str,
    value: String,
    origin: String,
}

/// What the rules say.
#[derive(Debug, Serialize)]
struct Rules {
    verdict: Option<&'static str>,
    covered: &'static str,
    hits: Vec<RuleHit>,
}

#[derive(Debug, Serialize)]
struct Reading {
    /// The programs, as they are called.
    commands: Vec<String>,
    /// Each command in words; what only a shell knows as `…`.
    lowered: Vec<String>,
    /// Why not all of it was read.
    unread: Option<String>,
    read_whole: bool,
    known_safe: bool,
}

/// Explains `args` to `out`.
///
/// # Errors
/// The settings, the walls or the program are not as they must be: the same refusal that `exec` would give.
#[expect(
    clippy::unused_async,
    reason = "every mode of the program has the same shape"
)]
pub(crate) async fn explain(
    args: &cli::Explain,
    environment: &Environment,
    out: &mut dyn Write,
) -> Result<u8, Failure> {
    if let Some(file) = &args.matrix {
        return matrix::explain(file, args, environment, out);
    }
    if let Some(tool) = &args.tool {
        return tool::explain(tool, args, environment, out);
    }
    let cwd = request::working_directory(args.settings.cd.as_deref())?;
    let request = RunRequest {
        argv: args.command.clone(),
        additional: request::additional_permissions(&args.wish, &cwd)?,
        cwd,
        permissions: args.wish.permissions(),
        justification: None,
        session: protocol::SessionReference {
            session_id: environment.session.clone(),
            turn_id: environment.turn.clone(),
            ..protocol::SessionReference::default()
        },
        transcript: protocol::Transcript::default(),
        terminal: TerminalWish::Inherit,
        max_output: None,
        escapes: None,
    };
    let prepared = Prepared::new(
        &args.settings.overrides(),
        environment,
        &request.argv,
        &request.cwd,
    )?;
    let explanation = Explanation::of(prepared, &request, environment)?;
    let written = if args.json {
        serde_json::to_writer_pretty(&mut *out, &explanation)
            .map_err(std::io::Error::from)
            .and_then(|()| writeln!(out))
    } else {
        explanation.write(out)
    };
    written.map_err(|error| Failure::because(format!("cannot print the explanation: {error}")))?;
    Ok(0)
}

impl Explanation {
    fn of(
        mut prepared: Prepared,
        request: &RunRequest,
        environment: &Environment,
    ) -> Result<Self, Failure> {
        let route = prepared.route(request.permissions);
        let asked = match route {
            Route::Ask(question) => Some(question),
            Route::Inside | Route::ByRule | Route::FullAccess(_) | Route::Refused(_) => None,
        };
        let mut explanation = Self {
            command: request
                .argv
                .iter()
                .map(|word| word.to_string_lossy().into_owned())
                .collect(),
            cwd: request.cwd.display().to_string(),
            program: None,
            settings: settings(&prepared),
            notes: prepared.settings.notes.clone(),
            reading: reading(&prepared),
            route: route.name(),
            because: route.because(&prepared.ruled),
            rules: rules(&prepared),
            asked,
            reviewer: asked.map(|question| reviewer_name(&prepared, question)),
            built_in: None,
            plan: None,
            unconfined: request.permissions == SandboxPermissions::RequireUnconfined,
            when_stopped: None,
            plan_text: None,
        };
        explanation.built_in = built_in(&prepared, request, environment, asked)?;
        let standing = leaves::standing(&prepared, environment, &request.session)?;
        explanation.notes.extend(standing.notes.iter().cloned());
        prepared.opened_by(standing.leave.as_ref());
        let inside = matches!(route, Route::Inside)
            || (asked.is_some() && request.permissions == SandboxPermissions::UseDefault);
        let program = if asked.is_some() || matches!(route, Route::ByRule) {
            prepared.trusted_program(environment, &request.argv)?
        } else {
            prepared.program(environment, &request.argv)?
        };
        explanation.program = Some(program.path().display().to_string());
        if inside {
            explanation.when_stopped = Some(when_stopped(&prepared));
            let mut request = request.clone();
            if matches!(route, Route::Inside) {
                request.keep_inside();
            }
            let env = prepared.env(environment, &request)?;
            let command = Command::new(request.argv.iter().cloned(), program, prepared.directory)?
                .with_environment(env.pairs().iter().cloned())?;
            let plan = match &standing.leave {
                Some(leave) => Plan::with_leave(&prepared.policy, leave, &command)?,
                None => prepared.standing.plan(&prepared.policy, &command)?,
            };
            explanation.plan = serde_json::to_value(&plan).ok();
            explanation.plan_text = Some(plan.to_string());
        }
        Ok(explanation)
    }

    fn write(&self, out: &mut dyn Write) -> std::io::Result<()> {
        writeln!(out, "command    {}", shown_command(&self.command))?;
        writeln!(out, "in         {}", Printable(&self.cwd))?;
        if let Some(program) = &self.program {
            writeln!(out, "program    {}", Printable(program))?;
        }
        for (index, setting) in self.settings.iter().enumerate() {
            let label = if index == 0 { "settings" } else { "" };
            writeln!(
                out,
                "{label:<10} {} = {} ({})",
                setting.key,
                Printable(&setting.value),
                Printable(&setting.origin)
            )?;
        }
        for note in &self.notes {
            writeln!(out, "note       {}", Printable(note))?;
        }
        let whole = if self.reading.read_whole {
            "read whole"
        } else {
            "not read whole"
        };
        let safe = if self.reading.known_safe {
            "known safe"
        } else {
            "not known safe"
        };
        writeln!(
            out,
            "reading    {whole}, {safe}: {}",
            Printable(&self.reading.commands.join("; "))
        )?;
        for hit in &self.rules.hits {
            let doubt = if hit.certain { "" } else { "may become " };
            let line = format!(
                "{doubt}`{}` -> {} ({})",
                hit.pattern, hit.decision, hit.rule
            );
            writeln!(out, "rule       {}", Printable(&line))?;
        }
        writeln!(
            out,
            "route      {}: {}",
            self.route,
            Printable(&self.because)
        )?;
        if let Some(reviewer) = &self.reviewer {
            writeln!(out, "asked      {}", Printable(reviewer))?;
        }
        if let Some(verdict) = &self.built_in {
            writeln!(out, "built-in   {}", shown_verdict(verdict))?;
        }
        if self.when_stopped == Some("asked_again") {
            writeln!(out, "stopped    what the walls stop is asked about again")?;
        }
        match &self.plan_text {
            Some(text) => writeln!(out, "walls\n{}", indent(text)),
            None => writeln!(out, "walls      {}", self.without_plan()),
        }
    }

    fn without_plan(&self) -> &'static str {
        match self.route {
            "full_access" => "none",
            "allow_rule" => "the whole host as this user; what no command may touch stays covered",
            "refused" => "it does not run",
            _ if self.unconfined => "after a yes: none, and nothing stays covered",
            _ => {
                "after a yes: the whole host as this user; what no command may touch stays covered"
            }
        }
    }
}

/// What follows where the walls stop what leaving them would allow.
fn when_stopped(prepared: &Prepared) -> &'static str {
    let (approval, retry) = (prepared.settings.approval, prepared.settings.runner.retry);
    match on_denial(approval, retry, Denied::Walls) {
        AfterDenial::AskAgain => "asked_again",
        AfterDenial::Stays => "stays",
    }
}

fn indent(text: &str) -> String {
    text.lines()
        .map(|line| format!("  {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn settings(prepared: &Prepared) -> Vec<Setting> {
    let settings = &prepared.settings;
    let origin = |key: &'static str, origins: &BTreeMap<&'static str, String>| {
        origins
            .get(key)
            .cloned()
            .unwrap_or_else(|| "default".to_owned())
    };
    let profile = settings
        .profile
        .as_ref()
        .map(|profile| profile.name.as_str());
    [
        profile.map(|name| ("default_permissions", name)),
        Some(("sandbox_mode", settings.sandbox.as_str())),
        Some(("approval_policy", settings.approval.as_str())),
        Some(("approvals_reviewer", settings.reviewer.as_str())),
    ]
    .into_iter()
    .flatten()
    .map(|(key, value)| Setting {
        key,
        value: value.to_owned(),
        origin: origin(key, &settings.origins),
    })
    .collect()
}

fn reading(prepared: &Prepared) -> Reading {
    let reading = &prepared.reading;
    let shown =
        |command: &exec_policy::Command| command.program().unwrap_or("(not certain)").to_owned();
    Reading {
        commands: reading.commands().iter().map(shown).collect(),
        lowered: reading.commands().iter().map(shown_words).collect(),
        unread: reading.unread().map(|unread| unread.to_string()),
        read_whole: reading.is_complete(),
        known_safe: reading.known_safe(),
    }
}

fn rules(prepared: &Prepared) -> Rules {
    let ruled = &prepared.ruled;
    Rules {
        verdict: ruled.verdict.map(exec_policy::Verdict::as_str),
        covered: ruled.coverage_name(),
        hits: ruled.hits.clone(),
    }
}

fn reviewer_name(prepared: &Prepared, question: Question) -> String {
    match (question.of, &prepared.settings.runner.server) {
        (ApprovalsReviewer::User, _) => "the person at the terminal".to_owned(),
        (ApprovalsReviewer::AutoReview, Some(server)) => format!("the reviewer at {}", server.url),
        (ApprovalsReviewer::AutoReview, None) => "the reviewer in this process".to_owned(),
    }
}

/// What the built-in reviewer would say, where the reviewer in this process would be asked.
#[cfg(feature = "embedded")]
fn built_in(
    prepared: &Prepared,
    request: &RunRequest,
    environment: &Environment,
    asked: Option<Question>,
) -> Result<Option<serde_json::Value>, Failure> {
    let embedded = prepared.settings.runner.server.is_none();
    let Some(question) =
        asked.filter(|question| question.of == ApprovalsReviewer::AutoReview && embedded)
    else {
        return Ok(None);
    };
    let program = prepared.trusted_program(environment, &request.argv)?;
    let files = HeldFiles::of(
        &program,
        &prepared.reading,
        &request.cwd,
        &prepared.changeable(),
    )
    .map_err(hold_failure)?;
    let asked = action(prepared, environment, request, Some(&files), None)?;
    let body = submission(prepared, environment, request, asked, question.trigger)?;
    let escalation = protocol::Escalation::from_submission(
        protocol::Nonce::fresh(uuid::Uuid::new_v4()),
        body,
        |_| false,
    )?;
    let verdict = reviewer::BuiltIn::new().judge(&escalation);
    let (says, rationale) = match &verdict {
        reviewer::Verdict::Allow { rationale, .. } => ("allow", Some(rationale)),
        reviewer::Verdict::Deny { rationale, .. } => ("deny", Some(rationale)),
        reviewer::Verdict::Undecided { .. } => ("undecided", None),
    };
    Ok(Some(
        serde_json::json!({"says": says, "rule": verdict.rule().id(), "rationale": rationale}),
    ))
}

#[cfg(not(feature = "embedded"))]
fn built_in(
    _: &Prepared,
    _: &RunRequest,
    _: &Environment,
    _: Option<Question>,
) -> Result<Option<serde_json::Value>, Failure> {
    Ok(None)
}

fn shown_verdict(verdict: &serde_json::Value) -> String {
    let text = |key: &str| {
        verdict
            .get(key)
            .and_then(serde_json::Value::as_str)
            .unwrap_or_default()
    };
    let rationale = match text("rationale") {
        "" => {
            "by its words alone a model would be asked; what the runner finds out first may decide it"
        }
        rationale => rationale,
    };
    Printable(&format!(
        "{} by rule {}: {rationale}",
        text("says"),
        text("rule")
    ))
    .to_string()
}
