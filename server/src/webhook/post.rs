//! One attempt to tell a webhook: spelled, signed, sent to an address that was looked at.
//!
//! Apart from the queue, because it alone speaks to strangers. Invariants: no redirect is followed, no proxy asked, no
//! answer read but its status; an attempt has an end; the secret signs and goes nowhere.

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use protocol::WebhookMessage;
use reqwest::{Client, StatusCode, redirect};
use sha2::Sha256;
use thiserror::Error;

use super::address::{self, Refused};

/// How long an attempt may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Says by which library TLS is made; once is enough, and another part of the program may have said so.
pub(super) fn choose_crypto() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        let chosen: Result<(), _> = rustls::crypto::ring::default_provider().install_default();
        // Lost a race: just as good.
        drop(chosen);
    }
}

/// Why an attempt did not come off.
#[derive(Debug, Error)]
pub(super) enum NotTold {
    /// The URL leads where nothing is sent.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The other side says that it is gone for good.
    #[error("the answer was 410")]
    Gone,
    /// The other side did not take it.
    #[error("the answer was {0}")]
    Status(u16),
    /// There was no answer in time.
    #[error("there was no answer")]
    NoAnswer,
    /// The message could not be spelled.
    #[error("the message could not be spelled")]
    Spelling,
}

/// The key of one webhook.
pub(crate) struct Secret([u8; 32]);

impl Secret {
    pub(crate) fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The form in which it is told, once.
    pub(crate) fn reveal(&self) -> String {
        format!("whsec_{}", STANDARD.encode(self.0))
    }

    /// The value of `webhook-signature`.
    fn sign(&self, id: &str, seconds: i64, body: &str) -> Option<String> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(format!("{id}.{seconds}.{body}").as_bytes());
        let code = STANDARD.encode(mac.finalize().into_bytes());
        Some(format!("v1,{code}"))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Where and as whom.
#[derive(Debug)]
pub(super) struct Letter<'a> {
    /// The same for every attempt, so that the other side can tell a repetition.
    pub(super) id: String,
    pub(super) url: &'a str,
    pub(super) secret: &'a Secret,
    pub(super) at: Timestamp,
}

/// Sends `message`.
pub(super) async fn post(
    letter: &Letter<'_>,
    message: &WebhookMessage,
    allowed: &BTreeSet<String>,
    ca: Option<&str>,
) -> Result<(), NotTold> {
    match tokio::time::timeout(PATIENCE, send(letter, message, allowed, ca)).await {
        Ok(sent) => sent,
        Err(_elapsed) => Err(NotTold::NoAnswer),
    }
}

async fn send(
    letter: &Letter<'_>,
    message: &WebhookMessage,
    allowed: &BTreeSet<String>,
    ca: Option<&str>,
) -> Result<(), NotTold> {
    let url = address::parse(letter.url, allowed)?;
    let addresses = address::resolve(&url, allowed).await?;
    let host = url.host_str().unwrap_or_default().to_owned();
    let body = serde_json::to_string(message).map_err(|_| NotTold::Spelling)?;
    let seconds = letter.at.as_second();
    let signature = letter.secret.sign(&letter.id, seconds, &body);
    let signature = signature.ok_or(NotTold::Spelling)?;
    let mut builder = Client::builder()
        .user_agent(concat!("auto-review/", env!("CARGO_PKG_VERSION")))
        .no_proxy()
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .pool_max_idle_per_host(0)
        // What is dialled is what was looked at.
        .resolve_to_addrs(&host, &addresses);
    if url.scheme() == "http" {
        builder = builder.tls_certs_only([]);
    } else if let Some(ca) = ca {
        let certificates = reqwest::Certificate::from_pem_bundle(ca.as_bytes());
        builder = builder.tls_certs_only(certificates.map_err(|_| NotTold::NoAnswer)?);
    }
    let client = builder.build().map_err(|_| NotTold::NoAnswer)?;
    let answer = client
        .post(url)
        .header("content-type", "application/json")
        .header("webhook-id", &letter.id)
        .header("webhook-timestamp", seconds.to_string())
        .header("webhook-signature", signature)
        .body(body)
        .send()
        .await
        .map_err(|_| NotTold::NoAnswer)?;
    match answer.status() {
        status if status.is_success() => Ok(()),
        StatusCode::GONE => Err(NotTold::Gone),
        status => Err(NotTold::Status(status.as_u16())),
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn a_signature_is_that_of_the_published_scheme() {
        // Known answer made with `openssl dgst -sha256 -mac HMAC`.
        let secret = Secret::new([7; 32]);
        let signed = secret.sign("msg_1", 1_700_000_000, "{}").expect("signed");
        assert_eq!(signed, KNOWN);
        assert_ne!(
            secret.sign("msg_1", 1_700_000_001, "{}"),
            Some(signed.clone())
        );
        assert_ne!(secret.sign("msg_2", 1_700_000_000, "{}"), Some(signed));
        assert!(!format!("{secret:?}").contains("BwcH"));
        assert!(secret.reveal().starts_with("whsec_BwcH"));
    }

    const KNOWN: &str = "v1,nuLLyheCKcS2N8JNOFt5stk98R+umYWr26/ZTfdtGM8=";
}
