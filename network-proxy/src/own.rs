//! This machine's own addresses, by which its own services would be reached: [`own_addresses`].
//!
//! Apart because it reads `/proc`. INVARIANT: what cannot be read adds nothing; the registries' classes hold without it.
//! Source: `proc_net(5)`, `/proc/net/fib_trie` and `/proc/net/if_inet6`.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// All addresses of this network namespace's interfaces.
#[must_use]
pub fn own_addresses() -> HashSet<IpAddr> {
    let v4 = std::fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let v6 = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    local_v4(&v4)
        .map(IpAddr::V4)
        .chain(local_v6(&v6).map(IpAddr::V6))
        .collect()
}

/// A leaf (`|-- ADDRESS`) that is followed by `/32 host LOCAL`.
fn local_v4(trie: &str) -> impl Iterator<Item = Ipv4Addr> {
    let mut leaf = None;
    trie.lines().filter_map(move |line| {
        let line = line.trim();
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse().ok();
            return None;
        }
        if line.starts_with("/32 host LOCAL") {
            leaf
        } else {
            None
        }
    })
}

/// Lines that begin with 32 hexadecimal digits.
fn local_v6(table: &str) -> impl Iterator<Item = Ipv6Addr> {
    table.lines().filter_map(|line| {
        let digits = line.split_whitespace().next()?;
        let bits = u128::from_str_radix(digits, 16)
            .ok()
            .filter(|_| digits.len() == 32)?;
        Some(Ipv6Addr::from_bits(bits))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        let trie = "Local:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 127.0.0.0\n        /8 host LOCAL\n     |-- 203.0.113.9\n        /32 host LOCAL\n     |-- 203.0.113.255\n        /32 link BROADCAST\n";
        assert_eq!(
            local_v4(trie).collect::<Vec<_>>(),
            [Ipv4Addr::new(203, 0, 113, 9)]
        );
        let table = "00000000000000000000000000000001 01 80 10 80       lo\nbroken\n";
        assert_eq!(local_v6(table).collect::<Vec<_>>(), [Ipv6Addr::LOCALHOST]);
    }

    #[test]
    fn loopback_is_among_this_machines_addresses() {
        assert!(own_addresses().contains(&IpAddr::from([127, 0, 0, 1])));
    }
}
