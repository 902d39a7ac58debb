//! `agent-runner apply-patch`: file changes in the agents' patch format, judged by the walls that commands have.
//!
//! What lies inside them is made by this program again, as a command inside the walls: the kernel holds the borders,
//! whatever was misjudged here. What lies outside is asked about with the whole patch as the action. Invariant: outside
//! the walls a patch is made only with a [`PermittedAction`] for exactly its text and files.

mod change;
mod format;
mod judge;
mod place;

use std::ffi::OsString;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use protocol::{
    AbsolutePath, Action, FileChange, FullAccessByName, PermittedAction, Printable,
    SandboxPermissions,
};
use sandbox::{Command, Stdin};

use self::change::Held;
use self::format::{FileEdit, MAX_PATCH_BYTES, parse};
use self::judge::{PatchRoute, Reach, decide, reach};
use crate::answer::ask;
use crate::cli;
use crate::config::Environment;
use crate::failure::{Failure, NOT_PERMITTED};
use crate::hold::find_program;
use crate::journal::JournalEvent;
use crate::launch::{Stage, launch};
use crate::permit::{permit, record};
use crate::prepare::{Prepared, hold_failure, submission};
use crate::report::{Refusal, Report};
use crate::request::{self, RunRequest, TerminalWish};
use crate::route::Question;
use crate::shown::Shown;
use crate::signals::Signals;
use crate::telemetry::{Observation, Tool};
use crate::walls;

/// A patch, read, with where it reaches.
struct Patch {
    text: String,
    edits: Vec<FileEdit>,
    files: Vec<PathBuf>,
    held: Held,
}

/// Applies the patch that `args` names.
///
/// # Errors
/// Nothing was changed: it is no patch, does not fit, or is not permitted.
pub(crate) async fn apply_patch(
    args: &cli::ApplyPatch,
    environment: &Environment,
) -> Result<u8, Failure> {
    let cwd = request::working_directory(args.settings.cd.as_deref())?;
    if args.inside {
        handed_on(args.file.as_deref())?;
        return made(&Patch::read(None, &cwd)?);
    }
    let patch = Patch::read(args.file.as_deref(), &cwd)?;
    let mut signals = Signals::listen()?;
    let program = std::env::current_exe()?;
    let request = RunRequest {
        argv: [
            program.into_os_string(),
            "apply-patch".into(),
            "--inside".into(),
        ]
        .to_vec(),
        cwd: cwd.clone(),
        permissions: SandboxPermissions::UseDefault,
        additional: None,
        justification: None,
        session: request::session(&args.context, environment),
        transcript: request::transcript(&args.context)?,
        terminal: TerminalWish::Inherit,
        max_output: None,
        escapes: None,
    };
    let prepared = Prepared::new(&args.settings.overrides(), environment, &request.argv, &cwd)?;
    patch.keep_off(&prepared, environment)?;
    prepared.keep_managed_denials_of(environment, patch.paths()?.iter())?;
    let outside = |path: &PathBuf| reach(path, &prepared.writable_roots) == Reach::Outside;
    let reach = if patch.files.iter().any(outside) {
        Reach::Outside
    } else {
        Reach::Inside
    };
    let route = decide(&prepared.settings, reach);
    if args.explain {
        return explain(&patch, route);
    }
    let mut report = Report {
        route: route.name(),
        ..Report::default()
    };
    let words: Vec<_> = patch.words().collect();
    let (tool, session) = (Tool::ApplyPatch, &request.session);
    let observed = Observation::of(tool, &prepared, environment, session, &words);
    let walk = Walk {
        environment,
        request,
        prepared,
        patch,
        report: &mut report,
    };
    let ended = Box::pin(walk.along(route, &mut signals)).await;
    if let Some((observation, typed)) = observed {
        Box::pin(observation.end(typed, &report, &ended)).await;
    }
    ended
}

impl Patch {
    fn read(file: Option<&Path>, cwd: &Path) -> Result<Self, Failure> {
        let mut text = String::new();
        let limit = MAX_PATCH_BYTES as u64 + 1;
        match file {
            Some(file) => std::fs::File::open(file)
                .and_then(|file| file.take(limit).read_to_string(&mut text)),
            None => std::io::stdin().take(limit).read_to_string(&mut text),
        }
        .map_err(|error| {
            let from = file.map_or_else(
                || "on standard input".to_owned(),
                |file| format!("`{}`", Printable(&file.to_string_lossy())),
            );
            Failure::because(format!("cannot read the patch {from}: {error}"))
        })?;
        let edits = parse(&text)?;
        let held = Held::of(cwd, &edits)?;
        Ok(Self {
            files: held.files(),
            text,
            edits,
            held,
        })
    }

