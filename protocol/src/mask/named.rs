//! Values whose name says that they are secret: assignments, fields of JSON, YAML and headers, parts of a query.
//!
//! Apart, because names are many and shapes are none. Invariant: what stands for a value (a variable, a call, a type, a
//! path) stays; cost is linear, because a value is looked at once.

use std::sync::LazyLock;

use super::value::{self, Said, Value};
use super::{Span, TextKind, run};

/// The longest name that is looked back for, in bytes.
const MAX_NAME: usize = 64;

/// How the ends of a name, in lower case and without `_`, `-` and `.`, are called.
const ENDINGS: &[(&str, &str)] = &[
    ("password", "password"),
    ("passwd", "password"),
    ("passphrase", "password"),
    ("passcode", "password"),
    ("pwd", "password"),
    ("dbpass", "password"),
    ("userpass", "password"),
    ("apikey", "api_key"),
    ("accesskey", "access_key"),
    ("secretkey", "secret"),
    ("secretkeybase", "secret"),
    ("secretaccesskey", "secret"),
    ("privatekey", "private_key"),
    ("clientkeydata", "private_key"),
    ("signingkey", "private_key"),
    ("encryptionkey", "private_key"),
    ("masterkey", "private_key"),
    ("accountkey", "secret"),
    ("sharedaccesskey", "secret"),
    ("sharedkey", "secret"),
    ("subscriptionkey", "api_key"),
    ("authkey", "secret"),
    ("storagekey", "secret"),
    ("secret", "secret"),
    ("token", "token"),
    ("bearer", "token"),
    ("credential", "credentials"),
    ("credentials", "credentials"),
    ("sessionid", "session"),
    ("sessionkey", "session"),
    ("phpsessid", "session"),
    ("jsessionid", "session"),
    ("authorization", "authorization"),
    ("cookie", "cookie"),
];

/// Whole names.
const EXACT: &[(&str, &str)] = &[
    ("pass", "password"),
    ("mysqlpwd", "password"),
    ("auth", "credentials"),
    ("sig", "signature"),
    ("xamzsignature", "signature"),
    ("xgoogsignature", "signature"),
    ("awssecret", "secret"),
    ("jwt", "token"),
    ("otp", "password"),
    ("totp", "password"),
    ("dsn", "connection_string"),
    ("ddapikey", "api_key"),
    ("pat", "token"),
];

/// Names that end so and hold no secret.
const HARMLESS: &[&str] = &[
    "nexttoken",
    "pagetoken",
    "nextpagetoken",
    "continuationtoken",
    "maxtoken",
    "eostoken",
    "bostoken",
    "padtoken",
    "unktoken",
    "septoken",
    "clstoken",
    "masktoken",
    "stoptoken",
    "pertoken",
    "oldpwd",
];

/// What the end of a name says.
#[derive(Debug, Clone, Copy)]
enum Says {
    Harmless,
    /// Where it is the whole name.
    Whole(&'static str),
    Ending(&'static str),
}

/// The three tables by the last byte of the name, each in its order: most names end in what no table knows.
static BY_LAST: LazyLock<Vec<Vec<(&'static str, Says)>>> = LazyLock::new(|| {
    let harmless = HARMLESS.iter().map(|name| (*name, Says::Harmless));
    let whole = EXACT.iter().map(|(name, kind)| (*name, Says::Whole(kind)));
    let endings = ENDINGS.iter().rev();
    let endings = endings.map(|(name, kind)| (*name, Says::Ending(kind)));
    let mut table = vec![Vec::new(); 256];
    for (name, says) in harmless.chain(whole).chain(endings) {
        let last = name.bytes().next_back().unwrap_or_default();
        if let Some(slot) = table.get_mut(usize::from(last)) {
            slot.push((name, says));
        }
    }
    table
});

/// What the name `name` says its value is, where it says that it is secret.
pub(super) fn kind_of(name: &[u8]) -> Option<&'static str> {
    if name.len() < 3 {
        return None;
    }
    let last = name.iter().rfind(|byte| byte.is_ascii_alphanumeric())?;
    let known = BY_LAST.get(usize::from(last.to_ascii_lowercase()))?;
    if let Some(kind) = says(name, known) {
        return kind;
    }
    // `_PASS` and `-pass` are words of a name; `compass` and `bypass` are not.
    let ends = |ending: &str| {
        let tail = name.get(name.len().saturating_sub(ending.len())..);
        tail.is_some_and(|tail| tail.eq_ignore_ascii_case(ending.as_bytes()))
    };
    if ends("_pass") || ends("-pass") {
        Some("password")
    } else if ends("_auth") || ends("_pat") {
        Some("credentials")
    } else {
        None
    }
}

