//! The walls put to the test: this program starts itself inside, tries what must not come off, and looks from outside
//! whether anything did.
//!
//! Invariant: an attempt counts as refused only where both sides say so. All of it happens in a folder made for it.

use std::fs;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::mount::{MountFlags, mount};
use sandbox::{
    Command, Confinement, Ending, Plan, Program, Sandbox, SandboxError, SandboxPolicy,
    WorkingDirectory,
};
use serde::Serialize;

use crate::cli;
use crate::config::Environment;
use crate::failure::Failure;

/// How long a connection may take to come about, and the same for it to be refused.
const CONNECT: Duration = Duration::from_secs(2);

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Attempt {
    /// What.
    pub(super) what: &'static str,
    /// Whether the walls held.
    pub(super) held: bool,
}

/// What came of it.
pub(super) enum Tested {
    /// A command ran inside and tried.
    Tried {
        attempts: Vec<Attempt>,
        confinement: Confinement,
    },
    /// No command starts on this host.
    NotStarted(SandboxError),
}

/// The bits of the inner exit status, by what came off that must not.
const WRITE: u8 = 1;
const READ: u8 = 2;
const CONNECTED: u8 = 4;
const MOUNTED: u8 = 8;

/// A folder of our own, gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn make() -> std::io::Result<Self> {
        let path = std::env::temp_dir().canonicalize()?;
        let folder = Self(path.join(format!("auto-review-doctor-{}", uuid::Uuid::new_v4())));
        for name in ["workspace", "outside"] {
            fs::create_dir_all(folder.0.join(name))?;
        }
        fs::write(folder.secret(), "a secret")?;
        Ok(folder)
    }

    fn workspace(&self) -> PathBuf {
        self.0.join("workspace")
    }

    fn secret(&self) -> PathBuf {
        self.0.join("workspace/secret")
    }

    fn outside(&self) -> PathBuf {
        self.0.join("outside/written")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed lies among what is temporary.
        fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

/// Starts this program inside the walls and looks what it could do.
///
/// # Errors
/// The test could not be set up; that says nothing of the walls.
pub(super) fn self_test(environment: &Environment) -> Result<Tested, Failure> {
    let folder = Folder::make()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let policy = SandboxPolicy::workspace_write(folder.workspace())
        .deny_read(folder.secret())
        .readable(std::env::current_exe()?)
        .build()?;
    let words = [
        "agent-runner".into(),
        "try-from-inside".into(),
        folder.outside().into_os_string(),
        folder.secret().into_os_string(),
        listener.local_addr()?.to_string().into(),
    ];
    let program = Program::open(std::env::current_exe()?)?;
    let home = environment.home.clone().into_os_string();
    let command = Command::new(words, program, WorkingDirectory::open(folder.workspace())?)?
        .with_environment([("HOME", home)])?;
    let plan = Plan::confined(&policy, &command)?;
    let run = match Sandbox::start(&plan, command) {
        Ok(running) => running.wait()?,
        Err(error) => return Ok(Tested::NotStarted(error)),
    };
    let Ending::Exited(came_off) = run.ending else {
        return Err(Failure::because("the self-test did not come to its end"));
    };
    if came_off > WRITE | READ | CONNECTED | MOUNTED {
        return Err(Failure::because("the self-test could not try anything"));
    }
    let attempt = |what, bit, unseen: bool| Attempt {
        what,
        held: came_off & bit == 0 && unseen,
    };
    Ok(Tested::Tried {
        attempts: vec![
            attempt(
                "a write outside the workspace",
                WRITE,
                !folder.outside().exists(),
            ),
            attempt("a read of a denied file", READ, true),
            attempt(
                "a connection to the host's loopback",
                CONNECTED,
                listener.accept().is_err(),
            ),
            attempt("a mount", MOUNTED, true),
        ],
        confinement: run.confinement,
    })
}

/// What is tried from inside: the answer says what came off.
pub(crate) fn from_inside(args: &cli::TryFromInside) -> u8 {
    let bit = |came_off: bool, bit| if came_off { bit } else { 0 };
    bit(writes(&args.write), WRITE)
        | bit(reads(&args.read), READ)
        | bit(connects(args.connect), CONNECTED)
        | bit(mounts(), MOUNTED)
}

fn writes(path: &Path) -> bool {
    fs::write(path, "written").is_ok()
}

fn reads(path: &Path) -> bool {
    let mut text = String::new();
    fs::File::open(path)
        .is_ok_and(|mut file| file.read_to_string(&mut text).is_ok_and(|read| read > 0))
}

fn connects(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, CONNECT).is_ok()
}

fn mounts() -> bool {
    mount("none", ".", "tmpfs", MountFlags::empty(), None).is_ok()
}
