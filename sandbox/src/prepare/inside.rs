//! What is left of a start where another program makes the namespaces: [`inside`], the same steps as everywhere.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt as _;

use super::step::Step;
use super::steps::Steps;
use super::{filters, how_to_execute, own_and_words, place_of_work, program, variables, walls};
use crate::command::{Command, Output, Stdin, Terminal};
use crate::error::SandboxError;
use crate::image;
use crate::plan::Plan;

/// The steps behind the mounts, and what the init gets.
#[derive(Debug)]
pub(crate) struct Inside {
    pub(crate) steps: Vec<Step>,
    /// The init's own argument, then the command's words.
    pub(crate) arguments: Vec<Vec<u8>>,
    pub(crate) environment: Vec<Vec<u8>>,
}

/// What is to be done for `command` when the trees of `plan` stand. `watcher` is where the listener of its filters goes out,
/// where somebody watches.
pub(crate) fn inside(
    plan: &Plan,
    command: &mut Command,
    watcher: Option<RawFd>,
) -> Result<Inside, SandboxError> {
    let mut steps = Steps::default();
    let by = how_to_execute(plan, command, None);
    walls(&mut steps, plan)?;
    place_of_work(&mut steps, command);
    program(&mut steps, command, by)?;
    filters(&mut steps, plan, watcher)?;
    let bytes = |texts: Vec<OsString>| texts.into_iter().map(OsString::into_vec).collect();
    Ok(Inside {
        steps: steps.list,
        arguments: bytes(own_and_words(command, by, plan)),
        environment: bytes(variables(std::mem::take(&mut command.environment))),
    })
}

/// The command's standard input, output and error.
pub(crate) fn streams(command: &mut Command) -> io::Result<[OwnedFd; 3]> {
    if let Terminal::Pty(terminal) = &command.terminal {
        let copy = || terminal.try_clone();
        return Ok([copy()?, copy()?, copy()?]);
    }
    let nowhere = || std::fs::OpenOptions::new().write(true).open("/dev/null");
    let stdin = match std::mem::take(&mut command.stdin) {
        Stdin::Inherit => match image::callers_input()? {
            Some(copy) => copy,
            None => io::stdin().as_fd().try_clone_to_owned()?,
        },
        Stdin::Null => std::fs::File::open("/dev/null")?.into(),
        Stdin::Bytes(bytes) => image::sealed("stdin", &bytes)?,
    };
    let (output, error) = match std::mem::take(&mut command.output) {
        Output::Inherit => (None, None),
        Output::Only(descriptor) => (Some(descriptor), Some(nowhere()?.into())),
        Output::To { output, error } => (output, error),
    };
    let output = output.map_or_else(|| io::stdout().as_fd().try_clone_to_owned(), Ok)?;
    let error = error.map_or_else(|| io::stderr().as_fd().try_clone_to_owned(), Ok)?;
    Ok([stdin, output, error])
}
