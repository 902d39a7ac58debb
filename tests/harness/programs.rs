//! Where the programs under test are: beside the folder that the test's own executable lies in.

use std::path::{Path, PathBuf};

/// The folder that cargo puts this profile's programs in.
///
/// # Panics
/// The executable has no such folder.
pub(crate) fn target_folder() -> PathBuf {
    let own = std::env::current_exe().expect("the test's own executable has a path");
    let folder = own
        .ancestors()
        .nth(2)
        .filter(|_| own.parent().is_some_and(|deps| deps.ends_with("deps")));
    folder
        .map(Path::to_path_buf)
        .expect("the test lies in the `deps` folder of a target folder")
}

/// The program `name` of this workspace.
///
/// # Panics
/// It was not built.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let path = target_folder().join(name);
    assert!(
        path.is_file(),
        "`{}` is not built: run `cargo xtask test`",
        path.display()
    );
    path
}

/// `agent-runner`.
#[must_use]
pub fn runner_program() -> PathBuf {
    program("agent-runner")
}

/// `auto-review-server`.
#[must_use]
pub fn server_program() -> PathBuf {
    program("auto-review-server")
}
