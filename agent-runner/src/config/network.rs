//! What the layers say of the network: [`NetworkSettings`], and which way commands get out.
//!
//! Apart because four places speak of it (the mode's switch, the feature's table, a profile's, the managed one), and
//! because one function of `network-proxy` makes the policy of all of them. Invariant: a rule that cannot be read stops
//! everything, whether commands have a network now or not; nothing here turns a network on.

use std::path::PathBuf;

use exec_policy::{NetworkRule, RuleProtocol, Verdict};
use network_proxy::{
    CommandNetwork, Fault, HostRule, Permission, RawFeature, RawManagedNetwork, RawNetworkProxy,
    Routing,
};
use protocol::{Printable, TriggerKind};
use serde::Deserialize as _;
use toml::{Table, Value};

use super::error::{ConfigError, read_value, unsupported};
use super::layers::Settings;
use super::permissions::{Places, ProfileNetwork};
use super::shared_file::merge;
use super::{ApprovalPolicy, ApprovalsReviewer, Environment, SandboxMode};
use crate::route::{Category, may_ask};

/// The key of the shared file.
const FEATURE: &str = "features.network_proxy";

/// `[network]` of the runner's own file: what the shared one has no word for.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct NetworkTable {
    /// Patterns of the hosts whose TLS connections are opened and looked into.
    pub(super) intercepted_hosts: Vec<String>,
    /// A file of authorities beside this machine's, which such a host's certificate may be of.
    pub(crate) roots_file: Option<PathBuf>,
}

impl NetworkTable {
    /// Makes sure that it can be used, its paths made whole.
    ///
    /// # Errors
    /// The key that cannot, and why.
    pub(super) fn settled(
        mut self,
        environment: &Environment,
    ) -> Result<Self, (&'static str, String)> {
        for pattern in &self.intercepted_hosts {
            HostRule::parse(pattern).map_err(|error| {
                let reason = format!(
                    "`{}` is not a pattern of hosts: {error}",
                    Printable(pattern)
                );
                ("network.intercepted_hosts", reason)
            })?;
        }
        self.roots_file = self.roots_file.map(|path| environment.of_own_file(&path));
        Ok(self)
    }
}

/// What all layers say of the network, beside the switch that turns it on.
#[derive(Debug, Clone, Default)]
pub(crate) struct NetworkSettings {
    /// `features.network_proxy`, key by key.
    feature: Table,
    /// The profile's own rules, which lie over it.
    profile: Table,
    /// Whether the profile's rules are more than a switch: then they are held to, whatever the feature says.
    profile_wants_door: bool,
    managed: Option<Managed>,
    /// The file that spoke last.
    file: Option<String>,
}

#[derive(Debug, Clone)]
struct Managed {
    network: RawManagedNetwork,
    file: String,
}

impl NetworkSettings {
    /// One layer's `features.network_proxy`: a switch, or a table of which each key lies over what is below.
    pub(super) fn apply(&mut self, value: &Value, file: &str) -> Result<(), ConfigError> {
        let _read: RawFeature = read_value(value, file, FEATURE)?;
        if let Some(table) = value.as_table() {
            for (key, value) in table {
                merge(&mut self.feature, key, value);
            }
        } else {
            self.feature.insert("enabled".to_owned(), value.clone());
        }
        self.file = Some(file.to_owned());
        Ok(())
    }

    /// The managed word on the feature's switch.
    pub(super) fn pin(&mut self, on: bool, file: &str) {
        self.feature
            .insert("enabled".to_owned(), Value::Boolean(on));
        self.file = Some(file.to_owned());
    }

    /// `[experimental_network]` of a managed file; one that is not enabled says nothing.
    pub(super) fn manage(&mut self, mut table: Table, file: &str) -> Result<(), ConfigError> {
        if table.remove("header_injections").is_some() {
            return Err(unsupported(
                file,
                "experimental_network.header_injections",
                "fields added to requests",
            ));
        }
        let network: RawManagedNetwork =
            read_value(&Value::Table(table), file, "experimental_network")?;
        let alone = network_proxy::Settings {
            managed: Some(network.clone()),
            ..network_proxy::Settings::default()
        };
        alone
            .policy()
            .map_err(|faults| faulty(file, "experimental_network", &faults))?;
        self.managed = (network.enabled == Some(true)).then(|| Managed {
            network,
            file: file.to_owned(),
        });
        Ok(())
    }

    fn user(&self) -> RawNetworkProxy {
        let mut table = self.feature.clone();
        for (key, value) in &self.profile {
            merge(&mut table, key, value);
        }
        if self.profile_wants_door {
            table.insert("enabled".to_owned(), Value::Boolean(true));
        }
        // Each layer was read before it was merged, so that this cannot fail; should it, every host is a miss.
        RawNetworkProxy::deserialize(table).unwrap_or_else(|_| RawNetworkProxy {
            enabled: Some(true),
            ..RawNetworkProxy::default()
        })
    }

    fn managed(&self) -> Option<RawManagedNetwork> {
        self.managed.as_ref().map(|managed| managed.network.clone())
    }

    /// Which way commands get out, where they have a network or not.
    fn routing(&self, network: CommandNetwork) -> Routing {
        Routing::of(network, Some(&self.user()), self.managed().as_ref())
    }

    fn is_silent(&self) -> bool {
        self.feature.is_empty() && self.profile.is_empty() && self.managed.is_none()
    }
}