/// What the first fitting entry of `known` says of `name`, whose case and signs do not count. `Some(None)`: no secret.
fn says(name: &[u8], known: &[(&str, Says)]) -> Option<Option<&'static str>> {
    known.iter().find_map(|(text, says)| {
        let mut letters = name
            .iter()
            .rev()
            .filter(|byte| byte.is_ascii_alphanumeric());
        let mut wanted = text.bytes().rev();
        let fits = wanted.all(|byte| {
            letters
                .next()
                .is_some_and(|letter| letter.to_ascii_lowercase() == byte)
        });
        match says {
            _ if !fits => None,
            Says::Harmless => Some(None),
            Says::Whole(kind) => letters.next().is_none().then_some(Some(*kind)),
            Says::Ending(kind) => Some(Some(*kind)),
        }
    })
}

/// Finds every value with such a name.
pub(super) fn find(bytes: &[u8], kind: TextKind, spans: &mut Vec<Span>) {
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        if !matches!(byte, b'=' | b':') {
            let rest = bytes.get(at..).unwrap_or_default();
            let Some(next) = memchr::memchr2(b'=', b':', rest) else {
                return;
            };
            at += next;
        }
        at = match named_at(bytes, at) {
            Some(named) => named.mask(bytes, kind, spans).max(at + 1),
            None => at + 1,
        };
    }
}

/// A name and where what it names begins.
struct Named {
    kind: &'static str,
    start: usize,
    said: Said,
}

/// The secret's name that ends at the separator at `at`, if one does.
fn named_at(bytes: &[u8], at: usize) -> Option<Named> {
    let separator = *bytes.get(at)?;
    let behind = match (separator, bytes.get(at + 1)) {
        (b'=', Some(b'=')) | (b':', Some(b':' | b'/')) => return None,
        (b'=', Some(b'>')) | (b':', Some(b'=')) => at + 2,
        _ => at + 1,
    };
    let back = |from: usize, is: fn(u8) -> bool, most: usize| {
        let window = bytes
            .get(from.saturating_sub(most)..from)
            .unwrap_or_default();
        window.iter().rev().take_while(|byte| is(**byte)).count()
    };
    let blanks = back(at, |byte| byte == b' ', 4);
    let quotes = back(at - blanks, |byte| matches!(byte, b'"' | b'\'' | b'\\'), 2);
    let name_end = at - blanks - quotes;
    let name = back(
        name_end,
        |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'),
        MAX_NAME,
    );
    let name_start = name_end - name;
    let name = bytes.get(name_start..name_end)?;
    let kind = kind_of(name)?;
    // What a test prints.
    if separator == b':' && name == b"PASS" {
        return None;
    }
    let gap = run(bytes.get(..bytes.len().min(behind + 8))?, behind, |byte| {
        byte == b' '
    });
    let start = behind + gap;
    let tight = blanks == 0 && gap == 0;
    let header = separator == b':' && name.contains(&b'-');
    let surely =
        quotes > 0 || header || (separator == b'=' && tight) || alone(bytes, name_start, start);
    Some(Named {
        kind,
        start,
        said: if surely { Said::Surely } else { Said::Perhaps },
    })
}

