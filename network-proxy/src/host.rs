//! The one canonical spelling of a destination: [`Host`], [`HostName`] and [`Destination`].
//!
//! Apart because every later step (match, deny, question, lookup, dial, SNI, `Host` field, event) uses the value made
//! here and nothing else: a second spelling that reaches a second reader is how filters are talked past.
//! INVARIANT: a `Host` has exactly one spelling. Names are lower-case ASCII without a trailing dot, addresses are
//! canonical (an IPv4-mapped IPv6 address *is* the IPv4 address). Nothing on the wire is repaired.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use idna::AsciiDenyList;
use idna::uts46::{DnsLength, Hyphens, Uts46};

/// The longest name, in octets, without the root's dot (RFC 1035 §2.3.4, less the length octets).
const LONGEST_NAME: usize = 253;
/// The longest label, in octets (RFC 1035 §2.3.4).
const LONGEST_LABEL: usize = 63;

/// A name or an address, in its one canonical spelling.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A DNS name.
    Name(HostName),
    /// An address; never an IPv4-mapped one.
    Address(IpAddr),
}

/// A DNS name: lower-case LDH labels and underscores, no trailing dot, no label that is a number at the end.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName(Arc<str>);

/// A host and a port: what a connection is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Destination {
    /// The host.
    pub host: Host,
    /// The port, 1 to 65535.
    pub port: u16,
}

/// Why bytes are no host, or no destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHost {
    /// No bytes, or a label without any.
    #[error("a host name or one of its labels is empty")]
    Empty,
    /// Over 253 octets, or a label over 63.
    #[error("a host name is at most 253 octets long and its labels 63")]
    TooLong,
    /// A byte that no host name has.
    #[error(
        "a host name holds letters, digits, hyphens and underscores only, and no label begins or ends with a hyphen"
    )]
    Character,
    /// The last label is a number, and the whole is no dotted IPv4 address.
    #[error("an address has to be written in its plain dotted form")]
    Numeric,
    /// A label that begins with `xn--` and is not what its decoded form encodes to.
    #[error("a label that begins with `xn--` does not decode")]
    Encoding,
    /// Brackets that do not hold an IPv6 address without a zone.
    #[error("brackets hold an IPv6 address without a zone and nothing else")]
    Brackets,
    /// A URL where a host is wanted.
    #[error("that is a URL: write its host alone")]
    Url,
    /// No port where one is needed, or not a number between 1 and 65535 in plain digits.
    #[error("a port is a number between 1 and 65535 and has to be given")]
    Port,
}

impl Host {
    /// Reads what stands on the wire, or in a rule, without brackets and port.
    ///
    /// # Errors
    /// Where the bytes are not exactly a name or an address: see [`InvalidHost`].
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidHost> {
        let text = std::str::from_utf8(bytes).map_err(|_| InvalidHost::Character)?;
        if text.contains("://") {
            return Err(InvalidHost::Url);
        }
        if text.contains(':') {
            return text
                .parse()
                .map(|address| Self::from(IpAddr::V6(address)))
                .map_err(|_| InvalidHost::Character);
        }
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Err(InvalidHost::Empty);
        }
        if text.len() > LONGEST_NAME {
            return Err(InvalidHost::TooLong);
        }
        let lower = text.to_ascii_lowercase();
        for label in lower.split('.') {
            check_label(label)?;
        }
        if ends_in_a_number(&lower) {
            return lower
                .parse::<Ipv4Addr>()
                .map(|address| Self::Address(IpAddr::V4(address)))
                .map_err(|_| InvalidHost::Numeric);
        }
        Ok(Self::Name(HostName(lower.into())))
    }

    /// The name, where it is one.
    #[must_use]
    pub const fn name(&self) -> Option<&HostName> {
        match self {
            Self::Name(name) => Some(name),
            Self::Address(_) => None,
        }
    }
}

impl From<IpAddr> for Host {
    fn from(address: IpAddr) -> Self {
        Self::Address(address.to_canonical())
    }
}

impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => formatter.write_str(&name.0),
            Self::Address(address) => address.fmt(formatter),
        }
    }
}

impl HostName {
    /// The canonical spelling, without the root's dot.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The absolute spelling, with the root's dot: what is looked up, so that no search list can make another name of it.
    #[must_use]
    pub fn absolute(&self) -> String {
        format!("{}.", self.0)
    }

