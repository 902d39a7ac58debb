//! Which addresses are public: the IANA special-purpose registries as a table, IPv4 inside IPv6 decoded.
//!
//! Apart because it is a table that an auditor reads row by row. Pure.
//! INVARIANT: an address is public only by not being in a row and, for IPv6, by lying in the allocated block `2000::/3`
//! or by carrying a public IPv4 address under the well-known NAT64 prefix. What is unknown is not public.
//! Sources: IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890 and successors), as of November 2026.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;

/// What kind of place an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AddressClass {
    /// Globally reachable.
    Public,
    /// `0.0.0.0/8`, `::`: this host, to a system that connects to it.
    Unspecified,
    /// `127.0.0.0/8`, `::1`, `localhost`.
    Loopback,
    /// RFC 1918, RFC 4193 and the old site-local addresses.
    Private,
    /// `100.64.0.0/10` (RFC 6598).
    Shared,
    /// `169.254.0.0/16`, `fe80::/10`.
    LinkLocal,
    /// The addresses at which clouds hand out their machines' credentials.
    Metadata,
    /// One of this machine's own addresses.
    Own,
    /// Multicast and broadcast.
    Multicast,
    /// `198.18.0.0/15`, `2001:2::/48` (RFC 2544, RFC 5180).
    Benchmarking,
    /// Addresses of examples.
    Documentation,
    /// An IPv4 address inside an IPv6 one, by a mechanism that is out of use.
    Embedded,
    /// Anything else that is not handed out for public use.
    Reserved,
}

impl AddressClass {
    /// Whether `allow_local_binding` opens it. The rest needs the exact address in a rule, or is never dialled.
    pub(crate) const fn opened_by_local_binding(self) -> bool {
        matches!(
            self,
            Self::Public
                | Self::Loopback
                | Self::Private
                | Self::Shared
                | Self::LinkLocal
                | Self::Own
                | Self::Benchmarking
                | Self::Documentation
        )
    }

    /// Whether no rule opens it: a connection to it means another place, or nobody.
    pub(crate) const fn never(self) -> bool {
        matches!(self, Self::Unspecified | Self::Multicast)
    }

    /// The words for people.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Unspecified => "unspecified",
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::Shared => "carrier-shared",
            Self::LinkLocal => "link-local",
            Self::Metadata => "cloud metadata",
            Self::Own => "this machine's own",
            Self::Multicast => "multicast or broadcast",
            Self::Benchmarking => "benchmarking",
            Self::Documentation => "documentation",
            Self::Embedded => "embedded IPv4",
            Self::Reserved => "reserved",
        }
    }
}

use AddressClass as Class;

/// First address, prefix length, class. The first row that holds the address decides.
type Row<Address> = (Address, u32, Class);

const V4: [Row<[u8; 4]>; 21] = [
    ([168, 63, 129, 16], 32, Class::Metadata),
    ([169, 254, 169, 254], 32, Class::Metadata),
    ([169, 254, 170, 2], 32, Class::Metadata),
    ([100, 100, 100, 200], 32, Class::Metadata),
    ([192, 0, 0, 192], 32, Class::Metadata),
    ([0, 0, 0, 0], 8, Class::Unspecified),
    ([10, 0, 0, 0], 8, Class::Private),
    ([100, 64, 0, 0], 10, Class::Shared),
    ([127, 0, 0, 0], 8, Class::Loopback),
    ([169, 254, 0, 0], 16, Class::LinkLocal),
    ([172, 16, 0, 0], 12, Class::Private),
    ([192, 0, 0, 0], 24, Class::Reserved),
    ([192, 0, 2, 0], 24, Class::Documentation),
    ([192, 88, 99, 0], 24, Class::Embedded),
    ([192, 168, 0, 0], 16, Class::Private),
    ([198, 18, 0, 0], 15, Class::Benchmarking),
    ([198, 51, 100, 0], 24, Class::Documentation),
    ([203, 0, 113, 0], 24, Class::Documentation),
    ([255, 255, 255, 255], 32, Class::Multicast),
    ([224, 0, 0, 0], 4, Class::Multicast),
    ([240, 0, 0, 0], 4, Class::Reserved),
];

