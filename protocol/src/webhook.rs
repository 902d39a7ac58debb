//! The bodies of webhooks: whom a tenant wants to be told, what is told, and what could not be.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::api::ReviewResource;
use crate::review::ReviewId;
use crate::tenant::TenantId;

/// What a webhook can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum WebhookEvent {
    /// A review waits for a person.
    Waiting,
    /// It ended in an approval.
    Approved,
    /// It ended in a denial.
    Denied,
    /// Its deadline passed.
    TimedOut,
    /// The question was taken back.
    Aborted,
    /// A step of it failed.
    Failed,
}

impl WebhookEvent {
    /// Every event.
    pub const ALL: [Self; 6] = [
        Self::Waiting,
        Self::Approved,
        Self::Denied,
        Self::TimedOut,
        Self::Aborted,
        Self::Failed,
    ];

    /// The name on the wire and in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::TimedOut => "timed_out",
            Self::Aborted => "aborted",
            Self::Failed => "failed",
        }
    }

    /// Reads [`WebhookEvent::as_str`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.as_str() == text)
    }
}

/// `POST /v1/webhooks`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateWebhook {
    /// Where to: `https`, at most 2,048 bytes, without user or fragment.
    #[cfg_attr(feature = "schema", schemars(extend("format" = "uri")))]
    pub url: String,
    /// What to tell; at least one.
    pub events: Vec<WebhookEvent>,
}

/// The answer to a [`CreateWebhook`]: the only time that the secret is told.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CreatedWebhook {
    /// Its name in lists.
    pub id: String,
    /// `whsec_` and the base64 of the key that `webhook-signature` is made with.
    pub secret: String,
}

impl std::fmt::Debug for CreatedWebhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CreatedWebhook({})", self.id)
    }
}

/// `GET /v1/webhooks`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WebhookList {
    /// Oldest first.
    pub webhooks: Vec<WebhookResource>,
}

/// A webhook, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WebhookResource {
    /// Its name.
    pub id: String,
    /// Where to.
    pub url: String,
    /// What is told.
    pub events: Vec<WebhookEvent>,
    /// When it was made. Nothing that was on record before is told.
    pub created_at: Timestamp,
    /// How many deliveries are still tried.
    pub pending: i64,
    /// How many were given up.
    pub dead: i64,
}

/// `GET /v1/webhooks/{id}/deliveries`: the newest 200 that are not delivered, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeliveryList {
    /// The deliveries.
    pub deliveries: Vec<DeliveryResource>,
}

/// Something that is to be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeliveryResource {
    /// Its number.
    pub id: i64,
    /// What.
    pub event: WebhookEvent,
    /// Of which review.
    pub review_id: ReviewId,
    /// When it happened.
    pub created_at: Timestamp,
    /// `pending`: it is tried again; `dead`: it was given up, and can be sent again.
    pub status: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried next, where it is.
    pub next_at: Option<Timestamp>,
    /// Why the last attempt did not come off.
    pub last_error: Option<String>,
}

/// What a webhook is told.
///
/// Signed as the Standard Webhooks say: `webhook-signature` is `v1,` and the base64 of the HMAC-SHA256, under the webhook's key, over `webhook-id`, a dot, `webhook-timestamp`, a dot, and the body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WebhookMessage {
    /// What happened.
    pub event: WebhookEvent,
    /// To whose review.
    pub tenant: TenantId,
    /// Its number in the tenant's record: messages may come late, twice and out of order.
    pub seq: i64,
    /// The review as it stands when this is sent.
    pub review: ReviewResource,
}
