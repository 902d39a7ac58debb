//! Where a folder lies: whether its times tell of every change in it. [`tells_changes`].
//!
//! On a file system that another machine or program serves, others change folders without this kernel's knowledge, and what it
//! knows of their times may be old. There nothing is remembered: every walk reads everything.

use std::path::Path;

/// By the numbers of `statfs(2)`: file systems that are served by others.
const SERVED: [(u64, &str); 14] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x6573_5546, "FUSE, virtiofs"),
    (0x0102_1997, "9P"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "OpenAFS"),
    (0x6b41_4653, "AFS"),
    (0x7375_7245, "Coda"),
    (0x564c, "NCP"),
    (0x0bd0_0bd0, "Lustre"),
    (0x786f_4256, "VirtualBox's folders"),
    (0x0116_1970, "GFS2"),
];

/// Whether a file system of this number is this kernel's own, so that nothing in it changes without a trace.
fn is_own(number: u64) -> bool {
    !SERVED.iter().any(|(served, _)| *served == number)
}

/// Whether the times of the folder at `path` tell of every change in it. Where it cannot be told they do not.
pub(super) fn tells_changes(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|found| {
        // The lower half: on some processors the field is signed.
        let [a, b, c, d, ..] = found.f_type.to_le_bytes();
        is_own(u64::from(u32::from_le_bytes([a, b, c, d])))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_serve_is_not_relied_on_and_what_the_kernel_keeps_is() {
        for number in [0x6969, 0x6573_5546, 0x0102_1997, 0xff53_4d42] {
            assert!(!is_own(number), "{number:x}");
        }
        // ext4, xfs, btrfs, tmpfs, overlayfs, zfs
        for number in [
            0xef53,
            0x5846_5342,
            0x9123_683e,
            0x0102_1994,
            0x794c_7630,
            0x2fc1_2fc1,
        ] {
            assert!(is_own(number), "{number:x}");
        }
        assert!(tells_changes(Path::new("/proc")));
        assert!(!tells_changes(Path::new("/no/such/folder")));
    }
}
