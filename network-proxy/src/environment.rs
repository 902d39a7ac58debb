//! The variables by which tools find the door: [`environment`]. Pure.
//!
//! Apart because it is a list that grows with the tools. Nothing secret is in it: the listener itself says whose it is.

use std::net::{Ipv4Addr, SocketAddr};

use crate::host::{Destination, Host};
use crate::policy::{Access, Local, NetworkPolicy, Socks};

/// Variables that take the HTTP proxy's URL. Tools differ in case, so both spellings are given.
const HTTP_URL: [&str; 22] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "WS_PROXY",
    "ws_proxy",
    "WSS_PROXY",
    "wss_proxy",
    "GRPC_PROXY",
    "grpc_proxy",
    "YARN_HTTP_PROXY",
    "YARN_HTTPS_PROXY",
    "NPM_CONFIG_PROXY",
    "npm_config_proxy",
    "NPM_CONFIG_HTTPS_PROXY",
    "npm_config_https_proxy",
    "BUNDLE_HTTP_PROXY",
    "BUNDLE_HTTPS_PROXY",
    "PIP_PROXY",
    "CARGO_HTTP_PROXY",
    "DOCKER_HTTP_PROXY",
    "DOCKER_HTTPS_PROXY",
];

/// Variables for everything else. An HTTP URL too: several libraries fail on a `socks5h` one, and every tool knows CONNECT.
const ANY_URL: [&str; 4] = ["ALL_PROXY", "all_proxy", "FTP_PROXY", "ftp_proxy"];

/// Variables that list what is reached without the proxy.
const NO_PROXY: [&str; 6] = [
    "NO_PROXY",
    "no_proxy",
    "npm_config_noproxy",
    "NPM_CONFIG_NOPROXY",
    "YARN_NO_PROXY",
    "BUNDLE_NO_PROXY",
];

/// Variables that take a file of certificate authorities.
const AUTHORITIES: [&str; 17] = [
    "SSL_CERT_FILE",
    "NIX_SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
    "PIP_CERT",
    "BUNDLE_SSL_CA_CERT",
    "npm_config_cafile",
    "NPM_CONFIG_CAFILE",
    "CODEX_CA_CERTIFICATE",
    "AWS_CA_BUNDLE",
    "DENO_CERT",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "HTTPLIB2_CA_CERTS",
];

/// What a command's environment depends on.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'run> {
    /// Where the listener is, as the command sees it.
    pub proxy: SocketAddr,
    /// Whether programs that ignore all this are covered too.
    pub unaware: UnawarePrograms,
    /// A file with the authorities to trust, ours among them, where tunnels are looked into.
    pub authorities: Option<&'run str>,
}

/// What happens to a program that knows of no proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnawarePrograms {
    /// Its names are answered and its connections taken.
    Covered,
    /// It has no network; the variables of single tools help it as far as they go.
    Cut,
}

/// The variables, in a fixed order.
#[must_use]
pub fn environment(
    policy: &NetworkPolicy,
    surroundings: Surroundings<'_>,
) -> Vec<(String, String)> {
    let url = format!("http://{}", surroundings.proxy);
    let mut variables: Vec<(String, String)> = Vec::with_capacity(64);
    let mut set = |name: &str, value: &str| variables.push((name.to_owned(), value.to_owned()));
    for name in HTTP_URL.into_iter().chain(ANY_URL) {
        set(name, &url);
    }
    let direct = if host_loopback_is_listed(policy) {
        ""
    } else {
        "localhost,127.0.0.1,::1"
    };
    for name in NO_PROXY {
        set(name, direct);
    }
    set("CODEX_NETWORK_PROXY_ACTIVE", "1");
    set(
        "CODEX_NETWORK_ALLOW_LOCAL_BINDING",
        if policy.local == Local::Open {
            "1"
        } else {
            "0"
        },
    );
    set("ELECTRON_GET_USE_PROXY", "true");
    set("NODE_USE_ENV_PROXY", "1");
    if surroundings.unaware == UnawarePrograms::Cut {
        let (host, port) = (surroundings.proxy.ip(), surroundings.proxy.port());
        set(
            "JAVA_TOOL_OPTIONS",
            &format!(
                "-Dhttp.proxyHost={host} -Dhttp.proxyPort={port} -Dhttps.proxyHost={host} -Dhttps.proxyPort={port}"
            ),
        );
        if policy.socks != Socks::Off {
            set(
                "GIT_SSH_COMMAND",
                &format!(
                    "ssh -o ProxyCommand='nc -X 5 -x {} %h %p'",
                    surroundings.proxy
                ),
            );
        }
    }
    for name in AUTHORITIES {
        if let Some(file) = surroundings.authorities {
            set(name, file);
        }
    }
    variables
}

/// Whether a rule opens this machine's own loopback: then clients have to come through the door for it, and a list of exceptions
/// would keep them inside.
fn host_loopback_is_listed(policy: &NetworkPolicy) -> bool {
    let loopback = [
        Host::from(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST)),
        Host::from(std::net::IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1_u16])),
    ];
    let localhost = Host::parse(b"localhost").ok();
    loopback.into_iter().chain(localhost).any(|host| {
        policy.names_exactly(&host)
            || matches!(
                policy.check(&Destination { host, port: 80 }),
                Access::Allowed { .. }
            )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{RawNetworkProxy, Settings};

    fn variable(table: &str, unaware: UnawarePrograms, name: &str) -> Option<String> {
        let user: RawNetworkProxy = toml::from_str(table).expect("a table");
        let policy = Settings {
            user,
            ..Settings::default()
        }
        .policy()
        .expect("valid")
        .policy;
        let surroundings = Surroundings {
            proxy: SocketAddr::from(([127, 0, 0, 1], 3128)),
            unaware,
            authorities: None,
        };
        environment(&policy, surroundings)
            .into_iter()
            .find(|(own, _)| own == name)
            .map(|(_, value)| value)
    }

    #[test]
    fn loopback_is_the_sandboxs_own_unless_a_rule_opens_the_machines() {
        let covered = UnawarePrograms::Covered;
        assert_eq!(
            variable("", covered, "no_proxy").as_deref(),
            Some("localhost,127.0.0.1,::1")
        );
        for rule in ["localhost", "127.0.0.1", "[::1]:8080"] {
            let table = format!("domains = {{ \"{rule}\" = \"allow\" }}");
            assert_eq!(
                variable(&table, covered, "no_proxy").as_deref(),
                Some(""),
                "{rule}"
            );
        }
        assert_eq!(
            variable("domains = { \"*\" = \"allow\" }", covered, "no_proxy").as_deref(),
            Some("localhost,127.0.0.1,::1")
        );
    }

    #[test]
    fn tools_that_are_covered_need_no_wrapper() {
        assert_eq!(
            variable("", UnawarePrograms::Covered, "GIT_SSH_COMMAND"),
            None
        );
        assert!(variable("", UnawarePrograms::Cut, "GIT_SSH_COMMAND").is_some());
        assert_eq!(
            variable("", UnawarePrograms::Covered, "HTTPS_PROXY").as_deref(),
            Some("http://127.0.0.1:3128")
        );
    }
}