impl Settings {
    /// Whether the sandbox in force gives commands a network.
    pub(crate) fn command_network(&self) -> CommandNetwork {
        let by_profile = self.profile.as_ref().map(|profile| {
            let places = Places {
                workspace: &self.bases.cwd,
                added: &[],
                home: &self.bases.home,
            };
            profile.grants(places).network == ProfileNetwork::On
        });
        let on = by_profile.unwrap_or(match self.sandbox {
            SandboxMode::ReadOnly => false,
            SandboxMode::WorkspaceWrite => self.workspace_write.network_access,
            SandboxMode::DangerFullAccess => true,
        });
        if on {
            CommandNetwork::On
        } else {
            CommandNetwork::Off
        }
    }

    /// Which way commands inside the walls get out.
    pub(crate) fn routing(&self) -> Routing {
        self.network.routing(self.command_network())
    }

    /// The same where somebody grants a network to a command that has none.
    pub(crate) fn routing_by_grant(&self) -> Routing {
        self.network.routing(CommandNetwork::On)
    }

    /// What the door's policy is made of, without what only the host knows.
    pub(crate) fn network_policy(&self) -> network_proxy::Settings {
        let mut user = self.network.user();
        let domains = user.domains.get_or_insert_default();
        domains.0.extend(self.rules.network().iter().map(as_entry));
        network_proxy::Settings {
            user,
            managed: self.network.managed(),
            intercepted: self.runner.network.intercepted_hosts.clone(),
            misses: match self.asks_about_hosts() {
                Some(ApprovalsReviewer::AutoReview) => network_proxy::Misses::Ask,
                // A person is asked where there is a terminal: known when a command starts.
                Some(ApprovalsReviewer::User) | None => network_proxy::Misses::Refuse,
            },
            ..network_proxy::Settings::default()
        }
    }

    /// Whom a host that no rule names is put to; `None`: nobody may be asked. `untrusted` asks a person, whoever the reviewer
    /// is (design D28).
    pub(crate) fn asks_about_hosts(&self) -> Option<ApprovalsReviewer> {
        may_ask(self.approval, Category::Host).ok()?;
        Some(match self.approval {
            ApprovalPolicy::Untrusted => ApprovalsReviewer::User,
            ApprovalPolicy::Never
            | ApprovalPolicy::Granular(_)
            | ApprovalPolicy::OnRequest
            | ApprovalPolicy::OnFailure => self.asks(TriggerKind::NetworkBlocked),
        })
    }

    /// Takes the profile's word on the network over, and refuses what cannot stand.
    pub(super) fn settle_network(&mut self) -> Result<(), ConfigError> {
        if let Some(profile) = &self.profile {
            self.network.profile = profile.network_rules.clone();
            self.network.profile_wants_door = profile.wants_door();
        }
        if !self.network.is_silent() {
            let file = self.network.file.clone().unwrap_or_default();
            let settings = self.network_policy();
            let compiled = settings
                .policy()
                .map_err(|faults| faulty(&file, FEATURE, &faults))?;
            self.notes.extend(compiled.warnings);
            if compiled.policy.intercepts() && self.routing() == Routing::Door {
                self.notes.push(
                    "NETWORK: TLS connections to some hosts are opened and looked into (`mitm`, `intercepted_hosts`); their \
                     tools trust an authority of this command's own"
                        .to_owned(),
                );
            }
        }
        self.say_what_the_network_is()
    }

    fn say_what_the_network_is(&mut self) -> Result<(), ConfigError> {
        if self.sandbox == SandboxMode::DangerFullAccess && self.profile.is_none() {
            return match (&self.network.managed, self.routing()) {
                (Some(managed), _) => Err(unsupported(
                    &managed.file,
                    "experimental_network",
                    "a network by policy, which full access has no walls for",
                )),
                (None, Routing::Door) => {
                    self.notes.push(
                        "NETWORK: full access has no walls, so that `features.network_proxy` holds nobody to anything"
                            .to_owned(),
                    );
                    Ok(())
                }
                (None, Routing::Off | Routing::Direct) => Ok(()),
            };
        }
        if self.routing() == Routing::Direct {
            self.notes.push(
                "NETWORK: commands reach every host, unrestricted; `features.network_proxy = true` would hold them to rules"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

/// A rule of a rules file as an entry of the table of hosts. What forbids covers every port and protocol; what allows is
/// held to the port that goes with its protocol, where one does. What would have to be asked of somebody each time is
/// denied.
fn as_entry(rule: &NetworkRule) -> (String, Permission) {
    let host = if rule.host.contains(':') {
        format!("[{}]", rule.host)
    } else {
        rule.host.clone()
    };
    match (rule.verdict, rule.protocol) {
        (Verdict::Forbidden | Verdict::Prompt | Verdict::PromptUser, _) => (host, Permission::Deny),
        (Verdict::Allow, RuleProtocol::Http) => (format!("{host}:80"), Permission::Allow),
        (Verdict::Allow, RuleProtocol::Https) => (format!("{host}:443"), Permission::Allow),
        (Verdict::Allow, RuleProtocol::Socks5Tcp | RuleProtocol::Socks5Udp) => {
            (host, Permission::Allow)
        }
    }
}

fn faulty(file: &str, key: &'static str, faults: &[Fault]) -> ConfigError {
    ConfigError::Value {
        file: file.to_owned(),
        key,
        reason: faults.iter().map(whole).collect::<Vec<_>>().join("; "),
    }
}

/// A fault with its causes, on one line.
fn whole(fault: &Fault) -> String {
    let mut text = fault.to_string();
    let mut source = std::error::Error::source(fault);
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
