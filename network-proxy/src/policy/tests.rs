use std::net::IpAddr;

use super::*;
use crate::settings::{RawNetworkProxy, Settings};
use proptest::prelude::*;

fn policy(table: &str) -> NetworkPolicy {
    let user: RawNetworkProxy = toml::from_str(table).expect("a table");
    Settings {
        user,
        ..Settings::default()
    }
    .policy()
    .expect("valid")
    .policy
}

fn to(text: &str) -> Destination {
    Destination::parse(text, Some(443)).expect("a destination")
}

fn verdict(policy: &NetworkPolicy, text: &str) -> Result<String, Reason> {
    match policy.check(&to(text)) {
        Access::Allowed { rule, .. } => Ok(rule.to_string()),
        Access::Unlisted(_) => Err(Reason::NotAllowed),
        Access::Blocked(refusal) => Err(refusal.reason),
    }
}

#[test]
fn deny_is_asked_before_allow_and_nothing_is_allowed_by_default() {
    let empty = policy("");
    assert_eq!(verdict(&empty, "a.test"), Err(Reason::NotAllowed));
    let both = policy(
        "domains = { \"**.a.test\" = \"allow\", \"*.b.a.test\" = \"deny\", \"A.TEST.\" = \"deny\" }",
    );
    assert_eq!(verdict(&both, "c.a.test"), Ok("**.a.test".to_owned()));
    assert_eq!(verdict(&both, "b.a.test"), Ok("**.a.test".to_owned()));
    assert_eq!(verdict(&both, "x.b.a.test"), Err(Reason::Denied));
    assert_eq!(verdict(&both, "a.test"), Err(Reason::Denied));
}

#[test]
fn a_wildcard_never_opens_a_local_place() {
    let all = policy("domains = { \"*\" = \"allow\" }");
    for text in [
        "127.0.0.1",
        "localhost",
        "a.localhost",
        "10.0.0.1",
        "[::1]",
        "[fd00::1]",
        "169.254.169.254",
        "metadata.google.internal",
        "[64:ff9b::10.0.0.1]",
    ] {
        assert_eq!(verdict(&all, text), Err(Reason::NotAllowedLocal), "{text}");
    }
    assert_eq!(verdict(&all, "8.8.8.8"), Ok("*".to_owned()));
}

#[test]
fn what_means_nobody_is_opened_by_no_rule() {
    let listed = policy(
        "allow_local_binding = true\ndomains = { \"0.0.0.0\" = \"allow\", \"224.0.0.1\" = \"allow\", \"169.254.169.254\" = \"allow\" }",
    );
    assert_eq!(verdict(&listed, "0.0.0.0"), Err(Reason::NotAllowedLocal));
    assert_eq!(verdict(&listed, "224.0.0.1"), Err(Reason::NotAllowedLocal));
    assert_eq!(
        verdict(&listed, "169.254.169.254"),
        Ok("169.254.169.254".to_owned())
    );
    let open = policy("allow_local_binding = true\ndomains = { \"*\" = \"allow\" }");
    assert_eq!(
        verdict(&open, "169.254.169.254"),
        Err(Reason::NotAllowedLocal)
    );
    assert_eq!(verdict(&open, "192.168.1.1"), Ok("*".to_owned()));
}

#[test]
fn one_bad_address_closes_the_name() {
    let all = policy("domains = { \"*\" = \"allow\", \"9.9.9.9\" = \"deny\" }");
    let vet = |answer: &[&str]| {
        let answer: Vec<IpAddr> = answer
            .iter()
            .map(|text| text.parse().expect("an address"))
            .collect();
        all.vet(&to("a.test"), &answer)
            .map(|vetted| vetted.len())
            .map_err(|refusal| refusal.reason)
    };
    assert_eq!(vet(&["8.8.8.8", "2a00::1"]), Ok(2));
    assert_eq!(vet(&["8.8.8.8", "::1"]), Err(Reason::NotAllowedLocal));
    assert_eq!(vet(&["8.8.8.8", "9.9.9.9"]), Err(Reason::Denied));
    assert_eq!(vet(&["64:ff9b::9.9.9.9"]), Err(Reason::Denied));
    assert_eq!(vet(&[]), Err(Reason::DnsFailed));
    assert_eq!(vet(&["8.8.8.8"; 200]), Ok(MOST_ADDRESSES));
}

#[test]
fn this_machines_public_address_is_not_public_to_it() {
    let user: RawNetworkProxy = toml::from_str("domains = { \"*\" = \"allow\" }").expect("a table");
    let own_addresses = HashSet::from([IpAddr::from([8, 8, 4, 4])]);
    let policy = Settings {
        user,
        own_addresses,
        ..Settings::default()
    }
    .policy()
    .expect("valid")
    .policy;
    for text in ["8.8.4.4", "[::ffff:8.8.4.4]", "[64:ff9b::8.8.4.4]"] {
        assert_eq!(
            verdict(&policy, text),
            Err(Reason::NotAllowedLocal),
            "{text}"
        );
    }
}

proptest! {
    #[test]
    fn the_verdict_is_one_of_the_canonical_spelling(text in "[a-cA-C0-9.]{1,12}", port in 1_u16..) {
        let policy = policy("domains = { \"**.a\" = \"allow\", \"*\" = \"allow\", \"b.c\" = \"deny\" }");
        if let Ok(host) = Host::parse(text.as_bytes()) {
            let first = policy.check(&Destination { host: host.clone(), port });
            let again = Host::parse(host.to_string().as_bytes()).expect("canonical");
            prop_assert_eq!(first, policy.check(&Destination { host: again, port }));
        }
    }

    #[test]
    fn what_is_vetted_is_public_and_was_in_the_answer(answer in proptest::collection::vec(any::<u128>(), 1..5), v4 in proptest::collection::vec(any::<u32>(), 0..5)) {
        let policy = policy("domains = { \"*\" = \"allow\" }");
        let addresses: Vec<IpAddr> = answer.into_iter().map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits)))
            .chain(v4.into_iter().map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits)))).collect();
        if let Ok(vetted) = policy.vet(&to("a.test"), &addresses) {
            for one in vetted {
                prop_assert_eq!(class_of(one.address().ip()), AddressClass::Public);
                prop_assert!(addresses.iter().any(|address| address.to_canonical() == one.address().ip()));
            }
        }
    }
}
