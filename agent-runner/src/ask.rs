//! The person at the terminal: shown the action whole, asked y/N.
//!
//! Invariant: only a `y` typed after the question was shown is a yes; what was typed ahead is thrown away, and no
//! terminal means no answer.

mod host;

use std::fs::{File, OpenOptions};
use std::io::{self, PipeReader, Read as _, Write as _};
use std::time::{Duration, Instant};

use protocol::{
    Action, CommandAction, FileChange, PermissionRequest, PermissionScope, PersonsAnswer,
    Printable, SandboxPermissions,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{QueueSelector, tcflush};

pub(crate) use host::{Holds, HostAnswer, HostQuestion};

/// The person's terminal.
#[derive(Debug)]
pub(crate) struct PersonsTerminal(File);

impl PersonsTerminal {
    /// Opens the controlling terminal.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn open() -> io::Result<Self> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/tty")
            .map(Self)
    }

    /// Leaves the line of a question that a signal ended.
    pub(crate) fn leave_the_question() {
        // A terminal that went away needs no new line.
        Self::open()
            .and_then(|mut terminal| terminal.0.write_all(b"\n"))
            .unwrap_or_default();
    }

    /// Asks, and says what came `before`, where it ran already. `None`: nobody answered within `limit`.
    ///
    /// # Errors
    /// The terminal went away.
    pub(crate) fn ask(
        &mut self,
        action: &Action,
        before: Option<&str>,
        limit: Duration,
    ) -> io::Result<Option<PersonsAnswer>> {
        self.show(&question(action, before, limit))?;
        let deadline = Instant::now() + limit;
        let Some(line) = self.read_line(deadline, None)? else {
            self.0.write_all(b"\nno answer\n")?;
            return Ok(None);
        };
        let yes = matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes");
        Ok(Some(if yes {
            PersonsAnswer::Allow
        } else {
            PersonsAnswer::Deny
        }))
    }

    /// Shows a question. What was typed before its last line stood there answers nothing; what comes behind it counts.
    fn show(&mut self, question: &str) -> io::Result<()> {
        let last = question.rfind('\n').map_or(0, |at| at + 1);
        let (before, last) = question.split_at(last);
        self.0.write_all(before.as_bytes())?;
        tcflush(&self.0, QueueSelector::IFlush)?;
        self.0.write_all(last.as_bytes())
    }

    /// A line; `None` where nothing came by `deadline`, or whoever holds the other end of `waiting` is gone.
    fn read_line(
        &mut self,
        deadline: Instant,
        waiting: Option<&PipeReader>,
    ) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).map_err(io::Error::other)?;
            let mut watched = vec![PollFd::new(&self.0, PollFlags::IN)];
            watched.extend(waiting.map(|pipe| PollFd::new(pipe, PollFlags::IN)));
            match poll(&mut watched, Some(&left)) {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            // Nothing is ever written to the pipe: that it can be read means that it is closed.
            if watched
                .get(1)
                .is_some_and(|pipe| !pipe.revents().is_empty())
            {
                return Ok(None);
            }
            drop(watched);
            let mut byte = [0];
            // End of file is no answer: nobody is there any more.
            if self.0.read(&mut byte)? == 0 {
                return Ok(None);
            }
            if byte == *b"\n" || byte == *b"\r" || line.len() > 64 {
                return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
            }
            line.extend(byte);
        }
    }
}

fn question(action: &Action, before: Option<&str>, limit: Duration) -> String {
    let mut text = String::new();
    match action {
        Action::Command(command) => describe(&mut text, command),
        Action::FileChange(change) => describe_patch(&mut text, change),
        Action::PermissionRequest(request) => describe_permissions(&mut text, request),
        Action::NetworkAccess(_) | Action::ToolCall(_) => {
            text.push_str("agent-runner: the agent asks for leave\n");
        }
    }
    if let Some(before) = before {
        text.push_str(&format!("  before: {}\n", Printable(before)));
    }
    let leave = match action {
        Action::PermissionRequest(_) => "Give it",
        Action::Command(_)
        | Action::FileChange(_)
        | Action::NetworkAccess(_)
        | Action::ToolCall(_) => "Allow it once",
    };
    text.push_str(&format!("  {leave}? [y/N] (within {} s) ", limit.as_secs()));
    text
}

