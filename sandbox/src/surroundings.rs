//! What the disk and the host look like around one command, looked up once before its plan is made.
//!
//! Reads, never writes. Plans are made from these facts by pure functions; what changes between here and the start is
//! caught there (a descriptor compared, a mount that fails), never trusted.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use crate::command::Command;
use crate::keeper;
use crate::plan::PlanError;
use crate::policy::{Network, PROTECTED_NAMES, SandboxPolicy, homes_of_this_user};

/// The host's user and group that a command runs as where root starts it: of the range that no distribution, service
/// manager or user database hands out.
pub(crate) const UNPRIVILEGED: u32 = 65_529;

/// Variables that name a folder of tools.
const TOOL_VARIABLES: [&str; 14] = [
    "CARGO_HOME",
    "RUSTUP_HOME",
    "PYENV_ROOT",
    "NVM_DIR",
    "GOPATH",
    "GOROOT",
    "JAVA_HOME",
    "VIRTUAL_ENV",
    "BUN_INSTALL",
    "VOLTA_HOME",
    "SDKMAN_DIR",
    "PNPM_HOME",
    "RBENV_ROOT",
    "ASDF_DATA_DIR",
];
/// Where tools are when no variable says so.
const TOOL_FOLDERS: [&str; 10] = [
    ".cargo",
    ".rustup",
    ".pyenv",
    ".nvm",
    ".rbenv",
    ".asdf",
    ".bun",
    ".volta",
    ".gitconfig",
    "go",
];
/// First names below a home folder of which only the exact folder asked for is shown.
const SHARED_FOLDERS: [&str; 3] = [".local", ".config", ".cache"];
/// First names below a home folder that are never shown, whatever a variable says.
const SECRET_FOLDERS: [&str; 8] = [
    ".ssh",
    ".gnupg",
    ".aws",
    ".azure",
    ".kube",
    ".docker",
    ".codex",
    ".password-store",
];

/// A protected name of a writable root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Protected {
    Present(PathBuf),
    Missing(PathBuf),
}

/// A path that must not be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    File,
    Directory,
}

/// Sockets of the host that have a name in the file system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct HostSockets {
    pub(crate) located: Vec<PathBuf>,
    pub(crate) unlocated: usize,
}

/// The facts around one command.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    pub(crate) user: u32,
    pub(crate) protected: Vec<Protected>,
    pub(crate) covered: Vec<(PathBuf, Kind)>,
    pub(crate) sockets: HostSockets,
    /// Started as root: folders that get a private one in their place, and what of them stays readable.
    pub(crate) veils: Vec<PathBuf>,
    pub(crate) shown: Vec<PathBuf>,
    pub(crate) home: Option<PathBuf>,
    /// Of `/run`, `/var/run`, `/var/tmp`, those that are directories of their own.
    pub(crate) standing: Vec<PathBuf>,
    /// Devices that read the machine's disks or memory past every path.
    pub(crate) raw_devices: Vec<PathBuf>,
}

impl Surroundings {
    pub(crate) fn started_as_root(&self) -> bool {
        self.user == 0
    }

    /// Looks everything up.
    pub(crate) fn observe(policy: &SandboxPolicy, command: &Command) -> Result<Self, PlanError> {
        let user = rustix::process::geteuid().as_raw();
        let mut surroundings = Self {
            user,
            protected: protected_paths(policy.roots())?,
            covered: policy
                .hidden()
                .iter()
                .chain(policy.denied_reads())
                .filter_map(|path| kind_of(path))
                .collect(),
            sockets: host_sockets(),
            veils: Vec::new(),
            shown: Vec::new(),
            home: None,
            standing: ["/run", "/var/run", "/var/tmp"]
                .iter()
                .filter_map(standing)
                .collect(),
            raw_devices: Vec::new(),
        };
        let mut readable = policy.readable().to_vec();
        readable.push(command.directory.path().to_path_buf());
        if policy.network() == Network::Full {
            // Often a link into /run; without it no name is resolved.
            readable.extend(Path::new("/etc/resolv.conf").canonicalize().ok());
        }
        if surroundings.started_as_root() {
            surroundings.veil(policy, command, readable);
        } else {
            readable.retain(|path| EMPTIED.iter().any(|folder| path.starts_with(folder)));
            surroundings.show(policy, readable);
        }
        Ok(surroundings)
    }

