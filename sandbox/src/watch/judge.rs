//! Whether the walls refuse what was wanted, and by which rule: [`Judge`].
//!
//! Made from the plan that stood, so that nothing is reported that the walls let pass. It looks at the host's disk, to leave
//! out what would have failed without any wall (a file that is not there, a folder that already is).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Component, Path, PathBuf};

use super::calls::{Does, changes, has};
use crate::denial::SandboxDenial;
use crate::door::Doorway;
use crate::mounts::{self, Operation};
use crate::plan::Plan;
use crate::policy::{Access, Network, Reason, Ruling, SandboxPolicy};

/// What stands at a path after all operations of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layer {
    /// The host's own file, or what is attached there.
    Host,
    /// A protected or kept path.
    Guarded,
    /// A cover.
    Covered,
    /// A folder of the command's own, or the kernel's.
    Own,
}

/// Judges what a command wanted.
#[derive(Debug)]
pub(super) struct Judge {
    layers: Vec<(PathBuf, Layer, Access)>,
    network: Network,
    doorway: Option<Doorway>,
    policy: Option<SandboxPolicy>,
}

impl Judge {
    pub(super) fn of(plan: &Plan) -> Self {
        Self {
            layers: plan.operations().iter().filter_map(layer).collect(),
            network: plan.network(),
            doorway: plan.doorway().cloned(),
            policy: plan.policy().cloned(),
        }
    }

    /// What the walls refuse of doing `does` to the path `text`, which starts at `base`.
    pub(super) fn path(
        &self,
        call: &str,
        base: &Path,
        text: &Path,
        does: Does,
    ) -> Option<SandboxDenial> {
        let path = self.resolved(&base.join(text), does)?;
        let writes = match does {
            Does::Open(how) => changes(how),
            Does::OpenBy(_) => return None,
            Does::Make | Does::Replace | Does::Change | Does::Remove => true,
        };
        let wanted = if writes { Access::Write } else { Access::Read };
        let ruling = self.ruling(&path);
        if ruling.access >= wanted || fails_anyway(&path, does) {
            return None;
        }
        let by = ruling.by;
        Some(if writes {
            let call = call.to_owned();
            SandboxDenial::Write { call, path, by }
        } else {
            SandboxDenial::Read { path, by }
        })
    }

    /// What the walls refuse of connecting to `address`, a `struct sockaddr`, from a process that works in `base`.
    pub(super) fn address(&self, base: &Path, address: &[u8]) -> Option<SandboxDenial> {
        let refused = |address: String| Some(SandboxDenial::Connect { address });
        match Address::read(address)? {
            Address::Internet(address) => {
                let ip = address.ip().to_canonical();
                let inside = ip.is_loopback() || ip.is_unspecified();
                let taken = self
                    .doorway
                    .as_ref()
                    .is_some_and(|doorway| doorway.takes(address.port()));
                let reachable = self.network == Network::Full || inside || taken;
                if reachable {
                    None
                } else {
                    refused(address.to_string())
                }
            }
            Address::Socket(path) => {
                let path = normal(&base.join(path));
                let of_the_host = path
                    .symlink_metadata()
                    .is_ok_and(|found| found.file_type().is_socket());
                let (layer, _) = self.layer(&path);
                let hidden = matches!(layer, Layer::Covered | Layer::Own);
                if of_the_host && hidden {
                    refused(path.to_string_lossy().into_owned())
                } else {
                    None
                }
            }
        }
    }

    fn layer(&self, path: &Path) -> (Layer, Access) {
        let around = self.layers.iter().rev();
        let mut around = around.filter(|(at, ..)| path.starts_with(at));
        around
            .next()
            .map_or((Layer::Host, Access::Read), |(_, layer, access)| {
                (*layer, *access)
            })
    }

    fn ruling(&self, path: &Path) -> Ruling {
        let (layer, access) = self.layer(path);
        let stated = self.policy.as_ref().map(|policy| policy.access(path));
        let by = match (stated, layer) {
            (_, Layer::Own) => Reason::OwnFolder,
            (Some(ruling), _) if ruling.access <= access => ruling.by,
            (_, Layer::Guarded) => Reason::ProtectedName {
                path: path.to_path_buf(),
            },
            (_, Layer::Covered) => Reason::Path {
                path: path.to_path_buf(),
            },
            (_, Layer::Host) => Reason::Default,
        };
        Ruling { access, by }
    }

    /// The path without links, as far as the host's disk tells. Nothing where it leads through a descriptor.
    fn resolved(&self, path: &Path, does: Does) -> Option<PathBuf> {
        let lexical = normal(path);
        let own = self.layer(&lexical).0 == Layer::Own;
        if own {
            // `/proc/self/fd/1` is whatever the descriptor is.
            let through_descriptor = lexical.starts_with("/proc")
                && lexical
                    .components()
                    .any(|part| part == Component::Normal("fd".as_ref()));
            return (!through_descriptor).then_some(lexical);
        }
        let (Some(parent), Some(name)) = (path.parent(), lexical.file_name()) else {
            return Some(lexical);
        };
        let real = parent
            .canonicalize()
            .map_or_else(|_| lexical.clone(), |parent| parent.join(name));
        let follows = match does {
            Does::Open(how) => {
                !has(how, libc::O_NOFOLLOW) && !has(how, libc::O_CREAT | libc::O_EXCL)
            }
            Does::Change => true,
            Does::OpenBy(_) | Does::Make | Does::Replace | Does::Remove => false,
        };
        let Some(target) = follows.then(|| real.read_link().ok()).flatten() else {
            return Some(real);
        };
        let target = real.parent().unwrap_or(&real).join(target);
        Some(target.canonicalize().unwrap_or_else(|_| normal(&target)))
    }
}

