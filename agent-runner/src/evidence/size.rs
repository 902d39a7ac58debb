//! Keeps the evidence as a whole within what a reviewer can be shown: texts give way first, then facts, and each says so.
//!
//! Pure. Invariant: what gives way leaves a fact that says it did; the answer never weighs more than it may.

use protocol::Evidence;
use serde_json::{Value, json};

/// What the last word about what was left out may weigh.
const RESERVE: usize = 256;

/// As much of `facts`, in order, as weighs no more than `most` bytes.
pub(super) fn fit(facts: Vec<Evidence>, most: usize) -> Vec<Evidence> {
    let mut left = most.saturating_sub(RESERVE);
    let mut kept = Vec::with_capacity(facts.len());
    let mut dropped = 0_u64;
    for fact in facts {
        let smaller = [fact.clone(), without_text(fact.clone()), only_named(&fact)];
        let fits = smaller.into_iter().find(|fact| weight(fact) <= left);
        match fits {
            Some(fact) => {
                left -= weight(&fact);
                kept.push(fact);
            }
            None => dropped += 1,
        }
    }
    if dropped > 0 {
        kept.push(Evidence {
            kind: "not_obtained".to_owned(),
            value: json!({ "about": format!("{dropped} more facts"), "reason": "size_limit" }),
            obtained: "not at all".to_owned(),
        });
    }
    kept
}

/// How many bytes a fact takes in a prompt, where what is not ASCII may be spelled by numbers.
fn weight(fact: &Evidence) -> usize {
    let spelled = serde_json::to_string(fact).unwrap_or_default();
    let ascii = spelled.bytes().filter(u8::is_ascii).count();
    let characters = spelled.chars().count();
    // At most two of `\uXXXX` for a character beyond ASCII.
    ascii + 12 * characters.saturating_sub(ascii) + 1
}

fn without_text(mut fact: Evidence) -> Evidence {
    drop_text(&mut fact.value);
    if let Some(content) = fact.value.get_mut("content") {
        drop_text(content);
    }
    fact
}

fn drop_text(value: &mut Value) {
    if let Some(fields) = value.as_object_mut()
        && fields.remove("text").is_some()
    {
        fields.insert("text_not_shown".to_owned(), json!("size_limit"));
    }
}

fn only_named(fact: &Evidence) -> Evidence {
    let about = fact
        .value
        .get("path")
        .and_then(Value::as_str)
        .unwrap_or_default();
    Evidence {
        kind: "not_obtained".to_owned(),
        value: json!({ "about": format!("{} {about}", fact.kind).trim_end(), "reason": "size_limit" }),
        obtained: "not at all".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use protocol::Evidence;
    use serde_json::json;

    use super::{fit, weight};

    fn script(text: &str) -> Evidence {
        Evidence {
            kind: "script".to_owned(),
            value: json!({ "path": "/w/x.sh", "text": text }),
            obtained: "o".to_owned(),
        }
    }

    #[test]
    fn texts_give_way_first_and_say_so() {
        let kept = fit(
            vec![script("short"), script(&"x".repeat(5000)), script("last")],
            2000,
        );
        assert_eq!(kept[0], script("short"));
        assert_eq!(kept[1].value["text_not_shown"], "size_limit");
        assert_eq!(kept[2], script("last"));
    }

    #[test]
    fn whatever_comes_the_whole_fits_and_nothing_is_dropped_in_silence() {
        for text in ["x", "\u{202e}\u{1f600}", "\u{7}\\\"", "ä"] {
            for most in [300, 1000, 4096, 40_000] {
                let facts: Vec<Evidence> =
                    (0..200).map(|at| script(&text.repeat(at * 7))).collect();
                let kept = fit(facts, most);
                assert!(
                    kept.iter().map(weight).sum::<usize>() <= most,
                    "{text} {most}"
                );
                let told = kept.len() == 200
                    || kept
                        .last()
                        .is_some_and(|fact| fact.value["reason"] == "size_limit");
                assert!(told);
            }
        }
    }
}
