//! Why something is not done, and how that is told: [`Reason`] and [`Refusal`].
//!
//! Apart because HTTP, SOCKS, events and people read the same fact. Pure.
//! INVARIANT: wording, status and reply code are chosen by variant; text from the wire is shown only as a parsed host.

use serde::Serialize;

use crate::address::AddressClass;
use crate::host::Destination;
use crate::rule::HostRule;

/// The stable reason of a refusal; [`Reason::code`] is what programs match on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// No rule allows the host.
    NotAllowed,
    /// A rule denies it.
    Denied,
    /// The address is not a public one.
    NotAllowedLocal,
    /// The request leads back to the door.
    OwnListener,
    /// The name has no address.
    DnsFailed,
    /// The lookup took too long.
    DnsTimeout,
    /// Too many different names, or too many at once, were asked for.
    NameLimit,
    /// Limited mode: the method is none of GET, HEAD, OPTIONS, or the request carries a body.
    MethodNotAllowed,
    /// Limited mode cannot look into the tunnel.
    MitmRequired,
    /// The host has rules for methods and paths, and none matches.
    MitmHookDenied,
    /// The TLS server name is not the tunnel's.
    SniMismatch,
    /// The bytes are not what the protocol says.
    Malformed,
    /// The listener wants a token, and this was none.
    Unauthenticated,
    /// The reviewer or the person said no.
    ReviewDenied,
    /// Nobody answered in time.
    ReviewTimeout,
    /// The review did not come off.
    ReviewFailed,
    /// Too many questions wait already.
    PendingLimit,
    /// Too many tunnels are open.
    TunnelLimit,
    /// The destination does not take the connection.
    UpstreamRefused,
    /// The destination does not answer.
    UpstreamTimeout,
    /// The destination's answer is not HTTP.
    UpstreamInvalid,
    /// The proxy behind this one refused.
    UpstreamProxyError,
    /// The dialect is switched off.
    ProxyDisabled,
    /// The socket's path is not listed, or not the socket that was listed.
    UnixSocketDenied,
}

impl Reason {
    /// The code: what `x-proxy-reason` and events carry.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NotAllowed => "not_allowed",
            Self::Denied => "denied",
            Self::NotAllowedLocal => "not_allowed_local",
            Self::OwnListener => "self",
            Self::DnsFailed => "dns_failed",
            Self::DnsTimeout => "dns_timeout",
            Self::NameLimit => "name_limit",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::MitmRequired => "mitm_required",
            Self::MitmHookDenied => "mitm_hook_denied",
            Self::SniMismatch => "sni_mismatch",
            Self::Malformed => "malformed",
            Self::Unauthenticated => "unauthenticated",
            Self::ReviewDenied => "review_denied",
            Self::ReviewTimeout => "review_timeout",
            Self::ReviewFailed => "review_failed",
            Self::PendingLimit => "pending_limit",
            Self::TunnelLimit => "tunnel_limit",
            Self::UpstreamRefused => "upstream_refused",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::UpstreamInvalid => "upstream_invalid",
            Self::UpstreamProxyError => "upstream_proxy_error",
            Self::ProxyDisabled => "proxy_disabled",
            Self::UnixSocketDenied => "unix_socket_denied",
        }
    }

    /// The value of `x-proxy-error`, by which other tools already know a blocked request.
    #[must_use]
    pub const fn proxy_error(self) -> &'static str {
        match self {
            Self::NotAllowed | Self::NotAllowedLocal => "blocked-by-allowlist",
            Self::Denied => "blocked-by-denylist",
            Self::MethodNotAllowed => "blocked-by-method-policy",
            Self::MitmRequired => "blocked-by-mitm-required",
            Self::MitmHookDenied => "blocked-by-mitm-hook",
            Self::DnsFailed
            | Self::DnsTimeout
            | Self::UpstreamRefused
            | Self::UpstreamTimeout
            | Self::UpstreamInvalid
            | Self::UpstreamProxyError => "upstream-failed",
            Self::OwnListener
            | Self::SniMismatch
            | Self::Malformed
            | Self::Unauthenticated
            | Self::ReviewDenied
            | Self::ReviewTimeout
            | Self::ReviewFailed
            | Self::PendingLimit
            | Self::TunnelLimit
            | Self::NameLimit
            | Self::ProxyDisabled
            | Self::UnixSocketDenied => "blocked-by-policy",
        }
    }

    /// The HTTP status.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::Unauthenticated => 407,
            Self::NotAllowed
            | Self::Denied
            | Self::NotAllowedLocal
            | Self::OwnListener
            | Self::MethodNotAllowed
            | Self::MitmRequired
            | Self::MitmHookDenied
            | Self::SniMismatch
            | Self::ReviewDenied
            | Self::ReviewTimeout
            | Self::ReviewFailed
            | Self::ProxyDisabled
            | Self::UnixSocketDenied => 403,
            Self::DnsFailed
            | Self::UpstreamRefused
            | Self::UpstreamInvalid
            | Self::UpstreamProxyError => 502,
            Self::PendingLimit | Self::TunnelLimit | Self::NameLimit => 503,
            Self::DnsTimeout | Self::UpstreamTimeout => 504,
        }
    }

    /// The SOCKS5 reply (RFC 1928 §6).
    #[must_use]
    pub const fn socks_reply(self) -> u8 {
        match self {
            Self::NotAllowed
            | Self::Denied
            | Self::NotAllowedLocal
            | Self::OwnListener
            | Self::MethodNotAllowed
            | Self::MitmRequired
            | Self::MitmHookDenied
            | Self::SniMismatch
            | Self::Unauthenticated
            | Self::ReviewDenied
            | Self::ReviewTimeout
            | Self::ReviewFailed
            | Self::UnixSocketDenied => 2,
            Self::Malformed
            | Self::PendingLimit
            | Self::TunnelLimit
            | Self::NameLimit
            | Self::UpstreamInvalid
            | Self::UpstreamProxyError => 1,
            Self::DnsFailed | Self::DnsTimeout | Self::UpstreamTimeout => 4,
            Self::UpstreamRefused => 5,
            Self::ProxyDisabled => 7,
        }
    }

    /// Whether this is the policy's or the reviewer's no, and not a fault on the way.
    #[must_use]
    pub const fn is_policy(self) -> bool {
        self.status() == 403
    }

    const fn words(self) -> &'static str {
        match self {
            Self::NotAllowed => "no rule allows this host",
            Self::Denied => "a rule denies this host",
            Self::NotAllowedLocal => "this is not a public address",
            Self::OwnListener => "the request leads back to this proxy",
            Self::DnsFailed => "the name has no address",
            Self::DnsTimeout => "the name lookup took too long",
            Self::NameLimit => "this command has asked for too many names",
            Self::MethodNotAllowed => {
                "limited mode allows GET, HEAD and OPTIONS without a body only"
            }
            Self::MitmRequired => "limited mode cannot look into this tunnel",
            Self::MitmHookDenied => "no rule of this host allows this method and path",
            Self::SniMismatch => "the TLS server name is not the name that was asked for",
            Self::Malformed => "the request is malformed",
            Self::Unauthenticated => "the proxy wants its token",
            Self::ReviewDenied => "the reviewer denied this host",
            Self::ReviewTimeout => "the review was not answered in time",
            Self::ReviewFailed => "the review did not come off",
            Self::PendingLimit => "too many hosts wait for their review",
            Self::TunnelLimit => "too many connections are open",
            Self::UpstreamRefused => "the destination does not take the connection",
            Self::UpstreamTimeout => "the destination does not answer",
            Self::UpstreamInvalid => "the destination's answer is not valid HTTP",
            Self::UpstreamProxyError => "the upstream proxy refused",
            Self::ProxyDisabled => "this kind of access is switched off",
            Self::UnixSocketDenied => "no rule allows this socket",
        }
    }
}

