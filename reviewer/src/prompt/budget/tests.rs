use proptest::prelude::*;
use protocol::{Author, Entry, Transcript, Trust};

use super::{PromptBudget, is_tools, select, shorten, tokens};

fn entry(n: u64, author: Author, text: String) -> Entry {
    Entry {
        n,
        author,
        trust: Trust::Untrusted,
        name: None,
        text,
    }
}

fn transcript(entries: Vec<Entry>) -> Transcript {
    Transcript {
        complete: true,
        omitted: 0,
        entries,
    }
}

#[test]
fn a_short_transcript_is_kept_whole_and_in_order() {
    let whole = transcript(vec![
        entry(1, Author::User, "a".to_owned()),
        entry(2, Author::ToolOutput, "b".to_owned()),
        entry(3, Author::Assistant, "c".to_owned()),
    ]);
    let chosen = select(&whole.entries, &PromptBudget::default());
    let kept: Vec<u64> = chosen.kept.iter().map(|kept| kept.entry.n).collect();
    assert_eq!(
        (kept, chosen.omitted_users, chosen.omitted_others),
        (vec![1, 2, 3], 0, 0)
    );
    assert!(chosen.kept.iter().all(|kept| kept.cut_bytes.is_none()));
}

#[test]
fn tools_cannot_crowd_out_people() {
    let mut entries = vec![entry(1, Author::User, "the task".to_owned())];
    entries.extend((2..200).map(|n| entry(n, Author::ToolOutput, "x".repeat(20_000))));
    entries.push(entry(200, Author::Assistant, "done".to_owned()));
    let whole = transcript(entries);
    let chosen = select(&whole.entries, &PromptBudget::default());
    let kept: Vec<u64> = chosen.kept.iter().map(|kept| kept.entry.n).collect();
    assert_eq!(kept.first(), Some(&1));
    assert_eq!(kept.last(), Some(&200));
    assert_eq!(chosen.omitted_others + kept.len() as u64, 200);
    assert_eq!(
        kept.len(),
        12,
        "the user's, the agent's and ten of a thousand tokens each"
    );
}

#[test]
fn users_are_shortened_before_any_is_left_out_and_then_counted() {
    let long = transcript(
        (1..=40)
            .map(|n| entry(n, Author::User, "y".repeat(8_000)))
            .collect(),
    );
    let chosen = select(&long.entries, &PromptBudget::default());
    assert_eq!((chosen.kept.len(), chosen.omitted_users), (40, 0));
    assert!(chosen.kept.iter().all(|kept| kept.cut_bytes.is_some()));
    let endless = transcript(
        (1..=1_000)
            .map(|n| entry(n, Author::User, "z".repeat(4_000)))
            .collect(),
    );
    let chosen = select(&endless.entries, &PromptBudget::default());
    assert_eq!(chosen.kept.len() as u64 + chosen.omitted_users, 1_000);
    assert_eq!(
        chosen.kept.first().map(|kept| kept.entry.n),
        Some(1),
        "the first says what the task is"
    );
    assert_eq!(chosen.kept.last().map(|kept| kept.entry.n), Some(1_000));
}

#[test]
fn a_cut_keeps_head_and_tail_and_counts_what_is_gone() {
    let (text, cut) = shorten(&format!("HEAD{}TAIL", "é".repeat(5_000)), 100);
    assert!(
        text.starts_with("HEAD") && text.ends_with("TAIL") && text.contains("…[cut]…"),
        "{text}"
    );
    assert!(tokens(&text) <= 100);
    assert_eq!(cut, Some(8 + 10_000 - (text.len() - "…[cut]…".len())));
}

fn any_entry() -> impl Strategy<Value = (Author, usize)> {
    let author = prop_oneof![
        Just(Author::User),
        Just(Author::Developer),
        Just(Author::Assistant),
        Just(Author::ToolCall),
        Just(Author::ToolOutput)
    ];
    (author, 0_usize..60_000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn the_budgets_hold_and_every_entry_is_kept_or_counted(entries in proptest::collection::vec(any_entry(), 0..120)) {
        let whole = transcript(entries.iter().zip(1..).map(|((author, length), n)| entry(n, *author, "w".repeat(*length))).collect());
        let chosen = select(&whole.entries, &PromptBudget::default());
        let spent = |tools: bool| chosen.kept.iter().filter(|kept| is_tools(kept.entry) == tools).map(|kept| tokens(&kept.text)).sum::<usize>();
        prop_assert!(spent(true) <= PromptBudget::default().tool_total);
        prop_assert!(spent(false) <= PromptBudget::default().message_total);
        prop_assert!(chosen.kept.iter().filter(|kept| !kept.is_users()).count() <= PromptBudget::default().others);
        prop_assert_eq!(chosen.kept.len() as u64 + chosen.omitted_users + chosen.omitted_others, entries.len() as u64);
    }
}
