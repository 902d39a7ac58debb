//! `agent-runner proxy check`: what the door would do with a host, by the code that does it.
//!
//! Invariant: nothing is connected to, nobody is asked, and no name is looked up that no rule allows.

use std::io::Write;
use std::time::Duration;

use network_proxy::{
    Access, AddressClass, Destination, NetworkPolicy, Reach, Refusal, Resolver as _, Routing,
    SystemResolver,
};
use protocol::Printable;
use serde::Serialize;

use crate::cli::{self, ProxyCommand};
use crate::config::{Environment, SandboxMode, Settings};
use crate::door::DoorPolicy;
use crate::failure::Failure;
use crate::prepare::UnknownHosts;
use crate::request;

/// How long a lookup may take: as long as the door lets it.
const LOOKUP: Duration = Duration::from_secs(2);
/// The port of a host that names none.
const USUAL_PORT: u16 = 443;

/// The answer.
#[derive(Debug, Serialize)]
struct Checked {
    version: u32,
    host: String,
    port: u16,
    /// What commands have here: `off`, `door` or `direct`.
    network: &'static str,
    /// `allowed`, `asked` or `refused`.
    verdict: &'static str,
    /// Why it is refused.
    reason: Option<&'static str>,
    rule: Option<String>,
    /// The class of the address that is in the way.
    class: Option<AddressClass>,
    /// What would be dialled.
    addresses: Vec<String>,
    message: Option<String>,
    hint: Option<String>,
}

/// Does what `args` says.
///
/// # Errors
/// The settings cannot be used, or the text is no host.
pub(crate) async fn proxy(
    args: &cli::ProxyArgs,
    environment: &Environment,
    out: &mut dyn Write,
) -> Result<u8, Failure> {
    let ProxyCommand::Check(args) = &args.command;
    let cwd = request::working_directory(args.settings.cd.as_deref())?;
    let settings = Settings::load(environment, &args.settings.overrides(), &cwd)?;
    let to = Destination::parse(&args.host, Some(USUAL_PORT)).map_err(|error| {
        Failure::because(format!(
            "`{}` is not a host: {error}",
            Printable(&args.host)
        ))
    })?;
    let policy = DoorPolicy::of(&settings, UnknownHosts::AsSet, environment)?;
    let network = match (settings.sandbox, settings.routing()) {
        (SandboxMode::DangerFullAccess, _) | (_, Routing::Direct) => "direct",
        (_, Routing::Door) => "door",
        (_, Routing::Off) => "off",
    };
    let checked = check(policy.policy(), &to, network).await;
    let text = if args.json {
        serde_json::to_string_pretty(&checked)
            .map_err(|error| Failure::because(format!("cannot print: {error}")))?
    } else {
        checked.text()
    };
    writeln!(out, "{text}").map_err(|error| Failure::because(format!("cannot print: {error}")))?;
    Ok(0)
}

async fn check(policy: &NetworkPolicy, to: &Destination, network: &'static str) -> Checked {
    let checked = Checked {
        version: 1,
        host: to.host.to_string(),
        port: to.port,
        network,
        verdict: "refused",
        reason: None,
        rule: None,
        class: None,
        addresses: Vec::new(),
        message: None,
        hint: None,
    };
    match policy.check(to) {
        Access::Blocked(refusal) => checked.refused(&refusal),
        Access::Unlisted(_) if policy.asks(to) => Checked {
            verdict: "asked",
            ..checked
        },
        Access::Unlisted(_) => checked.refused(&Refusal::of(network_proxy::Reason::NotAllowed, to)),
        Access::Allowed { rule, reach } => {
            let checked = Checked {
                rule: Some(rule.to_string()),
                ..checked
            };
            match vetted(policy, to, reach).await {
                Ok(addresses) => Checked {
                    verdict: "allowed",
                    addresses,
                    ..checked
                },
                Err(refusal) => checked.refused(&refusal),
            }
        }
    }
}