    /// The name and each of its parents, the name itself first.
    pub(crate) fn ancestry(&self) -> impl Iterator<Item = &str> {
        let mut rest = Some(self.as_str());
        std::iter::from_fn(move || {
            let here = rest?;
            rest = here.split_once('.').map(|(_, parent)| parent);
            Some(here)
        })
    }

    /// The decoded form for people, where a label is encoded, with a mark where it mixes scripts.
    #[must_use]
    pub fn decoded(&self) -> Option<String> {
        if !self.0.split('.').any(|label| label.starts_with("xn--")) {
            return None;
        }
        let (decoded, outcome) =
            Uts46::new().to_unicode(self.0.as_bytes(), AsciiDenyList::EMPTY, Hyphens::Allow);
        outcome.ok()?;
        let mixed = decoded.split('.').any(mixes_scripts);
        Some(if mixed {
            format!("{decoded} (letters of more than one script)")
        } else {
            decoded.into_owned()
        })
    }
}

impl Destination {
    /// Reads `host:port` or `[v6]:port`; `default_port` stands in where no port is written.
    ///
    /// # Errors
    /// Where the text is anything else: userinfo, a zone, a missing or out-of-range port: see [`InvalidHost`].
    pub fn parse(authority: &str, default_port: Option<u16>) -> Result<Self, InvalidHost> {
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (inside, after) = rest.split_once(']').ok_or(InvalidHost::Brackets)?;
                let address: Ipv6Addr = inside.parse().map_err(|_| InvalidHost::Brackets)?;
                let port = match after.strip_prefix(':') {
                    Some(port) => Some(port),
                    None if after.is_empty() => None,
                    None => return Err(InvalidHost::Brackets),
                };
                (Host::from(IpAddr::V6(address)), port)
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (Host::parse(host.as_bytes())?, Some(port)),
                None => (Host::parse(authority.as_bytes())?, None),
            },
        };
        let port = match port {
            Some(port) => parse_port(port)?,
            None => default_port.ok_or(InvalidHost::Port)?,
        };
        Ok(Self { host, port })
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(IpAddr::V6(address)) => write!(formatter, "[{address}]:{}", self.port),
            host @ (Host::Name(_) | Host::Address(_)) => write!(formatter, "{host}:{}", self.port),
        }
    }
}

/// A port in plain digits.
pub(crate) fn parse_port(text: &str) -> Result<u16, InvalidHost> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    match text.parse::<u16>() {
        Ok(port) if plain => Ok(port),
        _ => Err(InvalidHost::Port),
    }
}

fn check_label(label: &str) -> Result<(), InvalidHost> {
    if label.is_empty() {
        return Err(InvalidHost::Empty);
    }
    if label.len() > LONGEST_LABEL {
        return Err(InvalidHost::TooLong);
    }
    let plain = label.bytes().all(|byte| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_'
    });
    if !plain || label.starts_with('-') || label.ends_with('-') {
        return Err(InvalidHost::Character);
    }
    if label.starts_with("xn--") {
        let again = Uts46::new().to_ascii(
            label.as_bytes(),
            AsciiDenyList::STD3,
            Hyphens::Check,
            DnsLength::Ignore,
        );
        if !matches!(again, Ok(spelling) if spelling == label) {
            return Err(InvalidHost::Encoding);
        }
    }
    Ok(())
}

/// Whether readers that follow the WHATWG URL standard take the name for an IPv4 address: its last label is a number.
fn ends_in_a_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return true;
    }
    last.strip_prefix("0x")
        .is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Whether a label holds Latin letters beside letters of another script: the usual look-alike.
fn mixes_scripts(label: &str) -> bool {
    let latin = |letter: char| {
        letter.is_ascii_alphabetic()
            || matches!(letter, '\u{c0}'..='\u{24f}' | '\u{1e00}'..='\u{1eff}')
    };
    let mut letters = label.chars().filter(|letter| letter.is_alphabetic());
    let (mut has_latin, mut has_other) = (false, false);
    for letter in &mut letters {
        has_latin |= latin(letter);
        has_other |= !latin(letter);
    }
    has_latin && has_other
}

