//! The `[reviewer]` and `[policy]` tables, as both programs embed them in their own files, and their reading.
//!
//! Apart, because this is the door: inside, only valid values. Invariant: a key is held as a secret, comes from the
//! environment or from a file of its owner's alone, and is never shown.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderMap;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::breaker::BreakerLimits;
use crate::budget::Ceilings;
use crate::policy::{InvalidPolicy, Policy, SectionMode};
use crate::prompt::PromptBudget;
use crate::team::{InvalidRule, TeamRules};

mod limits;
mod read;

pub use self::limits::{BreakerTable, BudgetTable, PromptTable};

use self::read::{check_range, read_model, read_policy};

/// How long a review may take where nothing else is set: long enough for a model that reasons, short enough for a person
/// who waits.
const DEFAULT_DEADLINE_SECS: u64 = 90;
/// The longest limit that may be set.
const MAX_DEADLINE_SECS: u64 = 3_600;
/// How long a connection may take to open where nothing else is set.
const DEFAULT_CONNECT_SECS: u64 = 10;
/// The largest key or policy file that is read.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// Both tables. Unknown keys are errors.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReviewerSettings {
    /// Who judges.
    #[serde(default)]
    pub reviewer: ReviewerTable,
    /// By which policy.
    #[serde(default)]
    pub policy: PolicyTable,
}

/// `[reviewer]`: who judges.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReviewerTable {
    /// How long one review may take in all, in seconds: 1 to 3,600. 90 where not set.
    #[serde(default)]
    pub deadline_secs: Option<u64>,
    /// Whether the built-in reviewer may allow by itself. Where not set: under the shipped policy section only, so that
    /// a team's own prose is never bypassed. What it denies and its floors always hold.
    #[serde(default)]
    pub built_in_allow: Option<bool>,
    /// The models. The first is asked; a later one only where those before it cannot be had.
    #[serde(default)]
    pub model: Vec<ModelTable>,
    /// How much the models may be asked in an hour, all reviews of the process together.
    #[serde(default)]
    pub budget: BudgetTable,
    /// From how much on a turn is stopped.
    #[serde(default)]
    pub breaker: BreakerTable,
    /// How much a prompt holds.
    #[serde(default)]
    pub prompt: PromptTable,
    /// Whether each model is asked one small question when the server starts. Yes where not set.
    #[serde(default)]
    pub probe: Option<bool>,
    /// After how many milliseconds without an answer the same question is also put to the same model a second time, 100
    /// to 60,000; the first answer counts. Off where not set, and never more than one call in twenty.
    #[serde(default)]
    pub hedge_after_ms: Option<u64>,
}

impl ReviewerTable {
    /// The table with its paths as `whole` makes them: what they are relative to is for who read the file to say.
    #[must_use]
    pub fn with_paths(mut self, whole: &dyn Fn(&Path) -> PathBuf) -> Self {
        for model in &mut self.model {
            for path in [&mut model.api_key_file, &mut model.ca_file] {
                *path = path.as_deref().map(whole);
            }
        }
        self
    }
}

/// `[[reviewer.model]]`: one model.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelTable {
    /// Which API it speaks.
    pub provider: Provider,
    /// Where the API lives, for example `https://api.example.com/v1`. `https`, or `http` on this machine.
    pub base_url: String,
    /// The model's name there.
    pub model: String,
    /// The environment variable that holds the key.
    #[serde(default)]
    pub api_key_env: Option<String>,
    /// The file that holds the key; readable by its owner alone.
    #[serde(default)]
    pub api_key_file: Option<PathBuf>,
    /// How much the model is to reason, in the provider's own word.
    #[serde(default)]
    pub effort: Option<String>,
    /// How the answer's form is asked for. `json-schema` where not set; `text` for a model or gateway without it.
    #[serde(default)]
    pub output: Option<OutputForm>,
    /// Whether the answer is streamed, where the API here can be (`openai-responses`). Yes where not set.
    #[serde(default)]
    pub stream: Option<bool>,
    /// Further header lines of each request. What carries a key is not among them: that is `api_key_env`'s.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// A file of certificates (PEM) that are trusted in the place of the machine's own.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// What a million tokens of prompt cost, in hundredths of a currency.
    #[serde(default)]
    pub input_cents_per_million: Option<u64>,
    /// What a million tokens of reply cost, in hundredths of the same currency.
    #[serde(default)]
    pub output_cents_per_million: Option<u64>,
    /// How long a connection may take to open, in seconds. 10 where not set.
    #[serde(default)]
    pub connect_timeout_secs: Option<u64>,
    /// How long one attempt may take, in seconds. The review's deadline where not set.
    #[serde(default)]
    pub timeout_secs: Option<u64>,
    /// The HTTP proxy to go through. None where not set; the environment is not asked.
    #[serde(default)]
    pub proxy: Option<String>,
    /// Sends prompts and key in the clear to another machine.
    #[serde(default)]
    pub dangerously_allow_http: bool,
}

