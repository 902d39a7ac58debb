//! Secrets that an option of a command announces: `--password X`, `mysql -pX`, `curl -u name:X`.
//!
//! Apart, because it reads words and not characters. It errs towards masking one word too many; what a mask may cover is
//! [`super::value`]'s to say.

use super::value::{self, Said, Value};
use super::{Span, named};

/// A word of a command line: where it begins in its text, and the text itself.
type Placed<'t> = (usize, &'t str);

/// Programs of which one sub-command alone takes a password, and the name under which the table has that.
const WITH_LOGIN: &[&str] = &["docker", "podman", "helm", "az", "oc", "buildah", "skopeo"];
const LOGIN: &str = "login";

/// Programs and the option behind which, as a word of its own, a password follows.
const SEPARATE: &[(&str, &[&str])] = &[
    ("sshpass", &["-p"]),
    (LOGIN, &["-p"]),
    ("redis-cli", &["-a", "--pass"]),
    ("ldapsearch", &["-w"]),
    ("ldapadd", &["-w"]),
    ("ldapmodify", &["-w"]),
    ("ldapdelete", &["-w"]),
    ("ldapwhoami", &["-w"]),
    ("mongo", &["-p"]),
    ("mongosh", &["-p"]),
    ("mongodump", &["-p"]),
    ("zip", &["-P"]),
    ("unzip", &["-P"]),
    ("sqlcmd", &["-P"]),
    ("bcp", &["-P"]),
    ("ansible-vault", &["-p"]),
    ("keytool", &["-storepass", "-keypass"]),
    ("mosquitto_pub", &["-P"]),
    ("mosquitto_sub", &["-P"]),
];

/// Programs whose option and password are one word.
const JOINED: &[(&str, &str)] = &[
    ("mysql", "-p"),
    ("mysqldump", "-p"),
    ("mysqladmin", "-p"),
    ("mysqlimport", "-p"),
    ("mariadb", "-p"),
    ("mariadb-dump", "-p"),
    ("mariadb-admin", "-p"),
    ("sshpass", "-p"),
    ("7z", "-p"),
    ("7za", "-p"),
    ("redis-cli", "-a"),
];

/// Programs and the options whose value is `name:password`.
const PAIRS: &[(&str, &[&str])] = &[
    ("curl", &["-u", "--user", "-U", "--proxy-user"]),
    ("http", &["-a", "--auth"]),
    ("https", &["-a", "--auth"]),
    ("xh", &["-a", "--auth"]),
    ("ab", &["-A", "-P"]),
];

/// The secrets among the words of a command: which word, and where in it.
pub(super) fn in_words(words: &[String]) -> Vec<(usize, Span)> {
    let placed: Vec<Placed<'_>> = words.iter().map(|word| (0, word.as_str())).collect();
    found(&placed)
}

/// The secrets on the lines of a script.
pub(super) fn in_lines(text: &str, spans: &mut Vec<Span>) {
    let mut line_at = 0;
    for line in text.split('\n') {
        // An option begins with a dash: most lines of most texts have none.
        if line.contains('-') || line.contains("pass") {
            let words = words_of(line, line_at);
            let of_line = found(&words);
            spans.extend(of_line.into_iter().map(|(of, span)| {
                let from = words.get(of).map_or(0, |word| word.0);
                Span {
                    start: from + span.start,
                    end: from + span.end,
                    kind: span.kind,
                }
            }));
        }
        line_at += line.len() + 1;
    }
}

fn words_of(line: &str, line_at: usize) -> Vec<Placed<'_>> {
    let mut words = Vec::new();
    let mut at = line_at;
    for word in line.split([' ', '\t', '\r']) {
        let bare = word.trim_start_matches(['"', '\'', '`', '(', ';', '&', '|']);
        if !bare.is_empty() {
            let word_at = at + word.len() - bare.len();
            words.push((word_at, bare.trim_end_matches(['"', '\'', '`', ')', ';'])));
        }
        at += word.len() + 1;
    }
    words
}

fn found(words: &[Placed<'_>]) -> Vec<(usize, Span)> {
    let mut spans = Vec::new();
    // The last word that could be a program, of those whose options are known.
    let mut program = "";
    for (of, (_, word)) in words.iter().enumerate() {
        let next = words.get(of + 1).map(|(_, next)| *next);
        let mut add = |of: usize, start: usize, text: &str, kind: &'static str| {
            if let Value::Secret(start, end) = value::at(text.as_bytes(), start, Said::Surely) {
                spans.push((of, Span { start, end, kind }));
            }
        };
        if !word.starts_with('-') {
            let name = word.rsplit('/').next().unwrap_or(word);
            if name == LOGIN && WITH_LOGIN.contains(&program) {
                program = LOGIN;
            } else if name != LOGIN && is_known(name) {
                program = name;
            }
            // openssl(1), "Pass Phrase Options".
            if word.starts_with("pass:") {
                add(of, "pass:".len(), word, "password");
            }
            continue;
        }
        let name = word.trim_start_matches('-');
        let announced = named::kind_of(name.as_bytes()).filter(|_| !name.contains('='));
        let separate = listed(SEPARATE, program, word).then_some("password");
        if let (Some(kind), Some(next)) = (announced.or(separate), next) {
            add(of + 1, 0, next, kind);
        }
        if let Some(prefix) = JOINED.iter().find(|(of, prefix)| {
            *of == program && word.len() > prefix.len() && word.starts_with(prefix)
        }) {
            add(of, prefix.1.len(), word, "password");
        }
        if listed(PAIRS, program, word)
            && let Some((user, _)) = next.and_then(|next| next.split_once(':'))
            && let Some(next) = next
        {
            add(of + 1, user.len() + 1, next, "password");
        }
        // smbclient(1): `-U name%password`.
        if program == "smbclient"
            && matches!(*word, "-U" | "--user")
            && let Some((user, _)) = next.and_then(|next| next.split_once('%'))
            && let Some(next) = next
        {
            add(of + 1, user.len() + 1, next, "password");
        }
        if program == "curl"
            && matches!(*word, "-b" | "--cookie")
            && let Some(next) = next.filter(|next| next.contains('='))
        {
            let mut cookies = Vec::new();
            named::cookies(next.as_bytes(), 0, &mut cookies);
            spans.extend(cookies.into_iter().map(|span| (of + 1, span)));
        }
    }
    spans
}

fn is_known(name: &str) -> bool {
    SEPARATE
        .iter()
        .map(|(program, _)| program)
        .any(|program| *program == name)
        || JOINED.iter().any(|(program, _)| *program == name)
        || PAIRS.iter().any(|(program, _)| *program == name)
        || WITH_LOGIN.contains(&name)
        || name == "smbclient"
}

fn listed(table: &[(&str, &[&str])], program: &str, option: &str) -> bool {
    table
        .iter()
        .any(|(of, options)| *of == program && options.contains(&option))
}