const V6: [Row<[u16; 8]>; 21] = [
    ([0, 0, 0, 0, 0, 0, 0, 0], 128, Class::Unspecified),
    ([0, 0, 0, 0, 0, 0, 0, 1], 128, Class::Loopback),
    ([0, 0, 0, 0, 0, 0, 0, 0], 96, Class::Embedded),
    ([0, 0, 0, 0, 0xffff, 0, 0, 0], 96, Class::Embedded),
    ([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48, Class::Embedded),
    ([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128, Class::Metadata),
    ([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128, Class::Metadata),
    ([0x100, 0, 0, 0, 0, 0, 0, 0], 64, Class::Reserved),
    ([0x100, 0, 0, 1, 0, 0, 0, 0], 64, Class::Reserved),
    ([0x2001, 2, 0, 0, 0, 0, 0, 0], 48, Class::Benchmarking),
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 32, Class::Embedded),
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 23, Class::Reserved),
    ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32, Class::Documentation),
    ([0x2002, 0, 0, 0, 0, 0, 0, 0], 16, Class::Embedded),
    ([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20, Class::Documentation),
    ([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16, Class::Reserved),
    ([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, Class::Private),
    ([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10, Class::LinkLocal),
    ([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10, Class::Private),
    ([0xff00, 0, 0, 0, 0, 0, 0, 0], 8, Class::Multicast),
    ([0xfe00, 0, 0, 0, 0, 0, 0, 0], 9, Class::Reserved),
];

/// The class of an address by the registries alone; [`AddressClass::Own`] is added by the policy, which knows this machine.
#[must_use]
pub fn class_of(address: IpAddr) -> AddressClass {
    match address.to_canonical() {
        IpAddr::V4(address) => class_of_v4(address),
        IpAddr::V6(address) => match nat64(address) {
            Some(inner) => class_of_v4(inner),
            None => class_of_v6(address),
        },
    }
}

/// The address itself and the IPv4 address that it carries: a rule that denies either denies it.
pub(crate) fn faces(address: IpAddr) -> impl Iterator<Item = IpAddr> {
    let address = address.to_canonical();
    let inner = match address {
        IpAddr::V6(address) => nat64(address).map(IpAddr::V4),
        IpAddr::V4(_) => None,
    };
    std::iter::once(address).chain(inner)
}

/// The IPv4 address under the well-known NAT64 prefix `64:ff9b::/96` (RFC 6052), which is how hosts without IPv4 reach it.
fn nat64(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let bits = address.to_bits();
    let prefix = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0).to_bits();
    let low = u32::try_from(bits & u128::from(u32::MAX)).ok()?;
    (bits >> 32 == prefix >> 32).then(|| Ipv4Addr::from_bits(low))
}

fn class_of_v4(address: Ipv4Addr) -> Class {
    let bits = address.to_bits();
    V4.iter()
        .find(|(first, length, _)| {
            let shift = 32 - length;
            bits.checked_shr(shift) == Ipv4Addr::from(*first).to_bits().checked_shr(shift)
        })
        .map_or(Class::Public, |(_, _, class)| *class)
}

fn class_of_v6(address: Ipv6Addr) -> Class {
    let bits = address.to_bits();
    let row = V6.iter().find(|(first, length, _)| {
        let shift = 128 - length;
        bits.checked_shr(shift) == Ipv6Addr::from(*first).to_bits().checked_shr(shift)
    });
    match row {
        Some((_, _, class)) => *class,
        None if bits >> 125 == 1 => Class::Public,
        None => Class::Reserved,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn class(text: &str) -> Class {
        class_of(text.parse().expect("an address"))
    }

    #[test]
    fn each_row_holds_its_first_and_last_address_and_not_its_neighbours_by_accident() {
        for (first, length, class) in V4 {
            let low = Ipv4Addr::from(first).to_bits();
            let high = low | u32::MAX.checked_shr(length).unwrap_or(0);
            for bits in [low, high] {
                let seen = class_of_v4(Ipv4Addr::from_bits(bits));
                assert!(
                    seen == class || length < 32 && seen != Class::Public,
                    "{first:?}/{length}: {seen:?}"
                );
            }
        }
        for (first, length, class) in V6 {
            let low = Ipv6Addr::from(first).to_bits();
            let high = low | u128::MAX.checked_shr(length).unwrap_or(0);
            for bits in [low, high] {
                let seen = class_of_v6(Ipv6Addr::from_bits(bits));
                assert!(
                    seen == class || seen != Class::Public,
                    "{first:?}/{length}: {seen:?}"
                );
            }
        }
    }

    #[test]
    fn the_borders_of_the_private_blocks_are_exact() {
        for (text, class_here) in [
            ("9.255.255.255", Class::Public),
            ("10.0.0.0", Class::Private),
            ("10.255.255.255", Class::Private),
            ("11.0.0.0", Class::Public),
            ("100.63.255.255", Class::Public),
            ("100.127.255.255", Class::Shared),
            ("100.128.0.0", Class::Public),
            ("126.255.255.255", Class::Public),
            ("128.0.0.0", Class::Public),
            ("169.253.255.255", Class::Public),
            ("169.255.0.0", Class::Public),
            ("172.15.255.255", Class::Public),
            ("172.31.255.255", Class::Private),
            ("172.32.0.0", Class::Public),
            ("198.17.255.255", Class::Public),
            ("198.20.0.0", Class::Public),
            ("223.255.255.255", Class::Public),
            ("255.255.255.255", Class::Multicast),
            ("1fff::1", Class::Reserved),
            ("2000::1", Class::Public),
            ("4000::1", Class::Reserved),
            ("2001:1ff::1", Class::Reserved),
            ("2001:200::1", Class::Public),
            ("fe00::1", Class::Reserved),
            ("::ffff:10.0.0.1", Class::Private),
            ("::10.0.0.1", Class::Embedded),
            ("64:ff9b::10.0.0.1", Class::Private),
            ("64:ff9b::8.8.8.8", Class::Public),
            ("2002:808:808::1", Class::Embedded),
            ("fd00:ec2::254", Class::Metadata),
        ] {
            assert_eq!(class(text), class_here, "{text}");
        }
    }

    #[test]
    fn an_embedded_address_shows_both_faces() {
        let faces: Vec<_> = faces("64:ff9b::8.8.8.8".parse().expect("an address")).collect();
        assert_eq!(faces.len(), 2);
        assert_eq!(
            faces.last().map(ToString::to_string).as_deref(),
            Some("8.8.8.8")
        );
    }
}
