//! What the disk and the host look like around one command, looked up once before its plan is made.
//!
//! Reads, never writes. Plans are made from these facts by pure functions; what changes between here and the start is
//! caught there (a descriptor compared, a mount that fails), never trusted.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use crate::command::Command;
use crate::door;
use crate::guarded;
use crate::plan::PlanError;
use crate::policy::{Access, Network, Reads, SandboxPolicy, homes_of_this_user};
use crate::resolved::{each_once, within};
use crate::sys;

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

mod sockets;

pub(crate) use sockets::HostSockets;
use sockets::{EMPTIED, host_sockets};

/// A protected name of a writable root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Protected {
    Present(PathBuf),
    Missing(PathBuf),
}

/// A path that must not be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    File,
    /// A socket of the host: gone by the time it is to be covered, there is nothing to reach.
    Socket,
    Directory,
}

/// The facts around one command.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    pub(crate) user: u32,
    /// The newest interface of this kernel's Landlock.
    pub(crate) landlock_abi: Option<u32>,
    pub(crate) protected: Vec<Protected>,
    pub(crate) covered: Vec<(PathBuf, Kind)>,
    /// Of the writable roots, those that are files.
    pub(crate) files: Vec<PathBuf>,
    /// What stands at the top of the disk, where only what is listed may be read.
    pub(crate) top: Vec<(PathBuf, Kind)>,
    /// What a person should know of the guarded paths.
    pub(crate) notes: Vec<String>,
    pub(crate) sockets: HostSockets,
    /// Started as root: folders that get a private one in their place, and what of them stays readable.
    pub(crate) veils: Vec<PathBuf>,
    pub(crate) shown: Vec<PathBuf>,
    pub(crate) home: Option<PathBuf>,
    /// Of `/run`, `/var/run`, `/var/tmp`, those that are directories of their own.
    pub(crate) standing: Vec<PathBuf>,
    /// The files that say how names are found, and what they say where the door answers.
    pub(crate) name_files: Vec<(PathBuf, String)>,
    /// Devices that read the machine's disks or memory past every path.
    pub(crate) raw_devices: Vec<PathBuf>,
}

/// The files by which names are found, those that are there. Without the first the C library asks this machine, which is the
/// door as well.
fn name_files(network: Network) -> Vec<(PathBuf, String)> {
    if network != Network::Door {
        return Vec::new();
    }
    let files = door::name_files().map(|(file, text)| (PathBuf::from(file), text));
    let there = |file: &Path| file.symlink_metadata().is_ok_and(|found| !found.is_dir());
    files.into_iter().filter(|(file, _)| there(file)).collect()
}

impl Surroundings {
    pub(crate) fn started_as_root(&self) -> bool {
        self.user == 0
    }

    /// Looks everything up.
    pub(crate) fn observe(policy: &SandboxPolicy, command: &Command) -> Result<Self, PlanError> {
        let user = rustix::process::geteuid().as_raw();
        let guarded = guarded::look(policy)?;
        let mut surroundings = Self {
            user,
            landlock_abi: sys::landlock_abi().ok(),
            protected: guarded.protected,
            covered: guarded.covered,
            files: policy
                .roots()
                .iter()
                .filter(|root| root.is_file())
                .cloned()
                .collect(),
            top: top_of_the_disk(policy.reads()),
            notes: guarded.notes,
            sockets: host_sockets(),
            veils: Vec::new(),
            shown: Vec::new(),
            home: None,
            standing: ["/run", "/var/run", "/var/tmp"]
                .iter()
                .filter_map(standing)
                .collect(),
            raw_devices: Vec::new(),
            name_files: name_files(policy.network()),
        };
        let mut readable = policy.readable().to_vec();
        readable.extend(policy.ruled().paths(Access::Read).cloned());
        if policy.reads() == Reads::Everything {
            readable.push(command.directory.path().to_path_buf());
        }
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
        let tools = match policy.reads() {
            Reads::Everything => tool_candidates(command, &homes),
            Reads::Listed => Vec::new(),
        };
        let needed = policy.roots().iter().chain(&readable).chain(&tools);
        let mut closed = Closed::default();
        let mut veils: Vec<PathBuf> = needed.filter_map(|path| closed.ancestor_of(path)).collect();
        veils.extend(home.clone());
        keep_outermost(&mut veils);
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
        let in_a_root = |path: &Path| policy.roots().iter().any(|root| within(path, root));
        let brings_back = |path: &Path| {
            let emptied = EMPTIED.iter().map(Path::new);
            emptied
                .chain(self.veils.iter().map(PathBuf::as_path))
                .any(|folder| within(folder, path))
        };
        paths.retain(|path| !in_a_root(path) && !brings_back(path));
        keep_outermost(&mut paths);
        self.shown = paths;
    }
}

/// Of resolved paths, those that lie in no other.
fn keep_outermost(paths: &mut Vec<PathBuf>) {
    each_once(paths);
    let every = paths.clone();
    let inner = |path: &PathBuf| {
        let mut others = every
            .iter()
            .filter(|other| other.as_os_str() != path.as_os_str());
        others.any(|other| within(path, other))
    };
    paths.retain(|path| !inner(path));
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
    each_once(&mut candidates);
    candidates
        .iter()
        .filter_map(|path| path.canonicalize().ok())
        .collect()
}

/// Which directories another user may not pass, each looked at once.
#[derive(Debug, Default)]
struct Closed<'a>(BTreeMap<&'a OsStr, bool>);

impl<'a> Closed<'a> {
    /// The outermost such directory on the way to `path`.
    fn ancestor_of(&mut self, path: &'a Path) -> Option<PathBuf> {
        let mut way: Vec<_> = path.ancestors().skip(1).collect();
        way.reverse();
        way.into_iter()
            .find(|directory| {
                let look = || fs::metadata(directory).is_ok_and(|found| found.mode() & 0o001 == 0);
                *self.0.entry(directory.as_os_str()).or_insert_with(look)
            })
            .map(Path::to_path_buf)
    }
}

/// Which folder to show so that the tool at `path` works, where a veil covers it.
fn shown_folder(path: &Path, veils: &[PathBuf]) -> Option<PathBuf> {
    let veil = veils.iter().find(|veil| within(path, veil))?;
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

pub(crate) fn kind_of(path: &Path) -> Option<(PathBuf, Kind)> {
    let found = path.symlink_metadata().ok()?;
    let kind = if found.is_dir() {
        Kind::Directory
    } else {
        Kind::File
    };
    Some((path.to_path_buf(), kind))
}

/// What stands at the top of the disk and is no link, where each has to be looked at.
fn top_of_the_disk(reads: Reads) -> Vec<(PathBuf, Kind)> {
    if reads == Reads::Everything {
        return Vec::new();
    }
    let entries = fs::read_dir("/").into_iter().flatten().flatten();
    let kinds = entries.filter_map(|entry| kind_of(&entry.path()));
    let mut top: Vec<_> = kinds.filter(|(path, _)| !path.is_symlink()).collect();
    top.sort();
    top
}

fn standing(path: &&str) -> Option<PathBuf> {
    let path = Path::new(path);
    path.symlink_metadata()
        .is_ok_and(|found| found.is_dir())
        .then(|| path.to_path_buf())
}
