//! What the runner found out about an action, as far as the rules use it.
//!
//! Apart, because it comes from outside as JSON: here it is read once, and what does not have the documented form is not
//! there. Invariant: a missing fact, one of another form, or one that was not obtained, never makes an action look
//! harmless.

use protocol::Evidence;
use serde_json::Value;

/// What the runner found out.
#[derive(Debug, Default)]
pub(super) struct Facts {
    repositories: Vec<Repository>,
    paths: Vec<Path>,
    recoverable: Vec<String>,
    /// The scripts that would run, whole.
    pub(super) scripts: Vec<Script>,
    /// Whether something says that this is production.
    pub(super) production: bool,
}

/// A repository.
#[derive(Debug)]
pub(super) struct Repository {
    root: String,
    git_dir: String,
    pub(super) branch: Option<String>,
    /// The branch of a remote that the work tree's branch follows, by its full name.
    pub(super) upstream: Option<String>,
    /// Whether its hooks, settings, attributes and nested repositories run nothing.
    quiet: bool,
    /// Its remotes with a plain address on another machine.
    remotes: Vec<String>,
    /// Whether its settings send a transfer elsewhere.
    redirects: bool,
    /// What would be pushed, where that is a push.
    pub(super) push: Option<Push>,
}

/// A push.
#[derive(Debug)]
pub(super) struct Push {
    /// The remote's name, where it is the name of one that is configured.
    pub(super) remote: String,
    urls: usize,
}

#[derive(Debug)]
struct Path {
    path: String,
    missing: bool,
}

/// A script.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) path: String,
    pub(super) text: String,
}

impl Facts {
    pub(super) fn of(evidence: &[Evidence]) -> Self {
        let mut facts = Self::default();
        for fact in evidence {
            let value = &fact.value;
            match fact.kind.as_str() {
                "repository" => facts.repository(value),
                "path" => facts.paths.extend(path(value)),
                "script" => facts.scripts.extend(script(value)),
                "place" => facts.production |= !is_empty_list(&value["production_markers"]),
                _ => {}
            }
        }
        facts
    }

    fn repository(&mut self, value: &Value) {
        let paths = &value["paths"];
        if text(&paths["recoverable"]) == Some("from_the_last_commit")
            && let Some(list) = paths["paths"].as_array()
        {
            self.recoverable
                .extend(list.iter().filter_map(Value::as_str).map(str::to_owned));
        }
        self.repositories.extend(repository(value));
    }

    /// The repository in `root`, where it is the only one that was found and runs nothing of its own.
    pub(super) fn quiet(&self, root: &str) -> Option<&Repository> {
        let [one] = self.repositories.as_slice() else {
            return None;
        };
        let own = one.root == root && one.git_dir == format!("{}/.git", root.trim_end_matches('/'));
        (own && one.quiet).then_some(one)
    }

    /// Whether there is nothing at `path`.
    pub(super) fn is_missing(&self, path: &str) -> bool {
        let mut known = self.paths.iter().filter(|known| known.path == path);
        known.next().is_some_and(|first| first.missing) && known.all(|other| other.missing)
    }

    /// Whether all of `path` is in the last commit, byte for byte.
    pub(super) fn is_recoverable(&self, path: &str) -> bool {
        self.recoverable.iter().any(|known| known == path)
    }
}

impl Repository {
    #[cfg(test)]
    pub(super) fn with_remote(name: &str) -> Self {
        let value = serde_json::json!({ "root": "/w", "git_dir": "/w/.git", "remotes": [name] });
        repository(&value).expect("a repository")
    }

    /// Whether a transfer goes where its remote says.
    pub(super) fn goes_straight(&self) -> bool {
        !self.redirects
    }

    /// Whether `name` is a remote with a plain address; any other word git takes for a path.
    pub(super) fn has_remote(&self, name: &str) -> bool {
        self.remotes.iter().any(|remote| remote == name)
    }
}

impl Push {
    /// Whether the remote is a configured one with one address.
    pub(super) fn is_to_remote(&self, name: &str) -> bool {
        self.remote == name && self.urls == 1 && !name.contains([':', '/', '.'])
    }
}

fn text(value: &Value) -> Option<&str> {
    value.as_str()
}

/// Whether this is a list, and empty. What is no list may hold anything.
fn is_empty_list(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty)
}

/// Whether every fact says so, each of which is null where it was not found out.
fn runs_nothing(value: &Value) -> bool {
    [
        "hooks",
        "settings_that_run_programs",
        "settings_that_redirect",
        "settings_not_known",
        "attributes_that_name_drivers",
    ]
    .iter()
    .all(|field| is_empty_list(&value[field]))
        && value["nested_repositories"] == 0
        && text(&value["common_dir"]).is_some_and(|common| text(&value["git_dir"]) == Some(common))
}

