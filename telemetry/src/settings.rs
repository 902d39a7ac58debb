//! `[otel]`: what is told to whom.
//!
//! Raw first, then valid. The keys are those of the shared settings file. Invariants: nothing said means nothing told, of
//! measures too; a header's value may name a variable (`${NAME}`), and one that is not set is an error, never an empty
//! header; what is secret is never shown.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use thiserror::Error;

/// The table as it stands in a file.
#[derive(Clone, Default, Deserialize)]
pub struct OtelTable {
    environment: Option<String>,
    exporter: Option<ExporterTable>,
    trace_exporter: Option<ExporterTable>,
    metrics_exporter: Option<ExporterTable>,
    #[serde(default)]
    log_user_prompt: bool,
    #[serde(default)]
    log_guardian_assessments: bool,
    /// Where relative paths begin.
    #[serde(skip)]
    folder: PathBuf,
    /// Keys that this version does not know.
    #[serde(flatten)]
    rest: BTreeMap<String, serde::de::IgnoredAny>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ExporterTable {
    None,
    /// Another program's own collector: nothing of ours goes there.
    Statsig,
    OtlpHttp(HttpTable),
    OtlpGrpc(GrpcTable),
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct HttpTable {
    endpoint: String,
    protocol: HttpProtocol,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    tls: TlsTable,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum HttpProtocol {
    Binary,
    Json,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct GrpcTable {
    endpoint: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    tls: TlsTable,
}

#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct TlsTable {
    ca_certificate: Option<PathBuf>,
    client_certificate: Option<PathBuf>,
    client_private_key: Option<PathBuf>,
}

/// What is told to whom.
#[derive(Debug, Clone)]
pub struct Settings {
    pub(crate) environment: String,
    pub(crate) logs: Option<Target>,
    pub(crate) traces: Option<Target>,
    pub(crate) metrics: Option<Target>,
    pub(crate) prompts: Prompts,
    /// Whether what reviews came to is an event of its own.
    pub(crate) assessments: bool,
}

/// Whether what people said is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prompts {
    /// As `[REDACTED]`, with its length.
    Redacted,
    /// As it is.
    Told,
}

/// A collector.
#[derive(Clone, PartialEq)]
#[doc(hidden)]
pub struct Target {
    pub(crate) endpoint: Url,
    pub(crate) protocol: Protocol,
    pub(crate) headers: HeaderMap,
    pub(crate) tls: Tls,
}

/// How a message is spelled and sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    HttpBinary,
    HttpJson,
    Grpc,
}

/// Certificates, as PEM.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Tls {
    /// Trusted in the place of the machine's own.
    pub(crate) ca: Option<String>,
    /// Ours, with its key.
    pub(crate) identity: Option<String>,
}

/// A header may hold a secret as it is.
impl fmt::Debug for OtelTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OtelTable(…)")
    }
}

/// Headers and certificates are nobody's to see.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({} by {:?})", self.endpoint, self.protocol)
    }
}

/// Why a table is not valid: the key, and what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{key}`: {problem}")]
pub struct InvalidOtel {
    /// Under `otel`.
    pub key: String,
    /// In words.
    pub problem: String,
}

impl OtelTable {
    /// The keys that this version does not know.
    pub fn unknown(&self) -> impl Iterator<Item = &str> {
        // Known to others who read the same file.
        const SHARED: [&str; 5] = [
            "log_agent_responses",
            "log_sse_deltas",
            "tool_result",
            "span_attributes",
            "tracestate",
        ];
        let keys = self.rest.keys().map(String::as_str);
        keys.filter(|key| !SHARED.contains(key))
    }

    /// The table as it stands in `file`, to whose folder relative paths belong.
    #[must_use]
    pub fn of(mut self, file: &Path) -> Self {
        self.folder = file.parent().unwrap_or(file).to_owned();
        self
    }

    /// The variables that headers name: what is in them is nobody else's to have.
    #[must_use]
    pub fn variables(&self) -> Vec<String> {
        let exporters = [&self.exporter, &self.trace_exporter, &self.metrics_exporter];
        let headers = exporters.into_iter().flatten().flat_map(|it| match it {
            ExporterTable::OtlpHttp(table) => table.headers.values().collect(),
            ExporterTable::OtlpGrpc(table) => table.headers.values().collect(),
            ExporterTable::None | ExporterTable::Statsig => Vec::new(),
        });
        let names = headers.flat_map(|value| value.split("${").skip(1));
        let names = names.filter_map(|rest| rest.split_once('}'));
        names.map(|(name, _)| name.to_owned()).collect()
    }

    /// Makes settings of the table. `lookup` knows the environment.
    ///
    /// # Errors
    /// The first value that is not valid, a variable that is not set, a file that cannot be read.
    pub fn read(self, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Settings, InvalidOtel> {
        let certificates = |tls: &TlsTable| certificates(&self.folder, tls);
        let target = |key: &str, table: Option<ExporterTable>| match table {
            None | Some(ExporterTable::None | ExporterTable::Statsig) => Ok(None),
            Some(ExporterTable::OtlpHttp(table)) => {
                let protocol = match table.protocol {
                    HttpProtocol::Binary => Protocol::HttpBinary,
                    HttpProtocol::Json => Protocol::HttpJson,
                };
                let place = (table.endpoint.as_str(), protocol);
                target(key, place, &table.headers, certificates(&table.tls), lookup).map(Some)
            }
            Some(ExporterTable::OtlpGrpc(table)) => {
                let place = (table.endpoint.as_str(), Protocol::Grpc);
                target(key, place, &table.headers, certificates(&table.tls), lookup).map(Some)
            }
        };
        Ok(Settings {
            environment: self.environment.unwrap_or_else(|| "dev".to_owned()),
            logs: target("exporter", self.exporter)?,
            traces: target("trace_exporter", self.trace_exporter)?,
            metrics: target("metrics_exporter", self.metrics_exporter)?,
            prompts: if self.log_user_prompt {
                Prompts::Told
            } else {
                Prompts::Redacted
            },
            assessments: self.log_guardian_assessments,
        })
    }
}

impl Settings {
    /// Whether nothing is told.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.logs.is_none() && self.traces.is_none() && self.metrics.is_none()
    }

