//! The mount wall's steps: from [`Operation`]s to what the kernel is asked.
//!
//! Trees are taken before anything changes. One folder in memory, where the command's `/proc` will stand over it, holds
//! everything of the command's own: its private folders, covers, sealed copies. Each is copied from there to its place,
//! which is cheaper than a file system for each and caps them together.

use std::path::{Path, PathBuf};

use rustix::mount::MountFlags;

use super::step::{Act, Gone, Mount, Reach, Slot};
use super::steps::{Steps, c_path};
use super::{NO_DEVICES, NO_SET_USER_ID, READ_ONLY, early};
use crate::command::Command;
use crate::error::SandboxError;
use crate::mounts::{Access, Operation, Owner};
use crate::plan::{Identity, Plan};
use crate::policy::Limits;
use crate::surroundings::Kind;
use crate::user_namespace;

/// Adds what builds the plan's view to `steps`. Answers the sealed copy of the program, where one is put over its path.
pub(super) fn build(
    steps: &mut Steps,
    plan: &Plan,
    command: &Command,
) -> Result<Option<Slot>, SandboxError> {
    let operations = plan.operations();
    if operations.is_empty() {
        return Ok(None);
    }
    let mut trees = Trees {
        steps,
        operations,
        slots: vec![None; operations.len()],
        owner: early::owner(plan.identity()),
        limits: *plan.limits(),
        as_another: matches!(plan.identity(), Identity::Unprivileged { .. }),
    };
    trees.take()?;
    trees.own_the_tree();
    // The command's own trees come from outside these namespaces, and may lie where only their owner can enter: pinned when
    // they are in their place.
    if !trees.as_another {
        trees.pin(Path::new("/"));
    }
    if trees.as_another {
        early::act_as(trees.steps, trees.owner);
    }
    trees.stage(command);
    let guards = |operation: &Operation| {
        matches!(
            operation,
            Operation::Protect { .. } | Operation::Hide { .. } | Operation::Seal { .. }
        )
    };
    let guarded = operations.iter().position(guards).unwrap_or_default();
    for (place, operation) in operations.iter().enumerate() {
        // As late as can be: the keeper makes the names meanwhile that guards are to stand on.
        if place == guarded {
            trees.wait();
        }
        trees.put(place, operation);
        if let Operation::Attach { at, .. } = operation
            && trees.as_another
        {
            trees.pin(at);
        }
    }
    trees.close();
    let program = command.program.path();
    let at = operations
        .iter()
        .position(|operation| matches!(operation, Operation::Seal { path, .. } if path == program));
    Ok(at.and_then(|at| trees.slots.get(at).copied().flatten()))
}

struct Trees<'a> {
    steps: &'a mut Steps,
    operations: &'a [Operation],
    /// What each operation puts in its place.
    slots: Vec<Option<Slot>>,
    limits: Limits,
    owner: [u32; 2],
    /// Whether the command runs as another user than the caller.
    as_another: bool,
}