    /// What it is called where people read of it.
    fn words(&self) -> impl Iterator<Item = OsString> {
        let files = self.files.iter().map(|file| file.clone().into_os_string());
        std::iter::once("apply-patch".into()).chain(files)
    }

    /// The files as the settings name paths.
    fn paths(&self) -> Result<Vec<AbsolutePath>, Failure> {
        self.files.iter().map(|file| absolute(file)).collect()
    }

    /// What no command may touch or change, no patch may either, whoever allows it (design D16).
    fn keep_off(&self, prepared: &Prepared, environment: &Environment) -> Result<(), Failure> {
        let never = walls::never_touch(&prepared.settings, environment, prepared.state.dir());
        let kept = prepared
            .policy
            .hidden()
            .iter()
            .chain(prepared.policy.kept());
        let covered: Vec<PathBuf> = never
            .into_iter()
            .chain(kept.cloned())
            .chain(walls::steering(environment))
            .collect();
        let denied = |file: &&PathBuf| {
            covered.iter().any(|path| {
                let resolved = path.canonicalize().unwrap_or_else(|_| path.clone());
                file.starts_with(path) || file.starts_with(&resolved)
            })
        };
        match self.files.iter().find(denied) {
            None => Ok(()),
            Some(file) => Err(Failure {
                code: NOT_PERMITTED,
                message: format!(
                    "`{}` is the runner's own; no patch may change it",
                    Printable(&file.display().to_string())
                ),
            }),
        }
    }
}

/// Refuses to make a patch for anybody but the runner that has judged it: this process has to be within walls, which
/// take what it does beyond them, and the patch a sealed copy in memory, as the runner hands it on. No shell's
/// redirection makes one.
fn handed_on(file: Option<&Path>) -> Result<(), Failure> {
    use rustix::fs::SealFlags;
    use rustix::thread::SecureComputingMode;
    let filtered = rustix::thread::secure_computing_mode()
        .is_ok_and(|mode| mode == SecureComputingMode::Filter);
    let walled = filtered && rustix::thread::no_new_privs().unwrap_or(false);
    let all = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    let sealed =
        rustix::fs::fcntl_get_seals(std::io::stdin()).is_ok_and(|seals| seals.contains(all));
    if walled && sealed && file.is_none() {
        return Ok(());
    }
    Err(Failure::because(
        "`--inside` is the runner's own, within the walls; nothing was changed\nhint: leave it out",
    ))
}

/// Makes the patch here and now.
fn made(patch: &Patch) -> Result<u8, Failure> {
    use std::io::Write as _;
    let told = change::make(&patch.held, &patch.edits)?;
    for line in told {
        // A reader that is gone does not undo what was done.
        writeln!(std::io::stdout(), "{}", Printable(&line)).unwrap_or_default();
    }
    Ok(0)
}

fn explain(patch: &Patch, route: PatchRoute) -> Result<u8, Failure> {
    use std::io::Write as _;
    let route = match route {
        PatchRoute::Inside => "inside: made inside the walls".to_owned(),
        PatchRoute::FullAccess => "full_access: made without walls".to_owned(),
        PatchRoute::Ask(question) => format!("ask: {} is asked", question.of.as_str()),
        PatchRoute::Refused(refusal) => format!("refused: {}", refusal.because()),
    };
    let mut lines: Vec<String> = patch
        .files
        .iter()
        .map(|file| format!("file       {}", Printable(&file.display().to_string())))
        .collect();
    lines.push(format!("route      {route}"));
    if let Err(error) = change::check(&patch.held, &patch.edits) {
        lines.push(format!(
            "but        it could not be made: {}",
            Printable(&error.to_string())
        ));
    }
    writeln!(std::io::stdout(), "{}", lines.join("\n"))?;
    Ok(0)
}

fn absolute(path: &Path) -> Result<AbsolutePath, Failure> {
    let text = path.to_str().map(str::to_owned);
    let text = text.ok_or_else(|| Failure::because("a path of the patch is not UTF-8"))?;
    AbsolutePath::try_from(text).map_err(Failure::because)
}

