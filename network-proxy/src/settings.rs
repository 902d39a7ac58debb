//! From settings to a policy: [`Settings::policy`], [`Routing::of`].
//!
//! Apart because files are read elsewhere; this takes their tables and reports every fault by its key.
//! INVARIANT: what is not understood is a fault, and with a fault there is no policy. What managed settings say wins; a
//! user's deny rule always counts.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use secrecy::SecretString;

pub use raw::{Permission, RawFeature, RawHook, RawManagedNetwork, RawNetworkProxy, RuleTable};

use crate::head::Method;
use crate::hook::Hook;
use crate::host::{Host, HostName, InvalidHost};
use crate::policy::{Local, Looking, Misses, NetworkPolicy, SniCheck, Socks};
use crate::rule::{HostRule, InvalidRule, RuleSet};
use crate::unix::{AllowedSockets, InvalidSocket};
use crate::upstream::{InvalidUpstream, UpstreamProxy};

mod raw;

/// Whether commands have network, and by which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Routing {
    /// None.
    Off,
    /// The machine's own, unrestricted.
    Direct,
    /// Through the door alone.
    Door,
}

/// Whether the active sandbox gives commands network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandNetwork {
    /// It does not; nothing here turns it on.
    Off,
    /// It does.
    On,
}

impl Routing {
    /// The documented table: network off stays off; on without the feature is direct; on with it goes through the door.
    #[must_use]
    pub fn of(
        network: CommandNetwork,
        user: Option<&RawNetworkProxy>,
        managed: Option<&RawManagedNetwork>,
    ) -> Self {
        let door = user.is_some_and(|user| user.enabled == Some(true))
            || managed.is_some_and(|managed| managed.enabled == Some(true));
        match network {
            CommandNetwork::Off => Self::Off,
            CommandNetwork::On if door => Self::Door,
            CommandNetwork::On => Self::Direct,
        }
    }
}

/// Everything a policy is made of.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The user's table.
    pub user: RawNetworkProxy,
    /// The managed table; where it is enabled, it binds the user's.
    pub managed: Option<RawManagedNetwork>,
    /// What a miss leads to, by the approval policy. Managed settings may turn `Ask` into `Refuse`, never the reverse.
    pub misses: Misses,
    /// The check of TLS server names: ours, not in the shared file.
    pub sni_check: SniCheck,
    /// Patterns of the hosts whose TLS connections are opened and looked into: ours, not in the shared file. Empty: what `mitm`
    /// of the user's table says.
    pub intercepted: Vec<String>,
    /// The upstream proxy's URL from the runner's own environment, where there is one.
    pub upstream: Option<SecretString>,
    /// This machine's own addresses; see [`own_addresses`](crate::own_addresses).
    pub own_addresses: HashSet<IpAddr>,
    /// A token that clients have to show. Not needed where the listener itself says who calls.
    pub token: Option<SecretString>,
}

/// Something wrong, by its key.
#[derive(Debug, thiserror::Error)]
#[error("`{key}` is not valid")]
pub struct Fault {
    /// Table, key and entry.
    pub key: String,
    /// What is wrong with it.
    #[source]
    pub error: InvalidSetting,
}

