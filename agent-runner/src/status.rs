//! `agent-runner trust` and `agent-runner status`: what the user says of a folder, and what stands in it because of that.

use std::io::Write;
use std::path::Path;

use network_proxy::Routing;
use protocol::Printable;
use serde::Serialize;

use crate::cli;
use crate::config::{Environment, SandboxMode, Settings, Trust, project_root, with_trust};
use crate::failure::Failure;
use crate::replace_file::replace_file;
use crate::request;
use crate::walls;

/// What stands in a folder.
#[derive(Debug, Serialize)]
struct Standing {
    folder: String,
    project: Option<String>,
    trust: &'static str,
    sandbox_mode: &'static str,
    sandbox_mode_origin: String,
    approval_policy: &'static str,
    approval_policy_origin: String,
    approvals_reviewer: &'static str,
    writable: Vec<String>,
    private_tmp: bool,
    network: &'static str,
    rules: usize,
    recommended: Recommended,
    notes: Vec<String>,
}

/// What is recommended for a folder that nobody has spoken of.
#[derive(Debug, Clone, Copy, Serialize)]
struct Recommended {
    sandbox_mode: &'static str,
    approval_policy: &'static str,
    because: &'static str,
}

/// Writes the user's word on a folder into their own file.
///
/// # Errors
/// The folder or the file cannot be used, or the file has a form that only a person should change.
pub(crate) fn trust(
    args: &cli::TrustArgs,
    environment: &Environment,
    out: &mut dyn Write,
) -> Result<u8, Failure> {
    let here = match &args.folder {
        Some(folder) => {
            request::working_directory(Some(&std::path::absolute(folder)?)).map_err(|_| {
                let folder = folder.display().to_string();
                Failure::because(format!(
                    "`{}` cannot be trusted: there is no such folder",
                    Printable(&folder)
                ))
            })?
        }
        None => request::working_directory(None)?,
    };
    let folder = match &args.folder {
        Some(_) => here,
        None => project_root(&toml::Table::new(), &here).unwrap_or(here),
    };
    let name = folder
        .to_str()
        .ok_or_else(|| Failure::because("the folder's path is not UTF-8"))?;
    if folder.parent().is_none() || environment.home.starts_with(&folder) {
        return Err(Failure::because(format!(
            "`{}` cannot be trusted: it holds your home folder\nhint: name a project's own folder",
            Printable(name)
        )));
    }
    let level = if args.untrusted {
        "untrusted"
    } else {
        "trusted"
    };
    let file = environment.codex_home.join("config.toml");
    replace_file(&file, |text| with_trust(text, name, level))?;
    say(
        out,
        &format!("`{}` is {level} ({})", Printable(name), file.display()),
    )
}

/// Says what stands in the working directory.
///
/// # Errors
/// The settings are not as they must be.
pub(crate) fn status(
    args: &cli::Status,
    environment: &Environment,
    out: &mut dyn Write,
) -> Result<u8, Failure> {
    let cwd = request::working_directory(args.settings.cd.as_deref())?;
    let settings = Settings::load(environment, &args.settings.overrides(), &cwd)?;
    let standing = Standing::of(&settings, environment, &cwd);
    if args.json {
        let text = serde_json::to_string_pretty(&standing)
            .map_err(|error| Failure::because(format!("cannot print: {error}")))?;
        return say(out, &text);
    }
    say(out, &standing.text())
}

impl Standing {
    fn of(settings: &Settings, environment: &Environment, cwd: &Path) -> Self {
        let origin = |key: &str| {
            let origin = settings.origins.get(key).cloned();
            origin.unwrap_or_else(|| "default".to_owned())
        };
        let root = project_root(&toml::Table::new(), cwd);
        let writable = walls::writable_roots(settings, environment, cwd);
        Self {
            folder: cwd.display().to_string(),
            recommended: recommended(root.is_some()),
            project: root.map(|root| root.display().to_string()),
            trust: settings.trust.name(),
            sandbox_mode: settings.sandbox.as_str(),
            sandbox_mode_origin: origin("sandbox_mode"),
            approval_policy: settings.approval.as_str(),
            approval_policy_origin: origin("approval_policy"),
            approvals_reviewer: settings.reviewer.as_str(),
            writable: writable
                .iter()
                .map(|root| root.display().to_string())
                .collect(),
            private_tmp: settings.sandbox != SandboxMode::DangerFullAccess
                && !settings.workspace_write.exclude_slash_tmp,
            network: match (settings.sandbox, settings.routing()) {
                (SandboxMode::DangerFullAccess, _) | (_, Routing::Direct) => "the host's",
                (_, Routing::Door) => "by the door, by rule",
                (_, Routing::Off) => "none",
            },
            rules: settings.rules.rules().len() + settings.rules.network().len(),
            notes: settings.notes.clone(),
        }
    }

    fn text(&self) -> String {
        let mut lines = vec![
            format!("folder     {}", Printable(&self.folder)),
            format!(
                "project    {}",
                Printable(self.project.as_deref().unwrap_or("not version-controlled"))
            ),
            format!("trust      {}", self.trust),
            format!(
                "walls      {} ({})",
                self.sandbox_mode,
                Printable(&self.sandbox_mode_origin)
            ),
            format!(
                "asks       {} ({}), of {}",
                self.approval_policy,
                Printable(&self.approval_policy_origin),
                self.approvals_reviewer
            ),
        ];
        lines.extend(
            self.writable
                .iter()
                .map(|root| format!("writable   {}", Printable(root))),
        );
        if self.private_tmp {
            lines.push("writable   /tmp, private to each command or session".to_owned());
        }
        lines.push(format!("network    {}", self.network));
        lines.push(format!("rules      {}", self.rules));
        lines.extend(
            self.notes
                .iter()
                .map(|note| format!("note       {}", Printable(note))),
        );
        if self.trust == Trust::Unknown.name() {
            lines.push(format!(
                "recommended {} and {}: {}; `agent-runner trust` trusts this folder",
                self.recommended.sandbox_mode,
                self.recommended.approval_policy,
                self.recommended.because
            ));
        }
        lines.join("\n")
    }
}

/// The page's recommendation on launch.
fn recommended(version_controlled: bool) -> Recommended {
    if version_controlled {
        Recommended {
            sandbox_mode: "workspace-write",
            approval_policy: "on-request",
            because: "the folder is version-controlled, so changes can be seen and undone",
        }
    } else {
        Recommended {
            sandbox_mode: "read-only",
            approval_policy: "on-request",
            because: "the folder is not version-controlled, so changes could not be undone",
        }
    }
}

fn say(out: &mut dyn Write, text: &str) -> Result<u8, Failure> {
    writeln!(out, "{text}").map_err(|error| Failure::because(format!("cannot print: {error}")))?;
    Ok(0)
}