    /// The same with what only an escalated plan asks for.
    pub(crate) fn with_raw_devices(mut self) -> Self {
        let entries = fs::read_dir("/dev").into_iter().flatten().flatten();
        let raw = entries.filter(|entry| {
            let block = entry.file_type().is_ok_and(|kind| kind.is_block_device());
            block
                || ["mem", "kmem", "port"]
                    .iter()
                    .any(|name| entry.file_name() == *name)
        });
        self.raw_devices = raw.map(|entry| entry.path()).collect();
        self
    }

    /// Started as root: what another user could not pass or read is veiled, and what the command needs of it shown.
    fn veil(&mut self, policy: &SandboxPolicy, command: &Command, readable: Vec<PathBuf>) {
        let home = command
            .variable("HOME")
            .map(PathBuf::from)
            .filter(|home| home.is_absolute());
        let home = home
            .and_then(|home| home.canonicalize().ok())
            .filter(|home| {
                home != Path::new("/")
                    && home.is_dir()
                    && !policy.roots().iter().any(|root| home.starts_with(root))
            });
        let mut homes = homes_of_this_user().to_vec();
        homes.extend(home.clone());
        let tools = tool_candidates(command, &homes);
        let needed = policy.roots().iter().chain(&readable).chain(&tools);
        let mut closed = Closed::default();
        let mut veils: Vec<PathBuf> = needed.filter_map(|path| closed.ancestor_of(path)).collect();
        veils.extend(home.clone());
        veils.sort();
        veils.dedup();
        let outer = veils.clone();
        veils.retain(|veil| {
            !outer
                .iter()
                .any(|other| veil != other && veil.starts_with(other))
        });
        let mut shown: Vec<PathBuf> = tools
            .iter()
            .filter_map(|tool| shown_folder(tool, &veils))
            .collect();
        shown.extend(readable);
        self.home = home;
        self.veils = veils;
        self.show(policy, shown);
    }

    /// Keeps of `paths` what has to be shown: outside the roots, the outermost of each tree, and nothing that would
    /// bring back what is emptied or veiled.
    fn show(&mut self, policy: &SandboxPolicy, mut paths: Vec<PathBuf>) {
        let in_a_root = |path: &Path| policy.roots().iter().any(|root| path.starts_with(root));
        let brings_back = |path: &Path| {
            let emptied = EMPTIED.iter().map(Path::new);
            emptied
                .chain(self.veils.iter().map(PathBuf::as_path))
                .any(|folder| folder.starts_with(path))
        };
        paths.retain(|path| !in_a_root(path) && !brings_back(path));
        paths.sort();
        paths.dedup();
        let every = paths.clone();
        paths.retain(|path| {
            !every
                .iter()
                .any(|other| path != other && path.starts_with(other))
        });
        self.shown = paths;
    }
}

/// Folders of tools that may lie where another user cannot look.
fn tool_candidates(command: &Command, homes: &[PathBuf]) -> Vec<PathBuf> {
    let path = command.variable("PATH").unwrap_or_default();
    let mut candidates: Vec<PathBuf> = std::env::split_paths(path).collect();
    candidates.extend(command.program.path().parent().map(Path::to_path_buf));
    candidates.extend(
        TOOL_VARIABLES
            .iter()
            .filter_map(|name| command.variable(name))
            .map(PathBuf::from),
    );
    candidates.extend(
        homes
            .iter()
            .flat_map(|home| TOOL_FOLDERS.iter().map(|name| home.join(name))),
    );
    candidates.retain(|path| path.is_absolute());
    candidates.sort();
    candidates.dedup();
    candidates
        .iter()
        .filter_map(|path| path.canonicalize().ok())
        .collect()
}

/// Which directories another user may not pass, each looked at once.
#[derive(Debug, Default)]
struct Closed<'a>(BTreeMap<&'a Path, bool>);

impl<'a> Closed<'a> {
    /// The outermost such directory on the way to `path`.
    fn ancestor_of(&mut self, path: &'a Path) -> Option<PathBuf> {
        let mut way: Vec<_> = path.ancestors().skip(1).collect();
        way.reverse();
        way.into_iter()
            .find(|directory| {
                let look = || fs::metadata(directory).is_ok_and(|found| found.mode() & 0o001 == 0);
                *self.0.entry(directory).or_insert_with(look)
            })
            .map(Path::to_path_buf)
    }
}

/// Which folder to show so that the tool at `path` works, where a veil covers it.
fn shown_folder(path: &Path, veils: &[PathBuf]) -> Option<PathBuf> {
    let veil = veils.iter().find(|veil| path.starts_with(veil))?;
    let below = path.strip_prefix(veil).ok()?;
    let first = below.components().next()?.as_os_str().to_str()?;
    if SECRET_FOLDERS.contains(&first) {
        return None;
    }
    let whole = first.starts_with('.') && !SHARED_FOLDERS.contains(&first);
    Some(if whole {
        veil.join(first)
    } else {
        path.to_path_buf()
    })
}

