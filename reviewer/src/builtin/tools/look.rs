//! Whether a tool's call only looks.
//!
//! Apart from what speaks against a call, because here everything must be known: the name of a tool is what its author
//! wrote, and says nothing of what its arguments make it do. Invariant: the name looks, and every name and text of the
//! arguments, at every depth, is one that cannot make a look into a deed, a message or a look at what is not open; a
//! shape that is not known is no look.

use exec_policy::{Command, Word};
use protocol::ToolCall;
use serde_json::Value;

use super::super::deny::is_interpreter;
use super::super::fetch::{self, Walls};
use super::super::scene::Scene;
use super::super::{listed, places, sql};
use super::{
    ACTS, DESTROYS, DISTURBS, LOOKS, holds_a_secret, is_path, is_statement, looks_encoded,
    names_a_file, parts, speaks_of_secrets,
};

/// The longest text that a look may carry, names of arguments included, in bytes: a question, not a document.
const MAX_QUESTION_BYTES: usize = 240;
/// How deep values may be nested: an object's list of objects.
const MAX_DEPTH: usize = 3;

/// Words of an argument's name by which it says what is done, instead of what is looked at.
const CARRIES: &str = "\
    command commands cmd cmds script scripts code args argv arguments function functions func fn javascript js eval \
    expression expressions expr action actions method methods operation operations op verb mutation mutations \
    subscription body headers header payload stdin program shell callback handler hook patch procedure rpc macro lambda";
/// Names of arguments that do so where they stand alone, but are common in longer names.
const CARRIES_ALONE: &str = "exec execute run update insert upsert write send post put set apply call invoke do data request requests";
/// Words with which a store's own language acts.
const STORE_ACTS: &str = "\
    flushall flushdb del hdel rm unlink shutdown mutation subscription insertone insertmany updateone \
    updatemany deleteone deletemany dropdatabase bulkwrite upsert hset setex lpush rpush evalsha eval config debug";
/// What stands in code and never in a question.
const CODE: &[&str] = &[
    "=>", "$(", "${", "`", "&&", "||", "|", ";", "\\", "\0", "\n", "<(", ">(", "eval(", "import(",
    "require(", "exec(", "system(",
];

/// Whether a call only looks.
pub(in super::super) fn looks(call: &ToolCall, scene: &Scene) -> bool {
    if opens_page(call) {
        return true;
    }
    let name = parts(&call.tool_name);
    let has = |wanted: &str| name.iter().any(|word| listed(wanted, word));
    // A look opens its name, behind the server's own name at most, or closes it.
    let opens = name
        .iter()
        .take(2)
        .chain(name.last())
        .any(|word| listed(LOOKS, word));
    if !opens
        || has(ACTS)
        || has(DESTROYS)
        || speaks_of_secrets(call)
        || is_interpreter(&call.server)
    {
        return false;
    }
    let question = Question {
        scene,
        searches: has("search find"),
    };
    let mut bytes = 0;
    super::each_text(&call.arguments, &mut |_, text| bytes += text.len());
    bytes <= MAX_QUESTION_BYTES
        && question.holds("", &call.arguments, 0)
        && (!asks_the_network(call) || asks_for_a_known_name(call, scene))
}

/// What the arguments of a look are held to.
struct Question<'s> {
    scene: &'s Scene,
    /// The tool looks for words, and so the words may be any that are looked for.
    searches: bool,
}

