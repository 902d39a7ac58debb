//! What the settings say of the network and the door, and who is asked about a host.

use super::super::{Overrides, Settings};
use super::Home;
use super::managed::held;

#[test]
fn the_documented_table_of_network_and_door_holds() {
    use network_proxy::Routing;
    let write = "sandbox_mode = \"workspace-write\"\n[sandbox_workspace_write]\nnetwork_access = ";
    let door = "\n[features]\nnetwork_proxy = true";
    for (config, routing, by_grant) in [
        (format!("{write}false"), Routing::Off, Routing::Direct),
        (format!("{write}false{door}"), Routing::Off, Routing::Door),
        (format!("{write}true"), Routing::Direct, Routing::Direct),
        (format!("{write}true{door}"), Routing::Door, Routing::Door),
        (
            "default_permissions = \"p\"\n[permissions.p.network]\nenabled = true\ndomains = { \"a.b\" = \"allow\" }".to_owned(),
            Routing::Door,
            Routing::Door,
        ),
        (
            "default_permissions = \"p\"\n[permissions.p.network]\nenabled = true".to_owned(),
            Routing::Direct,
            Routing::Direct,
        ),
    ] {
        let settings = Home::new(&config).load(&Overrides::default()).expect("valid");
        assert_eq!(settings.routing(), routing, "{config}");
        assert_eq!(settings.routing_by_grant(), by_grant, "{config}");
        let loud = settings.notes.iter().any(|note| note.starts_with("NETWORK: commands reach every host"));
        assert_eq!(loud, routing == Routing::Direct, "{config}");
    }
}

#[test]
fn a_table_of_hosts_is_put_together_key_by_key_and_a_rule_file_adds_to_it() {
    let home = Home::new(
        "sandbox_mode = \"workspace-write\"\nfeatures.network_proxy = { enabled = true, domains = { \"a.example.com\" = \"allow\" } }",
    );
    home.write(
        "rules/default.rules",
        "network_rule(host = \"c.example.com\", protocol = \"https\", decision = \"allow\")\n\
         network_rule(host = \"d.example.com\", protocol = \"https\", decision = \"deny\")\n",
    );
    let overrides = Overrides {
        values: vec![
            "features.network_proxy.domains={ \"b.example.com\" = \"allow\" }".to_owned(),
            "sandbox_workspace_write.network_access=true".to_owned(),
        ],
        ..Overrides::default()
    };
    let settings = home.load(&overrides).expect("valid");
    let policy = settings.network_policy().policy().expect("valid").policy;
    let allowed = |host: &str, port| {
        let to = network_proxy::Destination::parse(host, Some(port)).expect("a host");
        matches!(policy.check(&to), network_proxy::Access::Allowed { .. })
    };
    assert!(allowed("a.example.com", 443) && allowed("b.example.com", 443));
    assert!(allowed("c.example.com", 443) && !allowed("c.example.com", 80));
    assert!(!allowed("d.example.com", 443));
}

#[test]
fn no_reviewer_is_asked_about_hosts_where_a_person_would_be_or_nobody_may() {
    use network_proxy::Misses;
    for (config, misses) in [
        ("approvals_reviewer = \"auto_review\"", Misses::Ask),
        ("approvals_reviewer = \"user\"", Misses::Refuse),
        (
            "approvals_reviewer = \"auto_review\"\napproval_policy = \"never\"",
            Misses::Refuse,
        ),
        (
            "approvals_reviewer = \"auto_review\"\napproval_policy = \"untrusted\"",
            Misses::Refuse,
        ),
    ] {
        let settings = Home::new(config)
            .load(&Overrides::default())
            .expect("valid");
        assert_eq!(settings.network_policy().misses, misses, "{config}");
    }
}

