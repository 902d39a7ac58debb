//! What is reviewed, held so that it is what runs (design D21): the program resolved once and kept open, scripts and
//! programs that a command could change kept as sealed bytes, and everything hashed.

mod interpreter;
mod scripts;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use exec_policy::Reading;
use protocol::{AbsolutePath, FileIdentity, Sha256Hex};
use rustix::fs::{Access, AtFlags};
use sandbox::{Program, Sealed};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// The largest script or changeable program that is kept as sealed bytes.
const MAX_SEALED: u64 = 256 * 1024 * 1024;

/// How many files are held before no interpreter is followed any more.
const MOST_SEALED: usize = 64;

/// The files behind a command as they were when it was reviewed.
#[derive(Debug)]
pub(crate) struct HeldFiles {
    /// The program's path and hash.
    pub(crate) program: FileIdentity,
    /// The scripts that interpreters will read, by path and hash.
    pub(crate) scripts: Vec<FileIdentity>,
    /// What runs from a copy, because a command could change the original.
    pub(crate) sealed: Vec<Sealed>,
}

/// Why a command cannot be held.
#[derive(Debug, Error)]
pub(crate) enum HoldError {
    /// No such program.
    #[error("`{0}` was not found")]
    NotFound(String),
    /// It is there and cannot be executed.
    #[error("`{path}` cannot be executed")]
    NotExecutable {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file behind the command cannot be read, so it cannot be shown to a reviewer.
    #[error("`{path}` cannot be read, so nobody can review what it would do")]
    Unreadable {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A script is named by a link that a command could turn.
    #[error(
        "`{0}` is reached by a symbolic link that commands can turn, so what is reviewed may not be what runs\nhint: name the file itself"
    )]
    Turnable(String),
    /// The script that an interpreter is to read is not there.
    #[error(
        "`{0}` is not there, so nobody can review what it would do\nhint: write it first, then ask again"
    )]
    Absent(String),
    /// A script's interpreter is a script, and so on.
    #[error("`{0}` leads from interpreter to interpreter, further than the kernel follows")]
    TooDeep(String),
    /// A file changed between review and run.
    #[error("`{0}` has changed since it was reviewed\nhint: nothing ran; ask again")]
    Changed(String),
}

/// Finds the program that `word` names, as `cwd` and the folders of `path` have it.
///
/// # Errors
/// Nothing of that name can be executed.
pub(crate) fn find_program<'a>(
    word: &OsStr,
    cwd: &Path,
    path: impl IntoIterator<Item = &'a PathBuf>,
) -> Result<Program, HoldError> {
    if word.is_empty() {
        return Err(HoldError::NotFound(String::new()));
    }
    if word.as_bytes().contains(&b'/') {
        return open_program(&cwd.join(word));
    }
    let mut refused = None;
    for folder in path {
        match open_program(&folder.join(word)) {
            Ok(program) => return Ok(program),
            Err(HoldError::NotFound(_)) => {}
            Err(other) => refused = refused.or(Some(other)),
        }
    }
    Err(refused.unwrap_or_else(|| HoldError::NotFound(shown(Path::new(word)))))
}

fn open_program(candidate: &Path) -> Result<Program, HoldError> {
    if !candidate.exists() {
        return Err(HoldError::NotFound(shown(candidate)));
    }
    let not_executable = |source| HoldError::NotExecutable {
        path: shown(candidate),
        source,
    };
    rustix::fs::accessat(
        rustix::fs::CWD,
        candidate,
        Access::EXEC_OK,
        AtFlags::EACCESS,
    )
    .map_err(|error| not_executable(io::Error::from(error)))?;
    Program::open(candidate).map_err(|error| not_executable(io::Error::other(error)))
}

