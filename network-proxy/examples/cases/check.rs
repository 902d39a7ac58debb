//! What a case expects, held against what happened; and the same destination by the other dialects.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::drive::{Driven, Observed, drive};
use crate::ports::Seen;
use crate::tls::Tls;

/// Drives a case in all its forms: nothing, or why it fails.
pub(crate) async fn run(case: &Value, tls: &Arc<Tls>) -> Vec<String> {
    let driven = match drive(case, Arc::clone(tls)).await {
        Ok(driven) => driven,
        Err(error) => return vec![format!("not driven: {error}")],
    };
    let mut faults = check(case, &driven);
    for (dialect, form) in other_dialects(case) {
        let other = match drive(&form, Arc::clone(tls)).await {
            Ok(driven) => check(&form, &driven),
            Err(error) => vec![format!("not driven: {error}")],
        };
        faults.extend(
            other
                .into_iter()
                .map(|fault| format!("by {dialect}: {fault}")),
        );
    }
    faults
}

/// All that differs.
fn check(case: &Value, driven: &Driven) -> Vec<String> {
    let expect = &case["expect"];
    let mut faults = Vec::new();
    let mut hold = |what: &str, holds: bool, seen: String| {
        if !holds {
            faults.push(format!("{what}: expected {}, seen {seen}", expect[what]));
        }
    };
    let observed = &driven.observed;
    hold(
        "decision",
        decision(expect, observed),
        format!(
            "{:?} socks {:?} {:?}",
            observed.statuses, observed.socks, observed.config
        ),
    );
    driven.log.with(|seen| {
        for (key, value) in expect.as_object().into_iter().flatten() {
            if let Some((holds, shown)) = one(key, value, (expect, observed, seen)) {
                hold(key, holds, shown);
            }
        }
    });
    faults
}

/// Whether a number is the expected one, or one of the expected ones.
fn among(value: &Value, number: Option<u64>) -> bool {
    match (value, number) {
        (Value::Array(values), Some(number)) => {
            values.iter().any(|value| value.as_u64() == Some(number))
        }
        (value, Some(number)) => value.as_u64() == Some(number),
        (_, None) => false,
    }
}

fn decision(expect: &Value, observed: &Observed) -> bool {
    let succeeded = observed
        .statuses
        .iter()
        .any(|status| *status < 400 && *status > 0)
        || observed.socks == Some(0);
    let told = ["status", "socks_rep", "inner_status", "tunnel", "delivered"]
        .iter()
        .any(|key| !expect[key].is_null());
    match (
        expect["decision"].as_str().unwrap_or_default(),
        &observed.config,
    ) {
        ("config_ok", config) => matches!(config, Some(Ok(_))),
        ("config_warn", config) => matches!(config, Some(Ok(warnings)) if !warnings.is_empty()),
        ("config_error", config) => matches!(config, Some(Err(_))),
        ("pending", _) => !observed.answered_while_pending,
        ("mixed", _) => true,
        ("allow", _) => succeeded || told,
        (_, _) => !succeeded || told,
    }
}

type Case<'case> = (&'case Value, &'case Observed, &'case Seen);

