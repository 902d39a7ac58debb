//! Files that somebody's shell opened for a command: the walls do not see what a descriptor was opened for, so the command
//! has a copy to read and a pipe to print into, and never the file (P1).

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use harness::Stage;

/// Changes mode, times and attributes of its three streams in every way that takes a descriptor, then passes its input on.
const CHANGES: &str = r"
import os, sys, fcntl
for number in (0, 1, 2):
    for change in (
        lambda: os.fchmod(number, 0o777),
        lambda: os.utime(number, (1, 1)),
        lambda: os.setxattr(number, 'user.canary', b'x'),
        lambda: fcntl.ioctl(number, 0x40086602, bytes(8)),
        lambda: os.chmod('/proc/self/fd/%d' % number, 0o777),
    ):
        try: change()
        except OSError: pass
sys.stdout.write(sys.stdin.read())
sys.stderr.write('said')
";

#[test]
fn a_command_that_is_given_files_for_its_streams_changes_nothing_of_them() {
    for mode in ["read-only", "workspace-write"] {
        let stage = Stage::new();
        let files = ["in", "out", "err"].map(|name| stage.outside(name));
        for (file, text) in files.iter().zip(["given", "before\n", ""]) {
            fs::write(file, text).expect("a file");
            fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("a mode");
        }
        let [input, output, error] = &files;
        let launcher = [
            "sh",
            "-c",
            "exec \"$@\" < \"$IN\" >> \"$OUT\" 2>> \"$ERR\"",
            "sh",
        ];
        let ran = stage
            .runner()
            .args(["sandbox", "--sandbox", mode, "--", "python3", "-c", CHANGES])
            .launched_by(launcher)
            .env("IN", input)
            .env("OUT", output)
            .env("ERR", error)
            .ran();
        assert_eq!(
            ran.code(),
            0,
            "{mode}: {}",
            fs::read_to_string(error).expect("text")
        );
        assert_eq!(fs::read_to_string(output).expect("text"), "before\ngiven");
        assert_eq!(fs::read_to_string(error).expect("text"), "said");
        for file in &files {
            let found = file.metadata().expect("it is there");
            assert_eq!(found.mode() & 0o777, 0o600, "{mode}: {}", file.display());
            assert!(found.mtime() > 1, "{mode}: {}", file.display());
        }
    }
}
