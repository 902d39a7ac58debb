//! What is to be run: [`Command`] and the things it holds by descriptor, so that review and run are the same thing.
//!
//! Paths are looked up once, here. What is looked up again later (inside the namespaces, where a descriptor of the host
//! would be a way out) is compared with what is held. The environment is a list: nothing is inherited.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Where something of the file system is, and which thing it was when it was looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

impl Identity {
    fn of(file: &File) -> std::io::Result<Self> {
        let found = file.metadata()?;
        Ok(Self {
            device: found.dev(),
            inode: found.ino(),
        })
    }
}

/// The longest script that is taken as a copy, in bytes.
const LONGEST_SCRIPT: u64 = 256 << 20;

/// Why a command cannot be put together.
#[derive(Debug, Error)]
pub enum InvalidCommand {
    /// No word at all.
    #[error("the command is empty")]
    Empty,
    /// A NUL byte, which no system call can carry.
    #[error("a word or variable of the command holds a NUL byte")]
    Nul,
    /// A variable without a name, or a name with `=`.
    #[error("`{0}` is not the name of a variable")]
    VariableName(String),
    /// A path that depends on where one stands.
    #[error("`{}` is not an absolute path", .0.display())]
    Relative(PathBuf),
    /// The path cannot be opened.
    #[error("cannot open `{}`", .path.display())]
    Unopened {
        /// The path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A script that is too long to be held as a copy.
    #[error("the script `{}` is longer than {} MiB", .0.display(), LONGEST_SCRIPT >> 20)]
    TooLong(PathBuf),
    /// Not something that can be executed or worked in.
    #[error("`{}` is not {wanted}", .path.display())]
    WrongKind {
        /// The path.
        path: PathBuf,
        /// What it should have been.
        wanted: &'static str,
    },
}

fn open(path: &Path, flags: rustix::fs::OFlags) -> Result<(PathBuf, File), InvalidCommand> {
    if !path.is_absolute() {
        return Err(InvalidCommand::Relative(path.to_path_buf()));
    }
    let unopened = |source| InvalidCommand::Unopened {
        path: path.to_path_buf(),
        source,
    };
    let canonical = path.canonicalize().map_err(unopened)?;
    let mut options = std::fs::OpenOptions::new();
    let flags = flags | rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    options.read(true).custom_flags(flags.bits().cast_signed());
    let file = options.open(&canonical).map_err(unopened)?;
    Ok((canonical, file))
}

/// The directory a command works in, held since it was looked up.
#[derive(Debug)]
pub struct WorkingDirectory {
    path: PathBuf,
    identity: Identity,
    _held: File,
}

impl WorkingDirectory {
    /// Looks `path` up and holds what is there.
    ///
    /// # Errors
    /// The path is relative, missing, not a directory, or may not be entered.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, InvalidCommand> {
        let (path, held) = open(path.as_ref(), rustix::fs::OFlags::PATH)?;
        let unopened = |source| InvalidCommand::Unopened {
            path: path.clone(),
            source,
        };
        if !held.metadata().map_err(unopened)?.is_dir() {
            return Err(InvalidCommand::WrongKind {
                path,
                wanted: "a directory",
            });
        }
        let identity = Identity::of(&held).map_err(unopened)?;
        Ok(Self {
            path,
            identity,
            _held: held,
        })
    }

    /// The canonical path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }
}

/// The program a command executes, held since it was looked up and read by whoever reviews it.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    file: File,
    identity: Identity,
    script: Option<Vec<u8>>,
}

