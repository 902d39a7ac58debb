//! Where policies come from, and who judges alongside: `[policy]`, `[tenants]` and `[shadow]`.

use std::num::NonZeroU32;

use reviewer::{ReviewerSettings, ReviewerTable};
use serde::Deserialize;

use super::{Config, Reading};
use crate::policies::PolicySources;

/// How many judgements alongside are under way at once where nothing else is set: few, because nobody waits for them.
const AT_ONCE: NonZeroU32 = match NonZeroU32::new(4) {
    Some(four) => four,
    None => NonZeroU32::MIN,
};
/// The most that may be set: each holds a submission.
const MOST_AT_ONCE: u32 = 256;

/// `[shadow]`, valid.
#[derive(Debug, Clone)]
pub(crate) struct ShadowSettings {
    /// How many judge alongside at once; what comes on top is left out, and counted.
    pub(crate) at_once: NonZeroU32,
    /// Who judges alongside, where it is not who judges: with models and a budget of its own.
    pub(crate) reviewer: Option<ReviewerTable>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ShadowTable {
    at_once: Option<NonZeroU32>,
    reviewer: Option<ReviewerTable>,
}

impl Reading<'_> {
    pub(super) fn shadow(&mut self) -> ShadowSettings {
        let table: ShadowTable = self.take("shadow").unwrap_or_default();
        let at_once = table.at_once.unwrap_or(AT_ONCE);
        if at_once.get() > MOST_AT_ONCE {
            self.fault(Some("shadow.at_once"), "must be from 1 to 256");
        }
        ShadowSettings {
            at_once,
            reviewer: table
                .reviewer
                .map(|it| it.with_paths(&|path| self.beside(path))),
        }
    }
}

impl Config {
    /// What the settings say of policies.
    pub(crate) fn policy_sources(&self) -> PolicySources {
        PolicySources {
            everybody: ReviewerSettings::clone(&self.reviewer),
            tenants: self.tenants.clone(),
            shadow: self.shadow.reviewer.clone(),
        }
    }
}
