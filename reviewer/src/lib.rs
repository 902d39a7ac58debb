//! The judgement: from one escalation to one decision, whatever fails on the way.
//!
//! Everything here is pure but the model's HTTP call and the reading of two files when a [`Reviewer`] is made. The rules
//! that everything leans on: there is no error path to "yes" (P2); a model proposes and
//! [`protocol::Decision::from_assessment`] disposes (P3); a failure is never a denial (P5); no byte of evidence leaves
//! its place in the prompt (P6).
#![forbid(unsafe_code)]

mod appeal;
mod attempts;
mod authorization;
mod breaker;
mod budget;
mod builtin;
mod cassette;
mod error;
mod exhibit;
mod model;
mod pause;
mod policy;
mod prompt;
mod reply;
mod reviewer;
mod settings;
mod team;

pub use appeal::{NotLifted, PersonsLeave, Retry, Use};
pub use authorization::AuthorizationVersion;
pub use breaker::{BreakerLimits, CircuitBreaker, Span, Tripped};
pub use builtin::{BuiltIn, RULES, Rule, Verdict};
pub use cassette::{Cassette, CassetteError};
pub use exhibit::{Attempt, BuiltInExhibit, Exhibit, Tokens};
pub use model::in_trace;
pub use policy::{InvalidPolicy, Policy, PolicyRevision, SHIPPED_SECTION, SectionMode};
pub use prompt::{Conversation, Prompt, PromptError};
pub use reply::{InvalidReply, Reply};
pub use reviewer::{Probe, Reviewed, Reviewer};
pub use settings::{
    BreakerTable, BudgetTable, FileFault, InvalidSettings, ModelTable, OutputForm, PolicyTable,
    PromptTable, Provider, ReviewerSettings, ReviewerTable, SettingsFault,
};
pub use team::InvalidRule;
