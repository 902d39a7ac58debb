//! Programs that wipe or lay out disks, and the forms by which they only look.
//!
//! Apart from the other programs because each has its own word for looking. Invariant: a form that is not known to look
//! and names a device is a denial.

use super::super::listed;

/// Whether a call changes what a device holds.
pub(super) fn wipes(program: &str, texts: &[&str]) -> bool {
    let named = texts.iter().any(|text| text.contains("/dev/"));
    let has = |wanted: &str| texts.iter().any(|text| listed(wanted, text));
    let short = |letter: char| {
        texts
            .iter()
            .any(|text| text.starts_with('-') && !text.starts_with("--") && text.contains(letter))
    };
    match program {
        "mkswap" | "blkdiscard" => named,
        "wipefs" => {
            named
                && (short('a')
                    || short('o')
                    || has("--all --offset")
                    || texts.iter().any(|text| text.starts_with("--offset=")))
        }
        "fdisk" => named && !has("-l --list -x --list-details -s --getsz"),
        "sfdisk" => {
            named
                && !has(
                    "-l --list -d --dump -J --json -s --show-size -V --verify -F --list-free -g --show-geometry",
                )
        }
        "sgdisk" | "gdisk" | "cgdisk" => {
            named && !has("-p --print -i --info -v --verify -O --print-mbr -L --list-types")
        }
        "parted" => {
            let changes = has(
                "mklabel mktable mkpart rm resizepart name set toggle disk_set disk_toggle rescue type",
            );
            named && (changes || !has("print -l --list"))
        }
        "cryptsetup" => {
            has("luksFormat erase luksErase reencrypt luksKillSlot luksRemoveKey format")
        }
        "hdparm" => texts.iter().any(|text| {
            [
                "--security-erase",
                "--trim-sector",
                "--write-sector",
                "--make-bad-sector",
                "--security-set-pass",
                "--yes-i-know",
            ]
            .iter()
            .any(|start| text.starts_with(start))
        }),
        "nvme" => has("format sanitize write-zeroes delete-ns write dsm"),
        "mdadm" => has("--zero-superblock"),
        "badblocks" => named && (short('w')),
        "zpool" => has("labelclear"),
        "diskutil" => {
            has("eraseDisk eraseVolume secureErase zeroDisk randomDisk partitionDisk apfs")
        }
        _ => false,
    }
}
