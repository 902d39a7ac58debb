//! What a text of SQL does, as far as its words say.
//!
//! Apart, because command lines and tools both carry it. Invariant: it looks only where it is one statement, opens with
//! a word that looks, holds no word that writes and calls no function but those written here; what destroys is told only
//! where a whole table or database goes.

use super::listed;

/// Functions that compute and touch nothing.
const FUNCTIONS: &str = "\
    count sum min max avg length lower upper coalesce now date round abs version distinct in and or \
    values on as over exists trim substr extract date_trunc current_database pg_size_pretty \
    pg_database_size pg_total_relation_size from where";
/// Words that write, wherever they stand.
const WRITES: &str = "\
    insert update delete drop alter create truncate grant revoke copy call do execute exec merge replace \
    into outfile dumpfile load attach vacuum reindex lock set begin commit rename kill shutdown reset \
    refresh import writefile analyze";

/// Catalogues and columns that hold passwords, keys or what others are asking, and views of whole files.
const SECRETS: &str = "\
    pg_authid pg_shadow pg_user_mapping pg_user_mappings pg_subscription pg_largeobject pg_stat_activity \
    pg_stat_statements pg_hba_file_rules pg_file_settings pg_settings user_attributes authentication_string \
    rolpassword passwd password_hash mysql processlist grants";

/// What destroys: a whole database, schema or table, or all of its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Harm {
    /// A database or schema, or all rows of a table.
    Whole,
    /// A table or a column.
    Part,
}

fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect()
}

/// Whether a text only looks.
pub(super) fn is_question(text: &str) -> bool {
    let text = text.trim().trim_end_matches(';');
    let words = words(text);
    let Some(first) = words.first() else {
        return false;
    };
    let opens = matches!(
        first.as_str(),
        "select" | "show" | "explain" | "describe" | "desc" | "table"
    );
    // What stands before the first word, on a further line or between quotation marks a client or server may read as
    // something else: a comment, a command of the client's own, a function by its name.
    let plain = text.to_ascii_lowercase().starts_with(first.as_str())
        && !text.chars().any(char::is_control)
        && !text.contains(['#', '`', '"'])
        && !words.iter().any(|word| word == "uescape");
    opens
        && plain
        && !text.contains([';', '\\'])
        && !text.contains("--")
        && !text.contains("/*")
        && !words
            .iter()
            .any(|word| listed(WRITES, word.as_str()) || listed(SECRETS, word.as_str()))
        && calls_only_known(text)
}

fn calls_only_known(text: &str) -> bool {
    text.match_indices('(').all(|(at, _)| {
        let before = text.get(..at).unwrap_or_default().trim_end();
        let name = before
            .rsplit(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.')))
            .next()
            .unwrap_or_default();
        name.is_empty() || listed(FUNCTIONS, name.to_ascii_lowercase().as_str())
    })
}

/// What a text destroys, the gravest of its statements.
pub(super) fn harm(text: &str) -> Option<Harm> {
    let mut found = None;
    for statement in text.split(';') {
        let words = words(statement);
        let texts: Vec<&str> = words.iter().map(String::as_str).collect();
        let one = match texts.as_slice() {
            ["drop", "database" | "schema", ..] | ["truncate", ..] => Some(Harm::Whole),
            ["delete", "from", rest @ ..] if !rest.contains(&"where") => Some(Harm::Whole),
            ["update", _, "set", rest @ ..] if !rest.contains(&"where") => Some(Harm::Part),
            ["drop", ..] | ["delete", ..] => Some(Harm::Part),
            ["alter", rest @ ..] if rest.contains(&"drop") => Some(Harm::Part),
            _ => None,
        };
        if found != Some(Harm::Whole) && one.is_some() {
            found = one;
        }
    }
    found
}

/// The statements on a command line of a database's client.
pub(super) fn statements<'w>(program: &str, words: &[&'w str]) -> Vec<&'w str> {
    let flags: &[&str] = match program {
        "psql" => &["-c", "--command"],
        "mysql" | "mariadb" => &["-e", "--execute"],
        "sqlite3" => return words.iter().skip(1).copied().collect(),
        _ => return Vec::new(),
    };
    let following = words.windows(2).filter_map(|pair| match pair {
        [flag, text] if flags.contains(flag) => Some(*text),
        _ => None,
    });
    let glued = words.iter().filter_map(|word| {
        flags
            .iter()
            .find_map(|flag| word.strip_prefix(flag)?.strip_prefix('='))
    });
    following.chain(glued).collect()
}

