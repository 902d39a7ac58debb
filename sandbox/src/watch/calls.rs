//! What a watched system call wants: [`wants`]. Pure; addresses in, addresses out.

/// Where a relative path starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// In the working directory.
    Here,
    /// In the directory behind a descriptor of the caller's.
    Descriptor(i32),
}

/// What is to be done with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    /// Opened, with these flags of `open(2)`.
    Open(u64),
    /// Opened, with flags that lie at this address.
    OpenBy(u64),
    /// Made where nothing is.
    Make,
    /// Made, whatever is there.
    Replace,
    /// Changed as it is there.
    Change,
    /// Removed.
    Remove,
}

/// A path that a call names: where it starts, where its text is, and what is to be done with it.
pub(super) type Want = (Start, u64, Does);

fn start(descriptor: u64) -> Start {
    // The low half is the descriptor; AT_FDCWD stands for the working directory.
    let [a, b, c, d, ..] = descriptor.to_le_bytes();
    match i32::from_le_bytes([a, b, c, d]) {
        libc::AT_FDCWD => Start::Here,
        number => Start::Descriptor(number),
    }
}

fn flags(flags: libc::c_int) -> u64 {
    u64::from(flags.cast_unsigned())
}

/// The paths that the call `name` names, with these arguments.
pub(super) fn wants(name: &str, [a, b, c, d, ..]: [u64; 6]) -> Vec<Want> {
    let here = Start::Here;
    match name {
        "open" => vec![(here, a, Does::Open(b))],
        "openat" => vec![(start(a), b, Does::Open(c))],
        "openat2" => vec![(start(a), b, Does::OpenBy(c))],
        "creat" => {
            let how = flags(libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC);
            vec![(here, a, Does::Open(how))]
        }
        "mkdir" | "mknod" => vec![(here, a, Does::Make)],
        "mkdirat" | "mknodat" => vec![(start(a), b, Does::Make)],
        "rmdir" | "unlink" => vec![(here, a, Does::Remove)],
        "unlinkat" => vec![(start(a), b, Does::Remove)],
        "rename" => vec![(here, a, Does::Remove), (here, b, Does::Replace)],
        "renameat" | "renameat2" => {
            vec![(start(a), b, Does::Remove), (start(c), d, Does::Replace)]
        }
        "link" | "symlink" => vec![(here, b, Does::Make)],
        "linkat" => vec![(start(c), d, Does::Make)],
        "symlinkat" => vec![(start(b), c, Does::Make)],
        "truncate" | "chmod" => vec![(here, a, Does::Change)],
        "fchmodat" => vec![(start(a), b, Does::Change)],
        _ => Vec::new(),
    }
}

/// Whether flags of `open(2)` ask for a change.
pub(super) fn changes(how: u64) -> bool {
    let writing = flags(libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC);
    how & writing != 0
}

/// Whether flags of `open(2)` hold all of `wanted`.
pub(super) fn has(how: u64, wanted: libc::c_int) -> bool {
    how & flags(wanted) == flags(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_negative_descriptor_stands_for_the_working_directory_whatever_the_upper_half() {
        let here = u64::from(libc::AT_FDCWD.cast_unsigned());
        for descriptor in [here, here | 0xffff_ffff_0000_0000] {
            let found = wants("openat", [descriptor, 7, 0, 0, 0, 0]);
            assert_eq!(found, [(Start::Here, 7, Does::Open(0))]);
        }
        let found = wants("unlinkat", [5, 7, 0, 0, 0, 0]);
        assert_eq!(found, [(Start::Descriptor(5), 7, Does::Remove)]);
    }
}
