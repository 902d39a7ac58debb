//! JSON from outside, read strictly: a key that stands twice, or nesting past 64 levels, is refused (design D20).
//!
//! Two readers of one text must not see two values; a lenient reader keeps the last of two keys, another the first.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use thiserror::Error;

/// How deep arrays and objects may nest.
const MAX_DEPTH: usize = 64;

/// Why a text is not the JSON value that was wanted.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct InvalidJson(#[from] serde_json::Error);

/// Reads one JSON value and nothing after it.
///
/// # Errors
/// Not UTF-8, not JSON, something after the value, a duplicate key at any depth, too deep, or not a `T`.
pub fn parse_strict<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, InvalidJson> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    Strict { depth: MAX_DEPTH }.deserialize(&mut reader)?;
    reader.end()?;
    Ok(serde_json::from_slice(bytes)?)
}

struct Strict {
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Strict {
    fn deeper<E: serde::de::Error>(&self) -> Result<Self, E> {
        let depth = self
            .depth
            .checked_sub(1)
            .ok_or_else(|| E::custom("nested too deep"))?;
        Ok(Self { depth })
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(self.deeper()?)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            map.next_value_seed(self.deeper()?)?;
            if let Some(twice) = seen.replace(key) {
                let shown = crate::Printable(&twice).to_string();
                return Err(serde::de::Error::custom(format_args!(
                    "key `{shown}` stands twice"
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::parse_strict;

    fn refusal(text: &str) -> String {
        parse_strict::<Value>(text.as_bytes())
            .expect_err("it was refused")
            .to_string()
    }

    #[test]
    fn a_key_that_stands_twice_is_refused_at_any_depth() {
        assert!(refusal(r#"{"a":1,"a":2}"#).starts_with("key `a` stands twice"));
        assert!(refusal(r#"[{"x":{"a":1,"\u0061":2}}]"#).starts_with("key `a` stands twice"));
    }

    #[test]
    fn a_second_value_is_refused() {
        assert!(refusal("{} {}").starts_with("trailing characters"));
    }

    #[test]
    fn nesting_has_an_end() {
        assert!(refusal(&"[".repeat(100)).starts_with("nested too deep"));
    }

    #[test]
    fn an_ordinary_value_is_read() {
        assert_eq!(
            parse_strict::<Value>(b" {\"a\":[1,-2,0.5,null,true,\"x\"]} ").expect("json")["a"][5],
            "x"
        );
    }
}
