//! The one file that calls a model.
//!
//! Apart, because all else in this crate is pure. Invariant: one request a call, no redirect followed, no proxy but a
//! configured one, no more than 1 MiB read; the key leaves only in the request's own header.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{Body, Client, Proxy, Response, Url, redirect};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::openai_responses::Event;
use super::sse::Frames;
use super::{Ask, Completion, Model, ModelError, anthropic, openai_chat, openai_responses};
use crate::cassette::Cassette;
use crate::prompt::Prompt;
use crate::settings::{ModelSettings, OutputForm, Prices, Provider};

tokio::task_local! {
    /// The `traceparent` that calls of a model carry.
    static TRACE: Option<String>;
}

/// Has every call of a model that `work` makes carry `trace` (W3C Trace Context), where there is one.
pub async fn in_trace<T>(trace: Option<String>, work: impl Future<Output = T>) -> T {
    TRACE.scope(trace, work).await
}

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
    form: OutputForm,
    stream: bool,
    prices: Option<Prices>,
    cassette: Option<Cassette>,
}

/// What came back.
enum Answer {
    /// All of it at once.
    Whole(Vec<u8>),
    /// Piece by piece, with the milliseconds until the first.
    Streamed(Completion),
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
            .connect_timeout(settings.connect_timeout)
            .default_headers(settings.headers);
        if let Some(ca) = &settings.ca {
            builder = builder.tls_certs_only(reqwest::Certificate::from_pem_bundle(ca.as_bytes())?);
        }
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
            form: settings.form,
            stream: settings.stream,
            prices: settings.prices,
            cassette: None,
        })
    }

    /// The same with a cassette that keeps or gives its answers.
    pub(crate) fn with_cassette(mut self, cassette: Option<Cassette>) -> Self {
        self.cassette = cassette;
        self
    }

    /// The body of the request for a prompt, by this API or another.
    pub(crate) fn body(&self, prompt: &Prompt, provider: Provider) -> serde_json::Value {
        let ask = Ask {
            model: &self.model,
            effort: self.effort.as_deref(),
            form: self.form,
            stream: self.stream,
            prompt,
        };
        ask.body(provider)
    }

    /// The same, spelled. What it is spelled from is not kept while the answer is waited for.
    fn spelled(&self, prompt: &Prompt) -> Vec<u8> {
        self.body(prompt, self.provider).to_string().into_bytes()
    }

    /// `body` is given away: once it is sent, nobody holds it. (One that may be sent again would be held until the answer
    /// is there.)
    async fn call(&self, body: Vec<u8>) -> Result<Answer, ModelError> {
        let mut request = self
            .client
            .post(self.endpoint.clone())
            .header(ACCEPT, "application/json, text/event-stream")
            .header(CONTENT_TYPE, "application/json")
            .body(Body::wrap(Full::new(Bytes::from(body))));
        if let Ok(Some(trace)) = TRACE.try_with(Clone::clone) {
            request = request.header("traceparent", trace);
        }
        if self.provider == Provider::Anthropic {
            request = request.header("anthropic-version", anthropic::VERSION);
        }
        if let Some(key) = &self.key {
            let (name, value) = match self.provider {
                Provider::Anthropic => ("x-api-key", key.expose_secret().to_owned()),
                Provider::OpenAiResponses | Provider::OpenAiChat => (
                    AUTHORIZATION.as_str(),
                    format!("Bearer {}", key.expose_secret()),
                ),
            };
            let mut value =
                HeaderValue::from_str(&value).map_err(|_| ModelError::Unauthorized(401))?;
            value.set_sensitive(true);
            request = request.header(name, value);
        }
        let started = Instant::now();
        let response = request.send().await.map_err(|error| transport(&error))?;
        check_status(&response)?;
        match content_type(&response).as_str() {
            "application/json" => read_body(response).await.map(Answer::Whole),
            "text/event-stream" if self.provider == Provider::OpenAiResponses && self.stream => {
                read_stream(response, started).await.map(Answer::Streamed)
            }
            _ => Err(ModelError::WrongShape),
        }
    }

    async fn ask(&self, body: Vec<u8>) -> Result<Completion, ModelError> {
        match self.call(body).await? {
            Answer::Streamed(completion) => Ok(completion),
            Answer::Whole(bytes) => match self.provider {
                Provider::OpenAiResponses => openai_responses::read(&bytes),
                Provider::OpenAiChat => openai_chat::read(&bytes),
                Provider::Anthropic => anthropic::read(&bytes, self.form),
            },
        }
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

    fn prices(&self) -> Option<Prices> {
        self.prices
    }

    async fn complete(&self, prompt: &Prompt) -> Result<Completion, ModelError> {
        let body = self.spelled(prompt);
        let Some(cassette) = &self.cassette else {
            return self.ask(body).await;
        };
        let digest = Sha256::digest(&body);
        let name = protocol::Sha256Hex::of(&digest.into()).as_str().to_owned();
        if let Some(answer) = cassette.answer(&name) {
            return answer;
        }
        let completion = self.ask(body).await?;
        cassette.keep(&name, &completion);
        Ok(completion)
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
        Provider::Anthropic => "messages",
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

fn content_type(response: &Response) -> String {
    let kind = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let kind = kind
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default();
    kind.trim().to_ascii_lowercase()
}

/// A streamed answer: the last event holds all of it, and what was streamed before has to be the same.
async fn read_stream(mut response: Response, started: Instant) -> Result<Completion, ModelError> {
    let mut frames = Frames::default();
    let mut streamed = String::new();
    let mut first = None;
    let mut ended = None;
    let mut bytes = 0;
    while let Some(chunk) = response.chunk().await.map_err(|_| ModelError::CutOff)? {
        bytes += chunk.len();
        if bytes > MAX_BODY_BYTES {
            return Err(ModelError::TooLarge);
        }
        for data in frames.push(&chunk)? {
            if data == "[DONE]" && ended.is_some() {
                continue;
            }
            let event = openai_responses::event(&data)?;
            if ended.is_some() {
                return Err(ModelError::WrongShape);
            }
            match event {
                Event::Delta(text) => {
                    first.get_or_insert_with(|| started.elapsed());
                    streamed.push_str(&text);
                }
                Event::End(answer) => ended = Some(answer),
                Event::Other => {}
            }
        }
    }
    let answer = ended
        .filter(|_| frames.is_done())
        .ok_or(ModelError::CutOff)?;
    let completion = openai_responses::answer(answer)?;
    if !streamed.is_empty() && streamed != completion.text {
        return Err(ModelError::WrongShape);
    }
    Ok(Completion {
        first_token_ms: first.map(|first| u64::try_from(first.as_millis()).unwrap_or(u64::MAX)),
        ..completion
    })
}

async fn read_body(mut response: Response) -> Result<Vec<u8>, ModelError> {
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