/// A refusal with what it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// What was asked for, where it could be read.
    pub to: Option<Destination>,
    /// The rule that says so, as it is written.
    pub rule: Option<String>,
    /// The class of the address that is in the way.
    pub class: Option<AddressClass>,
    /// What exactly is malformed, or what a reviewer said; our own words or a bounded, printable text.
    pub detail: Option<String>,
}

impl Refusal {
    /// A refusal of a destination.
    #[must_use]
    pub fn of(reason: Reason, to: &Destination) -> Self {
        Self {
            reason,
            to: Some(to.clone()),
            rule: None,
            class: None,
            detail: None,
        }
    }

    /// A request that cannot be read.
    pub(crate) fn malformed(detail: &str) -> Self {
        Self {
            reason: Reason::Malformed,
            to: None,
            rule: None,
            class: None,
            detail: Some(detail.to_owned()),
        }
    }

    pub(crate) fn with_class(mut self, class: AddressClass) -> Self {
        self.class = Some(class);
        self
    }

    pub(crate) fn with_rule(mut self, rule: &HostRule) -> Self {
        self.rule = Some(rule.to_string());
        self
    }

    pub(crate) fn with_detail(mut self, detail: Option<String>) -> Self {
        self.detail = detail;
        self
    }

    /// One line: what, why, which rule. Printable ASCII, so that it may stand in a status line.
    #[must_use]
    pub fn message(&self) -> String {
        let mut line = self
            .to
            .as_ref()
            .map_or_else(String::new, |to| format!("{to}: "));
        line.push_str(self.reason.words());
        if let Some(class) = self.class {
            line.push_str(&format!(" ({})", class.words()));
        }
        if let Some(rule) = &self.rule {
            line.push_str(&format!(", rule `{rule}`"));
        }
        if let Some(detail) = &self.detail {
            line.push_str(&format!(": {detail}"));
        }
        line.chars()
            .map(|letter| {
                if letter.is_ascii_graphic() || letter == ' ' {
                    letter
                } else {
                    '?'
                }
            })
            .take(400)
            .collect()
    }

    /// What would help, where something would.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let to = self.to.as_ref()?;
        if self.reason == Reason::NotAllowed {
            return Some(format!(
                "add \"{}\" = \"allow\" to `domains` under [features.network_proxy], or ask for leave to reach it",
                to.host
            ));
        }
        let words = match (self.reason, self.class) {
            (Reason::NotAllowedLocal, Some(AddressClass::Metadata)) => None,
            (Reason::NotAllowedLocal, _) => Some(
                "a local place needs its exact address (or `localhost`) as an allow rule, or allow_local_binding = true",
            ),
            (Reason::MitmRequired, _) => {
                Some("set mode = \"full\", or list the host under intercepted_hosts")
            }
            (_, _) => None,
        };
        words.map(str::to_owned)
    }
}
