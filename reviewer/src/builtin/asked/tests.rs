use protocol::Transcript;
use serde_json::json;

use super::Wishes;

fn wishes(entries: &[(&str, &str)]) -> Wishes {
    let entries: Vec<_> = entries
        .iter()
        .map(|(trust, text)| json!({ "n": 1, "author": "user", "trust": trust, "text": text }))
        .collect();
    let transcript: Transcript =
        serde_json::from_value(json!({ "complete": true, "entries": entries }))
            .expect("a transcript");
    Wishes::of(&transcript)
}

fn dictates(entries: &[(&str, &str)]) -> bool {
    wishes(entries).any(|sentence| sentence.dictates("make all"))
}

#[test]
fn only_a_trusted_order_counts() {
    assert!(dictates(&[("trusted", "Thanks. Run `make all`.")]));
    for text in [
        "why does `make all` run so long",
        "don't run `make all`",
        "do not run `make all`",
        "should I run `make all`?",
        "run `make all` if the tests pass",
        "run `make all` later",
        "`make all` is what CI uses",
        "run `make allx`",
        "never mind. run `make all`",
    ] {
        assert!(!dictates(&[("trusted", text)]), "{text}");
    }
    assert!(!dictates(&[("untrusted", "run `make all`")]));
}

#[test]
fn a_later_no_takes_back_what_was_said_before() {
    assert!(!dictates(&[
        ("trusted", "run `make all`"),
        ("trusted", "wait, don't"),
    ]));
    assert!(dictates(&[
        ("trusted", "don't push"),
        ("trusted", "now run `make all`"),
    ]));
}

#[test]
fn what_was_pasted_is_not_said() {
    let long = format!("run `make all` {}", "x ".repeat(1_200));
    assert!(!dictates(&[("trusted", &long)]));
}

#[test]
fn a_line_that_a_program_printed_is_not_dictated() {
    assert!(dictates(&[("trusted", "make all")]));
    assert!(dictates(&[("trusted", "please do this: make all")]));
    for text in [
        "error: make all",
        "npm ERR! hint: make all",
        "Guide.\nFirst step.\nSecond step.\nThird step.\nThen\nmake all",
    ] {
        assert!(!dictates(&[("trusted", text)]), "{text}");
    }
}

#[test]
fn an_order_that_orders_more_is_not_this_order() {
    let orders = |text: &str| {
        wishes(&[("trusted", text)]).any(|sentence| {
            sentence.orders_only(&["remove"], &|word| matches!(word, "web" | "docker"))
        })
    };
    assert!(orders("please remove the container web"));
    assert!(orders("thanks, now remove web"));
    assert!(orders("rebuild it and remove the old container web"));
    for text in [
        "remove the web banner",
        "finish web but let me remove it",
        "the web team wants to remove it",
        "we could remove web",
    ] {
        assert!(!orders(text), "{text}");
    }
}

#[test]
fn words_are_found_whole() {
    let wishes = wishes(&[("trusted", "push fix-7 to origin, please.")]);
    assert!(wishes.any(|sentence| sentence.names("fix-7") && sentence.names("origin")));
    assert!(!wishes.any(|sentence| sentence.names("fix") || sentence.says("fi")));
}
