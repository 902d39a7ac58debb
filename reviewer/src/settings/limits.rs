//! The tables that set how much: ceilings of an hour, the breaker of a turn, what a prompt may hold, hedges.
//!
//! Apart from who judges and by what. Invariant: each number has a range, and a default that needs no table.

use std::time::Duration;

use serde::Deserialize;

use super::SettingsFault;
use super::read::check_range;
use crate::breaker::BreakerLimits;
use crate::prompt::PromptBudget;

/// `[reviewer.budget]`: ceilings of one hour. None where not set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetTable {
    /// Calls.
    #[serde(default)]
    pub requests_per_hour: Option<u64>,
    /// Tokens, of prompts and replies together.
    #[serde(default)]
    pub tokens_per_hour: Option<u64>,
    /// Cost in hundredths of the currency of the prices; holds for models that have prices.
    #[serde(default)]
    pub cost_cents_per_hour: Option<u64>,
}

/// `[reviewer.breaker]`: from how much on a turn is stopped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakerTable {
    /// Denials in a row, 1 to 50. 3 where not set.
    #[serde(default)]
    pub denials_in_a_row: Option<u32>,
    /// Denials among the last 50 that were decided, 1 to 50. 10 where not set.
    #[serde(default)]
    pub denials_among_last_50: Option<u32>,
    /// Reviews of one turn, 1 to 100,000. 200 where not set.
    #[serde(default)]
    pub reviews_per_turn: Option<u32>,
}

/// `[reviewer.prompt]`: how much of a transcript and of the facts a prompt holds, in tokens of four bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptTable {
    /// All that people and the agent said. 20,000 where not set.
    #[serde(default)]
    pub message_tokens: Option<usize>,
    /// One thing that was said. 5,000 where not set.
    #[serde(default)]
    pub message_entry_tokens: Option<usize>,
    /// All tool calls and results. 10,000 where not set.
    #[serde(default)]
    pub tool_tokens: Option<usize>,
    /// One tool call or result. 1,000 where not set.
    #[serde(default)]
    pub tool_entry_tokens: Option<usize>,
    /// How many entries that are not a user's are shown. 40 where not set.
    #[serde(default)]
    pub other_entries: Option<usize>,
    /// The action, which is shown whole or not approved. 16,000 where not set.
    #[serde(default)]
    pub action_tokens: Option<usize>,
    /// The runner's evidence, whole or not approved. 16,000 where not set.
    #[serde(default)]
    pub evidence_tokens: Option<usize>,
}

/// The most that a number of `[reviewer.prompt]` may be.
const MOST_TOKENS: usize = 200_000;
/// The shortest and longest pause before a hedge, in milliseconds.
const LEAST_HEDGE_MS: u64 = 100;
const MOST_HEDGE_MS: u64 = 60_000;

impl BreakerTable {
    pub(super) fn read(self, faults: &mut Vec<SettingsFault>) -> BreakerLimits {
        let standard = BreakerLimits::default();
        let mut number = |key, value: Option<u32>, standard: u32, most: u64| {
            let value = value.unwrap_or(standard);
            check_range(key, u64::from(value), most, faults);
            value
        };
        BreakerLimits {
            denials_in_a_row: number(
                "reviewer.breaker.denials_in_a_row",
                self.denials_in_a_row,
                standard.denials_in_a_row,
                50,
            ),
            denials_among_last_50: number(
                "reviewer.breaker.denials_among_last_50",
                self.denials_among_last_50,
                standard.denials_among_last_50,
                50,
            ),
            reviews_per_turn: number(
                "reviewer.breaker.reviews_per_turn",
                self.reviews_per_turn,
                standard.reviews_per_turn,
                100_000,
            ),
        }
    }
}

impl PromptTable {
    pub(super) fn read(self, faults: &mut Vec<SettingsFault>) -> PromptBudget {
        let standard = PromptBudget::default();
        let mut number = |key, value: Option<usize>, standard: usize| {
            let value = value.unwrap_or(standard);
            check_range(key, value as u64, MOST_TOKENS as u64, faults);
            value
        };
        PromptBudget {
            message_total: number(
                "reviewer.prompt.message_tokens",
                self.message_tokens,
                standard.message_total,
            ),
            message_each: number(
                "reviewer.prompt.message_entry_tokens",
                self.message_entry_tokens,
                standard.message_each,
            ),
            tool_total: number(
                "reviewer.prompt.tool_tokens",
                self.tool_tokens,
                standard.tool_total,
            ),
            tool_each: number(
                "reviewer.prompt.tool_entry_tokens",
                self.tool_entry_tokens,
                standard.tool_each,
            ),
            others: number(
                "reviewer.prompt.other_entries",
                self.other_entries,
                standard.others,
            ),
            action: number(
                "reviewer.prompt.action_tokens",
                self.action_tokens,
                standard.action,
            ),
            evidence: number(
                "reviewer.prompt.evidence_tokens",
                self.evidence_tokens,
                standard.evidence,
            ),
        }
    }
}

/// `reviewer.hedge_after_ms`, as a pause; off where not set.
pub(super) fn read_hedge(millis: Option<u64>, faults: &mut Vec<SettingsFault>) -> Option<Duration> {
    let millis = millis?;
    if !(LEAST_HEDGE_MS..=MOST_HEDGE_MS).contains(&millis) {
        faults.push(SettingsFault::Range {
            key: "reviewer.hedge_after_ms",
            value: millis,
            least: LEAST_HEDGE_MS,
            most: MOST_HEDGE_MS,
        });
    }
    Some(Duration::from_millis(millis))
}