#[test]
fn with_a_queue_a_person_elsewhere_is_asked_where_none_is_here() {
    use crate::ask::Holds;
    use crate::door::{Asker, TerminalIs};
    use crate::prepare::UnknownHosts;
    for (config, free, taken) in [
        (
            "approvals_reviewer = \"user\"",
            Asker::Person,
            Asker::Approver,
        ),
        (
            "approval_policy = \"untrusted\"",
            Asker::Person,
            Asker::Approver,
        ),
        (
            "approvals_reviewer = \"auto_review\"",
            Asker::Reviewer(Holds::Command),
            Asker::Reviewer(Holds::Command),
        ),
        ("approval_policy = \"never\"", Asker::Nobody, Asker::Nobody),
    ] {
        let home = Home::new(config);
        home.write("agent-runner.toml", QUEUE);
        let settings = home.load(&Overrides::default()).expect("valid");
        let of = |unknown, terminal| Asker::of(&settings, unknown, terminal);
        assert_eq!(of(UnknownHosts::AsSet, TerminalIs::Free), free, "{config}");
        let asked = of(UnknownHosts::AsSet, TerminalIs::Taken);
        assert_eq!(asked, taken, "{config}");
        let asked = of(UnknownHosts::Closed, TerminalIs::Taken);
        assert_eq!(asked, Asker::Nobody, "{config}");
    }
}

/// A server of the team's, by the public key of RFC 8032's first test vector, where people answer.
const QUEUE: &str = "server_url = \"https://reviewer.example.com\"\ntoken_file = \"/home/u/token\"\n\
    server_key = \"ed25519:d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a\"\n\
    [fallback]\non_failure = \"queue\"\n";

#[test]
fn who_is_asked_about_a_host_follows_from_policy_reviewer_and_terminal() {
    use crate::ask::Holds;
    use crate::door::{Asker, TerminalIs};
    use crate::prepare::UnknownHosts;
    let reviewer = Asker::Reviewer(Holds::Command);
    let auto = "approvals_reviewer = \"auto_review\"";
    // Under each: at a terminal of the person's own, at one that the command has a part of.
    for (config, free, taken) in [
        (auto.to_owned(), reviewer, reviewer),
        (
            "approvals_reviewer = \"user\"".to_owned(),
            Asker::Person,
            Asker::Nobody,
        ),
        (
            format!("{auto}\napproval_policy = \"untrusted\""),
            Asker::Person,
            Asker::Nobody,
        ),
        (
            format!("{auto}\napproval_policy = \"never\""),
            Asker::Nobody,
            Asker::Nobody,
        ),
        (
            "approvals_reviewer = \"user\"\napproval_policy = \"never\"".to_owned(),
            Asker::Nobody,
            Asker::Nobody,
        ),
    ] {
        let home = Home::new(&config);
        let settings = home.load(&Overrides::default()).expect("valid");
        let of = |unknown, terminal| Asker::of(&settings, unknown, terminal);
        assert_eq!(of(UnknownHosts::AsSet, TerminalIs::Free), free, "{config}");
        assert_eq!(
            of(UnknownHosts::AsSet, TerminalIs::Taken),
            taken,
            "{config}"
        );
        assert_eq!(
            of(UnknownHosts::Closed, TerminalIs::Free),
            Asker::Nobody,
            "`agent-runner sandbox` asks nobody: {config}"
        );
    }
    let home = Home::new(auto);
    home.write("agent-runner.toml", "host_approvals = \"session\"");
    let settings = home.load(&Overrides::default()).expect("valid");
    assert_eq!(
        Asker::of(&settings, UnknownHosts::AsSet, TerminalIs::Taken),
        Asker::Reviewer(Holds::Session)
    );
}

#[test]
fn hosts_that_an_administrator_names_for_review_are_put_to_nobody_where_nobody_may_be_asked() {
    use crate::door::DoorPolicy;
    use crate::prepare::UnknownHosts;
    let managed = |more: &str| {
        format!(
            "[experimental_network]\nenabled = true\nreview_domains = [\"*.example.com\"]\n{more}"
        )
    };
    let auto = "approvals_reviewer = \"auto_review\"\nsandbox_mode = \"workspace-write\"";
    let never = format!("{auto}\napproval_policy = \"never\"");
    let environment = Home::new("").environment();
    for (config, more, unknown, asked) in [
        (auto, "", UnknownHosts::AsSet, true),
        (auto, "", UnknownHosts::Closed, false),
        (&never, "", UnknownHosts::AsSet, false),
        (
            auto,
            "managed_allowed_domains_only = true",
            UnknownHosts::AsSet,
            false,
        ),
    ] {
        let settings = held(config, &managed(more)).expect("held");
        let door = DoorPolicy::of(&settings, unknown, &environment).expect("a policy");
        let to = network_proxy::Destination::parse("a.example.com", Some(443)).expect("a host");
        assert_eq!(
            door.policy().asks(&to),
            asked,
            "{config} {more} {unknown:?}"
        );
    }
}