/// What can be wrong.
#[derive(Debug, thiserror::Error)]
pub enum InvalidSetting {
    /// A pattern.
    #[error("not a pattern of hosts")]
    Rule(#[source] InvalidRule),
    /// A socket's path.
    #[error("not a socket's path")]
    Socket(#[source] InvalidSocket),
    /// The upstream proxy.
    #[error("not an upstream proxy")]
    Upstream(#[source] InvalidUpstream),
    /// A hook's host.
    #[error("not a host")]
    Host(#[source] InvalidHost),
    /// A hook without methods or paths, or with one that is none.
    #[error(
        "a hook needs a method and a path that begins with `/`, and `mitm = true` or a list of hosts"
    )]
    Hook,
    /// A listener's URL.
    #[error("not a listener's URL such as `http://127.0.0.1:3128`")]
    Listener,
    /// Old and new spellings of the same thing.
    #[error("the older and the newer spelling cannot both be used")]
    TwoSpellings,
}

/// A policy, and what a person should hear about it.
#[derive(Debug, Clone)]
pub struct CompiledPolicy {
    /// What decides.
    pub policy: NetworkPolicy,
    /// Where listeners bind when they are not made inside a sandbox.
    pub listen: Listen,
    /// What is allowed, and probably not meant.
    pub warnings: Vec<String>,
}

/// Where listeners bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    /// HTTP and, on the same port, SOCKS5.
    pub http: SocketAddr,
    /// SOCKS5 and, on the same port, HTTP.
    pub socks: SocketAddr,
}

impl Settings {
    /// Makes the policy.
    ///
    /// # Errors
    /// Every fault there is, not only the first.
    pub fn policy(&self) -> Result<CompiledPolicy, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut policy = NetworkPolicy {
            local: if self.pick(
                |raw| raw.allow_local_binding,
                |raw| raw.allow_local_binding,
                false,
            ) {
                Local::Open
            } else {
                Local::Closed
            },
            own: self.own_addresses.clone(),
            mode: self.user.mode.unwrap_or_default(),
            misses: self.misses(),
            sni: self.sni_check,
            socks: self.socks(),
            token: self.token.clone(),
            ..NetworkPolicy::default()
        };
        self.add_domains(&mut policy, &mut faults);
        self.add_sockets(&mut policy, &mut faults);
        self.add_hooks(&mut policy, &mut faults);
        self.add_upstream(&mut policy, &mut faults);
        let listen = self.listen(&policy, &mut faults);
        if !faults.is_empty() {
            return Err(faults);
        }
        let warnings = warnings(&policy);
        Ok(CompiledPolicy {
            policy,
            listen,
            warnings,
        })
    }

    fn managed(&self) -> Option<&RawManagedNetwork> {
        self.managed.as_ref()
    }

    /// The managed value, else the user's, else the default.
    fn pick<Managed, User>(&self, managed: Managed, user: User, default: bool) -> bool
    where
        Managed: Fn(&RawManagedNetwork) -> Option<bool>,
        User: Fn(&RawNetworkProxy) -> Option<bool>,
    {
        self.managed()
            .and_then(managed)
            .or_else(|| user(&self.user))
            .unwrap_or(default)
    }

    fn only_managed(&self) -> bool {
        self.managed()
            .is_some_and(|managed| managed.managed_allowed_domains_only == Some(true))
    }

    fn misses(&self) -> Misses {
        if self.only_managed() {
            Misses::Refuse
        } else {
            self.misses
        }
    }

    fn socks(&self) -> Socks {
        match (self.user.enable_socks5, self.user.enable_socks5_udp) {
            (Some(false), _) => Socks::Off,
            (_, Some(false)) => Socks::Tcp,
            _ => Socks::TcpAndUdp,
        }
    }

    fn add_domains(&self, policy: &mut NetworkPolicy, faults: &mut Vec<Fault>) {
        let user = self.user.domains.iter().flat_map(|table| &table.0);
        for (pattern, permission) in user {
            let counts = *permission == Permission::Deny || !self.only_managed();
            if counts {
                add_rule(policy, ("domains", pattern.as_str()), *permission, faults);
            }
        }
        let Some(managed) = self.managed() else {
            return;
        };
        if managed.domains.is_some()
            && (managed.allowed_domains.is_some() || managed.denied_domains.is_some())
        {
            faults.push(Fault {
                key: "experimental_network.domains".to_owned(),
                error: InvalidSetting::TwoSpellings,
            });
        }
        for (pattern, permission) in managed.domains.iter().flat_map(|table| &table.0) {
            add_rule(
                policy,
                ("experimental_network.domains", pattern.as_str()),
                *permission,
                faults,
            );
        }
        for pattern in managed.allowed_domains.iter().flatten() {
            add_rule(
                policy,
                ("experimental_network.allowed_domains", pattern),
                Permission::Allow,
                faults,
            );
        }
        for pattern in managed.denied_domains.iter().flatten() {
            add_rule(
                policy,
                ("experimental_network.denied_domains", pattern),
                Permission::Deny,
                faults,
            );
        }
        let reviewed = managed
            .review_domains
            .iter()
            .flatten()
            .filter(|_| !self.only_managed());
        for pattern in reviewed {
            match HostRule::parse(pattern) {
                Ok(rule) => policy.review.insert(rule),
                Err(error) => faults.push(Fault {
                    key: format!("experimental_network.review_domains.\"{pattern}\""),
                    error: InvalidSetting::Rule(error),
                }),
            }
        }
    }