impl HeldFiles {
    /// Hashes what a reviewer has to know, and seals what a command could change: scripts, and programs under
    /// `writable_roots`.
    ///
    /// # Errors
    /// A file cannot be read, or is named by a link that commands can turn.
    pub(crate) fn of(
        program: &Program,
        reading: &Reading,
        cwd: &Path,
        writable_roots: &[PathBuf],
    ) -> Result<Self, HoldError> {
        let path = program.path();
        let mut holding = Holding {
            cwd,
            writable_roots,
            scripts: Vec::new(),
            sealed: Vec::new(),
            followed: BTreeSet::new(),
        };
        let sha256 = match program.script() {
            Some(text) => hash(text),
            None if lies_in(path, writable_roots) => {
                let bytes = read_sealed(program.file()).map_err(unreadable(path))?;
                let sha256 = hash(&bytes);
                holding.sealed.push(seal(path, bytes)?);
                sha256
            }
            None => hash_file(program.file()).map_err(unreadable(path))?,
        };
        let program_identity = identity(path, sha256)?;
        if let Some(text) = program.script() {
            holding.scripts.push(program_identity.clone());
            // The kernel would look for it only when the command starts.
            if let Some(absent) = interpreter::named(text, cwd)
                .first()
                .filter(|path| !path.exists())
            {
                return Err(HoldError::Absent(shown(absent)));
            }
            holding.interpreters(path, text, 0)?;
        }
        if let Some(absent) = scripts::absent(reading, cwd) {
            return Err(HoldError::Absent(shown(&absent)));
        }
        for script in scripts::named(path, reading, cwd) {
            let file = script.resolved(writable_roots)?;
            if file != path {
                match script.is() {
                    scripts::Use::Started => holding.started(&file, 0)?,
                    scripts::Use::Read => holding.keep(&file)?,
                }
            }
        }
        Ok(Self {
            program: program_identity,
            scripts: holding.scripts,
            sealed: holding.sealed,
        })
    }

    /// Finds and hashes everything again, just before the command runs: a script that appeared since is as much another
    /// command as one that changed. What is sealed runs as it was either way; that the original changed is still worth
    /// stopping for.
    ///
    /// # Errors
    /// Something is not what was reviewed.
    pub(crate) fn confirm(
        &self,
        program: &Program,
        reading: &Reading,
        cwd: &Path,
        writable_roots: &[PathBuf],
    ) -> Result<(), HoldError> {
        let changed = |path: &AbsolutePath| HoldError::Changed(shown(path.as_path()));
        let now = Self::of(program, reading, cwd, writable_roots)?;
        if now.program != self.program {
            return Err(changed(&self.program.path));
        }
        let other = |these: &[FileIdentity], those: &[FileIdentity]| {
            let mut these = these.iter();
            these
                .find(|file| !those.contains(file))
                .map(|file| changed(&file.path))
        };
        if let Some(error) =
            other(&self.scripts, &now.scripts).or_else(|| other(&now.scripts, &self.scripts))
        {
            return Err(error);
        }
        if program.script().is_some() {
            // Its copy was taken when it was found; the file itself may be another one.
            let path = program.path();
            let now = File::open(path)
                .and_then(|file| hash_file(&file))
                .map_err(unreadable(path))?;
            if now != self.program.sha256 {
                return Err(HoldError::Changed(shown(path)));
            }
        }
        Ok(())
    }
}

/// What is held so far.
struct Holding<'a> {
    cwd: &'a Path,
    writable_roots: &'a [PathBuf],
    scripts: Vec<FileIdentity>,
    sealed: Vec<Sealed>,
    /// The files whose first line was followed.
    followed: BTreeSet<PathBuf>,
}

impl Holding<'_> {
    /// Holds `file`, resolved.
    fn keep(&mut self, file: &Path) -> Result<(), HoldError> {
        if self.sealed.iter().any(|known| known.path() == file) {
            return Ok(());
        }
        let bytes = File::open(file)
            .and_then(|file| read_sealed(&file))
            .map_err(unreadable(file))?;
        self.scripts.push(identity(file, hash(&bytes))?);
        self.sealed.push(seal(file, bytes)?);
        Ok(())
    }

    /// Holds `file`, which the kernel starts, and what its first line brings along, `depth` interpreters away from the
    /// command.
    fn started(&mut self, file: &Path, depth: usize) -> Result<(), HoldError> {
        self.keep(file)?;
        if !self.followed.insert(file.to_owned()) {
            return Ok(());
        }
        let held = self.sealed.iter().find(|known| known.path() == file);
        let first = held.map(|held| held.content()).unwrap_or_default();
        let first = first.get(..interpreter::LONGEST_LINE).unwrap_or(first);
        let first = first.to_vec();
        self.interpreters(file, &first, depth)
    }

    /// Holds what the first line of `text`, which is that of `script`, brings along from where commands can write.
    fn interpreters(&mut self, script: &Path, text: &[u8], depth: usize) -> Result<(), HoldError> {
        for path in interpreter::named(text, self.cwd) {
            if !path.is_file() {
                continue;
            }
            let file = scripts::Named::started(path).resolved(self.writable_roots)?;
            if file == script {
                continue;
            }
            if depth >= interpreter::MOST_INTERPRETERS || self.sealed.len() >= MOST_SEALED {
                return Err(HoldError::TooDeep(shown(script)));
            }
            if lies_in(&file, self.writable_roots) {
                self.started(&file, depth + 1)?;
            } else if let Ok(first) = first_line(&file) {
                // What only may be executed is no script, and what no command can change needs no copy.
                self.interpreters(&file, &first, depth + 1)?;
            }
        }
        Ok(())
    }
}