fn kind_of(path: &Path) -> Option<(PathBuf, Kind)> {
    let found = path.symlink_metadata().ok()?;
    let kind = if found.is_dir() {
        Kind::Directory
    } else {
        Kind::File
    };
    Some((path.to_path_buf(), kind))
}

fn standing(path: &&str) -> Option<PathBuf> {
    let path = Path::new(path);
    path.symlink_metadata()
        .is_ok_and(|found| found.is_dir())
        .then(|| path.to_path_buf())
}

/// The protected names of every root, and what a `.git` pointer file leads to inside a root.
fn protected_paths(roots: &[PathBuf]) -> Result<Vec<Protected>, PlanError> {
    let mut protected = Vec::new();
    for root in roots {
        for name in PROTECTED_NAMES {
            let path = root.join(name);
            match path.symlink_metadata() {
                Ok(found) if found.is_symlink() => return Err(PlanError::ProtectedSymlink(path)),
                // Made by a run that is still going on or was cut off: held like one of this run's own.
                Ok(found) if found.is_dir() && found.mode() & 0o7777 == keeper::MARK => {
                    protected.push(Protected::Missing(path));
                }
                Ok(found) => {
                    if found.is_file() && name == ".git" {
                        protected.extend(pointed_at(&path, roots)?);
                    }
                    protected.push(Protected::Present(path));
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    protected.push(Protected::Missing(path));
                }
                Err(source) => return Err(PlanError::Unreadable { path, source }),
            }
        }
    }
    Ok(protected)
}

/// The git directory behind the pointer file `pointer` and the common one behind that, where a root holds them.
fn pointed_at(pointer: &Path, roots: &[PathBuf]) -> Result<Vec<Protected>, PlanError> {
    let unreadable = |path: &Path| {
        let path = path.to_path_buf();
        move |source| PlanError::Unreadable { path, source }
    };
    let base = pointer.parent().unwrap_or(pointer);
    let text = fs::read_to_string(pointer).map_err(unreadable(pointer))?;
    let Some(target) = text
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("gitdir:"))
    else {
        return Ok(Vec::new());
    };
    let target = base.join(target.trim());
    let inside = |path: &Path| roots.iter().any(|root| path.starts_with(root));
    let Ok(directory) = target.canonicalize() else {
        return if inside(&target) {
            Err(PlanError::DanglingGitDirectory(target))
        } else {
            Ok(Vec::new())
        };
    };
    let mut found = vec![directory.clone()];
    if let Ok(common) = fs::read_to_string(directory.join("commondir")) {
        found.extend(directory.join(common.trim()).canonicalize().ok());
    }
    found.retain(|path| inside(path) && !roots.contains(path));
    Ok(found.into_iter().map(Protected::Present).collect())
}

/// Folders that every confined command finds empty, so that no socket in them can be reached.
const EMPTIED: [&str; 6] = [
    "/run/",
    "/var/run/",
    "/tmp/",
    "/var/tmp/",
    "/dev/",
    "/proc/",
];

/// The host's listening places with a path, by the kernel's own list (`unix(7)`, `/proc/net/unix`).
fn host_sockets() -> HostSockets {
    let mut sockets = HostSockets::default();
    let Ok(list) = fs::read_to_string("/proc/net/unix") else {
        return HostSockets {
            located: Vec::new(),
            unlocated: 1,
        };
    };
    for line in list.lines().skip(1) {
        // Seven columns, then the name, which may itself hold spaces.
        let Some(at) = line
            .find([' ', '\t'])
            .and_then(|_| line.match_indices('/').next())
        else {
            continue;
        };
        let Some(name) = line.get(at.0..) else {
            continue;
        };
        let before = line.get(..at.0).unwrap_or_default();
        if before.contains('@') {
            continue;
        }
        let relative = before.split_whitespace().count() > 7;
        if relative || name.starts_with("/proc/") {
            sockets.unlocated += 1;
        } else if !EMPTIED.iter().any(|folder| name.starts_with(folder)) {
            let path = PathBuf::from(name);
            if path
                .symlink_metadata()
                .is_ok_and(|found| found.file_type().is_socket())
            {
                sockets.located.push(path);
            }
        }
    }
    sockets.located.sort();
    sockets.located.dedup();
    sockets
}
