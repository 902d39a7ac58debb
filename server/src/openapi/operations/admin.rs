//! The calls of admins and of those who watch the server: tokens, webhooks, sums, the document, health.

use protocol::{
    ChangePolicy, CreateToken, CreateWebhook, CreatedToken, CreatedWebhook, DeliveryList,
    KeepPolicy, PolicyList, PolicyResource, PolicyText, TokenList, WebhookList,
};
use serde_json::Value;

use super::super::{Access, Answer, Body, Content, Kind, Operation, Parameter, Place, Verb};
use super::{AUDITING, LOOKING, json, nothing};
use crate::api::health::Health;
use crate::role::Right;

const TOKENS: Access = Access::Right(Right::HandOutTokens);
const POLICIES: Access = Access::Right(Right::ChangePolicy);

pub(crate) const LIST_POLICIES: Operation = Operation {
    answers: &[json(
        200,
        "The policies with where they stand, and what was done with them.",
        &[Body::of::<PolicyList>()],
    )],
    ..Operation::new(
        Verb::Get,
        "/v1/policies",
        "listPolicies",
        "Lists the tenant's policies.",
        POLICIES,
    )
};

pub(crate) const SHOW_POLICY: Operation = Operation {
    parameters: &[Parameter {
        name: "revision",
        place: Place::Path,
        summary: "The policy's whole revision.",
        kind: Kind::Text(80),
    }],
    answers: &[json(200, "The policy.", &[Body::of::<PolicyText>()])],
    ..Operation::new(
        Verb::Get,
        "/v1/policies/{revision}",
        "showPolicy",
        "Shows a policy's text.",
        POLICIES,
    )
};

pub(crate) const KEEP_POLICY: Operation = Operation {
    request: Some(Body::of::<KeepPolicy>()),
    answers: &[json(
        201,
        "It is kept, and binds nobody yet.",
        &[Body::of::<PolicyResource>()],
    )],
    refusals: &[409],
    ..Operation::new(
        Verb::Post,
        "/v1/policies",
        "keepPolicy",
        "Keeps a policy.",
        POLICIES,
    )
};

pub(crate) const CHANGE_POLICY: Operation = Operation {
    request: Some(Body::of::<ChangePolicy>()),
    answers: &[json(
        200,
        "It is done, and holds at this server; at others within a second.",
        &[Body::of::<PolicyList>()],
    )],
    refusals: &[404, 409],
    ..Operation::new(
        Verb::Post,
        "/v1/policies/changes",
        "changePolicy",
        "Says which policy judges, and which one judges alongside.",
        POLICIES,
    )
};

pub(crate) const LIST_TOKENS: Operation = Operation {
    answers: &[json(200, "The tokens.", &[Body::of::<TokenList>()])],
    ..Operation::new(
        Verb::Get,
        "/v1/tokens",
        "listTokens",
        "Lists the tenant's tokens.",
        TOKENS,
    )
};

pub(crate) const CREATE_TOKEN: Operation = Operation {
    request: Some(Body::of::<CreateToken>()),
    answers: &[json(
        201,
        "The only answer that tells the token.",
        &[Body::of::<CreatedToken>()],
    )],
    ..Operation::new(
        Verb::Post,
        "/v1/tokens",
        "createToken",
        "Makes a token of the tenant.",
        TOKENS,
    )
};

pub(crate) const REVOKE_TOKEN: Operation = Operation {
    parameters: &[Parameter {
        name: "id",
        place: Place::Path,
        summary: "The token's name in lists.",
        kind: Kind::Text(64),
    }],
    answers: &[nothing("It is refused from now on, within a second.")],
    ..Operation::new(
        Verb::Delete,
        "/v1/tokens/{id}",
        "revokeToken",
        "Ends a token's life.",
        TOKENS,
    )
};

const WEBHOOK_ID: Parameter = Parameter {
    name: "id",
    place: Place::Path,
    summary: "The webhook's name in lists.",
    kind: Kind::Text(64),
};

pub(crate) const LIST_WEBHOOKS: Operation = Operation {
    answers: &[json(200, "The webhooks.", &[Body::of::<WebhookList>()])],
    ..Operation::new(
        Verb::Get,
        "/v1/webhooks",
        "listWebhooks",
        "Lists the tenant's webhooks.",
        TOKENS,
    )
};

pub(crate) const CREATE_WEBHOOK: Operation = Operation {
    request: Some(Body::of::<CreateWebhook>()),
    answers: &[json(
        201,
        "The only answer that tells the secret.",
        &[Body::of::<CreatedWebhook>()],
    )],
    refusals: &[404, 409],
    ..Operation::new(
        Verb::Post,
        "/v1/webhooks",
        "createWebhook",
        "Has somebody told what happens from now on.",
        TOKENS,
    )
};

pub(crate) const REMOVE_WEBHOOK: Operation = Operation {
    parameters: &[WEBHOOK_ID],
    answers: &[nothing("Nothing is told any more.")],
    ..Operation::new(
        Verb::Delete,
        "/v1/webhooks/{id}",
        "removeWebhook",
        "Takes a webhook away, and what it was still to be told.",
        TOKENS,
    )
};

pub(crate) const LIST_DELIVERIES: Operation = Operation {
    parameters: &[WEBHOOK_ID],
    answers: &[json(
        200,
        "The newest 200, newest first.",
        &[Body::of::<DeliveryList>()],
    )],
    ..Operation::new(
        Verb::Get,
        "/v1/webhooks/{id}/deliveries",
        "listDeliveries",
        "Lists what a webhook was not told yet, and what was given up.",
        TOKENS,
    )
};

pub(crate) const RESEND: Operation = Operation {
    parameters: &[
        WEBHOOK_ID,
        Parameter {
            name: "delivery",
            place: Place::Path,
            summary: "The delivery's number.",
            kind: Kind::Integer(1, i64::MAX),
        },
    ],
    answers: &[nothing("It is tried again.")],
    ..Operation::new(
        Verb::Post,
        "/v1/webhooks/{id}/deliveries/{delivery}/resend",
        "resendDelivery",
        "Has a delivery that was given up tried again.",
        TOKENS,
    )
};

pub(crate) const METRICS: Operation = Operation {
    answers: &[Answer {
        status: 200,
        summary: "The tenant's sums since the process began, in the text format of Prometheus.",
        content: Content::Text(&["text/plain"]),
    }],
    refusals: &[404],
    ..Operation::new(
        Verb::Get,
        "/metrics",
        "measures",
        "Counts what reviews come to.",
        AUDITING,
    )
};

pub(crate) const DESCRIBE: Operation = Operation {
    answers: &[json(200, "This document.", &[Body::of::<Value>()])],
    ..Operation::new(
        Verb::Get,
        "/v1/openapi.json",
        "describe",
        "Describes the API.",
        LOOKING,
    )
};

pub(crate) const ALIVE: Operation = Operation {
    answers: &[json(200, "It answers.", &[Body::of::<Health>()])],
    ..Operation::new(
        Verb::Get,
        "/healthz",
        "alive",
        "Whether the process answers.",
        Access::Everybody,
    )
};

pub(crate) const READY: Operation = Operation {
    answers: &[json(200, "It can.", &[Body::of::<Health>()])],
    refusals: &[503],
    ..Operation::new(
        Verb::Get,
        "/readyz",
        "ready",
        "Whether the server can do its work.",
        Access::Everybody,
    )
};