    /// Whether something is to be told by gRPC.
    #[must_use]
    pub fn wants_grpc(&self) -> bool {
        let targets = [&self.logs, &self.traces, &self.metrics];
        let mut targets = targets.into_iter().flatten();
        targets.any(|target| target.protocol == Protocol::Grpc)
    }
}

fn target(
    key: &str,
    (endpoint, protocol): (&str, Protocol),
    headers: &BTreeMap<String, String>,
    tls: Result<Tls, String>,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Target, InvalidOtel> {
    let invalid = |part: &str, problem: String| InvalidOtel {
        key: format!("{key}.{part}"),
        problem,
    };
    let url = Url::parse(endpoint).ok();
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let wanted = "must be an `http` or `https` URL";
    let endpoint = url.ok_or_else(|| invalid("endpoint", wanted.to_owned()))?;
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let part = format!("headers.{name}");
        let value = expanded(value, lookup).map_err(|problem| invalid(&part, problem))?;
        let parsed = HeaderName::try_from(name.as_str()).ok();
        let value = HeaderValue::try_from(value).ok();
        let (Some(name), Some(mut value)) = (parsed, value) else {
            return Err(invalid(&part, "is no header line".to_owned()));
        };
        value.set_sensitive(true);
        map.insert(name, value);
    }
    Ok(Target {
        endpoint,
        protocol,
        headers: map,
        tls: tls.map_err(|problem| invalid("tls", problem))?,
    })
}

fn certificates(folder: &Path, tls: &TlsTable) -> Result<Tls, String> {
    let read = |path: &Path| {
        let path = folder.join(path);
        std::fs::read_to_string(&path)
            .map_err(|error| format!("`{}` cannot be read: {error}", path.display()))
    };
    let identity = match (&tls.client_certificate, &tls.client_private_key) {
        (Some(certificate), Some(key)) => Some(format!("{}\n{}", read(key)?, read(certificate)?)),
        (None, None) => None,
        _ => return Err("a client's certificate and its key go together".to_owned()),
    };
    Ok(Tls {
        ca: tls.ca_certificate.as_deref().map(read).transpose()?,
        identity,
    })
}

/// `text` with each `${NAME}` replaced.
fn expanded(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        let (name, after) = after
            .split_once('}')
            .ok_or_else(|| "has a `${` without its `}`".to_owned())?;
        let value = lookup(name).ok_or_else(|| format!("the variable `{name}` is not set"))?;
        out.push_str(value.trim());
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::{OtelTable, Protocol, Settings};

    fn read(text: &str) -> Result<Settings, String> {
        let table: OtelTable = toml::from_str(text).map_err(|error| error.to_string())?;
        let lookup = |name: &str| (name == "TOKEN").then(|| "s3cret-value".to_owned());
        table.read(&lookup).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_said_is_nothing_told() {
        assert!(read("").expect("valid").is_off());
        let text = "exporter = \"none\"\ntrace_exporter = \"none\"\nmetrics_exporter = \"statsig\"";
        assert!(read(text).expect("valid").is_off());
    }

    #[test]
    fn the_forms_of_an_exporter_are_read_and_its_secrets_never_shown() {
        let settings = read(
            "environment = \"prod\"\n\
             [exporter.otlp-http]\nendpoint = \"https://otel.example.com/v1/logs\"\nprotocol = \"json\"\n\
             headers = { \"x-otlp-api-key\" = \"Bearer ${TOKEN}\" }\n\
             [trace_exporter.\"otlp-grpc\"]\nendpoint = \"https://otel.example.com:4317\"\n",
        )
        .expect("valid");
        let logs = settings.logs.as_ref().expect("logs");
        assert_eq!(logs.protocol, Protocol::HttpJson);
        assert_eq!(logs.headers["x-otlp-api-key"], "Bearer s3cret-value");
        assert!(settings.wants_grpc() && settings.metrics.is_none());
        assert!(!format!("{settings:?}").contains("s3cret"));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let http = |rest: &str| format!("[exporter.otlp-http]\nprotocol = \"binary\"\n{rest}");
        for (text, told) in [
            (http("endpoint = \"otel.example.com\""), "URL"),
            (http("endpoint = \"file:///x\""), "URL"),
            (
                http("endpoint = \"http://h\"\nheaders = { a = \"${NONE}\" }"),
                "`NONE` is not set",
            ),
            (
                http("endpoint = \"http://h\"\nheaders = { a = \"${TOKEN\" }"),
                "without its",
            ),
            (
                http("endpoint = \"http://h\"\nheaders = { \"a b\" = \"c\" }"),
                "no header",
            ),
            (
                http("endpoint = \"http://h\"\ntls = { client-certificate = \"/x\" }"),
                "go together",
            ),
            (http("endpoint = \"http://h\"\ncolour = 1"), "colour"),
            ("exporter = \"otlp-http\"".to_owned(), "otlp-http"),
            ("exporter = \"otlp\"".to_owned(), "otlp"),
        ] {
            let told_of = read(&text).expect_err(&text);
            assert!(told_of.contains(told), "{text}: {told_of}");
        }
        let table: OtelTable =
            toml::from_str("log_sse_deltas = true\ncolour = 1").expect("a table");
        assert_eq!(table.unknown().collect::<Vec<_>>(), ["colour"]);
    }
}
