//! What to say of a step that failed: [`step_failed`], [`exec_failed`].

use std::io;
use std::path::PathBuf;

use super::step::{Act, Step, wall};
use crate::error::SandboxError;
use crate::probe;

/// Why a program was not executed.
pub(crate) fn exec_failed(program: PathBuf, errno: i32) -> SandboxError {
    let source = io::Error::from_raw_os_error(errno);
    match errno {
        libc::ENOENT | libc::ENOTDIR => SandboxError::NotFound { program, source },
        _ => SandboxError::NotExecutable { program, source },
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Program,
    Wall(crate::Wall),
    Other,
}

fn kind(act: &Act) -> Kind {
    if matches!(act, Act::OpenProgram { .. }) {
        return Kind::Program;
    }
    wall(act).map_or(Kind::Other, Kind::Wall)
}

/// Why `step` did not come off.
pub(crate) fn step_failed(step: &Step, errno: i32) -> SandboxError {
    let Step {
        what: step,
        object,
        act,
    } = step;
    let object = object.clone();
    let source = io::Error::from_raw_os_error(errno);
    match (kind(act), errno) {
        (_, libc::ESTALE) => SandboxError::Replaced(object),
        (Kind::Program, _) => exec_failed(object, errno),
        (Kind::Wall(wall), libc::EPERM | libc::EACCES | libc::ENOSYS | libc::EOPNOTSUPP) => {
            probe::no_wall(wall, step, &object, source)
        }
        _ => SandboxError::SetUp {
            step,
            object,
            source,
        },
    }
}
