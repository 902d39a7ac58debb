use super::{MAX_COMMANDS, MAX_SCRIPT_BYTES, Redirect, Script, Shape, Unread, read_script};
use crate::word::{Piece, Word};

fn script(source: &str) -> Script {
    read_script(source).unwrap_or_else(|unread| panic!("{source:?}: {unread}"))
}

fn shown(source: &str) -> String {
    let script = script(source);
    let mut out = String::new();
    for (at, command) in script.commands.iter().enumerate() {
        let words: Vec<String> = command
            .words
            .iter()
            .map(|word| format!("[{word}]"))
            .collect();
        let sets: Vec<String> = command
            .assignments
            .iter()
            .map(|(name, value)| format!("{name}={value} "))
            .collect();
        out.push_str(&format!("{at}: {}{}", sets.concat(), words.join(" ")));
        if !command.redirects.is_empty() {
            out.push_str(&format!(" {:?}", command.redirects));
        }
        if !command.fed_by.is_empty() {
            out.push_str(&format!(" fed by {:?}", command.fed_by));
        }
        out.push('\n');
    }
    out
}

#[test]
fn a_pipe_and_a_substitution_feed_what_reads_them() {
    insta::assert_snapshot!(shown("curl u | tee f | sh; eval \"$(wget v)\"; bash <(nc h 1)"), @r"
    0: [curl] [u]
    1: [tee] [f] fed by [0]
    2: [sh] fed by [1]
    3: [wget] [v]
    4: [eval] […] fed by [3]
    5: [nc] [h] [1]
    6: [bash] […] fed by [5]
    ");
}

#[test]
fn a_group_is_fed_and_redirected_as_a_whole() {
    insta::assert_snapshot!(shown("curl u | { read x; sh; } > out"), @r#"
    0: [curl] [u] [Write(Word([Text("out")]))]
    1: [read] [x] [Write(Word([Text("out")]))] fed by [0]
    2: [sh] [Write(Word([Text("out")]))] fed by [0]
    "#);
}

#[test]
fn words_behind_a_redirect_are_arguments() {
    insta::assert_snapshot!(shown("cat > f a b\n> g rm -rf x"), @r#"
    0: [cat] [a] [b] [Write(Word([Text("f")]))]
    1: [rm] [-rf] [x] [Write(Word([Text("g")]))]
    "#);
}

#[test]
fn a_document_is_kept_where_its_text_is_certain() {
    let documents = |source: &str| {
        script(source)
            .commands
            .into_iter()
            .flat_map(|command| command.redirects)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        documents("sh <<'E'\nrm $x\nE\n"),
        [Redirect::Document(Some("rm $x\n".to_owned()))]
    );
    assert_eq!(documents("sh <<E\nrm $x\nE\n"), [Redirect::Document(None)]);
    assert_eq!(
        documents("sh <<< 'rm x'"),
        [Redirect::Document(Some("rm x".to_owned()))]
    );
}

#[test]
fn quotes_escapes_tilde_and_patterns_become_pieces() {
    let words = |source: &str| script(source).commands.remove(0).words;
    assert_eq!(words(r#"a"b"'c'd\e"#), [Word::from_text("abcde")]);
    assert_eq!(words(r#""\$x \a""#), [Word::from_text(r"$x \a")]);
    assert_eq!(
        words("~/x").first().map(Word::pieces),
        Some([Piece::Home, Piece::Text("/x".to_owned())].as_slice())
    );
    assert_eq!(words("\"$HOME/x\""), words("~/x"));
    assert_eq!(words("'~/x'"), [Word::from_text("~/x")]);
    assert_eq!(words("a*").first().map(Word::has_glob), Some(true));
    assert_eq!(words("'a*'").first().map(Word::has_glob), Some(false));
    assert_eq!(words("a {}").last(), Some(&Word::from_text("{}")));
    assert!(words("a {b,c}").last().is_some_and(Word::has_unknown));
    assert_eq!(words("$'\\x72m'"), [Word::from_text("rm")]);
}

#[test]
fn only_lists_and_pipelines_of_commands_are_plain() {
    for source in [
        "a",
        "a b && c | d || e; f\ng # h",
        "a > b 2>&1",
        "a ~/b *.c \"d\"",
    ] {
        assert_eq!(script(source).shape, Shape::Plain, "{source}");
    }
    for source in [
        "a &",
        "(a)",
        "{ a; }",
        "! a",
        "X=1 a",
        "a $X",
        "a $(b)",
        "if a; then b; fi",
        "f() { a; }",
        "a <<E\n$x\nE\n",
        "a {b,c}",
    ] {
        assert_eq!(script(source).shape, Shape::Compound, "{source}");
    }
}

#[test]
fn what_is_not_certain_is_unread() {
    let cases = [
        ("a\0b".to_owned(), Unread::Characters),
        ("a\rb".to_owned(), Unread::Characters),
        ("rm\u{202e} a".to_owned(), Unread::Characters),
        ("((x=1))".to_owned(), Unread::Dynamic),
        ("echo ${ rm a; }".to_owned(), Unread::Dynamic),
        ("echo `echo \\`rm\\``".to_owned(), Unread::Dynamic),
        ("a 'b".to_owned(), Unread::Syntax),
        ("if a".to_owned(), Unread::Syntax),
        ("{}".to_owned(), Unread::Syntax),
        ("a".repeat(MAX_SCRIPT_BYTES + 1), Unread::TooLong),
        ("a;".repeat(MAX_COMMANDS + 1), Unread::TooMany),
        (
            format!("{}a{}", "$(".repeat(150), ")".repeat(150)),
            Unread::TooDeep,
        ),
        ("a|".repeat(300), Unread::TooMany),
    ];
    for (source, unread) in cases {
        let start = source
            .get(..20.min(source.len()))
            .unwrap_or_default()
            .to_owned();
        assert_eq!(read_script(&source), Err(unread), "{start:?}");
    }
}

#[test]
fn the_work_on_a_hostile_text_has_a_bound() {
    for piece in [
        "<<a ",
        "$((",
        "`",
        "${x:-",
        "[[ a ",
        "case x in ",
        "\"$(",
        "(",
        "{",
        "if ",
        "a|",
        "> a ",
        "a=(",
        "<(",
        "!",
        "\\",
        "'",
    ] {
        let source = piece.repeat(MAX_SCRIPT_BYTES / piece.len());
        let started = std::time::Instant::now();
        let read = read_script(&source);
        // A hang is what is looked for: what is read takes some hundredths of a second, what is refused less.
        assert!(
            started.elapsed().as_secs() < 10,
            "{piece:?} {:?}",
            read.err()
        );
    }
}
