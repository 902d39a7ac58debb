//! The webhooks of one tenant, for its admins: list, make, remove, and what could not be told.
//!
//! Invariants: a webhook's secret is in one answer, once; an admin reaches no other tenant's webhooks.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use protocol::{
    CreateWebhook, CreatedWebhook, DeliveryList, DeliveryResource, WebhookList, WebhookResource,
};

use super::body::{StrictJson, answer};
use super::who::Administering;
use crate::desk::{Desk, now};
use crate::error::ApiError;
use crate::store::sqlite::webhooks::{Delivery, Kept, ListedWebhook, Webhook};
use crate::webhook::{address, secret};

/// `GET /v1/webhooks`.
pub(crate) async fn list(
    State(desk): State<Arc<Desk>>,
    Administering(scope): Administering,
) -> Result<Response, ApiError> {
    let webhooks = desk.store.webhooks(&scope.tenant).await?;
    let list = WebhookList {
        webhooks: webhooks.into_iter().map(shown).collect(),
    };
    answer(StatusCode::OK, &list)
}

/// `POST /v1/webhooks`.
pub(crate) async fn create(
    State(desk): State<Arc<Desk>>,
    Administering(scope): Administering,
    StrictJson(body): StrictJson<CreateWebhook>,
) -> Result<Response, ApiError> {
    let settings = desk.webhooks.get().ok_or(ApiError::NotFound)?;
    address::parse(&body.url, &settings.allowed_hosts)
        .map_err(|refused| ApiError::InvalidBody(format!("`url`: {refused}")))?;
    let mut events = body.events;
    events.sort_unstable();
    events.dedup();
    if events.is_empty() {
        return Err(ApiError::InvalidBody(
            "`events` must name at least one".to_owned(),
        ));
    }
    let webhook = Webhook {
        id: uuid::Uuid::now_v7().simple().to_string(),
        tenant: scope.tenant,
        url: body.url,
        events,
        created_at: now(),
    };
    let secret = secret(&desk, &webhook.tenant, &webhook.id);
    let created = CreatedWebhook {
        id: webhook.id.clone(),
        secret: secret.reveal(),
    };
    match desk.store.add_webhook(webhook).await? {
        Kept::Yes => answer(StatusCode::CREATED, &created),
        Kept::TooMany => Err(ApiError::TooMany),
    }
}

/// `DELETE /v1/webhooks/{id}`.
pub(crate) async fn remove(
    State(desk): State<Arc<Desk>>,
    Administering(scope): Administering,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let removed = desk.store.remove_webhook(scope.tenant, id, now()).await?;
    if removed {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(ApiError::NotFound)
    }
}

/// `GET /v1/webhooks/{id}/deliveries`.
pub(crate) async fn deliveries(
    State(desk): State<Arc<Desk>>,
    Administering(scope): Administering,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let found = desk.store.undelivered(&scope.tenant, &id).await?;
    let found = found.ok_or(ApiError::NotFound)?;
    let list = DeliveryList {
        deliveries: found.into_iter().map(told).collect(),
    };
    answer(StatusCode::OK, &list)
}

/// `POST /v1/webhooks/{id}/deliveries/{delivery}/resend`.
pub(crate) async fn resend(
    State(desk): State<Arc<Desk>>,
    Administering(scope): Administering,
    Path((id, delivery)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let number: i64 = delivery.parse().map_err(|_| ApiError::NotFound)?;
    let revived = desk.store.revive(scope.tenant, (id, number), now()).await?;
    if revived {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(ApiError::NotFound)
    }
}

fn shown(listed: ListedWebhook) -> WebhookResource {
    WebhookResource {
        id: listed.webhook.id,
        url: listed.webhook.url,
        events: listed.webhook.events,
        created_at: listed.webhook.created_at,
        pending: listed.pending,
        dead: listed.dead,
    }
}

fn told(delivery: Delivery) -> DeliveryResource {
    DeliveryResource {
        next_at: (delivery.status == "pending").then_some(delivery.next_at),
        id: delivery.id,
        event: delivery.event,
        review_id: delivery.review_id,
        created_at: delivery.created_at,
        status: delivery.status,
        attempts: delivery.attempts,
        last_error: delivery.last_error,
    }
}
