//! Calls of tool servers: what they do by their names, and what their arguments carry.
//!
//! Apart from commands because a tool's name is all that is known of its deed. Invariant: this file only finds what speaks
//! against a call; what speaks for one is in [`look`]. A command or a statement in an argument is read like any other.

mod look;

use protocol::ToolCall;
use serde_json::Value;

pub(super) use self::look::looks;
use super::deny::add;
use super::scene::Scene;
use super::sql::{self, Harm};
use super::{Finding, Rule, fetch, listed, openings, places};

/// Words of a name by which a tool looks.
const LOOKS: &str = "\
    get list search read find describe show view count status lookup resolve query diff log whoami info \
    explain screenshot snapshot tree stat browse inspect peek history compare preview validate ping health version \
    exists usage logs metrics";
/// Words of a name by which a tool does more.
const ACTS: &str = "\
    create update write edit set send post put add move copy rename merge push commit publish share \
    invite upload run exec execute start stop restart scale deploy apply approve close assign forward \
    reply comment navigate click type fill submit install enable disable trigger import export evaluate \
    mark archive fetch clear flush pop consume ack sync rotate generate clone fork star follow subscribe vote \
    book order buy sign lock unlock join leave kick ban cancel abort retry rerun replay restore rollback save insert \
    append replace modify change convert register login grant allow block mute react draft schedule and";
/// Words of a name by which something goes that may not come back.
const DESTROYS: &str = "\
    delete remove drop purge destroy terminate truncate wipe reset revoke uninstall refund payout \
    transfer pay charge withdraw empty erase kill";
/// Words of a name for what holds more than one thing.
const STORES: &str = "\
    bucket database db table schema collection namespace cluster volume snapshot snapshots backup backups repository \
    repo project instance instances stack vault index dataset topic queue environment";
/// Words of a name by which something reaches people or takes effect for others.
const PUBLISHES: &str = "\
    send post share invite publish merge deploy release email mail message tweet reply forward \
    collaborator member permission permissions visibility grant promote acl policy policies iam role roles \
    protection paste gist admin firewall ingress webhook webhooks hook";
/// Words of a name by which a running service changes for everybody who uses it.
const DISTURBS: &str =
    "scale restart stop rollback cordon drain evict reboot failover pause suspend shutdown";
/// Words of a name or of an argument's name that speak of secrets.
const SECRETS: &str = "\
    secret secrets password passwords credential credentials token tokens cookie cookies vault keychain \
    1password bitwarden lastpass keyring env environment apikey keys otp clipboard storage session sessions";
/// How texts of secrets begin.
const SECRET_STARTS: &[&str] = &[
    "AKIA",
    "ASIA",
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "sk-ant-",
    "sk_live_",
    "rk_live_",
    "-----BEGIN OPENSSH PRIVATE",
    "-----BEGIN RSA PRIVATE",
    "-----BEGIN PRIVATE",
    "-----BEGIN EC PRIVATE",
    "AIza",
    "npm_",
    "pypi-",
    "hvs.",
    "eyJhbGciOi",
];
/// The words of a name: `getUser`, `get_user` and `get-user` are the same two.
pub(super) fn parts(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut lower_before = false;
    for character in name.chars() {
        let splits = !character.is_alphanumeric() || (character.is_uppercase() && lower_before);
        if splits {
            words.push(String::new());
        }
        if character.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(character.to_lowercase());
        }
        lower_before = character.is_lowercase() || character.is_numeric();
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Denials and floors of a call.
pub(super) fn tool(call: &ToolCall, scene: &Scene, found: &mut Vec<Finding>) {
    let shown = format!("{}/{}", call.server, call.tool_name);
    let name = parts(&call.tool_name);
    let any = |wanted: &str| name.iter().any(|word| listed(wanted, word));
    if any(DESTROYS) {
        add(found, Rule::ToolDestroys, &shown);
        let all = format!("{shown} {}", call.arguments);
        if any(STORES) && openings::is_production(&all) {
            add(found, Rule::DestroysStore, all);
        }
    }
    if any(PUBLISHES) && !any(LOOKS) {
        add(found, Rule::Publishes, &shown);
    }
    if any(DISTURBS) && !any(LOOKS) {
        add(found, Rule::DestroysService, &shown);
    }
    if opens_or_reaches(&call.arguments) && !any(LOOKS) {
        add(found, Rule::Publishes, &shown);
    }
    if speaks_of_secrets(call) {
        add(found, Rule::NearCredentials, &shown);
    }
    let sends = any(ACTS) && !any(LOOKS);
    each_text(&call.arguments, &mut |key, text| {
        argument(&Argument { key, text, sends }, &shown, scene, found);
    });
    split_commands(&call.arguments, scene, found);
    add(found, Rule::SideEffects, &shown);
}

fn speaks_of_secrets(call: &ToolCall) -> bool {
    parts(&call.tool_name)
        .into_iter()
        .chain(parts(&call.server))
        .any(|word| listed(SECRETS, word.as_str()))
}

struct Argument<'a> {
    key: &'a str,
    text: &'a str,
    sends: bool,
}