/// Turns a name as a person writes it (Unicode allowed) into the ASCII one; what is ASCII already stays as it is.
pub(crate) fn to_ascii(text: &str) -> Result<String, InvalidHost> {
    if text.is_ascii() {
        return Ok(text.to_owned());
    }
    Uts46::new()
        .to_ascii(
            text.as_bytes(),
            AsciiDenyList::STD3,
            Hyphens::Check,
            DnsLength::VerifyAllowRootDot,
        )
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| InvalidHost::Encoding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn host(text: &str) -> Result<String, InvalidHost> {
        Host::parse(text.as_bytes()).map(|host| host.to_string())
    }

    #[test]
    fn one_host_has_one_spelling() {
        assert_eq!(host("ExAmple.COM."), Ok("example.com".to_owned()));
        assert_eq!(host("::ffff:8.8.8.8"), Ok("8.8.8.8".to_owned()));
        assert_eq!(host("2606:4700:0:0:0:0:0:1"), Ok("2606:4700::1".to_owned()));
        assert_eq!(host("127.0.0.1."), Ok("127.0.0.1".to_owned()));
        assert_eq!(
            host("_acme.example.com"),
            Ok("_acme.example.com".to_owned())
        );
        assert_eq!(
            host("r3---sn.example.com"),
            Ok("r3---sn.example.com".to_owned())
        );
    }

    #[test]
    fn numbers_that_libraries_read_as_addresses_are_refused() {
        for text in [
            "127.1",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "127.000.0.1",
            "1.2.3.4.5",
            "a.0x7f",
            "0",
            "a.0x",
        ] {
            assert_eq!(host(text), Err(InvalidHost::Numeric), "{text}");
        }
    }

    #[test]
    fn what_is_no_name_is_not_repaired() {
        for text in [
            "",
            ".",
            "a..b",
            ".a",
            "a b",
            "a/b",
            "a@b",
            "a%62",
            "a\0b",
            "bücher.test",
            "-a.test",
            "a-.test",
            "[::1]",
            "fe80::1%lo",
            "a..",
            "a\\b",
            "a,b",
            "*.a",
        ] {
            assert!(host(text).is_err(), "{text:?}");
        }
        assert_eq!(host("xn--a.test"), Err(InvalidHost::Encoding));
        assert_eq!(host(&"a".repeat(64)), Err(InvalidHost::TooLong));
        assert_eq!(
            host(&vec!["a".repeat(60); 5].join(".")),
            Err(InvalidHost::TooLong)
        );
    }

    #[test]
    fn a_destination_is_a_host_and_a_plain_port() {
        let read = |text| Destination::parse(text, None).map(|to| to.to_string());
        assert_eq!(read("a.test:443"), Ok("a.test:443".to_owned()));
        assert_eq!(read("[0:0::1]:80"), Ok("[::1]:80".to_owned()));
        for text in [
            "a.test",
            "a.test:",
            "a.test:0",
            "a.test:65536",
            "a.test:+1",
            "a.test:-1",
            "a.test:01",
            "a.test:1:2",
            "a.test:1x",
            ":1",
            "[::1",
            "[::1]x:1",
            "::1:1",
            "u@a.test:1",
            "[a.test]:1",
            "[::1%lo]:1",
            "[::1]",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        assert_eq!(
            Destination::parse("a.test", Some(80)).map(|to| to.to_string()),
            Ok("a.test:80".to_owned())
        );
    }

    #[test]
    fn a_look_alike_is_shown_with_a_mark() {
        let Ok(Host::Name(name)) = Host::parse(b"xn--exmple-4nf.com") else {
            panic!("the name is valid");
        };
        let shown = name.decoded().unwrap_or_default();
        assert!(
            shown.ends_with("(letters of more than one script)"),
            "{shown}"
        );
    }

    proptest! {
        #[test]
        fn parsing_a_parsed_host_changes_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(host) = Host::parse(&bytes) {
                prop_assert_eq!(Host::parse(host.to_string().as_bytes()), Ok(host));
            }
        }

        #[test]
        fn names_keep_their_one_spelling_in_any_case(text in "[a-zA-Z0-9_-]{1,20}(\\.[a-zA-Z0-9_-]{1,20}){0,4}\\.?") {
            let first = Host::parse(text.as_bytes());
            prop_assert_eq!(&first, &Host::parse(text.to_ascii_uppercase().as_bytes()));
            if let Ok(host) = first {
                prop_assert_eq!(Host::parse(host.to_string().as_bytes()), Ok(host));
            }
        }

        #[test]
        fn a_destination_reads_back(text in "[\\[\\]a-z0-9:.%@_-]{0,40}") {
            if let Ok(to) = Destination::parse(&text, None) {
                prop_assert_eq!(Destination::parse(&to.to_string(), None), Ok(to));
            }
        }
    }
}