impl Program {
    /// Looks `path` up, holds what is there, and takes a copy of it where it is a script (`#!`): the copy is what runs.
    ///
    /// # Errors
    /// The path is relative, missing or not a regular file that somebody may execute, or a script of more than 256 MiB.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, InvalidCommand> {
        let (path, mut file, readable) = match open(path.as_ref(), rustix::fs::OFlags::empty()) {
            Ok((path, file)) => (path, file, Readable::Yes),
            // Some set-user-id programs may be executed and not read; they are no scripts.
            Err(InvalidCommand::Unopened { source, .. })
                if source.kind() == std::io::ErrorKind::PermissionDenied =>
            {
                let (path, file) = open(path.as_ref(), rustix::fs::OFlags::PATH)?;
                (path, file, Readable::No)
            }
            Err(error) => return Err(error),
        };
        let unopened = |source| InvalidCommand::Unopened {
            path: path.clone(),
            source,
        };
        let found = file.metadata().map_err(unopened)?;
        if !found.is_file() || found.mode() & 0o111 == 0 {
            return Err(InvalidCommand::WrongKind {
                path,
                wanted: "an executable file",
            });
        }
        let identity = Identity::of(&file).map_err(unopened)?;
        let script = match readable {
            Readable::Yes => read_script(&mut file).map_err(unopened)?,
            Readable::No => None,
        };
        if script
            .as_ref()
            .is_some_and(|text| text.len() as u64 > LONGEST_SCRIPT)
        {
            return Err(InvalidCommand::TooLong(path));
        }
        Ok(Self {
            path,
            file,
            identity,
            script,
        })
    }

    /// The canonical path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is held, for whoever takes its digest. Reading moves the one offset.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The text that will run, where the program is a script.
    #[must_use]
    pub fn script(&self) -> Option<&[u8]> {
        self.script.as_deref()
    }

    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }
}

#[derive(Clone, Copy)]
enum Readable {
    Yes,
    No,
}

/// The text of a script, or a little more than the longest.
fn read_script(file: &mut File) -> std::io::Result<Option<Vec<u8>>> {
    let mut mark = [0; 2];
    let mut script = None;
    if file.read(&mut mark)? == 2 && mark == *b"#!" {
        file.seek(SeekFrom::Start(0))?;
        let mut text = Vec::new();
        let most = LONGEST_SCRIPT.saturating_add(1);
        (&mut *file).take(most).read_to_end(&mut text)?;
        script = Some(text);
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(script)
}

/// A file whose content was reviewed: a copy of it stands over its path while the command runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    path: PathBuf,
    content: Vec<u8>,
}

impl Sealed {
    /// `content` is what a reader of `path` will see.
    ///
    /// # Errors
    /// The path is relative or missing.
    pub fn new(path: impl AsRef<Path>, content: Vec<u8>) -> Result<Self, InvalidCommand> {
        let (path, _) = open(path.as_ref(), rustix::fs::OFlags::PATH)?;
        Ok(Self { path, content })
    }

    /// The canonical path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What stands there.
    #[must_use]
    pub fn content(&self) -> &[u8] {
        &self.content
    }
}

/// What the command reads from its standard input.
#[derive(Debug, Default)]
pub enum Stdin {
    /// What the caller's standard input gives.
    Inherit,
    /// Nothing.
    #[default]
    Null,
    /// These bytes.
    Bytes(Vec<u8>),
}

/// Where the command's standard output and error go, where it has no terminal of its own.
#[derive(Debug, Default)]
pub enum Output {
    /// Where the caller's go.
    #[default]
    Inherit,
    /// Standard output to this descriptor, standard error nowhere: for a caller that reads what its own question answers.
    Only(OwnedFd),
    /// Each to this descriptor, or where the caller's goes: for a caller that passes it on.
    To {
        /// For standard output.
        output: Option<OwnedFd>,
        /// For standard error.
        error: Option<OwnedFd>,
    },
}

/// The terminal the command controls.
#[derive(Debug, Default)]
pub enum Terminal {
    /// None: a new session. Standard output and error are the caller's, untouched.
    #[default]
    None,
    /// The slave side of a pseudo-terminal of the caller's: standard input, output and error, and `/dev/tty`.
    Pty(OwnedFd),
}

/// One command, complete: its words, its environment, where it works, what it executes, what it reads.
#[derive(Debug)]
pub struct Command {
    pub(crate) words: Vec<OsString>,
    pub(crate) environment: Vec<(OsString, OsString)>,
    pub(crate) directory: WorkingDirectory,
    pub(crate) program: Program,
    pub(crate) sealed: Vec<Sealed>,
    pub(crate) stdin: Stdin,
    pub(crate) terminal: Terminal,
    pub(crate) output: Output,
}

