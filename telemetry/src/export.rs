//! One message on its way to a collector, over HTTP.
//!
//! Apart from gRPC, so that a program that never speaks it holds none of it. Invariant: a header's value that a setting
//! holds goes to that setting's endpoint alone; no redirect is followed, no proxy asked.

use std::time::Duration;

use bytes::Bytes;
use reqwest::{Client, redirect};
use thiserror::Error;

use crate::buffer::Signal;
use crate::message::Message;
use crate::settings::{Protocol, Settings, Target};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(3);

/// Why a collector does not have a message.
#[derive(Debug, Error)]
pub enum NotSent {
    /// Its certificates, or ours, cannot be used.
    #[error("no connection can be prepared")]
    Client,
    /// There was no answer.
    #[error("the collector cannot be reached")]
    NoAnswer,
    /// It refused.
    #[error("the collector answered {0}")]
    Status(u32),
    /// This program does not speak the protocol.
    #[error("this program exports by `otlp-http` alone")]
    Protocol,
}

/// How messages get to collectors.
pub trait Export: Send + Sync {
    /// Ready for the targets of `settings`; nothing is sent.
    fn of(settings: &Settings) -> Self;

    /// Sends one message.
    #[doc(hidden)]
    fn send(
        &self,
        target: &Target,
        signal: Signal,
        message: &Message,
    ) -> impl Future<Output = Result<(), NotSent>> + Send;
}

/// By HTTP alone: what the runner holds.
#[derive(Debug)]
pub struct HttpOnly {
    clients: Vec<(Target, Option<Client>)>,
}

impl Export for HttpOnly {
    fn of(settings: &Settings) -> Self {
        choose_crypto();
        let targets = [&settings.logs, &settings.traces, &settings.metrics];
        let mut clients: Vec<(Target, Option<Client>)> = Vec::new();
        for target in targets.into_iter().flatten() {
            if !clients.iter().any(|(known, _)| known == target) {
                clients.push((target.clone(), client(target)));
            }
        }
        Self { clients }
    }

    async fn send(
        &self,
        target: &Target,
        _signal: Signal,
        message: &Message,
    ) -> Result<(), NotSent> {
        let (kind, body) = match target.protocol {
            Protocol::HttpBinary => ("application/x-protobuf", message.to_protobuf()),
            Protocol::HttpJson => (
                "application/json",
                message.to_json().to_string().into_bytes(),
            ),
            Protocol::Grpc => return Err(NotSent::Protocol),
        };
        let client = self.clients.iter().find(|(known, _)| known == target);
        let client = client
            .and_then(|(_, client)| client.as_ref())
            .ok_or(NotSent::Client)?;
        let answer = client
            .post(target.endpoint.clone())
            .headers(target.headers.clone())
            .header("content-type", kind)
            .body(Bytes::from(body))
            .send()
            .await
            .map_err(|_| NotSent::NoAnswer)?;
        if answer.status().is_success() {
            Ok(())
        } else {
            Err(NotSent::Status(u32::from(answer.status().as_u16())))
        }
    }
}

fn client(target: &Target) -> Option<Client> {
    if target.protocol == Protocol::Grpc {
        return None;
    }
    let mut builder = Client::builder()
        .user_agent(concat!("auto-review/", env!("CARGO_PKG_VERSION")))
        .no_proxy()
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .connect_timeout(CONNECT);
    if target.endpoint.scheme() == "http" {
        // No certificate will be asked for, so none of the machine's are read.
        builder = builder.tls_certs_only([]);
    } else if let Some(ca) = &target.tls.ca {
        let certificates = reqwest::Certificate::from_pem_bundle(ca.as_bytes()).ok()?;
        builder = builder.tls_certs_only(certificates);
    }
    if let Some(identity) = &target.tls.identity {
        builder = builder.identity(reqwest::Identity::from_pem(identity.as_bytes()).ok()?);
    }
    builder.build().ok()
}

/// Says by which library TLS is made; another part of the program may have said so.
pub(crate) fn choose_crypto() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        let chosen: Result<(), _> = rustls::crypto::ring::default_provider().install_default();
        // Lost a race: just as good.
        drop(chosen);
    }
}