/// As much of `file` as the kernel looks at.
fn first_line(file: &Path) -> io::Result<Vec<u8>> {
    let mut first = Vec::new();
    File::open(file)?
        .take(interpreter::LONGEST_LINE as u64)
        .read_to_end(&mut first)?;
    Ok(first)
}

fn seal(path: &Path, bytes: Vec<u8>) -> Result<Sealed, HoldError> {
    Sealed::new(path, bytes).map_err(|error| HoldError::Unreadable {
        path: shown(path),
        source: io::Error::other(error),
    })
}

fn shown(path: &Path) -> String {
    protocol::Printable(&path.to_string_lossy()).to_string()
}

fn unreadable(path: &Path) -> impl Fn(io::Error) -> HoldError + use<> {
    let path = shown(path);
    move |source| HoldError::Unreadable {
        path: path.clone(),
        source,
    }
}

/// Whether `path` is beneath one of `roots`.
pub(crate) fn lies_in(path: &Path, roots: &[PathBuf]) -> bool {
    roots.iter().any(|root| path.starts_with(root))
}

fn identity(path: &Path, sha256: Sha256Hex) -> Result<FileIdentity, HoldError> {
    let unreadable = || HoldError::Unreadable {
        path: shown(path),
        source: io::Error::other("its path is not UTF-8"),
    };
    let text = path.to_str().ok_or_else(unreadable)?.to_owned();
    let path = AbsolutePath::try_from(text).map_err(|_| unreadable())?;
    Ok(FileIdentity { path, sha256 })
}

fn read_sealed(mut file: &File) -> io::Result<Vec<u8>> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.take(MAX_SEALED + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_SEALED {
        return Err(io::Error::other(format!(
            "it is larger than {MAX_SEALED} bytes"
        )));
    }
    Ok(bytes)
}

/// SHA-256 of `bytes`.
pub(crate) fn hash(bytes: &[u8]) -> Sha256Hex {
    Sha256Hex::of(&Sha256::digest(bytes).into())
}

