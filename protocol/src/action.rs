//! The exact thing to be done, and its digest.
//!
//! The wire spelling is the one clients already speak (`tool` names the kind). Invariant: two actions that would
//! do something different have different digests (design D20); a justification is not part of what is done.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::canonical::Canonical;

mod values;

pub use values::{AbsolutePath, ActionDigest, InvalidDigest, Sha256Hex};

/// The longest justification, in bytes. What is longer cannot be shown whole and is refused.
pub const MAX_JUSTIFICATION_BYTES: usize = 8 * 1024;

/// The exact thing to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "tool")]
pub enum Action {
    /// Run a program.
    #[serde(rename = "exec_command")]
    Command(CommandAction),
    /// Change files by a patch.
    #[serde(rename = "apply_patch")]
    FileChange(FileChange),
    /// Reach a host.
    #[serde(rename = "network_access")]
    NetworkAccess(NetworkAccess),
    /// Call a tool with side effects.
    #[serde(rename = "mcp_tool_call")]
    ToolCall(ToolCall),
    /// Get more permissions for what follows.
    #[serde(rename = "request_permissions")]
    PermissionRequest(PermissionRequest),
}

/// Run one program with exactly these arguments, here, with this environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CommandAction {
    /// The argument vector; the first word is what the caller typed.
    pub command: Vec<String>,
    /// The working directory.
    pub cwd: AbsolutePath,
    /// Which walls the action wants moved.
    #[serde(default)]
    pub sandbox_permissions: SandboxPermissions,
    /// What is wanted where `sandbox_permissions` is `with_additional_permissions`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub additional_permissions: Option<AdditionalPermissions>,
    /// Why the agent wants it, in its own words. Not part of the digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub justification: Option<String>,
    /// Whether the command gets a terminal of its own.
    #[serde(default)]
    pub tty: bool,
    /// The program that the first word resolved to, and what it held. A runner always sends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<FileIdentity>,
    /// The scripts that interpreters will read, and what they held.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scripts: Vec<FileIdentity>,
    /// The environment that is passed. `None`: the client could not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<EnvEntry>>,
    /// What standard input holds. `None`: `/dev/null`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<ContentIdentity>,
}

/// Which walls an action wants moved (the tool parameter of the same name).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SandboxPermissions {
    /// None: it runs inside the walls as they stand.
    #[default]
    UseDefault,
    /// Exactly the listed additional permissions.
    WithAdditionalPermissions,
    /// The whole host as this user, with what no command may touch still covered.
    RequireEscalated,
    /// No walls at all, for programs that namespaces break.
    RequireUnconfined,
}

/// Walls widened by exactly this.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AdditionalPermissions {
    /// Paths that may be read beside what the policy allows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub read: Vec<AbsolutePath>,
    /// Paths that may be written beside what the policy allows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub write: Vec<AbsolutePath>,
    /// Whether the network is asked for.
    #[serde(default)]
    pub network: bool,
}

/// A file by its resolved path and the SHA-256 of its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FileIdentity {
    /// The path, every symbolic link resolved.
    pub path: AbsolutePath,
    /// What the file held.
    pub sha256: Sha256Hex,
}

/// Bytes by their count and SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ContentIdentity {
    /// How many bytes.
    pub bytes: u64,
    /// Their hash.
    pub sha256: Sha256Hex,
}

/// One environment variable that is passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EnvEntry {
    /// The name.
    pub name: String,
    /// The value, or what stands for a secret one.
    #[serde(flatten)]
    pub value: EnvValue,
}

/// A value that may be shown, or the mark that stands for one that may not leave the machine (design D20).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum EnvValue {
    /// The value itself.
    Value(String),
    /// Kind, length in bytes and keyed hash of a value that stays here.
    Masked {
        /// What kind of secret the name or shape spoke of.
        kind: String,
        /// Length in bytes.
        length: u64,
        /// HMAC-SHA256 under a key that never leaves the machine.
        keyed_hash: Sha256Hex,
    },
}