#[expect(
    clippy::too_many_lines,
    reason = "one arm for each word that a case may expect"
)]
/// One expectation: whether it holds, and what was seen; nothing for words that are no expectation.
fn one(key: &str, value: &Value, (expect, observed, seen): Case<'_>) -> Option<(bool, String)> {
    let statuses = &observed.statuses;
    let origin = String::from_utf8_lossy(&seen.origin).to_ascii_lowercase();
    let texts = || {
        value
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
    };
    Some(match key {
        "decision" | "note" | "fs" | "attempts" => return None,
        "status" => (
            statuses
                .iter()
                .all(|status| among(value, Some(u64::from(*status))))
                && !statuses.is_empty(),
            format!("{statuses:?}"),
        ),
        "statuses" => (json!(statuses) == *value, format!("{statuses:?}")),
        "statuses_all" => (
            !statuses.is_empty()
                && statuses
                    .iter()
                    .all(|status| among(value, Some(u64::from(*status)))),
            format!("{statuses:?}"),
        ),
        "statuses_any" => {
            let known = statuses
                .iter()
                .all(|status| among(value, Some(u64::from(*status))));
            let each = value.as_array().into_iter().flatten().all(|one| {
                statuses
                    .iter()
                    .any(|status| among(one, Some(u64::from(*status))))
            });
            (known && each, summary(statuses))
        }
        "socks_rep" => (
            among(value, observed.socks.map(u64::from)),
            format!("{:?}", observed.socks),
        ),
        "reason_code" => (
            observed.reason.as_deref() == value.as_str(),
            format!("{:?}", observed.reason),
        ),
        "dial" if value.is_null() => (seen.dials.is_empty(), format!("{:?}", seen.dials)),
        "dial" => (
            seen.dials.last().map(String::as_str) == value.as_str() && allowed_dials(expect, seen),
            format!("{:?}", seen.dials),
        ),
        "dials" => (json!(seen.dials) == *value, format!("{:?}", seen.dials)),
        "max_dial_attempts" => (
            u64::try_from(seen.dials.len()).ok() <= value.as_u64(),
            format!("{}", seen.dials.len()),
        ),
        "dns_lookups" => (
            u64::try_from(seen.lookups.len()).ok() == value.as_u64(),
            format!("{:?}", seen.lookups),
        ),
        "query_names" => (json!(seen.lookups) == *value, format!("{:?}", seen.lookups)),
        "prompts" => (
            u64::try_from(seen.questions.len()).ok() == value.as_u64(),
            format!("{:?}", seen.questions),
        ),
        "prompt_contains" => (
            seen.questions
                .iter()
                .any(|text| value.as_str().is_some_and(|part| text.contains(part))),
            format!("{:?}", seen.questions),
        ),
        "close" => (
            observed.closed.is_some() == (value == true),
            format!("{:?}", observed.closed),
        ),
        "tunnel" => (
            observed.closed.is_some() == (value == "closed"),
            format!("{:?}", observed.closed),
        ),
        "close_within_ms" => (
            within(observed.closed, value),
            format!("{:?}", observed.closed),
        ),
        "within_ms" => (
            within(Some(observed.took), value),
            format!("{:?}", observed.took),
        ),
        "upstream_bytes" => (
            u64::try_from(seen.origin.len()).ok() == value.as_u64(),
            format!("{}", seen.origin.len()),
        ),
        "upstream_first_bytes_latin1" => (
            value
                .as_str()
                .is_some_and(|first| seen.origin.starts_with(&crate::client::latin1(first))),
            format!("{:?}", seen.origin),
        ),
        "via_upstream" if value.is_null() => {
            (seen.upstream.is_empty(), format!("{:?}", seen.upstream))
        }
        "via_upstream" => (
            seen.upstream
                .iter()
                .any(|line| value.as_str().is_some_and(|start| line.starts_with(start))),
            format!("{:?}", seen.upstream),
        ),
        "forwarded_request_line" => (
            value.as_str().is_some_and(|line| {
                origin.starts_with(&format!("{}\r\n", line.to_ascii_lowercase()))
            }),
            origin,
        ),
        "forwarded_host" => (
            value.as_str().is_some_and(|host| {
                origin.contains(&format!("\r\nhost: {}\r\n", host.to_ascii_lowercase()))
            }),
            origin,
        ),
        "forwarded_absent" => (
            !origin.is_empty()
                && texts()
                    .all(|name| !origin.contains(&format!("\r\n{}:", name.to_ascii_lowercase()))),
            origin,
        ),
        "forwarded_absent_value" => (
            !origin.is_empty()
                && value
                    .as_str()
                    .is_some_and(|part| !origin.contains(&part.to_ascii_lowercase())),
            origin,
        ),
        "response_complete" => (
            (observed.answer.len() == 100_000) == (value == true),
            format!("{} bytes", observed.answer.len()),
        ),
        "rss_growth_max_mib" => (
            value
                .as_u64()
                .is_some_and(|most| observed.grown_kib <= most * 1024),
            format!("{} KiB", observed.grown_kib),
        ),
        "inner_status" => (
            among(value, observed.inner.map(u64::from)),
            format!("{:?}", observed.inner),
        ),
        "delivered" => (
            json!(seen.datagrams) == *value,
            format!("{:?}", seen.datagrams),
        ),
        "bnd_addr" => (
            observed
                .bound
                .map(|bound| bound.ip().to_string())
                .as_deref()
                == value.as_str(),
            format!("{:?}", observed.bound),
        ),
        "udp_bind_loopback" => (
            observed.bound.is_some_and(|bound| bound.ip().is_loopback()) == (value == true),
            format!("{:?}", observed.bound),
        ),
        "reload" | "reload_refused" => (
            observed.reload_refused == (value == true),
            format!("{}", observed.reload_refused),
        ),
        other => (false, format!("the runner does not know `{other}`")),
    })
}