fn hash_file(mut file: &File) -> io::Result<Sha256Hex> {
    file.rewind()?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Sha256Hex::of(&hasher.finalize().into())),
            read => hasher.update(buffer.get(..read).unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::{Path, PathBuf};

    use exec_policy::Reading;

    use super::{HeldFiles, HoldError, find_program};

    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Self {
            let path =
                std::env::temp_dir().join(format!("auto-review-hold-{}", uuid::Uuid::new_v4()));
            std::fs::create_dir(&path).expect("a folder");
            Self(path.canonicalize().expect("a path"))
        }

        fn program(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.join(name);
            std::fs::write(&path, text).expect("a file");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
                .expect("a mode");
            path
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).expect("the folder is removed");
        }
    }

    fn reading(words: &[&str]) -> Reading {
        Reading::of_argv(
            &words
                .iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn a_program_is_found_on_the_path_and_nowhere_else() {
        let scratch = Scratch::new();
        scratch.program("tool", "x");
        let found = find_program("tool".as_ref(), Path::new("/"), [&scratch.0]).expect("found");
        assert_eq!(found.path(), scratch.0.join("tool"));
        assert!(matches!(
            find_program("tool".as_ref(), &scratch.0, []),
            Err(HoldError::NotFound(_))
        ));
        assert!(find_program("./tool".as_ref(), &scratch.0, []).is_ok());
        assert!(matches!(
            find_program("/etc/passwd".as_ref(), Path::new("/"), []),
            Err(HoldError::NotExecutable { .. })
        ));
    }

    #[test]
    fn a_program_that_changes_after_its_review_does_not_run() {
        let scratch = Scratch::new();
        let path = scratch.program("tool", "\x7fELF one");
        let program = find_program("tool".as_ref(), Path::new("/"), [&scratch.0]).expect("found");
        let held = HeldFiles::of(&program, &reading(&["tool"]), Path::new("/"), &[]).expect("held");
        let confirm = || held.confirm(&program, &reading(&["tool"]), Path::new("/"), &[]);
        confirm().expect("unchanged");
        std::fs::write(path, "\x7fELF two").expect("a file");
        assert!(matches!(confirm(), Err(HoldError::Changed(_))));
    }

    #[test]
    fn scripts_and_programs_in_the_workspace_are_sealed_as_they_were() {
        let scratch = Scratch::new();
        let script = scratch.program("run.sh", "#!/bin/sh\necho one\n");
        let program = find_program("./run.sh".as_ref(), &scratch.0, []).expect("found");
        let held = HeldFiles::of(&program, &reading(&["./run.sh"]), &scratch.0, &[]).expect("held");
        std::fs::write(&script, "#!/bin/sh\necho two\n").expect("a file");
        assert_eq!(program.script(), Some(&b"#!/bin/sh\necho one\n"[..]));
        assert_eq!(held.scripts, std::slice::from_ref(&held.program));

        scratch.program("tool", "\x7fELF");
        let program = find_program("./tool".as_ref(), &scratch.0, []).expect("found");
        let roots = std::slice::from_ref(&scratch.0);
        let held = HeldFiles::of(&program, &reading(&["./tool"]), &scratch.0, roots).expect("held");
        assert_eq!(held.sealed.len(), 1);
        assert_eq!(held.sealed[0].content(), b"\x7fELF");
    }

    #[test]
    fn a_script_that_appears_after_the_review_does_not_run() {
        let scratch = Scratch::new();
        let program =
            find_program("sh".as_ref(), Path::new("/"), [&PathBuf::from("/bin")]).expect("a shell");
        let roots = std::slice::from_ref(&scratch.0);
        let direct = HeldFiles::of(&program, &reading(&["sh", "gen.sh"]), &scratch.0, roots);
        assert!(matches!(direct, Err(HoldError::Absent(_))), "{direct:?}");
        for words in [
            &["sh", "-e", "gen.sh"][..],
            &["sh", "-c", "sh gen.sh"],
            &["sh", "-c", ". ./gen.sh"],
            &["sh", "-c", "./gen.sh"],
            &["env", "sh", "gen.sh"],
        ] {
            let held = HeldFiles::of(&program, &reading(words), &scratch.0, roots).expect("held");
            let confirm = || held.confirm(&program, &reading(words), &scratch.0, roots);
            confirm().expect("nothing changed");
            let script = scratch.program("gen.sh", "echo late\n");
            assert!(matches!(confirm(), Err(HoldError::Changed(_))), "{words:?}");
            std::fs::remove_file(script).expect("removed");
        }
    }

    #[test]
    fn an_interpreter_that_commands_can_change_is_held_with_what_it_is_given() {
        let scratch = Scratch::new();
        let roots = std::slice::from_ref(&scratch.0);
        let shown = scratch.0.display().to_string();
        let interpreter = scratch.program("interp", &format!("#!{shown}/deeper {shown}/rc\n"));
        scratch.program("deeper", "\x7fELF");
        scratch.program("rc", "x");
        scratch.program("run.sh", &format!("#!{shown}/interp\nhello\n"));
        let program = find_program("./run.sh".as_ref(), &scratch.0, []).expect("found");
        let words = reading(&["./run.sh"]);
        let held = HeldFiles::of(&program, &words, &scratch.0, roots).expect("held");
        let names: Vec<_> = held
            .sealed
            .iter()
            .filter_map(|sealed| sealed.path().file_name())
            .collect();
        assert_eq!(names, ["interp", "deeper", "rc"]);
        assert_eq!(held.scripts.len(), 4);
        let confirm = || held.confirm(&program, &words, &scratch.0, roots);
        confirm().expect("unchanged");
        std::fs::write(&interpreter, "\x7fELF two").expect("a file");
        assert!(matches!(confirm(), Err(HoldError::Changed(_))));
        std::fs::remove_file(&interpreter).expect("removed");
        assert!(confirm().is_err());
        std::os::unix::fs::symlink("/bin/sh", &interpreter).expect("a link");
        let turned = HeldFiles::of(&program, &words, &scratch.0, roots);
        assert!(matches!(turned, Err(HoldError::Turnable(_))), "{turned:?}");
    }

    #[test]
    fn interpreters_of_interpreters_have_an_end() {
        let scratch = Scratch::new();
        let shown = scratch.0.display().to_string();
        for (name, next) in [("a", "b"), ("b", "a"), ("c", "c")] {
            scratch.program(name, &format!("#!{shown}/{next}\n"));
        }
        for roots in [&[][..], std::slice::from_ref(&scratch.0)] {
            for name in ["./a", "./c"] {
                let program = find_program(name.as_ref(), &scratch.0, []).expect("found");
                let held = HeldFiles::of(&program, &reading(&[name]), &scratch.0, roots);
                drop(held);
            }
        }
        let program = find_program("./a".as_ref(), &scratch.0, []).expect("found");
        let held = HeldFiles::of(&program, &reading(&["./a"]), &scratch.0, &[]);
        assert!(matches!(held, Err(HoldError::TooDeep(_))), "{held:?}");
    }
}