/// Whether a call of a client asks one local database one question.
pub(super) fn looks(program: &str, words: &[&str]) -> bool {
    match (program, words) {
        ("psql", ["-l" | "--list"]) => true,
        ("psql", [options @ .., "-c", text]) => connects_here(options) && is_question(text),
        ("psql", ["-c", text, options @ ..]) => connects_here(options) && is_question(text),
        ("mysql" | "mariadb", ["-e", text]) => is_question(text),
        ("sqlite3", [_, ".tables" | ".schema" | ".databases"]) => true,
        _ => false,
    }
}

/// Options and names of `psql` by which it asks this machine, and lays out what it is told.
fn connects_here(options: &[&str]) -> bool {
    let plain = |value: &str| {
        !value.starts_with('-')
            && value
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
    };
    let mut rest = options.iter();
    let mut names = 0;
    while let Some(word) = rest.next() {
        let fine = match *word {
            "-d" | "-U" | "-p" | "--dbname" | "--username" | "--port" => {
                rest.next().is_some_and(|value| plain(value))
            }
            "-h" | "--host" => rest
                .next()
                .is_some_and(|host| matches!(*host, "localhost" | "127.0.0.1" | "::1")),
            "-A" | "-t" | "-x" | "-X" | "-q" | "-w" | "-At" | "-tA" | "-Atq" | "--csv"
            | "--tuples-only" | "--no-align" | "--expanded" => true,
            name => {
                names += 1;
                names <= 2 && plain(name)
            }
        };
        if !fine {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::{Harm, harm, is_question, looks};

    #[test]
    fn a_client_asks_this_machine_alone() {
        for words in [
            &["-h", "localhost", "-U", "app", "app_test", "-c", "select 1"][..],
            &["app_test", "-At", "-c", "select count(*) from t"],
            &["-c", "select 1", "app_test"],
        ] {
            assert!(looks("psql", words), "{words:?}");
        }
        for words in [
            &["-h", "db.example", "-c", "select 1"][..],
            &["postgresql://db.example/x", "-c", "select 1"],
            &["host=db.example", "-c", "select 1"],
            &["-d", "host=db.example", "-c", "select 1"],
            &["-f", "x.sql", "-c", "select 1"],
            &["-o", "/tmp/x", "-c", "select 1"],
            &["-c", "drop table t", "app_test"],
            &["-c", "select 1", "-c", "drop table t"],
            &["-L", "log", "-c", "select 1"],
        ] {
            assert!(!looks("psql", words), "{words:?}");
        }
    }

    #[test]
    fn a_question_is_one_statement_that_looks() {
        for text in [
            "select 1",
            "SELECT count(*) FROM users WHERE id IN (1, 2);",
            "show tables",
            "explain select 1",
        ] {
            assert!(is_question(text), "{text}");
        }
        for text in [
            "",
            "select 1; drop table x",
            "select * into outfile '/tmp/x' from t",
            "select pg_read_file('/etc/passwd')",
            "with x as (delete from t returning 1) select 1",
            "explain analyze delete from t",
            "select lo_export(1, '/tmp/x')",
            "select 1 -- drop",
            "\\! sh",
            "copy t to program 'sh'",
            "select writefile('x', 'y')",
        ] {
            assert!(!is_question(text), "{text}");
        }
    }

    #[test]
    fn what_takes_all_is_told_from_what_takes_a_part() {
        assert_eq!(harm("DROP DATABASE app"), Some(Harm::Whole));
        assert_eq!(harm("select 1; delete from users"), Some(Harm::Whole));
        assert_eq!(harm("TRUNCATE orders CASCADE"), Some(Harm::Whole));
        assert_eq!(harm("delete from users where id = 1"), Some(Harm::Part));
        assert_eq!(harm("drop table x"), Some(Harm::Part));
        assert_eq!(
            harm("alter table users drop column email"),
            Some(Harm::Part)
        );
        assert_eq!(harm("update users set email = ''"), Some(Harm::Part));
        assert_eq!(harm("select 'drop database'"), None);
    }
}
