//! The names behind the addresses that the transparent path hands out: [`NameTable`].
//!
//! Apart because a connection to such an address is decided by the name that it stands for.
//! INVARIANT: an address stands for one name for the whole execution; an address that stands for none is not reached. The
//! addresses are of `198.18.0.0/15` (RFC 2544), which nobody routes.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, PoisonError};

use crate::host::{Host, HostName};

/// The first address that is handed out.
const FIRST: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// How many the block holds, its first and last left out.
const BLOCK: usize = (1 << 17) - 2;

/// Names and the addresses that stand for them.
#[derive(Debug)]
pub(crate) struct NameTable {
    most: usize,
    names: Mutex<Names>,
}

#[derive(Debug, Default)]
struct Names {
    in_order: Vec<HostName>,
    places: HashMap<HostName, usize>,
}

impl NameTable {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most: most.min(BLOCK),
            names: Mutex::default(),
        }
    }

    /// The address for a name; none where the table is full.
    pub(crate) fn address(&self, name: &HostName) -> Option<Ipv4Addr> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let place = match names.places.get(name) {
            Some(place) => *place,
            None if names.in_order.len() >= self.most => return None,
            None => {
                let place = names.in_order.len();
                names.in_order.push(name.clone());
                let _new = names.places.insert(name.clone(), place);
                place
            }
        };
        let place = u32::try_from(place).ok()?;
        Some(Ipv4Addr::from_bits(FIRST.to_bits() + place))
    }

    /// What a connection to an address is meant for; none where the address is of the block and stands for nothing.
    pub(crate) fn meant(&self, address: IpAddr) -> Option<Host> {
        let IpAddr::V4(v4) = address.to_canonical() else {
            return Some(Host::from(address));
        };
        if v4.to_bits() >> 17 != FIRST.to_bits() >> 17 {
            return Some(Host::from(address));
        }
        let place = v4.to_bits().checked_sub(FIRST.to_bits())?;
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names
            .in_order
            .get(usize::try_from(place).ok()?)
            .cloned()
            .map(Host::Name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> HostName {
        match Host::parse(text.as_bytes()) {
            Ok(Host::Name(name)) => name,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_address_stands_for_one_name_and_an_unknown_one_for_nothing() {
        let table = NameTable::new(2);
        let first = table.address(&name("a.test")).expect("room");
        assert_eq!(table.address(&name("a.test")), Some(first));
        let second = table.address(&name("b.test")).expect("room");
        assert_eq!(table.address(&name("c.test")), None);
        assert_eq!(table.meant(second.into()), Some(Host::Name(name("b.test"))));
        assert_eq!(table.meant(IpAddr::from([198, 19, 255, 254])), None);
        assert_eq!(table.meant(IpAddr::from([198, 18, 0, 0])), None);
        assert_eq!(
            table.meant(IpAddr::from([8, 8, 8, 8])),
            Some(Host::from(IpAddr::from([8, 8, 8, 8])))
        );
        assert_eq!(
            table.meant("::ffff:198.18.0.1".parse().expect("an address")),
            Some(Host::Name(name("a.test")))
        );
    }
}