/// Change files by one patch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FileChange {
    /// The working directory.
    pub cwd: AbsolutePath,
    /// The files that the patch names.
    pub files: Vec<AbsolutePath>,
    /// The whole patch.
    pub patch: String,
}

/// Reach one host on one port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NetworkAccess {
    /// The host as it was asked for, canonical.
    pub host: String,
    /// The port.
    pub port: u16,
    /// By which protocol.
    pub protocol: NetworkProtocol,
}

/// How a host is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum NetworkProtocol {
    /// A plain HTTP request.
    Http,
    /// A tunnel by CONNECT.
    Https,
    /// A TCP connection by SOCKS5.
    Socks5Tcp,
    /// Datagrams by SOCKS5.
    Socks5Udp,
}

/// Call one tool of a tool server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ToolCall {
    /// The tool server.
    pub server: String,
    /// The tool.
    pub tool_name: String,
    /// Its arguments, as sent.
    #[serde(default)]
    pub arguments: serde_json::Value,
}

/// Get more permissions for what follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PermissionRequest {
    /// Why, in the agent's own words. Not part of the digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What is asked for.
    pub permissions: AdditionalPermissions,
    /// For how long.
    #[serde(default)]
    pub scope: PermissionScope,
}

/// How long permissions last that were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum PermissionScope {
    /// Until the turn ends.
    #[default]
    Turn,
    /// Until the session ends.
    Session,
}

impl PermissionScope {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Turn => "turn",
            Self::Session => "session",
        }
    }
}

/// Why an action is not one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidAction {
    /// `command` has no word.
    #[error("`action.command` is empty")]
    EmptyCommand,
    /// A NUL byte, which no program argument can carry.
    #[error("`action` has a NUL byte in `{0}`")]
    Nul(&'static str),
    /// `additional_permissions` and `sandbox_permissions` disagree.
    #[error(
        "`additional_permissions` goes with `sandbox_permissions = \"with_additional_permissions\"`, and only with it"
    )]
    AdditionalPermissions,
    /// The justification is too long to be shown whole.
    #[error("`action.justification` is longer than {MAX_JUSTIFICATION_BYTES} bytes")]
    Justification,
}

impl Action {
    /// The digest of what would be done.
    #[must_use]
    pub fn digest(&self) -> ActionDigest {
        let mut out = Canonical::new("auto-review action v1");
        match self {
            Self::Command(command) => command.write(&mut out),
            Self::FileChange(change) => {
                out.text("apply_patch").text(change.cwd.as_str());
                out.list(&change.files, |out, file| {
                    out.text(file.as_str());
                });
                out.bytes(change.patch.as_bytes());
            }
            Self::NetworkAccess(access) => {
                out.text("network_access")
                    .text(&access.host)
                    .number(access.port.into());
                out.text(access.protocol.as_str());
            }
            Self::ToolCall(call) => {
                out.text("mcp_tool_call")
                    .text(&call.server)
                    .text(&call.tool_name);
                write_json(&mut out, &call.arguments);
            }
            Self::PermissionRequest(request) => {
                out.text("request_permissions");
                request.permissions.write(&mut out);
                // The shorter of the two, which a request is for that says nothing, adds nothing.
                if request.scope == PermissionScope::Session {
                    out.text(request.scope.as_str());
                }
            }
        }
        ActionDigest(out.sha256())
    }

    /// The name of the action's kind on the wire.
    #[must_use]
    pub fn tool(&self) -> &'static str {
        match self {
            Self::Command(_) => "exec_command",
            Self::FileChange(_) => "apply_patch",
            Self::NetworkAccess(_) => "network_access",
            Self::ToolCall(_) => "mcp_tool_call",
            Self::PermissionRequest(_) => "request_permissions",
        }
    }

    /// Why the agent wants it, where it said so.
    #[must_use]
    pub fn justification(&self) -> Option<&str> {
        match self {
            Self::Command(command) => command.justification.as_deref(),
            Self::PermissionRequest(request) => request.reason.as_deref(),
            Self::FileChange(_) | Self::NetworkAccess(_) | Self::ToolCall(_) => None,
        }
    }

    /// Holds the rules that span fields.
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn checked(self) -> Result<Self, InvalidAction> {
        if self
            .justification()
            .is_some_and(|text| text.len() > MAX_JUSTIFICATION_BYTES)
        {
            return Err(InvalidAction::Justification);
        }
        if let Self::Command(command) = &self {
            command.check()?;
        }
        Ok(self)
    }
}

