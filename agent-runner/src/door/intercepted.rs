//! The look into a command's TLS connections: the authority that is made for it, and what its tools are told to trust.
//!
//! Apart because it touches this machine's own lists of authorities. They are covered for the command alone, by copies with one
//! authority more; so a tool that is told nothing trusts it as well. Invariant: the key stays in this process; nothing here
//! runs where no host is listed.

use std::path::Path;
use std::sync::Arc;

use network_proxy::{Authorities, Interceptor, NetworkPolicy, bundles};
use sandbox::Sealed;

use crate::failure::Failure;
use crate::hold::lies_in;
use crate::prepare::Prepared;

/// What a command needs whose connections are opened.
#[derive(Debug)]
pub(super) struct Trusted {
    /// The authority that vouches for the hosts.
    pub(super) interceptor: Arc<Interceptor>,
    /// What stands over this machine's own lists of authorities.
    pub(super) sealed: Vec<Sealed>,
}

/// Where the command finds what to trust, if any of its connections may be opened.
pub(super) fn place(policy: &NetworkPolicy) -> Option<String> {
    if !policy.intercepts() {
        return None;
    }
    let first = bundles().into_iter().next()?;
    first.to_str().map(str::to_owned)
}

/// An authority for one command, and the files that say so; `None` where no connection is opened.
///
/// # Errors
/// This machine has no list of authorities, the file beside it cannot be used, or commands may write that file.
pub(super) fn trusted(
    policy: &NetworkPolicy,
    prepared: &Prepared,
) -> Result<Option<Trusted>, Failure> {
    if !policy.intercepts() {
        return Ok(None);
    }
    let mut authorities = Authorities::of_this_machine()?;
    if let Some(file) = &prepared.settings.runner.network.roots_file {
        refuse_writable(file, prepared)?;
        authorities = authorities.and(file)?;
    }
    let interceptor = authorities.client().and_then(Interceptor::new)?;
    let bundle = authorities.bundle(&interceptor);
    let covered = bundles().into_iter();
    let sealed = covered
        .map(|path| Sealed::new(path, bundle.clone()))
        .collect::<Result<_, _>>()?;
    Ok(Some(Trusted {
        interceptor: Arc::new(interceptor),
        sealed,
    }))
}

/// A command that can write the file could have any server pass for any host.
fn refuse_writable(file: &Path, prepared: &Prepared) -> Result<(), Failure> {
    let place = file.canonicalize().unwrap_or_else(|_| file.to_path_buf());
    if lies_in(&place, &prepared.changeable()) {
        return Err(Failure::because(format!(
            "`network.roots_file` is `{}`, which commands may write\nhint: keep it outside the workspace",
            file.display()
        )));
    }
    Ok(())
}
