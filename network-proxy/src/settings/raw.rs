//! The settings as they are written: `[features.network_proxy]`, the `network` table of a profile, `experimental_network`.
//!
//! Apart because these types only mirror the files; nothing is decided here. Unknown keys are errors.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::policy::Mode;

/// What a rule in a table says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// Takes no position: the entry is as if it were not there.
    None,
    /// It may be reached.
    Allow,
    /// It may not, whatever else says so.
    Deny,
}

/// A table of patterns, or of socket paths, in the order of the file; the same pattern under two spellings stays two entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleTable(pub Vec<(String, Permission)>);

impl<'de> Deserialize<'de> for RuleTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = RuleTable;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a table of patterns, each `allow`, `deny` or `none`")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RuleTable, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(RuleTable(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// `[features.network_proxy]` as a table, and the `network` table of a permission profile: the same keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawNetworkProxy {
    /// Whether the door stands in the way, where commands have network at all.
    pub enabled: Option<bool>,
    /// Patterns of hosts.
    pub domains: Option<RuleTable>,
    /// Paths of Unix sockets.
    pub unix_sockets: Option<RuleTable>,
    /// Opens loopback, link-local and private places to every rule.
    pub allow_local_binding: Option<bool>,
    /// Serves SOCKS5.
    pub enable_socks5: Option<bool>,
    /// Serves UDP over SOCKS5.
    pub enable_socks5_udp: Option<bool>,
    /// Uses the upstream proxy that the environment names.
    pub allow_upstream_proxy: Option<bool>,
    /// Lets listeners bind beyond loopback.
    pub dangerously_allow_non_loopback_proxy: Option<bool>,
    /// Every Unix socket.
    pub dangerously_allow_all_unix_sockets: Option<bool>,
    /// Where the HTTP listener binds: a URL.
    pub proxy_url: Option<String>,
    /// Where the SOCKS listener binds: a URL.
    pub socks_url: Option<String>,
    /// `full` or `limited`.
    pub mode: Option<Mode>,
    /// Opens TLS tunnels to port 443 and looks into them, with an authority of this process alone.
    pub mitm: Option<bool>,
    /// Methods and paths of single hosts; needs `mitm`.
    pub mitm_hooks: Option<Vec<RawHook>>,
}

/// One of `mitm_hooks`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawHook {
    /// The host, exactly.
    pub host: String,
    /// The methods; at least one.
    pub methods: Vec<String>,
    /// What the path begins with; at least one.
    pub path_prefixes: Vec<String>,
}

/// `features.network_proxy`: a switch or a table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RawFeature(pub RawNetworkProxy);

impl<'de> Deserialize<'de> for RawFeature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SwitchOrTable;
        impl<'de> Visitor<'de> for SwitchOrTable {
            type Value = RawFeature;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("true, false or a table")
            }
            fn visit_bool<E: serde::de::Error>(self, enabled: bool) -> Result<RawFeature, E> {
                Ok(RawFeature(RawNetworkProxy {
                    enabled: Some(enabled),
                    ..RawNetworkProxy::default()
                }))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawFeature, A::Error> {
                RawNetworkProxy::deserialize(MapAccessDeserializer::new(map)).map(RawFeature)
            }
        }
        deserializer.deserialize_any(SwitchOrTable)
    }
}

/// `[experimental_network]` of the managed requirements.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawManagedNetwork {
    /// Puts the door in the way without the user's own switch.
    pub enabled: Option<bool>,
    /// The HTTP listener's port.
    pub http_port: Option<u16>,
    /// The SOCKS listener's port.
    pub socks_port: Option<u16>,
    /// As in the user's table; what is set here wins.
    pub allow_upstream_proxy: Option<bool>,
    /// As in the user's table; what is set here wins.
    pub dangerously_allow_non_loopback_proxy: Option<bool>,
    /// As in the user's table; what is set here wins.
    pub dangerously_allow_all_unix_sockets: Option<bool>,
    /// Patterns; users may add to them, unless `managed_allowed_domains_only`.
    pub domains: Option<RuleTable>,
    /// The older spelling of the allow rules.
    pub allowed_domains: Option<Vec<String>>,
    /// The older spelling of the deny rules.
    pub denied_domains: Option<Vec<String>>,
    /// Only the managed allow rules count, and a miss is refused without a question.
    pub managed_allowed_domains_only: Option<bool>,
    /// Paths of Unix sockets.
    pub unix_sockets: Option<RuleTable>,
    /// The older spelling of the sockets' allow rules.
    pub allow_unix_sockets: Option<Vec<String>>,
    /// As in the user's table; what is set here wins.
    pub allow_local_binding: Option<bool>,
    /// Patterns whose misses are put to the reviewer.
    pub review_domains: Option<Vec<String>>,
}