impl Question<'_> {
    /// Whether a value, and all within it, only says what is looked at.
    fn holds(&self, key: &str, value: &Value, depth: usize) -> bool {
        if depth > MAX_DEPTH {
            return false;
        }
        match value {
            Value::Null | Value::Number(_) | Value::Bool(false) => true,
            Value::Bool(true) => !first_acts(key),
            Value::String(text) => is_plain_method(key, text) || self.text(key, text),
            Value::Array(items) => items.iter().all(|item| self.holds(key, item, depth + 1)),
            Value::Object(fields) => fields.iter().all(|(name, item)| {
                let deep = matches!(item, Value::Object(_) | Value::Array(_));
                let fine = !says_what_to_do(name)
                    || item.as_str().is_some_and(|t| is_plain_method(name, t));
                fine && !(deep && first_acts(name))
                    && self.name(name)
                    && self.holds(name, item, depth + 1)
            }),
        }
    }

    /// The name of an argument is a text too.
    fn name(&self, name: &str) -> bool {
        !holds_a_secret(name)
            && !looks_encoded(name)
            && !speaks_in_text(name)
            && !CODE.iter().any(|mark| name.contains(mark))
            && pieces(name).all(|piece| self.is_open(piece))
    }

    fn text(&self, key: &str, text: &str) -> bool {
        if text.contains("://") {
            return fetch::may_fetch(text) && !holds_a_secret(text);
        }
        let search = self.searches
            && listed(
                "query q search pattern keyword keywords term terms topic jql text",
                key,
            );
        let as_words = !acts(text, search) && is_plain_question(text);
        let code = CODE.iter().any(|mark| text.contains(mark));
        let file = is_path(text) || names_a_file(key);
        let alone = !search && !text.contains(char::is_whitespace);
        let places = pieces(text)
            .filter(|piece| file || alone || piece.contains('/') || piece.starts_with(['~', '.']))
            .all(|piece| self.is_open(piece))
            && (!file || self.is_open(text));
        let hosts = search
            || is_statement(key)
            || names_a_local_file(key)
            || pieces(text).all(|piece| !is_host(piece) || may_look_up(&[piece], self.scene));
        as_words
            && !code
            && places
            && hosts
            && !holds_a_secret(text)
            && !looks_encoded(text)
            && !speaks_in_text(text)
    }

    /// A place that anybody may look at. A name is one too: in the folder of the call.
    fn is_open(&self, text: &str) -> bool {
        let place = self.scene.locate_text(text);
        let escapes = text.contains(['$', '%', '\\'])
            || (text.starts_with('~') && !text.starts_with("~/"))
            || text
                .split('/')
                .any(|name| name.starts_with('.') && name != ".");
        !escapes
            && !places::holds_credentials(&place, self.scene)
            && !places::is_secretive(&place)
            && !places::is_reviewers(&place, self.scene)
            && !places::holds_a_home(&place, self.scene)
            && !place.starts_with(&["proc"])
            && !place.starts_with(&["dev"])
            && !place.starts_with(&["sys"])
    }
}

/// The runs of a text that may be a path or a host.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || "._-~/$%\\*+".contains(c)))
        .filter(|piece| !piece.is_empty())
}

/// Whether an argument's name announces what is done.
fn says_what_to_do(key: &str) -> bool {
    let lower = key.to_lowercase();
    parts(key)
        .iter()
        .any(|word| listed(CARRIES, word) || listed(DESTROYS, word))
        || listed(CARRIES_ALONE, &lower)
        || ["command", "javascript", "mutation", "function"]
            .iter()
            .any(|word| lower.contains(word))
}

fn first_acts(key: &str) -> bool {
    parts(key).first().is_some_and(|word| {
        listed(ACTS, word) || listed(DESTROYS, word) || listed(DISTURBS, word) || word == "force"
    })
}

/// `GET` and `HEAD` look.
fn is_plain_method(key: &str, text: &str) -> bool {
    matches!(key, "method" | "http_method" | "httpMethod")
        && matches!(text.to_ascii_uppercase().as_str(), "GET" | "HEAD")
}

/// Whether a text tells to do something. Somebody who searches may look for any word but one that destroys.
fn acts(text: &str, search: bool) -> bool {
    let words = parts(text);
    let Some(first) = words.first() else {
        return false;
    };
    let anywhere = |wanted: &str| words.iter().any(|word| listed(wanted, word));
    if listed(DESTROYS, first) || anywhere(STORE_ACTS) || writes_rows(&words) {
        return true;
    }
    !search && (anywhere(DESTROYS) || listed(ACTS, first) || listed(DISTURBS, first))
}

/// Whether a statement of SQL that writes stands anywhere among the words.
fn writes_rows(words: &[String]) -> bool {
    const OBJECTS: &str = "\
        table database schema view index column user role function trigger sequence extension type policy publication";
    words.windows(2).any(|pair| match pair {
        [one, two] => match one.as_str() {
            "delete" => two == "from",
            "insert" | "replace" | "merge" => two == "into",
            "drop" | "alter" | "create" | "truncate" => listed(OBJECTS, two),
            "into" => matches!(two.as_str(), "outfile" | "dumpfile"),
            _ => false,
        },
        _ => false,
    }) || words
        .windows(3)
        .any(|three| matches!(three, [one, _, set] if one == "update" && set == "set"))
}