    fn add_sockets(&self, policy: &mut NetworkPolicy, faults: &mut Vec<Fault>) {
        if self.pick(
            |raw| raw.dangerously_allow_all_unix_sockets,
            |raw| raw.dangerously_allow_all_unix_sockets,
            false,
        ) {
            policy.unix = AllowedSockets::all();
        }
        let managed = self.managed();
        if managed.is_some_and(|raw| raw.unix_sockets.is_some() && raw.allow_unix_sockets.is_some())
        {
            faults.push(Fault {
                key: "experimental_network.unix_sockets".to_owned(),
                error: InvalidSetting::TwoSpellings,
            });
        }
        let tables = [
            self.user.unix_sockets.as_ref(),
            managed.and_then(|raw| raw.unix_sockets.as_ref()),
        ];
        let entries = tables
            .into_iter()
            .flatten()
            .flat_map(|table| table.0.iter().map(|(path, permission)| (path, *permission)));
        let older = managed
            .and_then(|raw| raw.allow_unix_sockets.as_ref())
            .into_iter()
            .flatten();
        for (path, permission) in entries.chain(older.map(|path| (path, Permission::Allow))) {
            let added = match permission {
                Permission::None => Ok(()),
                Permission::Allow => policy.unix.allow(path),
                Permission::Deny => policy.unix.deny(path),
            };
            if let Err(error) = added {
                faults.push(Fault {
                    key: format!("unix_sockets.\"{path}\""),
                    error: InvalidSetting::Socket(error),
                });
            }
        }
    }

    fn add_hooks(&self, policy: &mut NetworkPolicy, faults: &mut Vec<Fault>) {
        let raw = self.user.mitm_hooks.as_deref().unwrap_or_default();
        if self.user.mitm != Some(true) && self.intercepted.is_empty() {
            if !raw.is_empty() {
                faults.push(Fault {
                    key: "mitm_hooks".to_owned(),
                    error: InvalidSetting::Hook,
                });
            }
            return;
        }
        let mut hooks = Vec::new();
        for hook in raw {
            match read_hook(hook) {
                Ok(hook) => hooks.push(hook),
                Err(error) => faults.push(Fault {
                    key: format!("mitm_hooks.\"{}\"", hook.host),
                    error,
                }),
            }
        }
        let mut listed = RuleSet::default();
        for pattern in &self.intercepted {
            match HostRule::parse(pattern) {
                Ok(rule) => listed.insert(rule),
                Err(error) => faults.push(Fault {
                    key: format!("network.intercepted_hosts.\"{pattern}\""),
                    error: InvalidSetting::Rule(error),
                }),
            }
        }
        policy.looking = if self.intercepted.is_empty() {
            Looking::Tls(hooks)
        } else {
            Looking::Listed(listed, hooks)
        };
    }

    fn add_upstream(&self, policy: &mut NetworkPolicy, faults: &mut Vec<Fault>) {
        let wanted = self.pick(
            |raw| raw.allow_upstream_proxy,
            |raw| raw.allow_upstream_proxy,
            true,
        );
        let Some(url) = self.upstream.as_ref().filter(|_| wanted) else {
            return;
        };
        match UpstreamProxy::parse(url) {
            Ok(upstream) => policy.upstream = Some(Arc::new(upstream)),
            Err(error) => faults.push(Fault {
                key: "upstream proxy".to_owned(),
                error: InvalidSetting::Upstream(error),
            }),
        }
    }

