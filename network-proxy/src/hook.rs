//! Rules for methods and paths of one host, inside a tunnel that is looked into: [`Hook`].
//!
//! Apart because a path is a second thing to spell in two ways. Pure.
//! INVARIANT: a request target that a server might read otherwise than we do (dot segments, doubled slashes, encoded slashes,
//! backslashes) is refused, not normalised.

use crate::head::Method;
use crate::host::Host;

/// What one host may be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hook {
    /// The host, exactly.
    pub(crate) host: Host,
    /// The methods.
    pub(crate) methods: Vec<Method>,
    /// The paths' beginnings; each begins with `/`. A prefix ends at a segment's border.
    pub(crate) prefixes: Vec<String>,
}

/// What hooks say to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HookVerdict {
    /// It may pass.
    Passes,
    /// The path can be read in two ways.
    Ambiguous,
    /// None matches.
    Denied,
}

/// Holds a request against a host's hooks; no hooks, no restriction.
pub(crate) fn judge(hooks: &[Hook], method: &Method, target: &str) -> HookVerdict {
    if hooks.is_empty() {
        return HookVerdict::Passes;
    }
    let path = target.split('?').next().unwrap_or_default();
    if is_ambiguous(path) {
        return HookVerdict::Ambiguous;
    }
    let matches = |hook: &Hook| {
        hook.methods.contains(method) && hook.prefixes.iter().any(|prefix| begins(path, prefix))
    };
    if hooks.iter().any(matches) {
        HookVerdict::Passes
    } else {
        HookVerdict::Denied
    }
}

/// Whether a server might read the path otherwise: only unreserved bytes and plain segments cannot be misread.
fn is_ambiguous(path: &str) -> bool {
    if !path.starts_with('/') || path.contains(['\\', ';']) {
        return true;
    }
    let lower = path.to_ascii_lowercase();
    if ["%2f", "%5c", "%2e", "%25", "%00", "%3b"]
        .iter()
        .any(|code| lower.contains(code))
    {
        return true;
    }
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        if segment == "." || segment == ".." || segment.is_empty() && !last {
            return true;
        }
    }
    false
}

fn begins(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || prefix.ends_with('/') || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(method: &str, target: &str) -> HookVerdict {
        let hook = Hook {
            host: Host::parse(b"api.example.com").expect("a host"),
            methods: vec![Method::parse("GET").expect("a method")],
            prefixes: vec!["/repos/acme/".to_owned(), "/status".to_owned()],
        };
        judge(&[hook], &Method::parse(method).expect("a method"), target)
    }

    #[test]
    fn only_listed_methods_below_listed_prefixes_pass() {
        assert_eq!(verdict("GET", "/repos/acme/x?q=../y"), HookVerdict::Passes);
        assert_eq!(verdict("GET", "/status"), HookVerdict::Passes);
        assert_eq!(verdict("GET", "/status/now"), HookVerdict::Passes);
        assert_eq!(verdict("GET", "/statuses"), HookVerdict::Denied);
        assert_eq!(verdict("POST", "/repos/acme/x"), HookVerdict::Denied);
        assert_eq!(verdict("GET", "/repos/other/x"), HookVerdict::Denied);
        assert_eq!(verdict("GET", "/"), HookVerdict::Denied);
    }

    #[test]
    fn a_path_with_two_readings_is_refused() {
        for path in [
            "/repos/acme/../x",
            "/repos/acme/..%2fx",
            "/repos/acme/%2E%2e/x",
            "//repos/acme/x",
            "/repos/acme/./x",
            "/repos/acme\\..\\x",
            "/repos/acme/..;/x",
            "/repos/acme/%252e/x",
            "/repos//acme/",
            "repos/acme/",
            "/repos/acme/..",
        ] {
            assert_eq!(verdict("GET", path), HookVerdict::Ambiguous, "{path}");
        }
    }
}
