//! A model's reply, read strictly (design D26).
//!
//! Apart, because these bytes are a stranger's. Invariant: exactly one JSON object with exactly the four fields becomes
//! an assessment; anything else is a failed attempt, never a verdict.

use protocol::{Assessment, parse_strict};
use thiserror::Error;

/// A reply, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply(pub Assessment);

/// Why a reply is not one. It carries nothing of the model's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidReply {
    /// No text.
    #[error("the model's reply is empty")]
    Empty,
    /// Not one JSON value and nothing else.
    #[error("the model's reply is not one JSON value")]
    NotJson,
    /// JSON, but not the four fields with their values.
    #[error("the model's reply does not have exactly the four fields with their values")]
    NotAnAssessment,
    /// The reason has no text.
    #[error("the model's reply gives no rationale")]
    NoRationale,
}

impl Reply {
    /// Reads a reply.
    ///
    /// # Errors
    /// Anything but exactly one assessment.
    pub fn parse(text: &str) -> Result<Self, InvalidReply> {
        if text.trim().is_empty() {
            return Err(InvalidReply::Empty);
        }
        let value: serde_json::Value =
            parse_strict(text.as_bytes()).map_err(|_| InvalidReply::NotJson)?;
        if !value.is_object() {
            return Err(InvalidReply::NotAnAssessment);
        }
        let assessment: Assessment =
            serde_json::from_value(value).map_err(|_| InvalidReply::NotAnAssessment)?;
        if assessment.rationale.as_str().trim().is_empty() {
            return Err(InvalidReply::NoRationale);
        }
        Ok(Self(assessment))
    }
}

impl InvalidReply {
    /// The stable name.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Empty => "empty_reply",
            Self::NotJson => "not_json",
            Self::NotAnAssessment => "not_an_assessment",
            Self::NoRationale => "no_rationale",
        }
    }
}

/// The JSON schema of a reply, for providers that hold a model to one.
pub(crate) fn schema() -> serde_json::Value {
    serde_json::json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["risk_level", "user_authorization", "outcome", "rationale"],
        "properties": {
            "risk_level": { "type": "string", "enum": ["low", "medium", "high", "critical"] },
            "user_authorization": { "type": "string", "enum": ["unknown", "low", "medium", "high"] },
            "outcome": { "type": "string", "enum": ["allow", "deny"] },
            "rationale": { "type": "string" },
        },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use protocol::{Assessment, Outcome, RiskLevel, UserAuthorization};

    use super::{InvalidReply, Reply};

    const GOOD: &str =
        r#"{"risk_level":"low","user_authorization":"high","outcome":"allow","rationale":"fine"}"#;

    #[test]
    fn one_object_with_the_four_fields_is_read() {
        let read = Reply::parse(&format!("\n {GOOD} \n"));
        assert_eq!(
            read,
            Ok(Reply(Assessment {
                risk_level: RiskLevel::Low,
                user_authorization: UserAuthorization::High,
                outcome: Outcome::Allow,
                rationale: "fine".into(),
            }))
        );
    }

    #[test]
    fn a_reply_that_is_anything_else_is_not_an_assessment() {
        let not_json = [
            "allow".to_owned(),
            format!("Sure: {GOOD}"),
            format!("{GOOD}{GOOD}"),
            format!("{GOOD}\nDone."),
            format!("```json\n{GOOD}\n```"),
            GOOD.replace(
                "\"risk_level\":\"low\"",
                "\"risk_level\":\"low\",\"risk_level\":\"low\"",
            ),
            GOOD.get(..40).expect("a part").to_owned(),
        ];
        for text in not_json {
            assert_eq!(Reply::parse(&text), Err(InvalidReply::NotJson), "{text}");
        }
        let other = [
            r#"{"outcome":"allow"}"#.to_owned(),
            format!("[{GOOD}]"),
            "null".to_owned(),
            GOOD.replace("allow", "approve"),
            GOOD.replace("\"low\"", "\"none\""),
            GOOD.replace("\"low\"", "\"Low\""),
            GOOD.replace("\"fine\"", "null"),
            GOOD.replace("{\"risk", "{\"extra\":1,\"risk"),
            serde_json::to_string(GOOD).expect("a string"),
        ];
        for text in other {
            assert_eq!(
                Reply::parse(&text),
                Err(InvalidReply::NotAnAssessment),
                "{text}"
            );
        }
        assert_eq!(Reply::parse(" \n"), Err(InvalidReply::Empty));
        assert_eq!(
            Reply::parse(&GOOD.replace("fine", " ")),
            Err(InvalidReply::NoRationale)
        );
    }

    /// The next of a row of numbers by chance (xorshift, Marsaglia 2003), the same in every run.
    fn next(state: &mut u64) -> usize {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        usize::try_from(*state >> 33).unwrap_or(0)
    }

    fn mutated(seed: &[u8], state: &mut u64) -> Vec<u8> {
        const PIECES: &[&str] = &[
            "\"outcome\":\"allow\"",
            "\"outcome\":",
            "allow",
            "deny",
            "{",
            "}",
            ",",
            "\"",
            "\\",
            "\\u0061llow",
            "null",
            "\u{feff}",
            "\0",
            "[",
            "]",
            "\n",
            "```",
            "//",
            "\u{202e}",
            "\"risk_level\":\"low\"",
            "true",
            "1e9",
        ];
        let mut bytes = seed.to_vec();
        for _ in 0..=next(state) % 4 {
            let at = next(state) % (bytes.len() + 1);
            match next(state) % 4 {
                0 => bytes.truncate(at),
                1 if at < bytes.len() => bytes[at] = u8::try_from(next(state) % 256).unwrap_or(0),
                2 if at < bytes.len() => {
                    bytes.remove(at);
                }
                _ => {
                    let piece = PIECES[next(state) % PIECES.len()].as_bytes();
                    bytes.splice(at..at, piece.iter().copied());
                }
            }
        }
        bytes
    }

    #[test]
    fn of_a_hundred_thousand_broken_replies_only_whole_ones_parse_and_a_denial_never_to_allow() {
        let deny = GOOD.replace("allow", "deny");
        let mut state = 0x5eed_cafe_f00d_u64;
        for round in 0..100_000 {
            let seed = if round % 2 == 0 { GOOD } else { &deny };
            let bytes = mutated(seed.as_bytes(), &mut state);
            let text = String::from_utf8_lossy(&bytes);
            let Ok(Reply(read)) = Reply::parse(&text) else {
                continue;
            };
            // What parses is one object with the four fields, each once, and says what was read.
            let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            let fields = value.as_object().expect("an object");
            assert_eq!(fields.len(), 4, "{text}");
            assert_eq!(fields["outcome"], serde_json::json!(read.outcome), "{text}");
            assert_eq!(text.matches("\"outcome\"").count(), 1, "{text}");
            if round % 2 == 1 {
                assert_eq!(read.outcome, Outcome::Deny, "{text}");
            }
        }
    }

    proptest! {
        #[test]
        fn text_around_a_reply_never_parses(before in "[^ \t\r\n]{1,8}", after in "[^ \t\r\n]{1,8}") {
            let (after_only, before_only) = (format!("{GOOD}{after}"), format!("{before}{GOOD}"));
            prop_assert!(Reply::parse(&after_only).is_err());
            prop_assert!(Reply::parse(&before_only).is_err());
        }
    }
}