/// Whether name and value have the line to themselves: `  password: hunter` in YAML, `password = hunter` in an INI file.
fn alone(bytes: &[u8], name_start: usize, value: usize) -> bool {
    let window = bytes
        .get(name_start.saturating_sub(32)..name_start)
        .unwrap_or_default();
    let before = window
        .iter()
        .rev()
        .find(|byte| !matches!(byte, b' ' | b'\t' | b'-'));
    let length = run(
        bytes
            .get(..bytes.len().min(value + 256))
            .unwrap_or_default(),
        value,
        value::is_plain,
    );
    matches!(before, None | Some(b'\n'))
        && matches!(bytes.get(value + length), None | Some(b'\n' | b'\r'))
}

impl Named {
    /// Masks what is named; answers from where to look on.
    fn mask(&self, bytes: &[u8], text: TextKind, spans: &mut Vec<Span>) -> usize {
        match self.kind {
            "authorization" => self.authorization(bytes, text, spans),
            "cookie" => cookies(bytes, self.start, spans),
            _ => self.value(bytes, self.start, text, spans),
        }
    }

    fn value(&self, bytes: &[u8], start: usize, text: TextKind, spans: &mut Vec<Span>) -> usize {
        match value::behind_quotes(bytes, start, self.said, text) {
            Value::Secret(start, end) => {
                // `secret=self.secret` names it again.
                let again = kind_of(bytes.get(start..end).unwrap_or_default()).is_some()
                    && !bytes
                        .get(start..end)
                        .unwrap_or_default()
                        .iter()
                        .any(u8::is_ascii_digit);
                if !again || end - start > MAX_NAME {
                    spans.push(Span {
                        start,
                        end,
                        kind: self.kind,
                    });
                }
                end
            }
            Value::Nothing(on) => on,
        }
    }

    /// `Bearer …`, `Basic …`, or credentials without a scheme.
    fn authorization(&self, bytes: &[u8], text: TextKind, spans: &mut Vec<Span>) -> usize {
        let quoted = run(
            bytes
                .get(..bytes.len().min(self.start + 2))
                .unwrap_or_default(),
            self.start,
            |byte| matches!(byte, b'"' | b'\'' | b'\\'),
        );
        let start = self.start + quoted;
        let window = bytes.get(..bytes.len().min(start + 32)).unwrap_or_default();
        let scheme = run(window, start, |byte| {
            byte.is_ascii_alphabetic() || byte == b'-'
        });
        let blanks = run(window, start + scheme, |byte| byte == b' ');
        if scheme >= 3 && blanks > 0 {
            let credentials = start + scheme + blanks;
            if let Value::Secret(start, end) = value::at(bytes, credentials, Said::Surely) {
                spans.push(Span {
                    start,
                    end,
                    kind: "authorization",
                });
                return end;
            }
            return credentials;
        }
        self.value(bytes, self.start, text, spans)
    }
}

/// The values of `a=b; c=d`, to the end of the line or quote.
pub(super) fn cookies(bytes: &[u8], start: usize, spans: &mut Vec<Span>) -> usize {
    const ATTRIBUTES: [&[u8]; 5] = [b"path", b"domain", b"expires", b"max-age", b"samesite"];
    let mut at = start;
    // Bounded: no client sends more.
    for _ in 0..200 {
        at += run(bytes, at, |byte| matches!(byte, b' ' | b'"' | b'\''));
        let name = run(
            bytes
                .get(..bytes.len().min(at + MAX_NAME))
                .unwrap_or_default(),
            at,
            |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'),
        );
        let equals = at + name;
        if name == 0 || bytes.get(equals) != Some(&b'=') {
            break;
        }
        let attribute = bytes
            .get(at..equals)
            .unwrap_or_default()
            .to_ascii_lowercase();
        let length = run(bytes, equals + 1, value::is_plain);
        let end = equals + 1 + length;
        if !ATTRIBUTES.contains(&attribute.as_slice())
            && let Value::Secret(start, end) = value::at(bytes, equals + 1, Said::Surely)
        {
            spans.push(Span {
                start,
                end,
                kind: "cookie",
            });
        }
        at = end;
        if bytes.get(at) != Some(&b';') {
            break;
        }
        at += 1;
    }
    at.max(start)
}
