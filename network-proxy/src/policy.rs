//! What may be reached: [`NetworkPolicy::check`] by name, [`NetworkPolicy::vet`] by address. Pure.
//!
//! Apart because every way in (HTTP, SOCKS5, DNS, transparent, `proxy check`) has to get the same answer.
//! INVARIANT: a [`Vetted`] address comes from `check` or `vet` alone, and only a `Vetted` address can be dialled. `deny` is
//! asked before everything else; a name that is not allowed is never looked up.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use secrecy::SecretString;

use crate::address::{AddressClass, class_of, faces};
use crate::head::Method;
use crate::hook::Hook;
use crate::host::{Destination, Host, HostName};
use crate::refusal::{Reason, Refusal};
use crate::rule::{HostRule, RuleSet};
use crate::unix::AllowedSockets;
use crate::upstream::UpstreamProxy;

/// How many addresses of one answer are kept: enough for every real service, bounded for a hostile one.
const MOST_ADDRESSES: usize = 64;

/// Names under which clouds hand out their machines' credentials. They are refused before any lookup.
const METADATA_NAMES: [&str; 8] = [
    "metadata",
    "metadata.google.internal",
    "metadata.goog",
    "instance-data",
    "instance-data.ec2.internal",
    "metadata.azure.internal",
    "metadata.tencentyun.com",
    "metadata.platformequinix.com",
];

/// What may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Any method, any tunnel.
    #[default]
    Full,
    /// GET, HEAD and OPTIONS without a body; tunnels only where they are looked into.
    Limited,
}

/// What happens to a host that no rule names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Misses {
    /// It is refused.
    #[default]
    Refuse,
    /// The [`Gate`](crate::Gate) is asked.
    Ask,
}

/// Whether the server name of a TLS handshake has to be the tunnel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SniCheck {
    /// Not looked at.
    Off,
    /// A mismatch, or no name, closes the tunnel.
    #[default]
    Enforce,
    /// As `enforce`, and a handshake that hides an inner name (ECH) is closed too, whether it is real or decoration.
    Strict,
}

/// Which SOCKS5 commands are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Socks {
    /// None.
    Off,
    /// CONNECT.
    Tcp,
    /// CONNECT and UDP ASSOCIATE.
    #[default]
    TcpAndUdp,
}

/// Which tunnels are opened and looked into.
#[derive(Debug, Clone, Default)]
pub(crate) enum Looking {
    /// None.
    #[default]
    Never,
    /// At port 443, every tunnel in limited mode; in full mode those of hosts that have hooks.
    Tls(Vec<Hook>),
    /// Those of the hosts that are listed or have hooks, whatever the mode: at port 443, or at the port that a pattern names.
    Listed(RuleSet, Vec<Hook>),
}

/// Everything that decides, valid; made by [`Settings::policy`](crate::Settings::policy).
#[derive(Debug, Clone, Default)]
pub struct NetworkPolicy {
    pub(crate) allow: RuleSet,
    pub(crate) deny: RuleSet,
    pub(crate) review: RuleSet,
    pub(crate) local: Local,
    pub(crate) own: HashSet<IpAddr>,
    pub(crate) mode: Mode,
    pub(crate) misses: Misses,
    pub(crate) sni: SniCheck,
    pub(crate) socks: Socks,
    pub(crate) looking: Looking,
    pub(crate) unix: AllowedSockets,
    pub(crate) upstream: Option<Arc<UpstreamProxy>>,
    pub(crate) token: Option<SecretString>,
}

/// Whether local and private places are open to rules that do not name them exactly (`allow_local_binding`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Local {
    /// Only by an exact rule.
    #[default]
    Closed,
    /// By any rule.
    Open,
}

/// An address that the policy has let through, with its port: the only thing that can be dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Vetted(SocketAddr);

impl Vetted {
    /// Where to.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.0
    }
}

/// How an allowed destination is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// At once: the addresses are part of the request.
    Addresses(Vec<Vetted>),
    /// By looking the name up and vetting the whole answer.
    Name(HostName),
}

/// What the policy says to a destination, before any lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// A rule allows it.
    Allowed {
        /// The rule.
        rule: HostRule,
        /// What is left to do.
        reach: Reach,
    },
    /// No rule names it: a plain miss, the only thing that can be asked about.
    Unlisted(Reach),
    /// It stays closed, whoever is asked.
    Blocked(Refusal),
}

impl NetworkPolicy {
    /// Decides by name, or by address where the request holds one. Looks nothing up.
    #[must_use]
    pub fn check(&self, to: &Destination) -> Access {
        if let Some(rule) = self.denied(&to.host, to.port) {
            return Access::Blocked(Refusal::of(Reason::Denied, to).with_rule(rule));
        }
        match &to.host {
            Host::Address(address) => self.check_address(to, *address),
            Host::Name(name) if METADATA_NAMES.contains(&name.as_str()) => {
                Access::Blocked(local(to, AddressClass::Metadata))
            }
            Host::Name(name) if name.as_str() == "localhost" => {
                self.check_localhost(to, Exactly::Counts)
            }
            Host::Name(name) if name.as_str().ends_with(".localhost") => {
                self.check_localhost(to, Exactly::DoesNotCount)
            }
            Host::Name(name) => self.listed(to, Reach::Name(name.clone())),
        }
    }