fn argument(argument: &Argument<'_>, shown: &str, scene: &Scene, found: &mut Vec<Finding>) {
    let Argument { key, text, sends } = argument;
    if *sends && holds_a_secret(text) {
        add(found, Rule::SecretToNetwork, shown);
    }
    if holds_a_command(key) && !text.contains('\0') {
        let inner = scene.within(&["bash".to_owned(), "-c".to_owned(), (*text).to_owned()]);
        super::deny::command(&inner, found);
    }
    if is_statement(key) {
        match sql::harm(text) {
            Some(Harm::Whole) => add(found, Rule::DestroysDatabase, text),
            Some(Harm::Part) if openings::is_production(shown) => {
                add(found, Rule::DestroysDatabase, text);
            }
            Some(Harm::Part) => add(found, Rule::DestroysService, text),
            None => {}
        }
    }
    // A page that is opened, or an address that is asked, is told what stands in it.
    if text.contains("://") && !fetch::may_fetch(text) && looks_encoded(text) {
        add(found, Rule::SendsFile, shown);
    }
    if is_path(text) || names_a_file(key) || climbs(text) {
        let place = scene.locate_text(text);
        if *sends {
            super::deny::write(&place, scene, found);
            if places::is_settings(&place, scene) {
                add(found, Rule::WritesSettings, text);
            }
        }
        if places::is_reviewers(&place, scene) {
            add(found, Rule::TampersReviewer, text);
        } else if places::holds_credentials(&place, scene) {
            add(found, Rule::ReadsCredentials, text);
        } else if places::is_secretive(&place) || places::holds_a_home(&place, scene) {
            add(found, Rule::NearCredentials, text);
        }
    }
}

fn is_statement(key: &str) -> bool {
    parts(key)
        .iter()
        .any(|word| listed("sql query statement q queries statements", word))
}

fn holds_a_command(key: &str) -> bool {
    parts(key)
        .iter()
        .any(|word| listed("command commands cmd script code", word))
}

/// One word that leaves the folder it starts in.
fn climbs(text: &str) -> bool {
    !text.contains(char::is_whitespace) && text.split('/').any(|part| part == "..")
}

