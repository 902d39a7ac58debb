//! The one file that calls a model.
//!
//! Apart, because all else in this crate is pure. Invariant: one request a call, no redirect followed, no proxy but a
//! configured one, no more than 1 MiB read; the key leaves only in the request's own header.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Proxy, Response, Url, redirect};
use secrecy::{ExposeSecret as _, SecretString};

use super::{Completion, Model, ModelError, openai_chat, openai_responses};
use crate::prompt::Prompt;
use crate::settings::{ModelSettings, Provider};

/// The largest answer that is read, in bytes.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// A model behind HTTP.
#[derive(Debug)]
pub(crate) struct HttpModel {
    client: Client,
    provider: Provider,
    endpoint: Url,
    model: String,
    key: Option<SecretString>,
    effort: Option<String>,
    timeout: Option<Duration>,
}

impl HttpModel {
    /// Prepares the connection; nothing is sent.
    pub(crate) fn new(settings: ModelSettings) -> Result<Self, reqwest::Error> {
        install_crypto();
        let mut builder = Client::builder()
            .user_agent(concat!("auto-review/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout(settings.connect_timeout);
        if settings.base_url.scheme() == "http" {
            // No certificate will be asked for, so none of the machine's are read: it may have none.
            builder = builder.tls_certs_only([]);
        }
        if let Some(proxy) = &settings.proxy {
            builder = builder.proxy(Proxy::all(proxy)?);
        }
        Ok(Self {
            client: builder.build()?,
            provider: settings.provider,
            endpoint: endpoint(&settings.base_url, settings.provider),
            model: settings.model,
            key: settings.key,
            effort: settings.effort,
            timeout: settings.timeout,
        })
    }

    fn body(&self, prompt: &Prompt) -> serde_json::Value {
        match self.provider {
            Provider::OpenAiResponses => {
                openai_responses::body(&self.model, self.effort.as_deref(), prompt)
            }
            Provider::OpenAiChat => openai_chat::body(&self.model, self.effort.as_deref(), prompt),
        }
    }

    async fn call(&self, prompt: &Prompt) -> Result<Vec<u8>, ModelError> {
        let mut request = self
            .client
            .post(self.endpoint.clone())
            .header(ACCEPT, "application/json")
            .json(&self.body(prompt));
        if let Some(key) = &self.key {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose_secret()))
                .map_err(|_| ModelError::Unauthorized(401))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let response = request.send().await.map_err(|error| transport(&error))?;
        check_status(&response)?;
        read_body(response).await
    }
}

impl Model for HttpModel {
    fn provider(&self) -> Provider {
        self.provider
    }

    fn name(&self) -> &str {
        &self.model
    }

    fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    async fn complete(&self, prompt: &Prompt) -> Result<Completion, ModelError> {
        let body = self.call(prompt).await?;
        match self.provider {
            Provider::OpenAiResponses => openai_responses::read(&body),
            Provider::OpenAiChat => openai_chat::read(&body),
        }
    }
}

/// One provider of cryptography for the process. Where another part chose one already, that one serves.
fn install_crypto() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        let chosen: Result<(), Arc<_>> = rustls::crypto::ring::default_provider().install_default();
        // Lost a race against another part that chose one: just as good.
        drop(chosen);
    }
}

fn endpoint(base: &Url, provider: Provider) -> Url {
    let mut url = base.clone();
    let path = match provider {
        Provider::OpenAiResponses => "responses",
        Provider::OpenAiChat => "chat/completions",
    };
    let joined = format!("{}/{path}", base.path().trim_end_matches('/'));
    url.set_path(&joined);
    url
}

fn transport(error: &reqwest::Error) -> ModelError {
    if error.is_timeout() {
        return if error.is_connect() {
            ModelError::Connect
        } else {
            ModelError::TimedOut
        };
    }
    if !error.is_connect() {
        return ModelError::CutOff;
    }
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(one) = cause {
        let kind = one
            .downcast_ref::<std::io::Error>()
            .map(std::io::Error::kind);
        if kind == Some(std::io::ErrorKind::ConnectionRefused) {
            return ModelError::ConnectRefused;
        }
        cause = one.source();
    }
    ModelError::Connect
}

fn check_status(response: &Response) -> Result<(), ModelError> {
    let status = response.status().as_u16();
    Err(match status {
        200 => return Ok(()),
        300..=399 => ModelError::Redirected(status),
        401 | 403 => ModelError::Unauthorized(status),
        404 => ModelError::NotFound,
        429 => ModelError::RateLimited(retry_after(response)),
        408 | 500..=599 => ModelError::ServerError(status),
        400..=499 => ModelError::BadRequest(status),
        _ => ModelError::WrongShape,
    })
}

/// `Retry-After` in seconds (RFC 9110 §10.2.3). The date form is not read: clocks differ.
fn retry_after(response: &Response) -> Option<u64> {
    response
        .headers()
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
}

async fn read_body(mut response: Response) -> Result<Vec<u8>, ModelError> {
    let kind = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let kind = kind
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        return Err(ModelError::WrongShape);
    }
    if response
        .content_length()
        .is_some_and(|length| length > MAX_BODY_BYTES as u64)
    {
        return Err(ModelError::TooLarge);
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|_| ModelError::CutOff)? {
        if body.len() + chunk.len() > MAX_BODY_BYTES {
            return Err(ModelError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
