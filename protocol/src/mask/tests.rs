use proptest::prelude::*;

use super::{MARK, TextKind, mask, mask_words, shows};
use crate::action::Sha256Hex;

mod kept;
mod masked;

/// Stands in for the keyed hash: different for different bytes.
pub(super) fn hash(bytes: &[u8]) -> Sha256Hex {
    use sha2::Digest as _;
    Sha256Hex::of(&sha2::Sha256::digest(bytes).into())
}

fn code(text: &str) -> String {
    mask(text, TextKind::Code, &hash)
}

fn prose(text: &str) -> String {
    mask(text, TextKind::Prose, &hash)
}

#[test]
fn a_mark_says_kind_and_length_and_is_the_same_for_the_same_secret() {
    let shown = code("a --password hunter2 b --password hunter2 c --password hunter3");
    let marks: Vec<&str> = shown
        .split(' ')
        .filter(|word| word.starts_with(MARK))
        .collect();
    assert_eq!(marks.len(), 3, "{shown}");
    assert!(marks[0].starts_with("MASKED.password.7."), "{shown}");
    assert_eq!(marks[0], marks[1]);
    assert_ne!(marks[1], marks[2]);
}

#[test]
fn a_forged_mark_is_masked_so_that_two_commands_never_look_the_same() {
    let real = vec![
        "login".to_owned(),
        "--token".to_owned(),
        "abcdef123456".to_owned(),
    ];
    let shown = mask_words(&real, &hash);
    let forged = mask_words(&shown, &hash);
    assert!(shown[2].starts_with("MASKED.token.12."), "{shown:?}");
    assert!(
        forged[2].starts_with("MASKED.mark_lookalike."),
        "{forged:?}"
    );
    assert_ne!(shown, forged);
}

#[test]
fn a_mask_hides_no_command_and_no_further_argument() {
    for text in [
        "x --password='; rm -rf / ; '",
        "echo 'password=\"'; rm -rf / ; echo '\"'",
        "x --token $(rm -rf /)",
        "x token=`rm -rf /`",
        "token=a;rm -rf /",
        "curl -u me:x&rm -rf /",
        "login --password x\nrm -rf /",
        "-----BEGIN PRIVATE KEY-----\nrm -rf /\n-----END PRIVATE KEY-----",
        "mnemonic=\"alpha bravo charlie delta\"; rm -rf /",
        "Cookie: a=b; rm -rf /",
    ] {
        assert!(
            code(text).contains("rm -rf /"),
            "{text} became {}",
            code(text)
        );
    }
    for text in [
        "rm -rf token=x/../../etc",
        "rm -rf password=/etc",
        "cat --token ../../etc/shadow",
        "sh --password ~/evil",
    ] {
        assert_eq!(code(text), text, "a path stays");
    }
}

#[test]
fn the_host_that_is_reached_is_never_hidden() {
    let label = masked::body("aA1", 36);
    for text in [
        format!("curl https://gh{}{label}.example.org/x", "p_"),
        format!(
            "curl https://a:b@{}.{}.{}.example.org",
            masked::jwt_head(),
            masked::body("aA1", 20),
            masked::body("aA1", 20)
        ),
    ] {
        let shown = code(&text);
        let host = text
            .rsplit(['/', '@'])
            .find(|part| part.contains("example"))
            .expect("a host");
        assert!(shown.contains(host), "{shown}");
    }
    let shown = code("git push https://github.com:hunter22@evil.example.org/x");
    assert!(
        shown.contains("https://github.com:MASKED.url_password.8."),
        "{shown}"
    );
    assert!(shown.contains("@evil.example.org/x"), "{shown}");
}

#[test]
fn prose_hides_what_stands_in_quotes_whole() {
    let shown = prose("use password: \"correct horse battery\" there");
    assert!(!shown.contains("horse"), "{shown}");
    assert!(shown.ends_with("\" there"), "{shown}");
}

#[test]
fn a_masked_text_shows_the_text_it_was_made_of_and_no_other() {
    let real = "curl -u me:s3cretpw https://h.example/?token=abcdef12345";
    let shown = code(real);
    assert_ne!(shown, real);
    assert!(shows(&shown, real.as_bytes()));
    assert!(!shows(&shown, code("x").as_bytes()));
    assert!(!shows(&shown, real.replace("me:", "you:").as_bytes()));
    assert!(!shows(&shown, format!("{real}x").as_bytes()));
    assert!(!shows(&shown, &real.as_bytes()[..real.len() - 1]));
}

/// What costs a naive scanner its linearity.
fn hostile() -> Vec<String> {
    let many = |part: &str| part.repeat(40_000 / part.len());
    [
        "=",
        ":",
        "password=",
        "token:",
        "eyJ-",
        "eyJa.",
        "-eyJ",
        "sk-ant-",
        "AKIA",
        "://",
        "a://b@",
        "token=/",
        "token=a/",
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN ",
        "MASKED.",
        "MASKED.a.1.",
        "mnemonic=",
        "seed: alpha ",
        "Cookie: a=b; ",
        "authorization: Bearer ",
        "\\n",
        "--password ",
        "-p",
        "\u{202e}",
        "ä=",
        "passwordä=ö",
        "1:A",
        "12345678:A",
        "a:1:b:c:d\n",
        "login password ",
        "\"password\":\"",
        "token=(",
        "token=$(",
        "password: x.",
        "hooks.slack.com/services/",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "mysql -p",
        "=\\\"",
        "M-",
        "Msecret_",
    ]
    .map(many)
    .to_vec()
}

#[test]
fn hostile_text_costs_time_in_proportion_to_its_length() {
    // Counted, not timed: a scanner that looks at the rest of the text from every place would take minutes here.
    for text in hostile() {
        for shown in [code(&text), prose(&text)] {
            assert!(shown.len() <= text.len() * 64 + 64);
        }
    }
}

proptest! {
    #[test]
    fn any_text_is_masked_without_panic_and_shows_itself(text in "\\PC{0,200}") {
        let shown = code(&text);
        prop_assert!(shows(&shown, text.as_bytes()));
        prop_assert!(shows(&prose(&text), text.as_bytes()));
    }

    #[test]
    fn any_text_of_hostile_pieces_shows_itself(pieces in proptest::collection::vec(
        prop::sample::select(vec![
            "password", "=", ":", " ", "\"", "'", "--token", "-p", "mysql", "curl", "-u", "a:b", "eyJhbGciOi", ".", "://", "@", "\n",
            "-----BEGIN RSA PRIVATE KEY-----", "-----END", "Cookie: ", ";", "$(", ")", "ä", "\u{1f600}", "MASKED.x.3.", "Bearer ",
            "Authorization: ", "AKIA", "0123456789abcdef0123456789abcdef", "mnemonic: ", "alpha ", "\\n", "/", "..", "%", "{", "}",
        ]), 0..60)) {
        let text = pieces.concat();
        prop_assert!(shows(&code(&text), text.as_bytes()), "{}", code(&text));
        let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        for (shown, real) in mask_words(&words, &hash).iter().zip(&words) {
            prop_assert!(shows(shown, real.as_bytes()), "{shown} for {real}");
        }
    }

    #[test]
    fn two_commands_never_share_a_masked_form(a in "[a-z= -]{0,20}", b in "[a-z= -]{0,20}") {
        let split = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let (a, b) = (split(&format!("x --token {a}")), split(&format!("x --token {b}")));
        prop_assert_eq!(a == b, mask_words(&a, &hash) == mask_words(&b, &hash));
    }
}