    /// Holds a whole answer against the policy: one address that may not be reached closes the name.
    ///
    /// # Errors
    /// Where the answer is empty, or holds an address that is denied or not public.
    pub fn vet(&self, to: &Destination, answer: &[IpAddr]) -> Result<Vec<Vetted>, Refusal> {
        if answer.is_empty() {
            return Err(Refusal::of(Reason::DnsFailed, to));
        }
        for address in answer {
            if let Some(rule) = self.denied(&Host::from(*address), to.port) {
                return Err(Refusal::of(Reason::Denied, to).with_rule(rule));
            }
            let class = self.class(*address);
            let open = class == AddressClass::Public
                || self.local == Local::Open && class.opened_by_local_binding();
            if !open {
                return Err(local(to, class));
            }
        }
        let kept = answer.iter().take(MOST_ADDRESSES);
        Ok(kept.map(|address| vetted(*address, to.port)).collect())
    }

    /// The class of an address, this machine's own ones included.
    #[must_use]
    pub fn class(&self, address: IpAddr) -> AddressClass {
        let class = class_of(address);
        let own =
            class == AddressClass::Public && faces(address).any(|face| self.own.contains(&face));
        if own { AddressClass::Own } else { class }
    }

    /// Whether a method, with or without a body, may be sent in this mode.
    pub(crate) fn permits(&self, method: &Method, body: BodyKind) -> bool {
        match self.mode {
            Mode::Full => true,
            Mode::Limited => method.is_reading() && body == BodyKind::None,
        }
    }

    /// Whether a miss on this host is put to the gate.
    #[must_use]
    pub fn asks(&self, to: &Destination) -> bool {
        self.misses == Misses::Ask || self.review.find(&to.host, to.port).is_some()
    }

    /// The hooks of a host, where tunnels to it are looked into.
    pub(crate) fn looks_into(&self, to: &Destination) -> Option<Vec<Hook>> {
        let (hooks, listed) = match &self.looking {
            Looking::Never => return None,
            Looking::Tls(hooks) => (hooks, self.mode == Mode::Limited && to.port == 443),
            Looking::Listed(hosts, hooks) => {
                let listed = hosts.find(&to.host, to.port);
                let here = listed.is_some_and(|rule| to.port == 443 || rule.names_a_port());
                (hooks, here)
            }
        };
        let own = hooks.iter().filter(|hook| hook.host == to.host);
        let own: Vec<Hook> = own.cloned().collect();
        let wanted = listed || to.port == 443 && !own.is_empty();
        wanted.then_some(own)
    }

    /// Whether any tunnel may have to be looked into: then an [`Interceptor`](crate::Interceptor) is needed.
    #[must_use]
    pub fn intercepts(&self) -> bool {
        match &self.looking {
            Looking::Never => false,
            Looking::Tls(hooks) => self.mode == Mode::Limited || !hooks.is_empty(),
            Looking::Listed(..) => true,
        }
    }

    /// Whether a rule of any port allows the host.
    pub(crate) fn allows_some_port(&self, host: &Host) -> bool {
        self.allow.covers_at_some_port(host)
    }

    /// Whether a rule of any port allows exactly this host.
    pub(crate) fn names_exactly(&self, host: &Host) -> bool {
        self.allow.rules().any(|rule| rule.exact() == Some(host))
    }

    fn denied(&self, host: &Host, port: u16) -> Option<&HostRule> {
        match host {
            Host::Name(_) => self.deny.find(host, port),
            Host::Address(address) => {
                faces(*address).find_map(|face| self.deny.find(&Host::from(face), port))
            }
        }
    }

    fn check_address(&self, to: &Destination, address: IpAddr) -> Access {
        let class = self.class(address);
        let reach = Reach::Addresses(vec![vetted(address, to.port)]);
        if class == AddressClass::Public {
            return self.listed(to, reach);
        }
        let exact = self
            .allow
            .find_exact(&to.host, to.port)
            .filter(|_| !class.never());
        let opened = self.local == Local::Open && class.opened_by_local_binding();
        let rule = exact.or_else(|| self.allow.find(&to.host, to.port).filter(|_| opened));
        match rule {
            Some(rule) => Access::Allowed {
                rule: rule.clone(),
                reach,
            },
            None => Access::Blocked(local(to, class)),
        }
    }

    /// `localhost` never goes to a resolver: it is the loopback addresses (RFC 6761 §6.3).
    fn check_localhost(&self, to: &Destination, exactly: Exactly) -> Access {
        let rule = match (exactly, self.local) {
            (_, Local::Open) => self.allow.find(&to.host, to.port),
            (Exactly::Counts, Local::Closed) => self.allow.find_exact(&to.host, to.port),
            (Exactly::DoesNotCount, Local::Closed) => None,
        };
        let loopback = [
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
        ];
        match rule {
            Some(rule) => Access::Allowed {
                rule: rule.clone(),
                reach: Reach::Addresses(loopback.map(|address| vetted(address, to.port)).to_vec()),
            },
            None => Access::Blocked(local(to, AddressClass::Loopback)),
        }
    }

    fn listed(&self, to: &Destination, reach: Reach) -> Access {
        match self.allow.find(&to.host, to.port) {
            Some(rule) => Access::Allowed {
                rule: rule.clone(),
                reach,
            },
            None => Access::Unlisted(reach),
        }
    }
}

/// Whether a request carries a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyKind {
    /// No byte of one.
    None,
    /// Some.
    Some,
}

/// Whether an exact rule is enough for a local name.
#[derive(Debug, Clone, Copy)]
enum Exactly {
    Counts,
    DoesNotCount,
}

fn vetted(address: IpAddr, port: u16) -> Vetted {
    Vetted(SocketAddr::new(address.to_canonical(), port))
}

fn local(to: &Destination, class: AddressClass) -> Refusal {
    Refusal::of(Reason::NotAllowedLocal, to).with_class(class)
}

#[cfg(test)]
mod tests;