/// The API that a model is asked by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Provider {
    /// OpenAI Responses: `POST {base_url}/responses`.
    #[serde(rename = "openai-responses")]
    OpenAiResponses,
    /// OpenAI Chat Completions: `POST {base_url}/chat/completions`; also vLLM, llama.cpp, Ollama and gateways.
    #[serde(rename = "openai-chat")]
    OpenAiChat,
    /// Anthropic Messages: `POST {base_url}/messages`.
    #[serde(rename = "anthropic")]
    Anthropic,
}

/// How the form of an answer is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutputForm {
    /// By the provider's own means: a JSON schema, or a tool whose arguments have one.
    #[default]
    JsonSchema,
    /// By the instructions alone. The reply is read just as strictly.
    Text,
}

/// What a model costs, in hundredths of a currency for a million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Prices {
    pub(crate) input_cents: u64,
    pub(crate) output_cents: u64,
}

impl Prices {
    /// The cost of a call in millionths of the currency.
    pub(crate) fn cost_micros(self, input: u64, output: u64) -> u64 {
        let micros = |tokens: u64, cents: u64| u128::from(tokens) * u128::from(cents) / 100;
        let sum = micros(input, self.input_cents) + micros(output, self.output_cents);
        u64::try_from(sum).unwrap_or(u64::MAX)
    }
}

/// `[policy]`: by which policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyTable {
    /// The file that holds the team's section.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_file: Option<PathBuf>,
    /// The team's section itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section: Option<String>,
    /// Whether the section stands behind the shipped one or in its place. `replace` where not set, as documented.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<SectionMode>,
    /// Hosts that the team's content may go to: `intranet.example.com`, or `*.example.com` for all below it. No secret
    /// may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trusted_destinations: Vec<String>,
    /// Remotes that the team's source may go to: `github.com/ana/app`, or `github.com/ana/*`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trusted_repositories: Vec<String>,
    /// What is never done: `host:NAME`, `program:NAME`, `tool:SERVER/NAME`, `path:/FOLDER`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
}

impl PolicyTable {
    /// The table with its path as `whole` makes it, as [`ReviewerTable::with_paths`].
    #[must_use]
    pub fn with_paths(self, whole: &dyn Fn(&Path) -> PathBuf) -> Self {
        Self {
            section_file: self.section_file.as_deref().map(whole),
            ..self
        }
    }
}

/// Everything that is wrong with the settings.
#[derive(Debug, Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct InvalidSettings(pub Vec<SettingsFault>);

