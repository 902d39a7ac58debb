//! Whose policy applies, and who is calling.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Whose policy applies. One server has one tenant, `default`, until tenants are configured.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TenantId(String);

impl Default for TenantId {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl TenantId {
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
        let digest = Sha256::digest(token.as_bytes());
        Self(format!("token:{}", hex(digest.iter().take(16))))
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
    use std::fmt::Write as _;
    bytes.into_iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").unwrap_or_default();
        text
    })
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