fn layer(operation: &Operation) -> Option<(PathBuf, Layer, Access)> {
    let access = |access: &mounts::Access| match access {
        mounts::Access::ReadOnly => Access::Read,
        mounts::Access::ReadWrite => Access::Write,
    };
    Some(match operation {
        Operation::ReadOnlyTree => (PathBuf::from("/"), Layer::Host, Access::Read),
        Operation::OwnTree => (PathBuf::from("/"), Layer::Host, Access::Write),
        Operation::Pin { .. } | Operation::Seal { .. } => return None,
        Operation::Memory {
            at, access: how, ..
        } => (at.clone(), Layer::Own, access(how)),
        Operation::Devices => (PathBuf::from("/dev"), Layer::Own, Access::Write),
        Operation::Processes { access: how } => (PathBuf::from("/proc"), Layer::Own, access(how)),
        Operation::Attach {
            from,
            at,
            access: how,
            ..
        } => {
            let layer = if from == at { Layer::Host } else { Layer::Own };
            (at.clone(), layer, access(how))
        }
        Operation::Protect { path } => (path.clone(), Layer::Guarded, Access::Read),
        Operation::Resolver { at, .. } => (at.clone(), Layer::Own, Access::Read),
        Operation::Hide { path, .. } => (path.clone(), Layer::Covered, Access::Deny),
    })
}

/// Whether the call fails on this disk without any wall.
fn fails_anyway(path: &Path, does: Does) -> bool {
    let there = path.symlink_metadata();
    let nowhere = || !path.parent().is_some_and(Path::is_dir);
    match does {
        Does::Make => there.is_ok() || nowhere(),
        Does::Replace => nowhere(),
        Does::Change | Does::Remove => there.is_err(),
        Does::OpenBy(_) => true,
        Does::Open(how) => match there {
            Ok(found) => has(how, libc::O_CREAT | libc::O_EXCL) || (changes(how) && found.is_dir()),
            Err(_) => !has(how, libc::O_CREAT) || nowhere(),
        },
    }
}

/// The path without `.` and `..`, by its words alone.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::ParentDir => {
                normal.pop();
            }
            Component::Normal(name) => normal.push(name),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    normal
}

#[derive(Debug, PartialEq, Eq)]
enum Address {
    Internet(SocketAddr),
    Socket(PathBuf),
}

impl Address {
    /// Reads a `struct sockaddr`; nothing where it is of another kind, or one without a name.
    fn read(bytes: &[u8]) -> Option<Self> {
        let family = i32::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let port = || Some(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?));
        match family {
            libc::AF_INET => {
                let ip: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
                let ip = IpAddr::V4(Ipv4Addr::from(ip));
                Some(Self::Internet(SocketAddr::new(ip, port()?)))
            }
            libc::AF_INET6 => {
                let ip: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
                let ip = IpAddr::V6(Ipv6Addr::from(ip));
                Some(Self::Internet(SocketAddr::new(ip, port()?)))
            }
            libc::AF_UNIX => {
                let name = bytes.get(2..)?.split(|byte| *byte == 0).next()?;
                let path = Path::new(std::ffi::OsStr::from_bytes(name)).to_path_buf();
                (!name.is_empty()).then_some(Self::Socket(path))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_anything_else_is_none() {
        let four = [
            &2_u16.to_ne_bytes()[..],
            &443_u16.to_be_bytes(),
            &[192, 0, 2, 7],
            &[0; 8],
        ]
        .concat();
        let expected = Address::Internet("192.0.2.7:443".parse().unwrap());
        assert_eq!(Address::read(&four), Some(expected));
        let unix = [&1_u16.to_ne_bytes()[..], b"/run/x.sock\0junk"].concat();
        assert_eq!(
            Address::read(&unix),
            Some(Address::Socket("/run/x.sock".into()))
        );
        let abstract_name = [&1_u16.to_ne_bytes()[..], b"\0name"].concat();
        assert_eq!(Address::read(&abstract_name), None);
        for length in 0..8 {
            assert_eq!(Address::read(&four[..length]), None);
        }
        assert_eq!(Address::read(&[9, 9, 9, 9]), None);
    }

    #[test]
    fn words_that_lead_back_are_taken_out() {
        let normal = |path| normal(Path::new(path)).display().to_string();
        assert_eq!(normal("/a/./b/../c"), "/a/c");
        assert_eq!(normal("/../../etc"), "/etc");
    }
}