impl CommandAction {
    fn check(&self) -> Result<(), InvalidAction> {
        if self.command.is_empty() {
            return Err(InvalidAction::EmptyCommand);
        }
        if self.command.iter().any(|word| word.contains('\0')) {
            return Err(InvalidAction::Nul("command"));
        }
        let wanted = self.sandbox_permissions == SandboxPermissions::WithAdditionalPermissions;
        if wanted != self.additional_permissions.is_some() {
            return Err(InvalidAction::AdditionalPermissions);
        }
        Ok(())
    }

    fn write(&self, out: &mut Canonical) {
        out.text("exec_command");
        out.list(&self.command, |out, word| {
            out.bytes(word.as_bytes());
        });
        out.text(self.cwd.as_str())
            .text(self.sandbox_permissions.as_str());
        match &self.additional_permissions {
            Some(permissions) => permissions.write(out),
            None => {
                out.optional(None);
            }
        }
        out.number(self.tty.into());
        out.list(self.program.as_slice(), FileIdentity::write);
        out.list(&self.scripts, FileIdentity::write);
        out.number(self.env.is_some().into());
        out.list(self.env.as_deref().unwrap_or_default(), |out, entry| {
            entry.write(out)
        });
        out.number(self.stdin.as_ref().map_or(0, |stdin| stdin.bytes));
        out.optional(self.stdin.as_ref().map(|stdin| stdin.sha256.as_str()));
    }
}

impl FileIdentity {
    fn write(out: &mut Canonical, file: &Self) {
        out.text(file.path.as_str()).text(file.sha256.as_str());
    }
}

impl EnvEntry {
    fn write(&self, out: &mut Canonical) {
        out.text(&self.name);
        match &self.value {
            EnvValue::Value(value) => out.text("value").bytes(value.as_bytes()),
            EnvValue::Masked {
                kind,
                length,
                keyed_hash,
            } => out
                .text("masked")
                .text(kind)
                .number(*length)
                .text(keyed_hash.as_str()),
        };
    }
}

impl AdditionalPermissions {
    fn write(&self, out: &mut Canonical) {
        for paths in [&self.read, &self.write] {
            out.list(paths, |out, path| {
                out.text(path.as_str());
            });
        }
        out.number(self.network.into());
    }
}

impl SandboxPermissions {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UseDefault => "use_default",
            Self::WithAdditionalPermissions => "with_additional_permissions",
            Self::RequireEscalated => "require_escalated",
            Self::RequireUnconfined => "require_unconfined",
        }
    }
}

impl NetworkProtocol {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Socks5Tcp => "socks5_tcp",
            Self::Socks5Udp => "socks5_udp",
        }
    }
}

/// JSON by kind, with object keys sorted: the order in which a client wrote its keys means nothing.
fn write_json(out: &mut Canonical, value: &serde_json::Value) {
    match value {
        serde_json::Value::Null => {
            out.optional(None);
        }
        serde_json::Value::Bool(flag) => {
            out.text("bool").number((*flag).into());
        }
        serde_json::Value::Number(number) => {
            out.text("number").text(&number.to_string());
        }
        serde_json::Value::String(text) => {
            out.text("string").text(text);
        }
        serde_json::Value::Array(items) => {
            out.text("array").list(items, write_json);
        }
        serde_json::Value::Object(map) => {
            let mut pairs: Vec<_> = map.iter().collect();
            pairs.sort_by_key(|(key, _)| *key);
            out.text("object").list(&pairs, |out, (key, value)| {
                out.text(key);
                write_json(out, value);
            });
        }
    }
}

#[cfg(test)]
mod tests;