/// One patch, from what was read to how it ended.
struct Walk<'a> {
    environment: &'a Environment,
    request: RunRequest,
    prepared: Prepared,
    patch: Patch,
    report: &'a mut Report,
}

impl Walk<'_> {
    async fn along(mut self, route: PatchRoute, signals: &mut Signals) -> Result<u8, Failure> {
        match route {
            PatchRoute::Inside => self.inside(signals).await,
            PatchRoute::FullAccess => {
                self.named();
                self.full_access()
            }
            PatchRoute::Ask(question) => {
                self.named();
                Box::pin(self.asked(question, signals)).await
            }
            PatchRoute::Refused(refusal) => Err(self.refused(refusal.because())),
        }
    }

    /// This program again, inside the walls.
    async fn inside(self, signals: &mut Signals) -> Result<u8, Failure> {
        let word = self
            .request
            .argv
            .first()
            .map(OsString::as_os_str)
            .unwrap_or_default();
        let program = find_program(word, self.prepared.directory.path(), std::iter::empty())
            .map_err(hold_failure)?;
        let env = self.prepared.env(self.environment, &self.request)?;
        let command = Command::new(
            self.request.argv.iter().cloned(),
            program,
            self.prepared.directory,
        )?
        .with_environment(env.pairs().iter().cloned())?
        .with_stdin(Stdin::Bytes(self.patch.text.into_bytes()));
        let plan = self
            .prepared
            .standing
            .plan(&self.prepared.policy, &command)?;
        // Should its walls have a door, nobody serves it: a patch needs no network.
        let ending = launch(&plan, command, Stage::bare(&self.request), signals).await?;
        self.report.confinement = serde_json::to_value(&ending.run.confinement).ok();
        Ok(ending.exit_code())
    }

    /// Names the request by its files, for what people read.
    fn named(&mut self) {
        self.request.argv = self.patch.words().collect();
    }

    /// Without walls; the crossing is on record before it happens.
    fn full_access(self) -> Result<u8, Failure> {
        let action = self.action()?;
        let name = FullAccessByName::parse(self.prepared.settings.sandbox.as_str())
            .ok_or_else(|| Failure::because("full access was not chosen by name"))?;
        record(
            &self.prepared,
            &self.request,
            &action,
            JournalEvent::FullAccess,
        )?;
        self.make(&PermittedAction::by_full_access(name, action))
    }

    /// Asked first, with the whole patch.
    async fn asked(self, question: Question, signals: &mut Signals) -> Result<u8, Failure> {
        let action = self.action()?;
        let body = submission(
            &self.prepared,
            self.environment,
            &self.request,
            action.clone(),
            question.trigger,
        )?;
        let asked = ask(&self.prepared, self.environment, question.of, body, signals).await;
        self.report.review.clone_from(&asked.review);
        self.report.status = Some(asked.decision.status());
        let permitted = permit(&self.prepared, &self.request, asked, action).await;
        let permitted = permitted.map_err(|refused| {
            self.report.status = refused.status.or(self.report.status);
            refused.failure
        })?;
        self.make(&permitted)
    }

    fn action(&self) -> Result<Action, Failure> {
        let shown = Shown::by(self.prepared.state.mask_key()?);
        let action = Action::FileChange(FileChange {
            cwd: absolute(&self.request.cwd)?,
            files: self.patch.paths()?,
            patch: shown.code(&self.patch.text),
        });
        Ok(action.checked()?)
    }

    /// Makes exactly what `permitted` covers: the files must still be the ones that were reviewed.
    fn make(&self, permitted: &PermittedAction) -> Result<u8, Failure> {
        if !self.patch.held.is_still_there() || permitted.action() != &self.action()? {
            return Err(Failure {
                code: NOT_PERMITTED,
                message: "the patch reaches other files than those that were reviewed; nothing was changed".to_owned(),
            });
        }
        made(&self.patch)
    }

    fn refused(&self, because: &str) -> Failure {
        let files: Vec<String> = self
            .patch
            .files
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        let refusal = Refusal::new(
            &format!("apply-patch {}", Printable(&files.join(" "))),
            "is refused by policy",
            because,
            "keep to the workspace, or ask the user to change the policy",
        );
        Failure {
            code: NOT_PERMITTED,
            message: refusal.to_string(),
        }
    }
}
