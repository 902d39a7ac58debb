//! Whose policy applies, and who is calling.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// Whose policy applies: 1 to 64 lower-case letters, digits and `-`, beginning with a letter or digit. Where nothing is
/// said, `default`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(extend("pattern" = "^[a-z0-9][a-z0-9-]{0,63}$")))]
#[serde(try_from = "String", into = "String")]
pub struct TenantId(String);

/// Why a text names no tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "a tenant's name has 1 to 64 of `a` to `z`, `0` to `9` and `-`, and does not begin with `-`"
)]
pub struct InvalidTenantId;

impl TryFrom<String> for TenantId {
    type Error = InvalidTenantId;

    fn try_from(text: String) -> Result<Self, InvalidTenantId> {
        Self::parse(&text)
    }
}

impl From<TenantId> for String {
    fn from(tenant: TenantId) -> Self {
        tenant.0
    }
}

impl Default for TenantId {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl TenantId {
    /// Reads a name.
    ///
    /// # Errors
    /// The text has another length or other characters.
    pub fn parse(text: &str) -> Result<Self, InvalidTenantId> {
        let fits = (1..=64).contains(&text.len()) && !text.starts_with('-');
        let plain = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        if fits && text.bytes().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidTenantId)
        }
    }

    /// The name, as stored.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Who is calling: derived by client and server alike from what authenticates the call, never sent.
///
/// A decision is signed over it (design D19), so that one caller's approval is worthless to another.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallerId(String);

impl CallerId {
    /// The holder of a bearer token: the first 16 bytes of the token's SHA-256, in hex.
    #[must_use]
    pub fn of_token(token: &str) -> Self {
        Self::of_token_hash(&Sha256::digest(token.as_bytes()).into())
    }

    /// The same by the token's SHA-256, which is all that a server keeps.
    #[must_use]
    pub fn of_token_hash(hash: &[u8; 32]) -> Self {
        Self(format!("token:{}", hex(hash.iter().take(16))))
    }

    /// The local user `uid`, of an embedded server or a Unix socket with checked peer credentials.
    #[must_use]
    pub fn of_uid(uid: u32) -> Self {
        Self(format!("uid:{uid}"))
    }

    /// The caller as it was stored by [`CallerId::as_str`].
    #[must_use]
    pub fn stored(text: String) -> Self {
        Self(text)
    }

    /// The text that is stored and signed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

pub(crate) fn hex<'a>(bytes: impl IntoIterator<Item = &'a u8>) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or_default();
    bytes
        .into_iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

pub(crate) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != N * 2 {
        return None;
    }
    let mut bytes = [0_u8; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        // Lower case only: one value has one spelling.
        if pair.iter().any(u8::is_ascii_uppercase) {
            return None;
        }
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}