async fn vetted(
    policy: &NetworkPolicy,
    to: &Destination,
    reach: Reach,
) -> Result<Vec<String>, Refusal> {
    let vetted = match reach {
        Reach::Addresses(vetted) => vetted,
        Reach::Name(name) => {
            let resolver = SystemResolver::default();
            let answer = tokio::time::timeout(LOOKUP, resolver.resolve(&name)).await;
            let answer = match answer {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) => Vec::new(),
                Err(_elapsed) => {
                    return Err(Refusal::of(network_proxy::Reason::DnsTimeout, to));
                }
            };
            policy.vet(to, &answer)?
        }
    };
    Ok(vetted
        .iter()
        .map(|vetted| vetted.address().ip().to_string())
        .collect())
}

impl Checked {
    fn refused(self, refusal: &Refusal) -> Self {
        Self {
            verdict: "refused",
            reason: Some(refusal.reason.code()),
            rule: refusal.rule.clone().or(self.rule),
            class: refusal.class,
            message: Some(refusal.message()),
            hint: refusal.hint(),
            ..self
        }
    }

    fn text(&self) -> String {
        let network = match self.network {
            "direct" => "the host's: no rule is looked at",
            "door" => "by the door",
            _ => "none: no rule is looked at",
        };
        let mut lines = vec![
            format!("host       {}:{}", Printable(&self.host), self.port),
            format!("network    {network}"),
            match (self.verdict, &self.message) {
                ("asked", _) => "verdict    asked: no rule names it, so a reviewer is".to_owned(),
                (verdict, Some(message)) => format!("verdict    {verdict}: {}", Printable(message)),
                (verdict, None) => format!("verdict    {verdict}"),
            },
        ];
        lines.extend(
            self.rule
                .as_ref()
                .map(|rule| format!("rule       {}", Printable(rule))),
        );
        if !self.addresses.is_empty() {
            lines.push(format!("addresses  {}", self.addresses.join(", ")));
        }
        lines.extend(
            self.hint
                .as_ref()
                .map(|hint| format!("hint: {}", Printable(hint))),
        );
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use network_proxy::{Destination, RawNetworkProxy, Settings};

    use super::check;

    async fn checked(table: &str, host: &str) -> String {
        let user: RawNetworkProxy = toml::from_str(table).expect("a table");
        let settings = Settings {
            user,
            ..Settings::default()
        };
        let policy = settings.policy().expect("valid").policy;
        let to = Destination::parse(host, Some(443)).expect("a host");
        check(&policy, &to, "door").await.text()
    }

    #[tokio::test]
    async fn each_verdict_names_its_rule_and_what_would_help() {
        let table = "domains = { \"9.9.9.9\" = \"allow\", \"*.bad.test\" = \"deny\", \"10.0.0.1\" = \"deny\" }";
        let mut text = String::new();
        for host in ["9.9.9.9:53", "a.bad.test", "other.test", "127.1.2.3:80"] {
            text.push_str(&checked(table, host).await);
            text.push_str("\n\n");
        }
        insta::assert_snapshot!(text.trim_end(), @r#"
        host       9.9.9.9:53
        network    by the door
        verdict    allowed
        rule       9.9.9.9
        addresses  9.9.9.9

        host       a.bad.test:443
        network    by the door
        verdict    refused: a.bad.test:443: a rule denies this host, rule `*.bad.test`
        rule       *.bad.test

        host       other.test:443
        network    by the door
        verdict    refused: other.test:443: no rule allows this host
        hint: add "other.test" = "allow" to `domains` under [features.network_proxy], or ask for leave to reach it

        host       127.1.2.3:80
        network    by the door
        verdict    refused: 127.1.2.3:80: this is not a public address (loopback)
        hint: a local place needs its exact address (or `localhost`) as an allow rule, or allow_local_binding = true
        "#);
    }
}
