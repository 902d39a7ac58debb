//! Hosts, grants, patches and tool calls that the user asked for.
//!
//! Apart from commands because nothing has to be read here. Invariant: every host, path and value of the action stands
//! in the one sentence.

use exec_policy::Location;
use protocol::{AdditionalPermissions, FileChange, NetworkAccess, ToolCall};
use serde_json::Value;

use super::super::scene::Scene;
use super::super::tools::parts;
use super::super::{Finding, Rule, places};
use super::command::names_place;
use super::{Sentence, Wishes, can_be_asked_for};

fn carried(found: &[Finding]) -> bool {
    found.iter().all(|finding| can_be_asked_for(finding.rule))
}

/// A host that the user named, on a web port or the port named with it.
pub(in crate::builtin) fn network(
    access: &NetworkAccess,
    wishes: &Wishes,
    found: &[Finding],
) -> Option<Rule> {
    let private = found
        .iter()
        .any(|finding| finding.rule == Rule::PrivateNetwork);
    let loopback = matches!(access.host.as_str(), "localhost" | "127.0.0.1" | "::1");
    if !carried(found) || (private && !loopback) {
        return None;
    }
    let named = |sentence: &Sentence| {
        sentence.words.iter().any(|word| {
            let rest = word
                .split_once("://")
                .map_or(word.as_str(), |(_, rest)| rest);
            let place = rest.split('/').next().unwrap_or_default();
            let (host, port) = place
                .rsplit_once(':')
                .map_or((place, None), |(host, port)| (host, Some(port)));
            let port_fits = match port {
                Some(port) => port.parse() == Ok(access.port),
                None => matches!(access.port, 80 | 443),
            };
            host.eq_ignore_ascii_case(&access.host) && port_fits
        })
    };
    wishes.any(named).then_some(Rule::AskedFor)
}

/// Folders that the user named, or the network by its name.
pub(in crate::builtin) fn permissions(
    wanted: &AdditionalPermissions,
    scene: &Scene,
    wishes: &Wishes,
    found: &[Finding],
) -> Option<Rule> {
    if !carried(found) {
        return None;
    }
    let asked = |sentence: &Sentence| {
        let network = !wanted.network
            || (sentence.has_any(&["network", "internet"])
                && sentence.has_any(&["use", "need", "allow"]));
        let writes = wanted.write.iter().all(|path| {
            let place = scene.locate_text(path.as_str());
            places::is_plain(&place, scene) && names_place(&place, scene, sentence)
        });
        network && writes
    };
    wishes.any(asked).then_some(Rule::AskedFor)
}

/// Files that the user named, or that lie in a folder that the user named.
pub(in crate::builtin) fn patch(
    change: &FileChange,
    scene: &Scene,
    wishes: &Wishes,
    found: &[Finding],
) -> Option<Rule> {
    if !carried(found) || change.files.is_empty() {
        return None;
    }
    let named_in = super::super::deny::patched_files(change);
    let asked = |sentence: &Sentence| {
        named_in.iter().all(|path| {
            let place = scene.locate_text(path);
            let plain = places::is_plain(&place, scene) && !scene.in_workspace(&place);
            plain
                && (names_place(&place, scene, sentence)
                    || in_named_folder(&place, scene, sentence))
        })
    };
    wishes.any(asked).then_some(Rule::AskedFor)
}

/// The folder directly above, by its absolute path.
fn in_named_folder(place: &Location, scene: &Scene, sentence: &Sentence) -> bool {
    let path = place.certain().unwrap_or_default();
    let Some((folder, _)) = path.rsplit_once('/') else {
        return false;
    };
    folder.split('/').count() > 3 && names_place(&scene.locate_text(folder), scene, sentence)
}

/// A tool whose deed and every value the user named.
pub(in crate::builtin) fn tool(
    call: &ToolCall,
    wishes: &Wishes,
    found: &[Finding],
) -> Option<Rule> {
    let carried = found
        .iter()
        .all(|finding| can_be_asked_for(finding.rule) || finding.rule == Rule::ToolDestroys);
    let deeds: Vec<String> = parts(&call.tool_name);
    let asked = |sentence: &Sentence| {
        let deed = deeds.iter().any(|deed| {
            let other: &[&str] = match deed.as_str() {
                "send" | "post" => &["tell", "send", "post", "message", "write"],
                "create" => &["create", "open", "add", "write", "comment"],
                "add" => &["add", "label", "comment", "put"],
                "update" => &["update", "mark", "set", "move", "change"],
                "delete" | "remove" => &["delete", "remove"],
                "merge" => &["merge"],
                "close" => &["close"],
                _ => &[],
            };
            sentence.has_any(other)
        });
        let mut values = 0;
        deed && says_all(&call.arguments, sentence, &mut values) && values > 0
    };
    (carried && wishes.any(asked)).then_some(Rule::AskedFor)
}

fn says_all(value: &Value, sentence: &Sentence, values: &mut usize) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => {
            *values += 1;
            sentence.says(&number.to_string())
        }
        Value::String(text) => {
            *values += 1;
            sentence.says(text.trim_end_matches(['.', '!']))
        }
        Value::Array(items) => items.iter().all(|item| says_all(item, sentence, values)),
        Value::Object(fields) => fields.values().all(|item| says_all(item, sentence, values)),
    }
}