impl Trees<'_> {
    fn set(&mut self, place: usize, slot: Slot) {
        if let Some(known) = self.slots.get_mut(place) {
            *known = Some(slot);
        }
    }

    /// Takes every tree that will be attached, as it is now.
    fn take(&mut self) -> Result<(), SandboxError> {
        for (place, operation) in self.operations.iter().enumerate() {
            if let Operation::Attach {
                from,
                access,
                owner,
                ..
            } = operation
            {
                let read_only = if *access == Access::ReadOnly {
                    READ_ONLY
                } else {
                    0
                };
                let set = read_only | NO_SET_USER_ID | NO_DEVICES;
                let slot = match owner {
                    Owner::AsIs => self.steps.take("take", from, set),
                    Owner::Command => {
                        let tree = user_namespace::tree_of_the_commands_own(from, set)?;
                        self.steps.hold(tree)?
                    }
                };
                self.set(place, slot);
            }
        }
        Ok(())
    }

    /// Whether the stage was set before the plan was known.
    fn is_staged(&self) -> bool {
        self.operations.contains(&Operation::Devices)
    }

    fn own_the_tree(&mut self) {
        let root = Path::new("/");
        if self.operations.contains(&Operation::OwnTree) {
            self.steps
                .attributes("make a tree of its own of", root, 0, Reach::Tree);
        } else {
            let set = READ_ONLY | NO_SET_USER_ID | NO_DEVICES;
            self.steps
                .attributes("make read-only", root, set, Reach::Tree);
        }
        if self.is_staged() {
            for own in [early::STAGE, early::SHARED].map(Path::new) {
                self.steps.clear(own, READ_ONLY, Reach::Mount);
            }
            let devices = Path::new(early::DEVICES);
            self.steps.clear(devices, NO_DEVICES, Reach::Tree);
        }
    }

    /// Pins what is to be pinned beneath `top`.
    fn pin(&mut self, top: &Path) {
        for operation in self.operations {
            if let Operation::Pin { path } = operation
                && path.starts_with(top)
            {
                let slot = self.steps.take("pin", path, 0);
                self.steps.place("pin", slot, path);
            }
        }
    }

    /// Waits until the protected names stand and their keeper knows whom to keep them for.
    fn wait(&mut self) {
        let object = Path::new("the command");
        let step = "wait for the protected names of";
        self.steps.add(step, object, Act::AwaitGo);
    }

    /// Makes what the command has of its own and takes each part.
    fn stage(&mut self, command: &Command) {
        let stage = Path::new(early::STAGE);
        let (temporary, shared) = (
            self.limits.temporary_mebibytes,
            self.limits.shared_mebibytes,
        );
        if self.is_staged() {
            early::resize(self.steps, stage, temporary);
            early::resize(self.steps, Path::new(early::SHARED), shared);
        } else {
            early::memory(self.steps, stage, self.owner, (temporary, 0o755));
        }
        for (place, operation) in self.operations.iter().enumerate() {
            let Operation::Memory { mode, .. } = operation else {
                continue;
            };
            let folder = stage.join(format!("memory-{place}"));
            self.steps.directory(&folder, *mode);
            let slot = self.steps.take("take a folder of", &folder, 0);
            self.set(place, slot);
        }
        let covers = self.make_covers(command);
        self.steps
            .attributes("make read-only", stage, READ_ONLY, Reach::Mount);
        for (place, cover) in covers {
            let slot = self.steps.take("take a cover of", &cover, 0);
            self.set(place, slot);
        }
    }

    /// Makes the covers that are asked for; which operation takes which.
    fn make_covers(&mut self, command: &Command) -> Vec<(usize, PathBuf)> {
        let stage = Path::new(early::STAGE);
        let [directory, file] = ["directory", "file"].map(|name| stage.join(name));
        let mut covers = Vec::new();
        for (place, operation) in self.operations.iter().enumerate() {
            if let Operation::Hide { kind, .. } = operation {
                let cover = if *kind == Kind::Directory {
                    &directory
                } else {
                    &file
                };
                covers.push((place, cover.clone()));
            } else if let Operation::Seal { path, .. } = operation {
                let copy = stage.join(format!("sealed-{place}"));
                let mut copies = command.copies();
                let content = copies
                    .find(|(known, _)| known == path)
                    .map_or(&[][..], |(_, content)| content);
                self.steps.file(&copy, content, 0o555);
                covers.push((place, copy));
            } else if let Operation::Resolver { text, .. } = operation {
                let file = stage.join(format!("names-{place}"));
                self.steps.file(&file, text.as_bytes(), 0o444);
                covers.push((place, file));
            }
        }
        if covers.iter().any(|(_, cover)| *cover == directory) {
            self.steps.directory(&directory, 0);
        }
        if covers.iter().any(|(_, cover)| *cover == file) {
            self.steps.file(&file, &[], 0);
        }
        covers
    }

    fn put(&mut self, place: usize, operation: &Operation) {
        let slot = self.slots.get(place).copied().flatten();
        match (operation, slot) {
            (Operation::Memory { at, .. }, Some(slot)) => {
                self.mount_point(place, at);
                self.steps.place("put a private folder at", slot, at);
            }
            (Operation::Devices, _) => self.devices(),
            (Operation::Processes { .. }, _) if self.is_staged() => {
                let slot = self.steps.take("take", Path::new(early::PROCESSES), 0);
                self.steps.place("put its own", slot, Path::new("/proc"));
            }
            (Operation::Processes { access }, _) => {
                let mut flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
                if *access == Access::ReadOnly {
                    flags |= MountFlags::RDONLY;
                }
                self.steps
                    .mount("proc", Path::new("/proc"), String::new(), flags);
            }
            (Operation::Attach { at, .. }, Some(slot)) => {
                self.mount_point(place, at);
                self.steps.place("attach", slot, at);
            }
            (Operation::Protect { path }, _) => {
                let guard = Mount::Guard { path: c_path(path) };
                self.steps.add("make read-only", path, Act::Mount(guard));
            }
            (Operation::Hide { path, kind }, Some(slot)) if *kind == Kind::Socket => {
                self.steps.cover(slot, path, Gone::Passed);
            }
            (Operation::Hide { path, .. }, Some(slot)) if self.as_another => {
                self.steps.cover(slot, path, Gone::Refused)
            }
            (Operation::Hide { path, .. }, Some(slot)) => self.steps.place("hide", slot, path),
            (Operation::Seal { path, .. }, Some(slot)) => self.steps.place("seal", slot, path),
            (Operation::Resolver { at, .. }, Some(slot)) => {
                self.steps.place("put the door's own", slot, at)
            }
            // Done before, or without a slot and so never put: the tree stays as read-only as it is.
            _ => {}
        }
    }

    fn devices(&mut self) {
        let dev = Path::new("/dev");
        let [folder, shared] = [early::DEVICES, early::SHARED].map(Path::new);
        let [folder, shared] = [folder, shared].map(|path| self.steps.take("take", path, 0));
        self.steps.place("put a private folder at", folder, dev);
        let set = READ_ONLY | NO_DEVICES;
        self.steps
            .attributes("make read-only", dev, set, Reach::Mount);
        let at = dev.join("shm");
        self.steps.place("put a private folder at", shared, &at);
    }

    /// Private folders that are not to be written, now that every mount point in them is made.
    fn close(&mut self) {
        for operation in self.operations {
            if let Operation::Memory {
                at,
                access: Access::ReadOnly,
                ..
            } = operation
            {
                self.steps
                    .attributes("make read-only", at, READ_ONLY, Reach::Mount);
            }
        }
    }

    /// Makes the directories (or the file) that `at` needs to stand on, where an earlier private folder covers the
    /// host's.
    fn mount_point(&mut self, place: usize, at: &Path) {
        let before = self.operations.iter().take(place);
        let around = before.filter_map(|operation| {
            if let Operation::Memory { at: folder, .. } = operation {
                at.starts_with(folder).then_some((folder, Around::Private))
            } else if let Operation::Attach { at: tree, .. } = operation {
                at.starts_with(tree).then_some((tree, Around::Attached))
            } else {
                None
            }
        });
        let innermost = around.max_by_key(|(path, _)| path.components().count());
        let Some((folder, Around::Private)) = innermost else {
            return;
        };
        let mut way: Vec<_> = at
            .ancestors()
            .take_while(|ancestor| ancestor != folder)
            .collect();
        way.reverse();
        let is_file = at.is_file();
        for directory in way {
            if is_file && directory == at {
                self.steps.file(directory, &[], 0o444);
            } else {
                self.steps.directory(directory, 0o755);
            }
        }
    }
}

/// What a mount point lies in.
#[derive(Clone, Copy)]
enum Around {
    Private,
    Attached,
}