/// Every path: what is not shown is not allowed.
fn describe_permissions(text: &mut String, request: &PermissionRequest) {
    let scope = match request.scope {
        PermissionScope::Turn => "all its commands until this turn ends",
        PermissionScope::Session => "all its commands until this session ends",
    };
    text.push_str(&format!("\nThe agent wants leave for {scope}:\n"));
    let wanted = &request.permissions;
    for (verb, paths) in [("read", &wanted.read), ("WRITE", &wanted.write)] {
        for path in paths {
            text.push_str(&format!("  to {verb} {}\n", Printable(path.as_str())));
        }
    }
    if wanted.network {
        text.push_str("  to reach the NETWORK\n");
    }
    if let Some(reason) = &request.reason {
        text.push_str(&format!("  it says: {}\n", Printable(reason)));
    }
}

/// The whole patch: what is not shown is not allowed.
fn describe_patch(text: &mut String, change: &FileChange) {
    text.push_str("\nThe agent wants to change files OUTSIDE the workspace:\n");
    for file in &change.files {
        text.push_str(&format!("  {}\n", Printable(file.as_str())));
    }
    for line in change.patch.lines() {
        text.push_str(&format!("  | {}\n", Printable(line)));
    }
}

fn describe(text: &mut String, command: &CommandAction) {
    let wants = match command.sandbox_permissions {
        SandboxPermissions::UseDefault => "to run this inside the walls",
        SandboxPermissions::WithAdditionalPermissions => "to run this with more permissions",
        SandboxPermissions::RequireEscalated => "to run this OUTSIDE the walls, as you",
        SandboxPermissions::RequireUnconfined => "to run this with NO WALLS AT ALL, as you",
    };
    text.push_str(&format!(
        "\nThe agent wants {wants}:\n  {}\n",
        protocol::shown_command(&command.command)
    ));
    text.push_str(&format!("  in {}\n", Printable(command.cwd.as_str())));
    if let Some(program) = &command.program {
        text.push_str(&format!("  it runs {}\n", Printable(program.path.as_str())));
    }
    for script in &command.scripts {
        text.push_str(&format!(
            "  it reads the script {}\n",
            Printable(script.path.as_str())
        ));
    }
    if let Some(stdin) = &command.stdin {
        text.push_str(&format!(
            "  it gets {} bytes of input that are not shown here\n",
            stdin.bytes
        ));
    }
    if let Some(reason) = &command.justification {
        text.push_str(&format!("  it says: {}\n", Printable(reason)));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use protocol::{
        AbsolutePath, Action, AdditionalPermissions, PermissionRequest, PermissionScope,
    };

    use super::question;

    #[test]
    fn a_wish_for_permissions_is_shown_whole_and_for_how_long() {
        let path = |text: &str| AbsolutePath::try_from(text.to_owned()).expect("a path");
        let action = Action::PermissionRequest(PermissionRequest {
            reason: Some("the fix needs both\n  to read /".to_owned()),
            permissions: AdditionalPermissions {
                read: vec![path("/srv/docs")],
                write: vec![path("/home/u/code/lib\u{1b}[2J")],
                network: true,
            },
            scope: PermissionScope::Session,
        });
        let shown = question(&action, None, Duration::from_secs(80));
        insta::assert_snapshot!(shown, @r"

        The agent wants leave for all its commands until this session ends:
          to read /srv/docs
          to WRITE /home/u/code/lib\x1b[2J
          to reach the NETWORK
          it says: the fix needs both\n  to read /
          Give it? [y/N] (within 80 s)
        ");
    }
}
