//! What was found in trees, kept for the next start: in this process, and in a folder of the runner's own.
//!
//! A cache and nothing more: what cannot be read, or does not fit, was never there; every folder in it is held against
//! the disk before it counts. The folder is the runner's state, which no command can reach.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Folder, Stamp, Tree, Why};

/// The first bytes; the digit changes with what follows.
const MARK: &[u8; 8] = b"walked-2";
/// Trees smaller than this are walked as fast as they are read from here.
const WORTH_KEEPING: usize = 32;
/// Trees kept in one process.
const MOST_TREES: usize = 32;
/// The longest file that is believed, in bytes.
const LONGEST: u64 = 256 << 20;

static TREES: Mutex<BTreeMap<PathBuf, Arc<Tree>>> = Mutex::new(BTreeMap::new());

/// The tree at `root` as it was when `key` was last looked for.
pub(super) fn recall(root: &Path, key: &[u8], folder: Option<&Path>) -> Option<Arc<Tree>> {
    let fits = |tree: &Arc<Tree>| tree.root == root && tree.key == key;
    let trees = TREES.lock().unwrap_or_else(PoisonError::into_inner);
    let known = trees.get(root).filter(|tree| fits(tree)).cloned();
    drop(trees);
    known.or_else(|| {
        let tree = Arc::new(read(&file_of(folder?, root)).filter(|tree| tree.root == root)?);
        fits(&tree).then_some(tree)
    })
}

/// Keeps `tree`.
pub(super) fn remember(tree: Tree, folder: Option<&Path>) {
    if tree.folders.len() >= WORTH_KEEPING
        && let Some(folder) = folder
    {
        // Without it the next process looks for itself.
        write(&file_of(folder, &tree.root), &tree).ok();
    }
    let mut trees = TREES.lock().unwrap_or_else(PoisonError::into_inner);
    if trees.len() >= MOST_TREES && !trees.contains_key(&tree.root) {
        trees.pop_first();
    }
    trees.insert(tree.root.clone(), Arc::new(tree));
}

#[cfg(test)]
pub(super) fn forget(root: &Path) {
    let mut trees = TREES.lock().unwrap_or_else(PoisonError::into_inner);
    trees.remove(root);
}

fn file_of(folder: &Path, root: &Path) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    root.hash(&mut hasher);
    folder.join(format!("walk-{:016x}", hasher.finish()))
}

fn read(path: &Path) -> Option<Tree> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let mut options = fs::OpenOptions::new();
    options.read(true).custom_flags(flags.bits().cast_signed());
    let mut file = options.open(path).ok()?;
    let found = file.metadata().ok()?;
    let own = found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o022 == 0;
    if !found.is_file() || !own || found.len() > LONGEST {
        return None;
    }
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut file, &mut bytes).ok()?;
    decode(&bytes)
}

fn write(path: &Path, tree: &Tree) -> io::Result<()> {
    let beside = path.with_extension(format!("new-{}", std::process::id()));
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let written = options
        .open(&beside)
        .and_then(|mut file| file.write_all(&encode(tree)))
        .and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        fs::remove_file(&beside).ok();
    }
    written
}

fn encode(tree: &Tree) -> Vec<u8> {
    let mut bytes = MARK.to_vec();
    put(&mut bytes, tree.root.as_os_str().as_bytes());
    put(&mut bytes, &tree.key);
    number(&mut bytes, tree.folders.len());
    for folder in &tree.folders {
        bytes.extend(folder.parent.to_le_bytes());
        put(&mut bytes, folder.name.as_bytes());
        let Stamp {
            device,
            inode,
            modified,
            changed,
        } = folder.stamp;
        bytes.extend(device.to_le_bytes());
        bytes.extend(inode.to_le_bytes());
        bytes.extend(modified.to_le_bytes());
        bytes.extend(changed.to_le_bytes());
        number(&mut bytes, folder.hits.len());
        for (why, name) in &folder.hits {
            bytes.push(match why {
                Why::Repository => 0,
                Why::Denied => 1,
                Why::Alias => 2,
                Why::Closed => 3,
            });
            put(&mut bytes, name.as_bytes());
        }
    }
    bytes
}

fn number(bytes: &mut Vec<u8>, number: usize) {
    bytes.extend(u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
}

fn put(bytes: &mut Vec<u8>, text: &[u8]) {
    number(bytes, text.len());
    bytes.extend(text);
}

/// A tree, where the bytes are exactly one.
fn decode(bytes: &[u8]) -> Option<Tree> {
    let mut left = Left(bytes.strip_prefix(MARK)?);
    let root = PathBuf::from(left.name()?);
    let key = left.text()?.to_vec();
    let count = left.count()?;
    // Each takes more bytes than one, so that a wrong count asks for no more than the file's length.
    let mut folders = Vec::with_capacity(count.min(left.0.len()));
    for at in 0..count {
        let parent = u32::from_le_bytes(left.array()?);
        let known = usize::try_from(parent).ok()?;
        if at > 0 && known >= at {
            return None;
        }
        let name = left.name()?;
        let stamp = Stamp {
            device: u64::from_le_bytes(left.array()?),
            inode: u64::from_le_bytes(left.array()?),
            modified: i64::from_le_bytes(left.array()?),
            changed: i64::from_le_bytes(left.array()?),
        };
        let hits = left.hits()?;
        folders.push(Folder {
            parent,
            name,
            stamp,
            hits,
        });
    }
    left.0.is_empty().then_some(Tree { root, key, folders })
}

struct Left<'a>(&'a [u8]);

impl<'a> Left<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, left) = self.0.split_at_checked(count)?;
        self.0 = left;
        Some(taken)
    }

    fn array<const COUNT: usize>(&mut self) -> Option<[u8; COUNT]> {
        self.take(COUNT)?.try_into().ok()
    }

    fn count(&mut self) -> Option<usize> {
        usize::try_from(u32::from_le_bytes(self.array()?)).ok()
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let count = self.count()?;
        self.take(count)
    }

    fn name(&mut self) -> Option<OsString> {
        Some(OsString::from_vec(self.text()?.to_vec()))
    }

    fn hits(&mut self) -> Option<Vec<(Why, OsString)>> {
        let count = self.count()?;
        let mut hits = Vec::with_capacity(count.min(self.0.len()));
        for _ in 0..count {
            let why = match self.array()? {
                [0] => Why::Repository,
                [1] => Why::Denied,
                [2] => Why::Alias,
                [3] => Why::Closed,
                _ => return None,
            };
            hits.push((why, self.name()?));
        }
        Some(hits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tree {
        let folder = |parent, name: &str, hits| Folder {
            parent,
            name: name.into(),
            stamp: Stamp {
                device: 1,
                inode: 2,
                modified: 3,
                changed: -4,
            },
            hits,
        };
        let hits = vec![
            (Why::Denied, OsString::from("x.env")),
            (Why::Repository, ".git".into()),
        ];
        Tree {
            root: "/home/u/code".into(),
            key: b"what was looked for".to_vec(),
            folders: vec![
                folder(0, "/home/u/code", hits),
                folder(0, "src", Vec::new()),
            ],
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        assert_eq!(decode(&encode(&tree())), Some(tree()));
    }

    #[test]
    fn what_was_cut_or_changed_was_never_there() {
        let bytes = encode(&tree());
        for length in 0..bytes.len() {
            assert_eq!(decode(&bytes[..length]), None, "{length}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(decode(&longer), None);
        let mut other = bytes;
        other[7] ^= 1;
        assert_eq!(decode(&other), None);
    }
}