/// Addresses that were tried and refused stand before the one that was reached.
fn allowed_dials(expect: &Value, seen: &Seen) -> bool {
    seen.dials.len() <= 2 || !expect["max_dial_attempts"].is_null()
}

fn within(seen: Option<Duration>, most: &Value) -> bool {
    seen.zip(most.as_u64())
        .is_some_and(|(seen, most)| seen <= Duration::from_millis(most))
}

fn summary(statuses: &[u16]) -> String {
    let mut counted: Vec<(u16, usize)> = Vec::new();
    for status in statuses {
        match counted.iter_mut().find(|(known, _)| known == status) {
            Some((_, count)) => *count += 1,
            None => counted.push((*status, 1)),
        }
    }
    format!("{counted:?}")
}

#[expect(clippy::too_many_lines, reason = "two forms of one case, side by side")]
/// The same destination by SOCKS5 and by an absolute-form request, where the case is a plain CONNECT.
fn other_dialects(case: &Value) -> Vec<(&'static str, Value)> {
    let request = &case["request"];
    let plain_keys = ["via", "kind", "authority", "dialer"];
    let plain = request
        .as_object()
        .is_some_and(|request| request.keys().all(|key| plain_keys.contains(&key.as_str())));
    let special = [
        "mode",
        "mitm",
        "sni_check",
        "listener_token",
        "on_miss",
        "upstream_proxy",
    ];
    let special = special
        .iter()
        .any(|key| !case["policy_value"][key].is_null());
    let authority = request["authority"].as_str().unwrap_or_default();
    let split = authority
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    let (Some((host, port @ 1..)), "connect", true, false) = (
        split,
        request["kind"].as_str().unwrap_or_default(),
        plain,
        special,
    ) else {
        return Vec::new();
    };
    if host.contains(':') && !host.starts_with('[')
        || !authority.ends_with(&format!(":{port}"))
        || !case["expect"]["attempts"].is_null()
    {
        return Vec::new();
    }
    let mut forms = Vec::new();
    let allowed = case["expect"]["decision"] == "allow";
    let mut expect = json!({"decision": case["expect"]["decision"]});
    for key in ["dial", "dns_lookups", "query_names"] {
        if !case["expect"][key].is_null() || key == "dial" && !allowed {
            expect[key] = case["expect"][key].clone();
        }
    }
    if case["request"]["dialer"].is_string() {
        expect["dial"] = Value::Null;
        let _gone = expect
            .as_object_mut()
            .and_then(|expect| expect.shift_remove("dial"));
    }
    let mut socks = case.clone();
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let (kind, address) = match bare.filter(|bare| bare.parse::<std::net::Ipv6Addr>().is_ok()) {
        Some(bare) => ("ipv6", bare),
        None => ("domain", host),
    };
    socks["request"] = json!({"via": "socks5", "kind": "socks5", "cmd": 1, "atyp": kind, "addr_latin1": address, "port": port, "dialer": request["dialer"]});
    socks["expect"] = expect.clone();
    if host.len() < 256 {
        forms.push(("SOCKS5", socks));
    }
    let graphic = host.bytes().all(|byte| byte.is_ascii_graphic())
        && !host.contains(['/', '?', '#', '\\', '@']);
    if graphic {
        let mut absolute = case.clone();
        absolute["request"] = json!({"via": "http", "kind": "raw", "dialer": request["dialer"],
            "bytes_latin1": format!("GET http://{authority}/ HTTP/1.1\r\nHost: {authority}\r\n\r\n")});
        absolute["expect"] = expect;
        forms.push(("absolute-form", absolute));
    }
    forms
}