/// A page that may be fetched is opened or fetched, and nothing but its address is told.
fn opens_page(call: &ToolCall) -> bool {
    const WORDS: &str = "\
        browser page playwright puppeteer chrome navigate goto go to fetch visit open url web webpage website html markdown \
        txt text get tab new content scrape read";
    const OPENS: &str = "navigate goto fetch visit open scrape";
    let name = parts(&call.tool_name);
    let Value::Object(fields) = &call.arguments else {
        return false;
    };
    let addresses = fields.values().filter_map(Value::as_str);
    let plain = fields.iter().all(|(name, value)| {
        matches!(value, Value::String(_) | Value::Number(_) | Value::Bool(_))
            && !says_what_to_do(name)
            && !(value == &Value::Bool(true) && first_acts(name))
    });
    name.iter().all(|word| listed(WORDS, word))
        && name.iter().any(|word| listed(OPENS, word))
        && !speaks_of_secrets(call)
        && plain
        && addresses.clone().count() == 1
        && addresses.into_iter().all(fetch::may_fetch)
}

/// A search for words, or a statement of SQL that looks.
fn is_plain_question(text: &str) -> bool {
    let first = parts(text.split_whitespace().next().unwrap_or_default());
    let opens_like_sql = first.first().is_some_and(|word| {
        listed(
            "select with insert update delete drop alter create truncate grant revoke copy call pragma set do merge \
             replace vacuum explain exec execute attach detach",
            word,
        )
    });
    sql::is_question(text) || !opens_like_sql
}

/// A file's name has dots as a host's has, and no tool that reads files asks for it.
fn names_a_local_file(key: &str) -> bool {
    listed("path paths file files filename file_path filepath", key)
}

/// Names with dots between, or the four numbers of an address.
fn is_host(text: &str) -> bool {
    let labels: Vec<&str> = text.split('.').collect();
    let named = labels
        .last()
        .is_some_and(|top| top.len() >= 2 && top.chars().all(char::is_alphabetic));
    let numbered = labels.len() == 4 && labels.iter().all(|label| label.parse::<u8>().is_ok());
    let fits = |label: &&str| {
        !label.is_empty()
            && label
                .chars()
                .all(|c| c.is_alphanumeric() || c == '-' || c == '_')
    };
    labels.len() >= 2 && labels.iter().all(fits) && (named || numbered)
}

/// Whether asking for a name tells nobody anything: the same question as of a command that looks names up.
fn may_look_up(words: &[&str], scene: &Scene) -> bool {
    let dig: Vec<String> = std::iter::once("dig")
        .chain(words.iter().copied())
        .map(str::to_owned)
        .collect();
    let inner = scene.within(&dig);
    inner.commands().all(|(at, command): (usize, &Command)| {
        command
            .arguments()
            .iter()
            .all(|word: &Word| word.literal().is_some())
            && fetch::fetches(at, command, &inner, Walls::Stand)
    })
}

/// Whether what the tool is told goes to whoever serves a name.
fn asks_the_network(call: &ToolCall) -> bool {
    parts(&call.tool_name)
        .into_iter()
        .chain(parts(&call.server))
        .any(|word| {
            listed(
                "dns whois ping dig nslookup traceroute domain domains hostname hosts mx rdap",
                &word,
            )
        })
}

fn asks_for_a_known_name(call: &ToolCall, scene: &Scene) -> bool {
    let mut words = Vec::new();
    let Value::Object(fields) = &call.arguments else {
        return call.arguments.is_null();
    };
    for value in fields.values() {
        match value {
            Value::String(text) => words.push(text.as_str()),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
            Value::Array(_) | Value::Object(_) => return false,
        }
    }
    words.is_empty() || may_look_up(&words, scene)
}

/// Whether a question asks for what is secret.
fn speaks_in_text(text: &str) -> bool {
    let text = text.to_lowercase();
    [
        "password",
        "passwd",
        "passwort",
        "secret",
        "token",
        "credential",
        "api key",
        "apikey",
        "api_key",
        "api-key",
        "private key",
        "private_key",
        "pg_shadow",
        "pg_authid",
        "verification code",
        "cvv",
        "card_number",
        "card number",
        "id_rsa",
        "id_ed25519",
        "id_ecdsa",
    ]
    .iter()
    .any(|word| text.contains(word))
}

#[cfg(test)]
mod tests;