    /// Where listeners bind: loopback, unless the dangerous setting says otherwise and no Unix socket is in reach.
    fn listen(&self, policy: &NetworkPolicy, faults: &mut Vec<Fault>) -> Listen {
        let beyond = self.pick(
            |raw| raw.dangerously_allow_non_loopback_proxy,
            |raw| raw.dangerously_allow_non_loopback_proxy,
            false,
        ) && policy.unix.is_empty();
        let managed = self.managed();
        let mut at = |key: &str, url: Option<&str>, port: Option<u16>| {
            let read = url.map_or_else(
                || Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
                listen_address,
            );
            let mut address = read.unwrap_or_else(|| {
                faults.push(Fault {
                    key: key.to_owned(),
                    error: InvalidSetting::Listener,
                });
                SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
            });
            if let Some(port) = port {
                address.set_port(port);
            }
            if !beyond && !address.ip().is_loopback() {
                address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
            }
            address
        };
        Listen {
            http: at(
                "proxy_url",
                self.user.proxy_url.as_deref(),
                managed.and_then(|raw| raw.http_port),
            ),
            socks: at(
                "socks_url",
                self.user.socks_url.as_deref(),
                managed.and_then(|raw| raw.socks_port),
            ),
        }
    }
}

fn add_rule(
    policy: &mut NetworkPolicy,
    at: (&str, &str),
    permission: Permission,
    faults: &mut Vec<Fault>,
) {
    let (table, pattern) = at;
    let fault = |error| Fault {
        key: format!("{table}.\"{pattern}\""),
        error: InvalidSetting::Rule(error),
    };
    match (HostRule::parse(pattern), permission) {
        (Err(error), _) => faults.push(fault(error)),
        (Ok(_), Permission::None) => {}
        (Ok(rule), Permission::Allow) => policy.allow.insert(rule),
        (Ok(rule), Permission::Deny) if rule.is_global() => {
            faults.push(fault(InvalidRule::DenyAll))
        }
        (Ok(rule), Permission::Deny) => policy.deny.insert(rule),
    }
}

fn read_hook(raw: &RawHook) -> Result<Hook, InvalidSetting> {
    let ascii = crate::host::to_ascii(raw.host.trim()).map_err(InvalidSetting::Host)?;
    let host = Host::parse(ascii.as_bytes()).map_err(InvalidSetting::Host)?;
    let methods: Option<Vec<Method>> = raw
        .methods
        .iter()
        .map(|method| Method::parse(method))
        .collect();
    let methods = methods
        .filter(|methods| !methods.is_empty())
        .ok_or(InvalidSetting::Hook)?;
    let paths = !raw.path_prefixes.is_empty()
        && raw
            .path_prefixes
            .iter()
            .all(|prefix| prefix.starts_with('/'));
    if !paths {
        return Err(InvalidSetting::Hook);
    }
    Ok(Hook {
        host,
        methods,
        prefixes: raw.path_prefixes.clone(),
    })
}

/// `scheme://host:port`; a host that is no address means loopback.
fn listen_address(url: &str) -> Option<SocketAddr> {
    let (scheme, rest) = url.split_once("://")?;
    if !matches!(scheme, "http" | "socks5" | "socks5h") {
        return None;
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if let Ok(address) = rest.parse::<SocketAddr>() {
        return Some(address);
    }
    let (host, port) = rest.split_once(':')?;
    let port = port.parse().ok()?;
    match Host::parse(host.as_bytes()).ok()? {
        Host::Address(address) => Some(SocketAddr::new(address, port)),
        Host::Name(_) => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
    }
}

/// What is valid, and probably not meant.
fn warnings(policy: &NetworkPolicy) -> Vec<String> {
    let mut warnings = Vec::new();
    for rule in policy.allow.rules().filter(|rule| rule.is_registry_wide()) {
        warnings.push(format!("`{rule}` allows every name below a single label"));
    }
    for rule in policy.deny.rules() {
        let Some(Host::Name(name)) = rule.exact() else {
            continue;
        };
        if allows_below(&policy.allow, name) {
            warnings.push(format!(
                "`{rule}` is denied, but names below it are allowed\nhint: write `**.{rule}` to deny these too"
            ));
        }
    }
    warnings.sort();
    warnings
}

fn allows_below(allow: &RuleSet, name: &HostName) -> bool {
    Host::parse(format!("x.{}", name.as_str()).as_bytes()).is_ok_and(|below| {
        allow.rules().any(|rule| {
            rule.exact().is_none()
                && !rule.is_global()
                && [443, 80, 22].iter().any(|port| rule.covers(&below, *port))
        })
    })
}

#[cfg(test)]
mod tests;
