//! Which host a word of a command names, by its text alone: nothing is looked up and nothing is asked.

use std::net::IpAddr;

use serde_json::{Value, json};

/// What a word says of the host it names.
pub(super) fn host(written: &str) -> Value {
    let (scheme, rest) = match written.split_once("://") {
        Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
        None => (None, written),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let name_and_port = authority.rsplit('@').next().unwrap_or_default();
    let (name, port) = split_port(name_and_port);
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    json!({
        "written": written,
        "scheme": scheme,
        "host": name,
        "port": port,
        "class": class(&name),
    })
}

/// `[::1]:80`, `h:80`, `h:path` as scp has it, `h`.
fn split_port(text: &str) -> (&str, Option<u16>) {
    if let Some(rest) = text.strip_prefix('[')
        && let Some((name, rest)) = rest.split_once(']')
    {
        return (
            name,
            rest.strip_prefix(':').and_then(|port| port.parse().ok()),
        );
    }
    match text.split_once(':') {
        Some((name, port)) if !port.contains(':') => (name, port.parse().ok()),
        _ => (text, None),
    }
}

/// What kind of address it is, as far as its text says. A name can lead anywhere.
fn class(name: &str) -> &'static str {
    if name.is_empty() || name.contains(['…', '*', '$']) {
        return "unknown";
    }
    match name.parse::<IpAddr>() {
        Ok(address) if address.is_loopback() => "loopback",
        Ok(IpAddr::V4(address)) if address.is_link_local() => "link_local",
        Ok(IpAddr::V4(address)) if address.is_private() => "private",
        Ok(IpAddr::V6(address)) if address.is_unique_local() || address.is_unicast_link_local() => {
            "private"
        }
        Ok(_) => "address",
        Err(_) if name == "localhost" || name.ends_with(".localhost") => "loopback",
        Err(_)
            if [".local", ".internal", ".lan", ".home.arpa"]
                .iter()
                .any(|end| name.ends_with(end)) =>
        {
            "private_name"
        }
        Err(_) if !name.contains('.') => "single_name",
        Err(_) => "name",
    }
}

#[cfg(test)]
mod tests {
    use super::host;

    #[test]
    fn a_host_is_read_from_what_a_command_writes() {
        for (written, wanted, port, class) in [
            (
                "https://user:pw@h.example:8443/x@y",
                "h.example",
                Some(8443),
                "name",
            ),
            ("git@h.example:ana/app.git", "h.example", None, "name"),
            ("http://[::1]:80/", "::1", Some(80), "loopback"),
            ("10.0.0.5", "10.0.0.5", None, "private"),
            (
                "http://169.254.169.254/latest",
                "169.254.169.254",
                None,
                "link_local",
            ),
            (
                "db.internal:5432",
                "db.internal",
                Some(5432),
                "private_name",
            ),
            (
                "https://good.example@evil.example/",
                "evil.example",
                None,
                "name",
            ),
            (
                "https://evil.example#@good.example/",
                "evil.example",
                None,
                "name",
            ),
            ("http://…/", "…", None, "unknown"),
        ] {
            let value = host(written);
            assert_eq!(value["host"], wanted, "{written}");
            assert_eq!(value["port"].as_u64(), port, "{written}");
            assert_eq!(value["class"], class, "{written}");
        }
    }
}
