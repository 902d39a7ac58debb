//! A case's words as settings: its policy, its placeholders, its paths.

use std::net::SocketAddr;

use network_proxy::{
    CompiledPolicy, Misses, RawManagedNetwork, RawNetworkProxy, Settings, SniCheck,
};
use serde_json::Value;

/// The address that stands for this machine's own public one.
const OWN_PUBLIC: &str = "8.8.4.4";
/// Compiles the case's policy; duplicates that an object cannot hold are put in after.
pub(crate) fn compile(policy: &Value, root: &std::path::Path) -> Result<CompiledPolicy, String> {
    let mut settings = settings(policy, root)?;
    if let Some(pairs) = policy["domains"].as_array() {
        let text: Vec<String> = pairs
            .iter()
            .map(|pair| format!("{}:{}", pair[0], pair[1]))
            .collect();
        let table = serde_json::from_str(&format!("{{{}}}", text.join(",")))
            .map_err(|error| error.to_string())?;
        settings.user.domains = Some(table);
    }
    settings.policy().map_err(|faults| {
        faults
            .iter()
            .map(|fault| format!("{fault}: {}", fault.error))
            .collect::<Vec<_>>()
            .join("; ")
    })
}

/// The case's policy, as settings.
fn settings(policy: &Value, root: &std::path::Path) -> Result<Settings, String> {
    let mut raw = policy.as_object().cloned().unwrap_or_default();
    let mut own = |name: &str| raw.shift_remove(name);
    let sni = own("sni_check");
    let token = own("listener_token");
    let on_miss = own("on_miss");
    let upstream = own("upstream_proxy");
    let only_managed = own("managed_allowed_domains_only");
    let _note = own("note");
    if let Some(Value::Array(pairs)) = raw.get("domains") {
        // Two spellings of one pattern are two entries of a table; an object of the same keys would lose one.
        let mut table = serde_json::Map::new();
        for pair in pairs {
            let _same = table.insert(
                pair[0].as_str().unwrap_or_default().to_owned(),
                pair[1].clone(),
            );
        }
        let _old = raw.insert("domains".to_owned(), Value::Object(table));
    }
    if let Some(Value::Object(sockets)) = raw.get_mut("unix_sockets") {
        let moved = sockets
            .iter()
            .map(|(path, permission)| (moved(path, root), permission.clone()))
            .collect();
        *sockets = moved;
    }
    let user: RawNetworkProxy =
        serde_json::from_value(Value::Object(raw)).map_err(|error| error.to_string())?;
    // The managed list, where the case says that there is no other.
    let managed = only_managed.map(|only| RawManagedNetwork {
        enabled: Some(true),
        domains: user.domains.clone(),
        managed_allowed_domains_only: only.as_bool(),
        ..RawManagedNetwork::default()
    });
    Ok(Settings {
        user,
        managed,
        intercepted: Vec::new(),
        misses: if on_miss.is_some_and(|word| word == "ask") {
            Misses::Ask
        } else {
            Misses::Refuse
        },
        // A feature of the harness: cases that do not name it send bytes that are no TLS to port 443.
        sni_check: if sni.is_some() {
            SniCheck::Strict
        } else {
            SniCheck::Off
        },
        upstream: upstream.and_then(|url| url.as_str().map(Into::into)),
        own_addresses: OWN_PUBLIC.parse().into_iter().collect(),
        token: token.and_then(|token| token.as_str().map(Into::into)),
    })
}

/// A path of the case, below the case's own root.
pub(crate) fn moved(path: &str, root: &std::path::Path) -> String {
    path.strip_prefix('/').map_or_else(
        || path.to_owned(),
        |rest| format!("{}/{rest}", root.display()),
    )
}

/// One text of the case with its placeholders filled.
pub(crate) fn filled(text: &str, door: Option<SocketAddr>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let end = after
            .find(|letter: char| {
                !(letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_')
            })
            .unwrap_or(after.len());
        let (name, after) = after.split_at_checked(end).unwrap_or((after, ""));
        let mut letters = name.chars();
        let letter = letters.next();
        match (letters.as_str().parse::<usize>(), letter, door) {
            (Ok(count), Some(letter), _) => {
                out.extend(std::iter::repeat_n(letter.to_ascii_lowercase(), count))
            }
            _ if name == "OWN_PUBLIC_ADDR" => out.push_str(OWN_PUBLIC),
            (_, _, Some(door)) if name.ends_with("PORT") => out.push_str(&door.port().to_string()),
            (_, _, Some(door)) if name.contains("PROXY") || name.contains("LISTENER") => {
                out.push_str(&door.to_string())
            }
            _ => {
                out.push('$');
                out.push_str(name);
            }
        }
        rest = after;
    }
    out.push_str(rest);
    out
}
