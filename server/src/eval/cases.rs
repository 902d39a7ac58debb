//! Labelled actions, read from files of JSON lines.
//!
//! Apart, because these files come from anybody. Invariant: a case holds an escalation that the server would accept,
//! with the digest that its action has; whoever writes cases by hand need not compute it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use protocol::{Action, Escalation, SubmitReview};
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

/// The largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 256 * 1024 * 1024;

/// One labelled action.
#[derive(Debug)]
pub(crate) struct Case {
    pub(super) id: String,
    pub(super) category: String,
    pub(super) expect: Expected,
    pub(super) critical: bool,
    pub(super) escalation: Escalation,
}

/// What a careful person decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Expected {
    /// It may be done.
    Allow,
    /// It may not.
    Deny,
}

/// Why a case cannot be read.
#[derive(Debug, Error)]
pub(crate) enum CaseError {
    #[error("cannot read `{}`", path.display())]
    Read {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("`{}` is larger than 256 MiB", .0.display())]
    TooLarge(PathBuf),
    #[error("`{}` holds no file that ends in `.jsonl`", .0.display())]
    NoFile(PathBuf),
    #[error("line {line} of `{}` is no case: {problem}", path.display())]
    Line {
        path: PathBuf,
        line: usize,
        problem: String,
    },
    #[error("there is no case")]
    Empty,
}

#[derive(Deserialize)]
struct Raw {
    id: String,
    #[serde(default)]
    category: Option<String>,
    expect: Expected,
    #[serde(default)]
    risk: Option<String>,
    request: Value,
}

/// Reads all cases of files, and of the `.jsonl` files in folders.
pub(super) fn read(paths: &[PathBuf]) -> Result<Vec<Case>, CaseError> {
    let mut cases = Vec::new();
    for path in paths {
        for file in files(path)? {
            read_file(&file, &mut cases)?;
        }
    }
    if cases.is_empty() {
        return Err(CaseError::Empty);
    }
    Ok(cases)
}

fn files(path: &Path) -> Result<Vec<PathBuf>, CaseError> {
    let fault = |cause| CaseError::Read {
        path: path.to_owned(),
        cause,
    };
    if !fs::metadata(path).map_err(fault)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(path).map_err(fault)? {
        let file = entry.map_err(fault)?.path();
        if file.extension().is_some_and(|end| end == "jsonl") {
            found.insert(file);
        }
    }
    if found.is_empty() {
        return Err(CaseError::NoFile(path.to_owned()));
    }
    Ok(found.into_iter().collect())
}

fn read_file(path: &Path, cases: &mut Vec<Case>) -> Result<(), CaseError> {
    let fault = |cause| CaseError::Read {
        path: path.to_owned(),
        cause,
    };
    if fs::metadata(path).map_err(fault)?.len() > MAX_FILE_BYTES {
        return Err(CaseError::TooLarge(path.to_owned()));
    }
    let text = fs::read_to_string(path).map_err(fault)?;
    for (at, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        cases.push(parse(line).map_err(|problem| CaseError::Line {
            path: path.to_owned(),
            line: at + 1,
            problem,
        })?);
    }
    Ok(())
}

fn parse(line: &str) -> Result<Case, String> {
    let raw: Raw = serde_json::from_str(line).map_err(|fault| fault.to_string())?;
    Ok(Case {
        escalation: escalation(raw.request)?,
        id: raw.id,
        category: raw.category.unwrap_or_else(|| "none".to_owned()),
        expect: raw.expect,
        critical: raw.risk.as_deref() == Some("critical"),
    })
}

/// An escalation from a request's body, with its own digest put in.
pub(crate) fn escalation(mut request: Value) -> Result<Escalation, String> {
    let action = request
        .get("action")
        .cloned()
        .ok_or("`request` has no `action`")?;
    let action: Action =
        serde_json::from_value(action).map_err(|fault| format!("`action`: {fault}"))?;
    if let Some(fields) = request.as_object_mut() {
        fields.insert(
            "action_digest".to_owned(),
            Value::from(action.digest().to_string()),
        );
    }
    let body: SubmitReview =
        serde_json::from_value(request).map_err(|fault| format!("`request`: {fault}"))?;
    // Nobody waits for this question, so its mark means nothing.
    let id = serde_json::from_value(Value::from("00000000000000000000000000000000"))
        .map_err(|fault| fault.to_string())?;
    Escalation::from_submission(id, body, |_| true).map_err(|fault| fault.to_string())
}

#[cfg(test)]
mod tests {
    use super::{Expected, parse};

    const LINE: &str = r#"{"id":"a","expect":"allow","request":{"version":1,"client":{"name":"x","version":"1","channel":"c"},"environment":{"host":"h","user":"u","cwd":"/w","workspace_roots":["/w"],"sandbox_mode":"workspace-write","approval_policy":"on-request"},"action":{"tool":"exec_command","command":["ls"],"cwd":"/w","sandbox_permissions":"require_escalated"},"trigger":{"kind":"escalation_requested"}}}"#;

    #[test]
    fn a_case_needs_no_digest_and_no_category() {
        let case = parse(LINE).expect("a case");
        assert_eq!(
            (case.id.as_str(), case.category.as_str(), case.expect),
            ("a", "none", Expected::Allow)
        );
        assert!(!case.critical);
    }

    #[test]
    fn what_the_server_would_not_accept_is_no_case() {
        for (from, to) in [
            ("\"version\":1,\"client\"", "\"version\":2,\"client\""),
            ("[\"ls\"]", "[]"),
            ("\"allow\"", "\"maybe\""),
            ("\"trigger\"", "\"other\""),
        ] {
            assert!(parse(&LINE.replacen(from, to, 1)).is_err(), "{to}");
        }
    }
}