/// The value that is shown of `key`, and the name of the file that it is from.
fn shown(settings: &Settings, key: &str) -> (String, String) {
    let set = settings.shown.iter().find(|setting| setting.key == key);
    let set = set.unwrap_or_else(|| panic!("{key}: {:?}", settings.shown));
    let file = set.origin.rsplit('/').next().unwrap_or_default();
    (set.value.clone().unwrap_or_default(), file.to_owned())
}

#[test]
fn what_every_file_says_of_the_network_is_shown_with_where_it_is_from() {
    let config = "sandbox_mode = \"workspace-write\"\n[sandbox_workspace_write]\nnetwork_access = true\n\
         [features.network_proxy]\nenabled = true\ndomains = { \"a.example.com\" = \"allow\" }";
    let home = Home::new(config);
    home.write(
        "agent-runner.toml",
        "host_approvals = \"session\"\n[network]\nintercepted_hosts = [\"b.example.com\"]",
    );
    let settings = home.load(&Overrides::default()).expect("valid");
    for (key, value, file) in [
        (
            "sandbox_workspace_write.network_access",
            "true",
            "config.toml",
        ),
        (
            "features.network_proxy.domains.\"a.example.com\"",
            "\"allow\"",
            "config.toml",
        ),
        ("host_approvals", "\"session\"", "agent-runner.toml"),
        (
            "network.intercepted_hosts",
            "[\"b.example.com\"]",
            "agent-runner.toml",
        ),
    ] {
        let wanted = (value.to_owned(), file.to_owned());
        assert_eq!(shown(&settings, key), wanted, "{key}");
    }
    let managed = "[experimental_network]\nenabled = true\nmanaged_allowed_domains_only = true\n\
         domains = { \"c.example.com\" = \"allow\" }";
    let settings = held(config, managed).expect("held");
    let (value, file) = shown(&settings, "experimental_network.domains.\"c.example.com\"");
    assert_eq!(value, "\"allow\"");
    // The managed file decides before all others, and says so.
    let by = settings.network_set_by().expect("something did");
    assert_eq!(by.key, "experimental_network.enabled");
    assert!(by.origin.ends_with(&file), "{}", by.origin);
}

#[test]
fn what_decided_which_way_commands_get_out_is_told() {
    let write = "sandbox_mode = \"workspace-write\"\n[sandbox_workspace_write]\nnetwork_access = ";
    let door = "\n[features]\nnetwork_proxy = true";
    for (config, key) in [
        ("", None),
        (
            &format!("{write}false"),
            Some("sandbox_workspace_write.network_access"),
        ),
        (
            &format!("{write}false{door}"),
            Some("sandbox_workspace_write.network_access"),
        ),
        (
            &format!("{write}true"),
            Some("sandbox_workspace_write.network_access"),
        ),
        (
            &format!("{write}true{door}"),
            Some("features.network_proxy"),
        ),
        (
            "sandbox_mode = \"danger-full-access\"",
            Some("sandbox_mode"),
        ),
        (
            "default_permissions = \"p\"\n[permissions.p.network]\nenabled = true\ndomains = { \"a.b\" = \"allow\" }",
            Some("default_permissions"),
        ),
    ] {
        let settings = Home::new(config)
            .load(&Overrides::default())
            .expect("valid");
        let by = settings.network_set_by().map(|by| by.key.as_str());
        assert_eq!(by, key, "{config}");
    }
}
