//! Hosts and grants that are provably low risk.
//!
//! Apart from commands because nothing has to be read here. Invariant: what is allowed writes nothing outside the walls
//! and reaches only places that serve files to everybody.

use exec_policy::Command;
use protocol::{AdditionalPermissions, NetworkAccess, NetworkProtocol, TriggerKind};

use super::scene::Scene;
use super::{Rule, fetch, places};

/// A registry, a mirror or public documentation on its web port.
pub(super) fn network(access: &NetworkAccess, trigger: &protocol::Trigger) -> Option<Rule> {
    let host = access.host.trim_end_matches('.').to_ascii_lowercase();
    let web = match access.protocol {
        NetworkProtocol::Https => access.port == 443,
        // Package files are signed; their mirrors speak plain HTTP.
        NetworkProtocol::Http => access.port == 80,
        NetworkProtocol::Socks5Tcp => matches!(access.port, 80 | 443),
        NetworkProtocol::Socks5Udp => false,
    };
    // A login there can publish; what says that it does is not taken for a fetch.
    let publishes = trigger.detail.as_deref().is_some_and(|detail| {
        detail.split(|c: char| !c.is_alphanumeric()).any(|word| {
            matches!(
                word,
                "publish" | "upload" | "push" | "deploy" | "release" | "login" | "yank"
            )
        })
    });
    let blocked = trigger.kind == TriggerKind::NetworkBlocked || trigger.detail.is_none();
    (web && blocked
        && !publishes
        && (fetch::serves_builds(&host) || fetch::serves_documents(&host)))
    .then_some(Rule::ReachesPublic)
}

/// Leave to read what holds no secret.
pub(super) fn permissions(
    wanted: &AdditionalPermissions,
    denied: &[String],
    scene: &Scene,
) -> Option<Rule> {
    let reads = !wanted.read.is_empty() && wanted.write.is_empty() && !wanted.network;
    (reads
        && denied.is_empty()
        && wanted
            .read
            .iter()
            .all(|path| is_readable(path.as_str(), scene)))
    .then_some(Rule::ReadsOpen)
}

pub(super) fn is_readable(path: &str, scene: &Scene) -> bool {
    let place = scene.locate_text(path);
    place.depth() >= 2
        && !path.split('/').any(|name| name.starts_with('.'))
        && !places::holds_credentials(&place, scene)
        && !places::is_secretive(&place)
        && !places::is_reviewers(&place, scene)
        && !places::holds_a_home(&place, scene)
        && !places::is_anothers(&place, scene)
        && !["proc", "sys", "dev", "run", "etc", "root"]
            .iter()
            .any(|name| place.starts_with(&[name]))
        && !place.starts_with(&["var", "lib"])
        && !place.starts_with(&["var", "run"])
        && !place.starts_with(&["var", "spool"])
}

/// Whether what is added to the walls is no more than commands that look, fetch or make something new may have.
pub(super) fn widens_little(
    wanted: &AdditionalPermissions,
    leaves: &[(usize, &Command)],
    scene: &Scene,
) -> bool {
    let reads = wanted
        .read
        .iter()
        .all(|path| is_readable(path.as_str(), scene));
    let writes = wanted.write.iter().all(|path| {
        let place = scene.locate_text(path.as_str());
        places::is_plain(&place, scene) && !scene.in_workspace(&place)
    });
    let network = !wanted.network
        || leaves.iter().all(|(at, command)| {
            super::services::looks(command)
                || fetch::fetches(*at, command, scene, fetch::Walls::Stand)
        });
    reads && writes && network
}
