//! What people say for their reasons, as it is kept and told: with the secrets in it masked (P9).
//!
//! Apart, because answers, leaves and changes of policies are all given with reasons. Invariant: the same secret has the same
//! mark within a tenant, and marks of two tenants cannot be compared.

use hmac::{Hmac, KeyInit as _, Mac as _};
use protocol::{Sha256Hex, TenantId, TextKind};
use sha2::Sha256;

use crate::key::SigningKey;

/// `text` with its secrets masked.
pub(crate) fn masked(key: &SigningKey, tenant: &TenantId, text: &str) -> String {
    let key = key.derive("auto-review mask v1", &[tenant.as_str()]);
    // A block of the hash: a shorter key is filled up with zeros (RFC 2104, section 2).
    let mut block = [0_u8; 64];
    block.iter_mut().zip(key).for_each(|(to, from)| *to = from);
    // Keyed once: that costs as much as hashing a short secret does.
    let keyed = Hmac::<Sha256>::new(&block.into());
    protocol::mask(text, TextKind::Prose, &|secret| {
        let mut mac = keyed.clone();
        mac.update(secret);
        Sha256Hex::of(&mac.finalize().into_bytes().into())
    })
}
