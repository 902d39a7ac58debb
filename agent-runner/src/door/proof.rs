//! That a denied host is denied from inside, tried before a door is trusted.
//!
//! Apart because it costs a start of its own: what held is remembered for this boot, program and set of rules, in the state
//! folder, which no command can write. Invariant: where it does not hold, or cannot be tried, nothing runs behind the door.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use network_proxy::{
    Door, Misses, NoEvents, NoGate, Permission, Ports, Settings, Setup, SystemDialer,
    SystemResolver,
};
use protocol::{Canonical, Sha256Hex};
use sha2::{Digest as _, Sha256};

use crate::doctor::{DENIED, try_door};
use crate::failure::Failure;
use crate::state::State;

/// Tries a door of these settings from inside, unless the same was tried before.
///
/// # Errors
/// It does not hold, or cannot be tried: then nothing runs behind it (125).
pub(super) async fn prove(settings: Settings, state: &State) -> Result<(), Failure> {
    let place = state.door_proof();
    let key = key(&settings);
    if let (Ok(key), Ok(known)) = (&key, std::fs::read_to_string(&place))
        && *key == known
    {
        return Ok(());
    }
    let tested = try_door(door(settings)?).await.map_err(|failure| Failure {
        message: format!(
            "the network's door could not be tried here, so nothing ran behind it: {}",
            failure.message
        ),
        ..failure
    })?;
    if let Some(broken) = tested.broken() {
        return Err(Failure::because(format!(
            "the network's door does not hold here ({broken}); nothing ran\nhint: `agent-runner doctor` tells more"
        )));
    }
    if let Ok(key) = key {
        // Tried again the next time where it cannot be kept.
        keep(&place, &key).unwrap_or_default();
    }
    Ok(())
}

/// The same rules with one more that denies, whoever may be asked.
fn door(mut settings: Settings) -> Result<Door, Failure> {
    let domains = settings.user.domains.get_or_insert_default();
    domains.0.push((DENIED.to_owned(), Permission::Deny));
    settings.misses = Misses::Refuse;
    let compiled = settings
        .policy()
        .map_err(|_| Failure::because("the network policy cannot be used"))?;
    let ports = Ports {
        resolver: Arc::new(SystemResolver::default()),
        dialer: Arc::new(SystemDialer),
        gate: Arc::new(NoGate),
        events: Arc::new(NoEvents),
    };
    Ok(Door::new(compiled.policy, ports, Setup::default()))
}

/// What a proof depends on: this boot, this very program, these rules.
fn key(settings: &Settings) -> io::Result<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let own = std::env::current_exe()?.metadata()?;
    let mut bytes = Canonical::new("auto-review door's proof v1");
    bytes
        .text(&boot)
        .text(env!("CARGO_PKG_VERSION"))
        .number(own.dev())
        .number(own.ino())
        .number(own.size())
        .text(&format!("{}.{}", own.mtime(), own.mtime_nsec()))
        .text(&format!("{:?} {:?}", settings.user, settings.managed));
    let hash = Sha256::digest(bytes.as_bytes());
    Ok(Sha256Hex::of(&hash.into()).as_str().to_owned())
}

fn keep(place: &Path, key: &str) -> io::Result<()> {
    let beside = place.with_extension(format!("new-{}", uuid::Uuid::new_v4()));
    let write = || -> io::Result<()> {
        let mut new = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)?;
        new.write_all(key.as_bytes())?;
        std::fs::rename(&beside, place)
    };
    write().inspect_err(|_| std::fs::remove_file(&beside).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use network_proxy::{Permission, RawNetworkProxy, RuleTable, Settings};

    use super::key;

    #[test]
    fn other_rules_are_proven_anew() {
        let with = |host: &str| Settings {
            user: RawNetworkProxy {
                domains: Some(RuleTable(vec![(host.to_owned(), Permission::Allow)])),
                ..RawNetworkProxy::default()
            },
            ..Settings::default()
        };
        let of = |host| key(&with(host)).expect("a key");
        assert_eq!(of("site.test"), of("site.test"));
        assert_ne!(of("site.test"), of("*"));
    }
}