/// One thing that is wrong with the settings.
#[derive(Debug, Error)]
pub enum SettingsFault {
    /// A number outside its range.
    #[error("`{key}` is {value}; it must be from {least} to {most}")]
    Range {
        /// The setting.
        key: &'static str,
        /// What it is.
        value: u64,
        /// The least it may be.
        least: u64,
        /// The most it may be.
        most: u64,
    },
    /// A text that must not be empty is.
    #[error("`{0}` is empty")]
    Empty(String),
    /// Two settings of which one alone may stand.
    #[error("`{0}` and `{1}` exclude each other")]
    Both(&'static str, &'static str),
    /// Not an address of an API.
    #[error("`reviewer.model.base_url` `{url}` {fault}")]
    BaseUrl {
        /// The address.
        url: String,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// The variable that should hold a key is missing or empty.
    #[error(
        "the variable `{0}` named by `reviewer.model.api_key_env` is not set\nhint: set it, or remove `api_key_env` where the model needs no key"
    )]
    KeyVariable(String),
    /// A file of the settings cannot be used.
    #[error("`{key}` `{}` {fault}", path.display())]
    File {
        /// The setting.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: FileFault,
    },
    /// The policy cannot be used.
    #[error(transparent)]
    Policy(#[from] InvalidPolicy),
    /// A rule of the team cannot be used.
    #[error(transparent)]
    Rule(#[from] InvalidRule),
    /// A header line that cannot be sent.
    #[error("`reviewer.model.headers` `{0}` {1}")]
    Header(String, &'static str),
    /// No HTTP client can be made.
    #[error("cannot set up the connection to `{url}`: {cause}")]
    Client {
        /// Where to.
        url: String,
        /// Why not.
        cause: String,
    },
}

/// Why a file of the settings cannot be used.
#[derive(Debug, Error)]
pub enum FileFault {
    /// It cannot be opened or read.
    #[error("cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// Not a regular file.
    #[error("is not a regular file")]
    Kind,
    /// Others may read or change it.
    #[error("may be read or changed by others\nhint: chmod 600 it")]
    Mode,
    /// Larger than 256 KiB.
    #[error("is larger than 256 KiB")]
    Size,
    /// Not UTF-8.
    #[error("is not UTF-8")]
    Text,
}

/// The settings, valid.
#[derive(Debug)]
pub(crate) struct Valid {
    pub(crate) law: Law,
    pub(crate) built_in_allow: Option<bool>,
    pub(crate) time_limit: Duration,
    pub(crate) ceilings: Ceilings,
    pub(crate) breaker: BreakerLimits,
    pub(crate) probes: bool,
    pub(crate) prompt: PromptBudget,
    pub(crate) hedge_after: Option<Duration>,
    pub(crate) models: Vec<ModelSettings>,
}

/// One model's settings, valid.
#[derive(Debug)]
pub(crate) struct ModelSettings {
    pub(crate) provider: Provider,
    pub(crate) base_url: Url,
    pub(crate) model: String,
    pub(crate) key: Option<SecretString>,
    pub(crate) effort: Option<String>,
    pub(crate) connect_timeout: Duration,
    pub(crate) timeout: Option<Duration>,
    pub(crate) proxy: Option<String>,
    pub(crate) form: OutputForm,
    pub(crate) stream: bool,
    pub(crate) headers: HeaderMap,
    pub(crate) ca: Option<String>,
    pub(crate) prices: Option<Prices>,
}

impl ModelTable {
    /// A model by its API, address and name, with everything else as where it is not set.
    #[must_use]
    pub fn new(provider: Provider, base_url: String, model: String) -> Self {
        Self {
            provider,
            base_url,
            model,
            api_key_env: None,
            api_key_file: None,
            effort: None,
            output: None,
            stream: None,
            headers: BTreeMap::new(),
            ca_file: None,
            input_cents_per_million: None,
            output_cents_per_million: None,
            connect_timeout_secs: None,
            timeout_secs: None,
            proxy: None,
            dangerously_allow_http: false,
        }
    }
}

impl PolicyTable {
    /// The same with its section in it instead of the name of a file: what can be kept and used again later.
    ///
    /// # Errors
    /// The file cannot be used, or section and file are both set.
    pub fn inlined(&self) -> Result<Self, SettingsFault> {
        Ok(Self {
            section: read::section(self)?,
            section_file: None,
            ..self.clone()
        })
    }
}

impl Provider {
    /// The name in the settings and in the record.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenAiResponses => "openai-responses",
            Self::OpenAiChat => "openai-chat",
            Self::Anthropic => "anthropic",
        }
    }
}

/// What is judged by: the text that a model gets, and the rules that hold in code.
#[derive(Debug)]
pub(crate) struct Law {
    pub(crate) policy: Policy,
    pub(crate) team: TeamRules,
}

impl Law {
    /// Reads the table and the file that it may name. All faults are told at once.
    pub(crate) fn read(table: &PolicyTable) -> Result<Self, InvalidSettings> {
        let mut faults = Vec::new();
        let policy = read_policy(table).map_err(|fault| faults.push(fault)).ok();
        let team = TeamRules::read(table)
            .map_err(|fault| faults.push(fault.into()))
            .unwrap_or_default();
        match policy {
            Some(policy) if faults.is_empty() => Ok(Self {
                policy: policy.with_team(&team.text()).with_denials(&table.deny),
                team,
            }),
            Some(_) | None => Err(InvalidSettings(faults)),
        }
    }
}

impl Valid {
    /// Reads the tables and what they name. All faults are told at once.
    pub(crate) fn read(
        settings: &ReviewerSettings,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, InvalidSettings> {
        let mut faults = Vec::new();
        let table = &settings.reviewer;
        let secs = table.deadline_secs.unwrap_or(DEFAULT_DEADLINE_SECS);
        check_range(
            "reviewer.deadline_secs",
            secs,
            MAX_DEADLINE_SECS,
            &mut faults,
        );
        let law = Law::read(&settings.policy)
            .map_err(|found| faults.extend(found.0))
            .ok();
        let breaker = table.breaker.read(&mut faults);
        let prompt = table.prompt.read(&mut faults);
        let hedge_after = limits::read_hedge(table.hedge_after_ms, &mut faults);
        let mut models = Vec::new();
        for model in &table.model {
            models.extend(read_model(model, environment, &mut faults));
        }
        match law {
            Some(law) if faults.is_empty() => Ok(Self {
                law,
                built_in_allow: table.built_in_allow,
                time_limit: Duration::from_secs(secs),
                ceilings: Ceilings {
                    requests: table.budget.requests_per_hour,
                    tokens: table.budget.tokens_per_hour,
                    cost_micros: table
                        .budget
                        .cost_cents_per_hour
                        .map(|cents| cents.saturating_mul(10_000)),
                },
                breaker,
                probes: table.probe.unwrap_or(true),
                prompt,
                hedge_after,
                models,
            }),
            _ => Err(InvalidSettings(faults)),
        }
    }
}

#[cfg(test)]
mod tests;
