//! Where an action happens: its folders, and each command with the folder that it would run in.
//!
//! Apart, because every rule resolves words against it. Invariant: a folder that only a running shell knows is `None`,
//! and words under it stay open.

use exec_policy::{Command, Effect, Location, Piece, Reading, Surroundings, Word};
use protocol::{Action, EnvValue, Escalation};

use super::facts::Facts;

/// Where an action happens.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) home: String,
    pub(super) roots: Vec<String>,
    pub(super) cwd: String,
    pub(super) reading: Reading,
    /// What the runner found out.
    pub(super) facts: Facts,
    /// The folder of each command of the reading.
    folders: Vec<Option<String>>,
}

impl Scene {
    pub(super) fn of(escalation: &Escalation) -> Self {
        let (argv, cwd, env): (&[String], _, _) = match &escalation.action {
            Action::Command(command) => (&command.command, &command.cwd, command.env.as_deref()),
            Action::FileChange(change) => (&[], &change.cwd, None),
            Action::NetworkAccess(_) | Action::ToolCall(_) | Action::PermissionRequest(_) => {
                (&[], &escalation.environment.cwd, None)
            }
        };
        let home = env
            .unwrap_or_default()
            .iter()
            .find_map(|entry| match &entry.value {
                EnvValue::Value(value) if entry.name == "HOME" && value.starts_with('/') => {
                    Some(value.clone())
                }
                EnvValue::Value(_) | EnvValue::Masked { .. } => None,
            })
            .unwrap_or_else(|| match escalation.environment.user.as_str() {
                "root" => "/root".to_owned(),
                user => format!("/home/{user}"),
            });
        let mut scene = Self {
            home,
            roots: escalation
                .environment
                .workspace_roots
                .iter()
                .map(|root| root.as_str().to_owned())
                .collect(),
            cwd: cwd.as_str().to_owned(),
            reading: Reading::of_argv(argv),
            facts: Facts::of(&escalation.evidence),
            folders: Vec::new(),
        };
        scene.folders = scene.walk();
        scene
    }

    /// The same place for other words, of which nothing was found out.
    pub(super) fn within(&self, argv: &[String]) -> Self {
        let mut scene = Self {
            home: self.home.clone(),
            roots: self.roots.clone(),
            cwd: self.cwd.clone(),
            reading: Reading::of_argv(argv),
            facts: Facts::default(),
            folders: Vec::new(),
        };
        scene.folders = scene.walk();
        scene
    }

    /// The commands with their places in the reading.
    pub(super) fn commands(&self) -> impl Iterator<Item = (usize, &Command)> {
        self.reading.commands().iter().enumerate()
    }

    /// Each effect of each command, and where its word points.
    pub(super) fn effects(&self) -> Vec<(usize, Effect)> {
        self.commands()
            .flat_map(|(at, command)| {
                command
                    .effects()
                    .into_iter()
                    .map(move |effect| (at, effect))
            })
            .collect()
    }

    /// Where a word of the command at `at` points.
    pub(super) fn locate(&self, at: usize, word: &Word) -> Location {
        Location::of(
            word,
            &Surroundings {
                cwd: self.folders.get(at).cloned().flatten(),
                home: self.home.clone(),
            },
        )
    }

    /// Where an absolute path, or one relative to the action's own folder, points.
    pub(super) fn locate_text(&self, path: &str) -> Location {
        Location::of_text(
            path,
            &Surroundings {
                cwd: Some(self.cwd.clone()),
                home: self.home.clone(),
            },
        )
    }

    /// The folder that the command at `at` runs in, where it is certain.
    pub(super) fn folder(&self, at: usize) -> Option<&str> {
        self.folders.get(at).and_then(Option::as_deref)
    }

    /// Whether a path lies in a folder that the task may write.
    pub(super) fn in_workspace(&self, location: &Location) -> bool {
        self.roots.iter().any(|root| location.is_within(root))
    }

    /// Whether output of a command for which `is_source` holds reaches the command at `at`, over any number of others.
    pub(super) fn is_fed_by(&self, at: usize, is_source: &dyn Fn(usize) -> bool) -> bool {
        let commands = self.reading.commands();
        let mut seen = vec![false; commands.len()];
        let mut open = vec![at];
        while let Some(next) = open.pop() {
            let Some(command) = commands.get(next) else {
                continue;
            };
            for source in command.fed_by() {
                if is_source(*source) {
                    return true;
                }
                if let Some(flag) = seen.get_mut(*source)
                    && !*flag
                {
                    *flag = true;
                    open.push(*source);
                }
            }
        }
        false
    }

    /// Follows `cd` from command to command, in their order in the text.
    fn walk(&self) -> Vec<Option<String>> {
        let mut cwd = Some(self.cwd.clone());
        let mut folders = Vec::new();
        for command in self.reading.commands() {
            folders.push(cwd.clone());
            let moves = match command.program() {
                Some("cd" | "pushd") => Some(command.arguments()),
                Some("popd") => {
                    cwd = None;
                    None
                }
                _ => None,
            };
            if let Some(arguments) = moves {
                let home = Word::of_piece(Piece::Home);
                let target = arguments.iter().find(|word| {
                    !word.literal_prefix().starts_with('-') || word.literal() == Some("-")
                });
                let target = target.unwrap_or(&home);
                let around = Surroundings {
                    cwd: cwd.clone(),
                    home: self.home.clone(),
                };
                cwd = if target.literal() == Some("-") {
                    None
                } else {
                    Location::of(target, &around).certain()
                };
            }
        }
        folders
    }
}
