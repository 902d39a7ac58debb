use super::*;
use crate::host::Destination;
use crate::policy::Access;

fn user(table: &str) -> RawNetworkProxy {
    toml::from_str(table).expect("a table")
}

fn managed(table: &str) -> RawManagedNetwork {
    toml::from_str(table).expect("a table")
}

fn allows(policy: &NetworkPolicy, name: &str) -> bool {
    let to = Destination::parse(name, Some(443)).expect("a destination");
    matches!(policy.check(&to), Access::Allowed { .. })
}

#[test]
fn the_documented_table_of_switches_holds() {
    let on = user("enabled = true");
    let managed_on = managed("enabled = true");
    for (network, user, managed, expected) in [
        (CommandNetwork::Off, None, None, Routing::Off),
        (
            CommandNetwork::Off,
            Some(&on),
            Some(&managed_on),
            Routing::Off,
        ),
        (CommandNetwork::On, None, None, Routing::Direct),
        (CommandNetwork::On, Some(&on), None, Routing::Door),
        (CommandNetwork::On, None, Some(&managed_on), Routing::Door),
    ] {
        assert_eq!(Routing::of(network, user, managed), expected, "{network:?}");
    }
}

#[test]
fn a_feature_is_a_switch_or_a_table_and_nothing_else() {
    #[derive(serde::Deserialize)]
    struct Features {
        network_proxy: RawFeature,
    }
    let read = |text: &str| {
        toml::from_str::<Features>(text).map(|features| features.network_proxy.0.enabled)
    };
    assert_eq!(read("network_proxy = true").ok(), Some(Some(true)));
    assert_eq!(
        read("[network_proxy]\nenabled = false").ok(),
        Some(Some(false))
    );
    assert!(read("network_proxy = \"yes\"").is_err());
    let unknown = read("[network_proxy]\ndomain = {}")
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default();
    assert!(unknown.contains("unknown field `domain`"), "{unknown}");
}

#[test]
fn managed_rules_bind_and_users_may_only_add_where_they_may() {
    let settings = |managed_table: &str| Settings {
        user: user("domains = { \"mine.test\" = \"allow\", \"bad.ours.test\" = \"deny\" }"),
        managed: Some(managed(managed_table)),
        misses: Misses::Ask,
        ..Settings::default()
    };
    let open = settings("domains = { \"**.ours.test\" = \"allow\" }")
        .policy()
        .expect("valid")
        .policy;
    assert!(
        allows(&open, "mine.test")
            && allows(&open, "a.ours.test")
            && !allows(&open, "bad.ours.test")
    );
    assert_eq!(open.misses, Misses::Ask);
    let only = settings(
        "managed_allowed_domains_only = true\nallowed_domains = [\"**.ours.test\"]\nreview_domains = [\"*\"]",
    );
    let only = only.policy().expect("valid").policy;
    assert!(
        !allows(&only, "mine.test")
            && allows(&only, "a.ours.test")
            && !allows(&only, "bad.ours.test")
    );
    assert!(!only.asks(&Destination::parse("x.test", Some(443)).expect("a destination")));
}

#[test]
fn every_fault_is_told_by_its_key() {
    let settings = Settings {
        user: user(
            "domains = { \"*\" = \"deny\", \"a*.test\" = \"allow\" }\nunix_sockets = { \"x\" = \"allow\" }\nproxy_url = \"nothing\"\nmitm_hooks = [{ host = \"a.test\", methods = [\"GET\"], path_prefixes = [\"/\"] }]",
        ),
        managed: Some(managed("domains = {}\nallowed_domains = []")),
        upstream: Some("socks5://u:secret@proxy.test:1".into()),
        ..Settings::default()
    };
    let faults = settings.policy().expect_err("nothing of it is valid");
    let keys: Vec<&str> = faults.iter().map(|fault| fault.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "domains.\"*\"",
            "domains.\"a*.test\"",
            "experimental_network.domains",
            "unix_sockets.\"x\"",
            "mitm_hooks",
            "upstream proxy",
            "proxy_url"
        ]
    );
    assert!(!format!("{faults:?}").contains("secret"));
}

#[test]
fn listeners_stay_on_loopback_unless_the_dangerous_setting_is_alone() {
    let listen = |table: &str| user_policy(table).listen.http.to_string();
    assert_eq!(
        listen("proxy_url = \"http://0.0.0.0:3128\""),
        "127.0.0.1:3128"
    );
    assert_eq!(
        listen("proxy_url = \"http://0.0.0.0:3128\"\ndangerously_allow_non_loopback_proxy = true"),
        "0.0.0.0:3128"
    );
    assert_eq!(
        listen(
            "proxy_url = \"http://0.0.0.0:3128\"\ndangerously_allow_non_loopback_proxy = true\nunix_sockets = { \"/run/x.sock\" = \"allow\" }"
        ),
        "127.0.0.1:3128"
    );
    assert_eq!(
        listen("proxy_url = \"http://box.test:3128\"\ndangerously_allow_non_loopback_proxy = true"),
        "127.0.0.1:3128"
    );
}

fn user_policy(table: &str) -> CompiledPolicy {
    Settings {
        user: user(table),
        ..Settings::default()
    }
    .policy()
    .expect("valid")
}