impl Command {
    /// The words as the program sees them (the first is the name it goes by), run as `program` in `directory`.
    ///
    /// # Errors
    /// No words, or a NUL byte in one.
    pub fn new<W: Into<OsString>>(
        words: impl IntoIterator<Item = W>,
        program: Program,
        directory: WorkingDirectory,
    ) -> Result<Self, InvalidCommand> {
        let words: Vec<OsString> = words.into_iter().map(Into::into).collect();
        if words.is_empty() {
            return Err(InvalidCommand::Empty);
        }
        if words.iter().any(|word| has_nul(word)) {
            return Err(InvalidCommand::Nul);
        }
        Ok(Self {
            words,
            environment: Vec::new(),
            directory,
            program,
            sealed: Vec::new(),
            stdin: Stdin::default(),
            terminal: Terminal::default(),
            output: Output::default(),
        })
    }

    /// The whole environment. Nothing else is passed.
    ///
    /// # Errors
    /// A name that is empty or holds `=`, or a NUL byte anywhere.
    pub fn with_environment<N: Into<OsString>, V: Into<OsString>>(
        mut self,
        environment: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, InvalidCommand> {
        let pairs = environment
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()));
        self.environment = pairs.collect();
        for (name, value) in &self.environment {
            if name.is_empty() || name.as_bytes().contains(&b'=') {
                return Err(InvalidCommand::VariableName(
                    name.to_string_lossy().into_owned(),
                ));
            }
            if has_nul(name) || has_nul(value) {
                return Err(InvalidCommand::Nul);
            }
        }
        Ok(self)
    }

    /// What the command reads from its standard input; `/dev/null` unless said.
    #[must_use]
    pub fn with_stdin(mut self, stdin: Stdin) -> Self {
        self.stdin = stdin;
        self
    }

    /// The terminal the command controls; none unless said.
    #[must_use]
    pub fn with_terminal(mut self, terminal: Terminal) -> Self {
        self.terminal = terminal;
        self
    }

    /// Where its output goes; where the caller's goes unless said.
    #[must_use]
    pub fn with_output(mut self, output: Output) -> Self {
        self.output = output;
        self
    }

    /// One more file of which a copy stands over its path. The program's own copy is what is executed, whatever has become
    /// of the file since.
    #[must_use]
    pub fn with_sealed(mut self, sealed: Sealed) -> Self {
        self.sealed.push(sealed);
        self
    }

    /// The words.
    #[must_use]
    pub fn words(&self) -> &[OsString] {
        &self.words
    }

    /// Where it works.
    #[must_use]
    pub fn directory(&self) -> &WorkingDirectory {
        &self.directory
    }

    /// What it executes.
    #[must_use]
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The copy that runs in the program's place: the sealed one, or the script's own.
    pub(crate) fn program_copy(&self) -> Option<&[u8]> {
        let path = self.program.path();
        self.copies()
            .find(|(known, _)| *known == path)
            .map(|(_, content)| content)
    }

    /// Every file of which a copy stands over its path: the sealed ones, and the program where it is a script.
    pub(crate) fn copies(&self) -> impl Iterator<Item = (&Path, &[u8])> {
        let sealed = self
            .sealed
            .iter()
            .map(|sealed| (sealed.path(), sealed.content()));
        let own = self
            .program
            .script()
            .map(|script| (self.program.path(), script));
        let own = own.filter(|(path, _)| !self.sealed.iter().any(|sealed| sealed.path() == *path));
        sealed.chain(own)
    }

    /// The value of a variable it gets.
    pub(crate) fn variable(&self, name: &str) -> Option<&OsStr> {
        let mut pairs = self.environment.iter();
        pairs
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_os_str())
    }
}

fn has_nul(text: &OsStr) -> bool {
    text.as_bytes().contains(&0)
}
