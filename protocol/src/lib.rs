//! The words of Auto-review: the types that runner, reviewer and server share, and the pure rules that bind them.
//!
//! Nothing here does I/O, reads a clock or starts a task. A type enters only when two crates need it.
//! The rule that everything else leans on: an action crosses the sandbox's boundary only by a
//! [`PermittedAction`], and what makes one is written down in [`decision`](PermittedAction).
#![forbid(unsafe_code)]

mod action;
mod api;
mod assessment;
mod audit;
mod canonical;
mod decision;
mod escalation;
mod leave;
mod mask;
mod network;
mod permit;
mod policy;
mod printable;
mod review;
mod signing;
mod strict_json;
mod tenant;
mod transcript;
mod webhook;

pub use action::{
    AbsolutePath, Action, ActionDigest, AdditionalPermissions, CommandAction, ContentIdentity,
    EnvEntry, EnvValue, FileChange, FileIdentity, InvalidAction, InvalidDigest,
    MAX_JUSTIFICATION_BYTES, NetworkAccess, NetworkProtocol, PermissionRequest, PermissionScope,
    SandboxPermissions, Sha256Hex, ToolCall,
};
pub use api::{
    Answer, ClientDescription, CreateToken, CreatedToken, EnvironmentDescription, HistoryEntry,
    HostScope, PersonsAnswer, Problem, ReceiptScope, RedeemAnswer, RedeemRequest, ReviewPage,
    ReviewResource, SessionReference, SessionResource, SubmitReview, TokenList, TokenResource,
    TurnResource,
};
pub use assessment::{Assessment, Outcome, Rationale, RiskLevel, UserAuthorization};
pub use audit::{
    ApproverAnswer, GiveLeave, LeaveResource, LetGo, ModelCost, ReviewDetail, RunReport, Stats,
    StreamedEvent, TimelineEntry, VerifyAnswer, WaitingReviews, WithCount, WithdrawLeave,
    WithdrawnLeave,
};
pub use canonical::Canonical;
pub use decision::{
    Bounds, DecidedBy, Decision, Denial, FailedStep, Judge, Judgement, ReviewFailure, RuleId,
};
pub use escalation::{Escalation, EscalationId, Evidence, InvalidEscalation, Trigger, TriggerKind};
pub use leave::{
    KeptHost, KeptLeave, LeaveEnded, LeavePlace, NoLeave, StandingHost, StandingLeave,
};
pub use mask::{TextKind, mask, mask_words, shows};
pub use network::{
    InvalidNetworkReport, MAX_NETWORK_DECISIONS, MAX_NETWORK_REPORT, NetworkDecision,
    NetworkReports, RecordedNetwork, ReportNetwork,
};
pub use permit::{FullAccessByName, Grant, GrantMismatch, PermitSource, PermittedAction};
pub use policy::{
    ChangePolicy, KeepPolicy, PolicyBody, PolicyChange, PolicyList, PolicyMode, PolicyResource,
    PolicyStep, PolicyText, ShadowStats,
};
pub use printable::{Printable, shown_command};
pub use review::{InvalidReviewId, ReviewEvent, ReviewId, ReviewStatus};
pub use signing::{
    Expected, ForgedAnswer, InvalidServerKey, Nonce, Receipt, ServerKey, Statement, StatementKind,
};
pub use strict_json::{InvalidJson, parse_strict};
pub use tenant::{CallerId, InvalidTenantId, TenantId};
pub use transcript::{Author, Entry, Transcript, Trust};
pub use webhook::{
    CreateWebhook, CreatedWebhook, DeliveryList, DeliveryResource, WebhookEvent, WebhookList,
    WebhookMessage, WebhookResource,
};