/// A command that is given word by word is read as one.
fn split_commands(value: &Value, scene: &Scene, found: &mut Vec<Finding>) {
    match value {
        Value::Object(fields) => {
            for (name, item) in fields {
                if (holds_a_command(name) || listed("args argv arguments", name.as_str()))
                    && let Value::Array(items) = item
                    && let Some(words) = items
                        .iter()
                        .map(|word| word.as_str().map(str::to_owned))
                        .collect::<Option<Vec<_>>>()
                {
                    super::deny::command(&scene.within(&words), found);
                }
                split_commands(item, scene, found);
            }
        }
        Value::Array(items) => {
            for item in items {
                split_commands(item, scene, found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Whether the arguments open something to everybody, or name people whom the call reaches.
fn opens_or_reaches(arguments: &Value) -> bool {
    let mut found = false;
    each_text(arguments, &mut |key, text| {
        let open = listed(
            "public public-read public-read-write anyone everyone allUsers world anonymous",
            text,
        ) && !is_statement(key);
        let people = listed("attendees recipients to cc bcc emails invitees guests", key)
            && text.contains('@');
        found |= open || people;
    });
    found || is_flagged_public(arguments)
}

fn is_flagged_public(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.iter().any(|(name, item)| {
            (item == &Value::Bool(true)
                && listed("public is_public publicly shared anonymous", name))
                || is_flagged_public(item)
        }),
        Value::Array(items) => items.iter().any(is_flagged_public),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn names_a_file(key: &str) -> bool {
    listed(
        "path paths file files filename file_path filepath uri target destination",
        key,
    )
}

fn is_path(text: &str) -> bool {
    (text.starts_with('/') || text.starts_with("~/")) && text.len() < 1_024 && !text.contains('\n')
}

/// Whether a text holds something of the shape of a secret.
pub(super) fn holds_a_secret(text: &str) -> bool {
    SECRET_STARTS.iter().any(|start| {
        text.match_indices(start).any(|(at, _)| {
            let before = text.get(..at).and_then(|text| text.chars().next_back());
            let rest = text.get(at + start.len()..).unwrap_or_default();
            let edge = before.is_none_or(|c| !c.is_alphanumeric());
            edge && (start.starts_with("-----")
                || rest
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .count()
                    >= 12)
        })
    }) || [
        "_PASSWORD=",
        "_SECRET=",
        "SECRET_ACCESS_KEY=",
        "_TOKEN=",
        "_API_KEY=",
    ]
    .iter()
    .any(|name| {
        text.split_once(name)
            .is_some_and(|(_, rest)| rest.chars().take_while(|c| !c.is_whitespace()).count() >= 8)
    })
}

/// One long run of letters and digits, as no person types it.
fn looks_encoded(text: &str) -> bool {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '=')))
        .any(|run| run.len() > 48)
}

/// Every text in a value with the nearest name above it.
fn each_text<'v>(value: &'v Value, visit: &mut dyn FnMut(&'v str, &'v str)) {
    fn walk<'v>(key: &'v str, value: &'v Value, visit: &mut dyn FnMut(&'v str, &'v str)) {
        match value {
            Value::String(text) => visit(key, text),
            Value::Array(items) => items.iter().for_each(|item| walk(key, item, visit)),
            Value::Object(fields) => {
                for (name, item) in fields {
                    visit("", name);
                    walk(name, item, visit);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    walk("", value, visit);
}

#[cfg(test)]
mod tests {
    use super::{holds_a_secret, parts};

    #[test]
    fn names_are_taken_apart_in_every_spelling() {
        for name in ["getUser", "get_user", "get-user", "get.user", "GetUser"] {
            assert_eq!(parts(name), ["get", "user"], "{name}");
        }
        assert_eq!(
            parts("browser_take_screenshot"),
            ["browser", "take", "screenshot"]
        );
    }

    #[test]
    fn shapes_of_secrets_are_known() {
        for text in [
            "ghp_0123456789abcdefghijABCDEFGHIJ012345",
            "key AKIAIOSFODNN7EXAMPLE",
            "-----BEGIN OPENSSH PRIVATE KEY-----",
            "DB_PASSWORD=hunter2-prod-9f3b",
        ] {
            assert!(holds_a_secret(text), "{text}");
        }
        for text in [
            "The build is green.",
            "0123456789abcdef0123456789abcdef01234567",
            "npm_x",
            "set DB_PASSWORD=",
        ] {
            assert!(!holds_a_secret(text), "{text}");
        }
    }
}
