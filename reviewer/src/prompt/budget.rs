//! What of a transcript is shown when it is too long.
//!
//! Apart, because what is left out can change a verdict. Invariant: what a user or the harness said is never left out
//! before everything else is, and never in silence: a cut is counted on the entry, an omission in its section.

use protocol::{Author, Entry};
use serde::Serialize;

use super::{BYTES_PER_TOKEN, tokens};

/// How much a prompt holds, in tokens of four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PromptBudget {
    /// All that people and the agent said.
    pub(crate) message_total: usize,
    /// One thing that was said.
    pub(crate) message_each: usize,
    /// All tool calls and results.
    pub(crate) tool_total: usize,
    /// One tool call or result.
    pub(crate) tool_each: usize,
    /// How many entries that are not a user's are shown.
    pub(crate) others: usize,
    /// The action. What is larger cannot be shown whole and is not approved.
    pub(crate) action: usize,
    /// The runner's evidence, all of it.
    pub(crate) evidence: usize,
}

impl Default for PromptBudget {
    fn default() -> Self {
        Self {
            message_total: 20_000,
            message_each: 5_000,
            tool_total: 10_000,
            tool_each: 1_000,
            others: 40,
            action: 16_000,
            evidence: 16_000,
        }
    }
}

/// The shortest that a user's entry is cut to, in tokens, before entries are left out.
const USER_LEAST: usize = 100;

/// What is shown of a transcript.
#[derive(Debug)]
pub(super) struct Selection<'t> {
    /// The entries, in their order.
    pub(super) kept: Vec<Kept<'t>>,
    /// How many of the users' own are not among them.
    pub(super) omitted_users: u64,
    /// How many others are not.
    pub(super) omitted_others: u64,
}

/// One entry and how much of it is shown.
#[derive(Debug)]
pub(super) struct Kept<'t> {
    pub(super) entry: &'t Entry,
    text: String,
    cut_bytes: Option<usize>,
}

#[derive(Serialize)]
pub(super) struct Shown<'k> {
    n: u64,
    author: Author,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'k str>,
    text: &'k str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cut_bytes: Option<usize>,
}

impl<'t> Kept<'t> {
    fn new(entry: &'t Entry, most: usize) -> Self {
        let (text, cut_bytes) = shorten(&entry.text, most);
        Self {
            entry,
            text,
            cut_bytes,
        }
    }

    /// Whether it is a user's or the harness's.
    pub(super) fn is_users(&self) -> bool {
        is_users(self.entry)
    }

    pub(super) fn shown(&self) -> Shown<'_> {
        Shown {
            n: self.entry.n,
            author: self.entry.author,
            name: self.entry.name.as_deref(),
            text: &self.text,
            cut_bytes: self.cut_bytes,
        }
    }
}

fn is_users(entry: &Entry) -> bool {
    matches!(entry.author, Author::User | Author::Developer)
}

fn is_tools(entry: &Entry) -> bool {
    matches!(entry.author, Author::ToolCall | Author::ToolOutput)
}

/// Chooses: every user's entry, then the newest of the rest that fit their own budgets.
pub(super) fn select<'t>(entries: &'t [Entry], budget: &PromptBudget) -> Selection<'t> {
    let users: Vec<(usize, &Entry)> = numbered(entries)
        .filter(|(_, entry)| is_users(entry))
        .collect();
    let (mut kept, omitted_users) = keep_users(&users, budget);
    let mut messages = budget
        .message_total
        .saturating_sub(kept.iter().map(|(_, kept)| tokens(&kept.text)).sum());
    let mut tools = budget.tool_total;
    let mut others = 0;
    let mut omitted_others = 0;
    for (at, entry) in numbered(entries)
        .rev()
        .filter(|(_, entry)| !is_users(entry))
    {
        let (left, each) = if is_tools(entry) {
            (&mut tools, budget.tool_each)
        } else {
            (&mut messages, budget.message_each)
        };
        let shown = Kept::new(entry, each);
        // One that does not fit is passed over; an older, shorter one still may.
        match left.checked_sub(tokens(&shown.text)) {
            Some(rest) if others < budget.others => {
                *left = rest;
                others += 1;
                kept.push((at, shown));
            }
            _ => omitted_others += 1,
        }
    }
    kept.sort_by_key(|(at, _)| *at);
    Selection {
        kept: kept.into_iter().map(|(_, kept)| kept).collect(),
        omitted_users,
        omitted_others,
    }
}

fn numbered(entries: &[Entry]) -> impl DoubleEndedIterator<Item = (usize, &Entry)> {
    entries.iter().enumerate()
}

/// Users' entries are shortened together before any is left out; then the first and the newest stay.
fn keep_users<'t>(
    users: &[(usize, &'t Entry)],
    budget: &PromptBudget,
) -> (Vec<(usize, Kept<'t>)>, u64) {
    let mut each = budget.message_each;
    let total = |each: usize| -> usize {
        users
            .iter()
            .map(|(_, entry)| tokens(&entry.text).min(each))
            .sum()
    };
    while total(each) > budget.message_total && each > USER_LEAST {
        each = (each / 2).max(USER_LEAST);
    }
    let mut left = budget.message_total;
    let mut kept = Vec::new();
    let mut omitted = 0;
    // The first says what the task is, the newest what it has become.
    let order = users.iter().take(1).chain(users.iter().skip(1).rev());
    for (at, entry) in order {
        let shown = Kept::new(entry, each);
        match left.checked_sub(tokens(&shown.text)) {
            Some(rest) => {
                left = rest;
                kept.push((*at, shown));
            }
            None => omitted += 1,
        }
    }
    (kept, omitted)
}

/// Head and tail of a text of at most `most` tokens, and how many bytes are gone between them.
pub(super) fn shorten(text: &str, most: usize) -> (String, Option<usize>) {
    if tokens(text) <= most {
        return (text.to_owned(), None);
    }
    let mark = "…[cut]…";
    let half = (most * BYTES_PER_TOKEN).saturating_sub(mark.len()) / 2;
    let head = text
        .get(..text.floor_char_boundary(half))
        .unwrap_or_default();
    let from = text.ceil_char_boundary(text.len().saturating_sub(half));
    let tail = text.get(from..).unwrap_or_default();
    let cut = text.len() - head.len() - tail.len();
    (format!("{head}{mark}{tail}"), Some(cut))
}

#[cfg(test)]
mod tests;