fn texts(value: &Value) -> Vec<String> {
    let list = value.as_array().into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn repository(value: &Value) -> Option<Repository> {
    let push = &value["push"];
    let remote = text(&push["remote"]);
    Some(Repository {
        root: text(&value["root"])?.to_owned(),
        git_dir: text(&value["git_dir"])?.to_owned(),
        branch: text(&value["branch"]).map(str::to_owned),
        upstream: text(&value["upstream"]).map(str::to_owned),
        quiet: runs_nothing(value),
        remotes: texts(&value["remotes"]),
        redirects: !is_empty_list(&value["settings_that_redirect"]),
        push: remote.map(|remote| Push {
            remote: remote.to_owned(),
            urls: push["push_urls"].as_array().map_or(0, Vec::len),
        }),
    })
}

fn path(value: &Value) -> Option<Path> {
    let kind = text(&value["type"])?;
    Some(Path {
        path: text(&value["path"])?.to_owned(),
        missing: kind == "missing" && value.get("pattern").is_none_or(Value::is_null),
    })
}

/// A script whose whole text is there.
fn script(value: &Value) -> Option<Script> {
    let whole = value.get("cut_bytes").is_none_or(Value::is_null);
    whole.then_some(())?;
    Some(Script {
        path: text(&value["path"])?.to_owned(),
        text: text(&value["text"])?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use protocol::Evidence;
    use serde_json::{Value, json};

    use super::Facts;

    fn facts(kind: &str, value: Value) -> Facts {
        Facts::of(&[Evidence {
            kind: kind.to_owned(),
            value,
            obtained: String::new(),
        }])
    }

    fn repository() -> Value {
        json!({ "root": "/w", "git_dir": "/w/.git", "common_dir": "/w/.git", "branch": "b", "hooks": [],
                "settings_that_run_programs": [], "settings_that_redirect": [], "settings_not_known": [],
                "attributes_that_name_drivers": [], "nested_repositories": 0, "remotes": ["origin"] })
    }

    #[test]
    fn a_repository_runs_nothing_only_where_every_fact_says_so() {
        assert!(facts("repository", repository()).quiet("/w").is_some());
        for (field, value) in [
            ("hooks", json!(["pre-commit"])),
            ("hooks", Value::Null),
            ("settings_that_run_programs", json!(["core.fsmonitor=x"])),
            ("settings_that_run_programs", json!("")),
            ("settings_that_run_programs", Value::Null),
            (
                "settings_that_redirect",
                json!(["core.worktree=/elsewhere"]),
            ),
            ("settings_not_known", json!(["a.new.setting=x"])),
            ("settings_not_known", Value::Null),
            (
                "attributes_that_name_drivers",
                json!([".gitattributes: filter=f"]),
            ),
            ("attributes_that_name_drivers", Value::Null),
            ("common_dir", json!("/w/other")),
            ("common_dir", Value::Null),
            ("nested_repositories", json!(1)),
            ("nested_repositories", Value::Null),
            ("git_dir", json!("/w/sub/.git")),
            ("git_dir", json!("/elsewhere")),
            ("root", json!("/other")),
        ] {
            let mut changed = repository();
            changed[field] = value;
            let facts = facts("repository", changed.clone());
            assert!(facts.quiet("/w").is_none(), "{changed}");
        }
        for field in ["hooks", "settings_not_known", "common_dir"] {
            let mut absent = repository();
            absent.as_object_mut().expect("fields").remove(field);
            assert!(facts("repository", absent).quiet("/w").is_none(), "{field}");
        }
        let both: Vec<Evidence> = [repository(), repository()]
            .into_iter()
            .map(|value| Evidence {
                kind: "repository".to_owned(),
                value,
                obtained: String::new(),
            })
            .collect();
        assert!(Facts::of(&both).quiet("/w").is_none(), "which one is it");
    }

    #[test]
    fn nothing_is_missing_that_is_not_said_to_be() {
        let missing = json!({ "path": "/w/a", "type": "missing" });
        assert!(facts("path", missing).is_missing("/w/a"));
        for value in [
            json!({ "path": "/w/a", "type": "file" }),
            json!({ "path": "/w/b", "type": "missing" }),
            json!({ "path": "/w/a", "type": "missing", "pattern": "*" }),
            json!({ "path": "/w/a" }),
        ] {
            assert!(!facts("path", value).is_missing("/w/a"));
        }
        assert!(!facts("not_obtained", json!({ "about": "/w/a" })).is_missing("/w/a"));
    }

    #[test]
    fn only_what_is_wholly_committed_can_be_brought_back() {
        let paths = |how: &str| json!({ "paths": { "paths": ["/w/a"], "recoverable": how } });
        assert!(facts("repository", paths("from_the_last_commit")).is_recoverable("/w/a"));
        assert!(!facts("repository", paths("from_the_last_commit")).is_recoverable("/w/b"));
        for how in ["in_part", "no", "no_the_repository_itself_is_lost", ""] {
            assert!(
                !facts("repository", paths(how)).is_recoverable("/w/a"),
                "{how}"
            );
        }
    }
}
