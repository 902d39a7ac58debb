//! Files without a name: the init's image, and bytes that nobody can change any more.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::OnceLock;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;

/// The init, as `build.rs` made it.
const INIT: &[u8] = include_bytes!(env!("SANDBOX_INIT"));

/// The init as a sealed file that can be executed; one for the whole process.
pub(crate) fn init() -> io::Result<OwnedFd> {
    static IMAGE: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(image) = IMAGE.get() {
        return image.try_clone();
    }
    let image = sealed("init", INIT)?;
    IMAGE.get_or_init(|| image).try_clone()
}

/// The largest file that is copied for a command to read from its standard input, in bytes.
const LARGEST_INPUT: u64 = 256 << 20;

/// A copy of what is left in the caller's standard input where that is a regular file; `None` where it is anything else. A
/// command that has the file itself may change its mode, times and attributes, also where it was opened to be read (chmod(2),
/// utimensat(2), fsetxattr(2)), and neither the mounts nor Landlock see that: the descriptor has the mount of its maker.
///
/// # Errors
/// It cannot be read, or is larger than 256 MiB.
pub(crate) fn callers_input() -> io::Result<Option<OwnedFd>> {
    let input = io::stdin();
    let found = rustix::fs::fstat(input.as_fd());
    let is_file = found.is_ok_and(|found| {
        rustix::fs::FileType::from_raw_mode(found.st_mode) == rustix::fs::FileType::RegularFile
    });
    if !is_file {
        return Ok(None);
    }
    let mut rest = Vec::new();
    File::from(input.as_fd().try_clone_to_owned()?)
        .take(LARGEST_INPUT + 1)
        .read_to_end(&mut rest)?;
    if rest.len() as u64 > LARGEST_INPUT {
        return Err(io::Error::other(
            "standard input is a file of more than 256 MiB: give it through a pipe",
        ));
    }
    sealed("stdin", &rest).map(Some)
}

/// `content` as a file in memory that cannot change and can be executed, at its beginning (`memfd_create(2)`).
///
/// # Errors
/// The kernel gives none, or the host lets no such file be executed (`vm.memfd_noexec` is 2, Linux 6.3).
pub fn sealed(name: &str, content: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = match rustix::fs::memfd_create(name, flags | MemfdFlags::EXEC) {
        // Kernels before 6.3 know no other kind, and not the word for it.
        Err(Errno::INVAL) => rustix::fs::memfd_create(name, flags)?,
        made => made?,
    };
    let mut file = File::from(file);
    file.write_all(content)?;
    let all = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(file.as_fd(), all)?;
    rustix::fs::seek(file.as_fd(), rustix::fs::SeekFrom::Start(0))?;
    Ok(file.into())
}
