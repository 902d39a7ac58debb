use proptest::prelude::*;

use super::{InvalidPattern, Pattern};

fn matches(pattern: &str, path: &[u8]) -> bool {
    Pattern::parse(pattern).expect("a pattern").matches(path)
}

#[test]
fn each_sign_takes_what_it_stands_for() {
    for (pattern, yes, no) in [
        (
            "*.env",
            &["a.env", ".env"][..],
            &["a/b.env", "a.envy", "env"][..],
        ),
        ("**/*.env", &["a.env", "a/b/c.env"], &["a.env/b"]),
        ("a/**", &["a/b", "a/b/c"], &["a", "ab/c"]),
        ("a/**/z", &["a/z", "a/b/c/z"], &["az", "a/bz", "z"]),
        ("**", &["a", "a/b"], &[]),
        ("a**b", &["ab", "axyb"], &["a/b"]),
        ("?", &["a", "é"], &["", "/", "ab"]),
        ("[a-cx].pem", &["b.pem", "x.pem"], &["d.pem", ".pem"]),
        ("[!a-c]", &["d", "é", "/"], &["a"]),
        ("[]a]", &["]", "a"], &["b"]),
        ("[a-]", &["-", "a"], &["b"]),
        ("[é-ü]x", &["öx"], &["ox"]),
        ("*.{pem,key}", &["a.pem", "b.key"], &["a.crt"]),
        ("{a,b{c,d}}/x", &["a/x", "bc/x", "bd/x"], &["b/x"]),
        (r"\*\{", &["*{"], &["a{"]),
        (r"a\/**/c", &["a/x/y/c", "a/c"], &["a/xc"]),
        ("{**/a,b/**}", &["x/y/a", "b/c/d"], &["b", "xa"]),
        ("a*b*c*d", &["abcd", "axbxcxd"], &["abdc"]),
    ] {
        for path in yes {
            assert!(matches(pattern, path.as_bytes()), "{pattern} {path}");
        }
        for path in no {
            assert!(!matches(pattern, path.as_bytes()), "{pattern} {path}");
        }
    }
    assert!(
        matches("?.env", b"\xff.env"),
        "what is no UTF-8 is denied as well"
    );
    assert!(matches("[!a].env", b"\xff.env"));
}

#[test]
fn what_is_not_understood_is_refused() {
    for (text, why) in [
        ("a[", InvalidPattern::OpenClass),
        ("[]", InvalidPattern::OpenClass),
        ("[!]", InvalidPattern::OpenClass),
        ("[z-a]", InvalidPattern::Range),
        ("[a-b-z]", InvalidPattern::Range),
        ("{secrets/**,keys/**}.pem", InvalidPattern::DeepInBraces),
        ("a{**/b,c}", InvalidPattern::DeepInBraces),
        ("{a,b", InvalidPattern::OpenBraces),
        ("{a,{b}", InvalidPattern::OpenBraces),
        ("a}", InvalidPattern::ClosingBrace),
        ("a\\", InvalidPattern::Escape),
        ("{a,b\\", InvalidPattern::OpenBraces),
    ] {
        assert_eq!(Pattern::parse(text), Err(why), "{text}");
    }
    let many = "{a,b}".repeat(9);
    assert_eq!(Pattern::parse(&many), Err(InvalidPattern::Alternatives));
    assert!(Pattern::parse(&"{a,b}".repeat(7)).is_ok());
}

#[test]
fn a_pattern_that_goes_back_and_forth_ends_soon() {
    let path = "a".repeat(4_000);
    assert!(!matches(
        &"*a".repeat(40).replace("aa", "a"),
        &[path.as_bytes(), b"/b"].concat()
    ));
    assert!(!matches(
        &format!("{}[b]", "*a".repeat(40)),
        path.as_bytes()
    ));
}

/// Texts in which the signs and what they are about come often.
fn texts() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a", "b", "é", ".env", "/", "*", "**", "**/", "/**", "?", "[ab]", "[!a]", "[a-c]", "{a,b}",
        "{a,b/c}", "\\*", "]", "-", "!",
    ]);
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

fn paths() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a", "b", "c", "é", ".env", "/", "*", "]", "-", "!", "x",
    ]);
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// The library's `?` and classes take a byte, where ours take a character; and for what ends with a `/`, which names
    /// no path, ours may say more.
    #[test]
    fn what_the_library_matches_is_matched(text in texts(), path in paths()) {
        let theirs = globset::GlobBuilder::new(&text)
            .literal_separator(true)
            .backslash_escape(true)
            .build();
        let Ok(theirs) = theirs else {
            return Ok(());
        };
        let theirs = theirs.compile_matcher().is_match(&path);
        let ours = match Pattern::parse(&text) {
            Ok(ours) => ours.matches(path.as_bytes()),
            // Read differently there, and refused here.
            Err(InvalidPattern::DeepInBraces | InvalidPattern::Range) => return Ok(()),
            Err(other) => panic!("the library reads {text}: {other}"),
        };
        if path.is_ascii() || !text.contains(['?', '[']) {
            let more = ours && text.ends_with('/');
            prop_assert!(more || ours == theirs, "{} on {}", text, path);
        }
    }

    #[test]
    fn no_text_is_too_much(text in any::<String>(), path in any::<Vec<u8>>()) {
        if let Ok(pattern) = Pattern::parse(&text) {
            let _either = pattern.matches(&path);
        }
    }
}
