//! The reading of single settings and of the files that they name.
//!
//! Apart from the tables, which are wording. Invariant: a key comes from the environment or from a file of its owner's
//! alone, and an address sends nothing in the clear to another machine unless that was chosen by name.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::SecretString;

use super::{
    DEFAULT_CONNECT_SECS, FileFault, MAX_DEADLINE_SECS, MAX_FILE_BYTES, ModelSettings, ModelTable,
    PolicyTable, Prices, SettingsFault,
};
use crate::policy::{Policy, SectionMode};

pub(super) fn check_range(
    key: &'static str,
    value: u64,
    most: u64,
    faults: &mut Vec<SettingsFault>,
) {
    if value == 0 || value > most {
        faults.push(SettingsFault::Range {
            key,
            value,
            least: 1,
            most,
        });
    }
}

/// The team's own section, where there is one.
pub(super) fn section(table: &PolicyTable) -> Result<Option<String>, SettingsFault> {
    match (&table.section_file, &table.section) {
        (Some(_), Some(_)) => Err(SettingsFault::Both("policy.section_file", "policy.section")),
        (Some(path), None) => read_text("policy.section_file", path, Readers::Anyone).map(Some),
        (None, Some(text)) => Ok(Some(text.clone())),
        (None, None) => Ok(None),
    }
}

pub(super) fn read_policy(table: &PolicyTable) -> Result<Policy, SettingsFault> {
    let mode = table.mode.unwrap_or(SectionMode::Replace);
    Ok(match section(table)? {
        None => Policy::shipped(),
        Some(text) => Policy::with_section(&text, mode)?,
    })
}

pub(super) fn read_model(
    table: &ModelTable,
    environment: &dyn Fn(&str) -> Option<String>,
    faults: &mut Vec<SettingsFault>,
) -> Option<ModelSettings> {
    let before = faults.len();
    if table.model.trim().is_empty() {
        faults.push(SettingsFault::Empty("reviewer.model.model".to_owned()));
    }
    let connect = table.connect_timeout_secs.unwrap_or(DEFAULT_CONNECT_SECS);
    check_range(
        "reviewer.model.connect_timeout_secs",
        connect,
        MAX_DEADLINE_SECS,
        faults,
    );
    if let Some(secs) = table.timeout_secs {
        check_range(
            "reviewer.model.timeout_secs",
            secs,
            MAX_DEADLINE_SECS,
            faults,
        );
    }
    let base_url = read_base_url(table)
        .map_err(|fault| faults.push(fault))
        .ok();
    let key = read_key(table, environment)
        .map_err(|fault| faults.push(fault))
        .ok();
    let headers = read_headers(&table.headers)
        .map_err(|fault| faults.push(fault))
        .ok();
    let ca = match &table.ca_file {
        None => None,
        Some(path) => read_text("reviewer.model.ca_file", path, Readers::Anyone)
            .map_err(|fault| faults.push(fault))
            .ok(),
    };
    if faults.len() > before {
        return None;
    }
    let prices = table
        .input_cents_per_million
        .zip(table.output_cents_per_million);
    Some(ModelSettings {
        provider: table.provider,
        base_url: base_url?,
        model: table.model.clone(),
        key: key?,
        effort: table.effort.clone(),
        connect_timeout: Duration::from_secs(connect),
        timeout: table.timeout_secs.map(Duration::from_secs),
        proxy: table.proxy.clone(),
        form: table.output.unwrap_or_default(),
        stream: table.stream.unwrap_or(true),
        headers: headers?,
        ca,
        prices: prices.map(|(input_cents, output_cents)| Prices {
            input_cents,
            output_cents,
        }),
    })
}

/// Header lines by name. What carries a key has its own settings, which keep it from being shown.
fn read_headers(table: &BTreeMap<String, String>) -> Result<HeaderMap, SettingsFault> {
    const TAKEN: &[&str] = &[
        "authorization",
        "x-api-key",
        "api-key",
        "proxy-authorization",
        "cookie",
        "host",
        "content-length",
        "content-type",
        "transfer-encoding",
        "connection",
        "accept",
    ];
    let mut headers = HeaderMap::new();
    for (name, value) in table {
        let fault = |fault| SettingsFault::Header(protocol::Printable(name).to_string(), fault);
        if TAKEN.contains(&name.to_ascii_lowercase().as_str()) {
            return Err(fault("is set by the program itself"));
        }
        let name =
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| fault("is no name of a header"))?;
        let value = HeaderValue::from_str(value)
            .map_err(|_| fault("has a value that no header can carry"))?;
        headers.insert(name, value);
    }
    Ok(headers)
}

fn read_base_url(table: &ModelTable) -> Result<Url, SettingsFault> {
    let fault = |fault| SettingsFault::BaseUrl {
        url: protocol::Printable(&table.base_url).to_string(),
        fault,
    };
    let url = Url::parse(&table.base_url).map_err(|_| fault("is not a URL"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(SettingsFault::BaseUrl {
            url: "…".to_owned(),
            fault: "holds a user name or password; use `api_key_env` or `api_key_file`",
        });
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(fault("has a query or a fragment"));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if table.dangerously_allow_http || is_loopback(&url) => Ok(url),
        "http" => Err(fault(
            "would send prompts and key in the clear\nhint: use `https`, or set `dangerously_allow_http = true`",
        )),
        _ => Err(fault("is neither `https` nor `http`")),
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn read_key(
    table: &ModelTable,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<SecretString>, SettingsFault> {
    let text = match (&table.api_key_env, &table.api_key_file) {
        (Some(_), Some(_)) => {
            return Err(SettingsFault::Both(
                "reviewer.model.api_key_env",
                "reviewer.model.api_key_file",
            ));
        }
        (None, None) => return Ok(None),
        (Some(name), None) => {
            environment(name).ok_or_else(|| SettingsFault::KeyVariable(name.clone()))?
        }
        (None, Some(path)) => read_text("reviewer.model.api_key_file", path, Readers::OwnerOnly)?,
    };
    let key = text.trim();
    if key.is_empty() {
        return Err(match &table.api_key_env {
            Some(name) => SettingsFault::KeyVariable(name.clone()),
            None => SettingsFault::Empty("reviewer.model.api_key_file".to_owned()),
        });
    }
    Ok(Some(SecretString::from(key)))
}

/// Who may read a file of the settings.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Readers {
    Anyone,
    OwnerOnly,
}

fn read_text(key: &'static str, path: &Path, readers: Readers) -> Result<String, SettingsFault> {
    let fault = |fault| SettingsFault::File {
        key,
        path: path.to_owned(),
        fault,
    };
    read_bounded(path, readers).map_err(fault)
}

fn read_bounded(path: &Path, readers: Readers) -> Result<String, FileFault> {
    use std::os::unix::fs::PermissionsExt as _;
    // Asked first, because to open a named pipe would wait for a writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(FileFault::Kind);
    }
    let file = std::fs::File::open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(FileFault::Kind);
    }
    let others = match readers {
        Readers::Anyone => 0o022,
        Readers::OwnerOnly => 0o077,
    };
    if found.permissions().mode() & others != 0 {
        return Err(FileFault::Mode);
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(FileFault::Size);
    }
    String::from_utf8(bytes).map_err(|_| FileFault::Text)
}
