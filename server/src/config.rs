//! `auto-review-server.toml` and the environment: the only place that reads either.
//!
//! Raw first, then valid: every fault is told at once, with file and key. Defaults are closed: this machine only, no
//! channel speaks for the user. Keys that a later version may know are refused by name, not ignored.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::{NonZeroU8, NonZeroU32};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::{Printable, TenantId};
use reviewer::{PolicyTable, ReviewerSettings, ReviewerTable};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::desk::Retention;
use crate::service::Limits;
use crate::store::sqlite::beside;
use crate::webhook::WebhookSettings;

mod policy;
mod told;

pub(crate) use policy::ShadowSettings;

/// Where the server listens where nothing else is said: this machine only.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8790);
/// The largest settings file that is read.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// The settings, valid.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) listen: SocketAddr,
    pub(crate) database: PathBuf,
    pub(crate) reviewer: ReviewerSettings,
    /// For the tenants that have settings of their own.
    pub(crate) tenants: BTreeMap<TenantId, ReviewerSettings>,
    pub(crate) speaks_for_user: BTreeSet<String>,
    pub(crate) limits: Limits,
    pub(crate) retention: Retention,
    pub(crate) webhooks: WebhookSettings,
    pub(crate) shadow: ShadowSettings,
    /// Read when it is served: its variables are nobody else's.
    pub(crate) otel: telemetry::OtelTable,
}

/// Everything that is wrong with the settings.
#[derive(Debug, Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub(crate) struct InvalidConfig(Vec<Fault>);

/// One thing that is wrong: where, and what.
#[derive(Debug)]
struct Fault {
    file: String,
    key: Option<String>,
    problem: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", Printable(&self.file))?;
        if let Some(key) = &self.key {
            write!(f, "`{}`: ", Printable(key))?;
        }
        f.write_str(&self.problem)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TenantTable {
    reviewer: Option<ReviewerTable>,
    policy: Option<PolicyTable>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsTable {
    in_flight_mib: Option<u16>,
    models_at_once: Option<NonZeroU32>,
    reviews_per_minute_per_token: Option<NonZeroU32>,
    reviews_per_minute_per_tenant: Option<NonZeroU32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct PeopleTable {
    approvals: Option<NonZeroU8>,
    deadline_secs: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RetentionTable {
    payload_days: Option<NonZeroU32>,
    verdict_days: Option<NonZeroU32>,
}

/// The variable `name`, where it is set and UTF-8.
pub(crate) fn environment(name: &str) -> Option<String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the place that reads the environment"
    )]
    std::env::var(name).ok()
}

/// What is logged: `AUTO_REVIEW_LOG` in the syntax of `tracing_subscriber::EnvFilter`, warnings and errors otherwise.
pub(crate) fn log_filter() -> String {
    environment("AUTO_REVIEW_LOG").unwrap_or_else(|| "warn".to_owned())
}

impl Config {
    /// Reads `file`, or takes the defaults where there is none. `listen` is the command line's, which wins.
    pub(crate) fn read(
        file: Option<&Path>,
        listen: Option<SocketAddr>,
    ) -> Result<Self, InvalidConfig> {
        let (name, text) = match file {
            Some(path) => {
                let name = path.display().to_string();
                let text = read_file(path).map_err(|problem| {
                    InvalidConfig(vec![Fault {
                        file: name.clone(),
                        key: None,
                        problem,
                    }])
                })?;
                (name, text)
            }
            None => ("defaults".to_owned(), String::new()),
        };
        Reading::of(&name, &text, listen)
    }
}

/// The file where the signing key of `database` is.
pub(crate) fn key_file(database: &Path) -> PathBuf {
    beside(database, ".key")
}

struct Reading<'a> {
    file: &'a str,
    table: toml::Table,
    faults: Vec<Fault>,
}

impl<'a> Reading<'a> {
    fn of(file: &'a str, text: &str, listen: Option<SocketAddr>) -> Result<Config, InvalidConfig> {
        let mut reading = Self {
            file,
            table: toml::Table::new(),
            faults: Vec::new(),
        };
        match text.parse() {
            Ok(table) => reading.table = table,
            Err(error) => {
                let error: toml::de::Error = error;
                reading.fault(None, error.to_string().trim_end());
                return Err(InvalidConfig(reading.faults));
            }
        }
        let plain_http = reading
            .take("dangerously_allow_plain_http")
            .unwrap_or(false);
        let set = reading.address();
        let listen = listen.or(set).unwrap_or(DEFAULT_LISTEN);
        reading.check_listen(listen, plain_http);
        let database = reading.database();
        let channels: Option<BTreeSet<String>> = reading.take("assert_user");
        let reviewer = ReviewerSettings {
            reviewer: reading
                .take::<ReviewerTable>("reviewer")
                .unwrap_or_default()
                .with_paths(&|path| reading.beside(path)),
            policy: reading
                .take::<PolicyTable>("policy")
                .unwrap_or_default()
                .with_paths(&|path| reading.beside(path)),
        };
        let tenants = reading.tenants(&reviewer);
        let (limits, webhooks) = (reading.limits(), reading.webhooks());
        let config = Config {
            listen,
            database: database.unwrap_or_default(),
            tenants,
            reviewer,
            speaks_for_user: channels.unwrap_or_default(),
            limits,
            retention: reading.retention(),
            webhooks,
            shadow: reading.shadow(),
            otel: reading.otel(),
        };
        reading.refuse_the_rest();
        if reading.faults.is_empty() {
            Ok(config)
        } else {
            Err(InvalidConfig(reading.faults))
        }
    }

    /// `path` as the file means it: a relative one belongs to the file's folder.
    fn beside(&self, path: &Path) -> PathBuf {
        let folder = Path::new(self.file).parent();
        folder.map_or_else(|| path.to_owned(), |folder| folder.join(path))
    }

    fn fault(&mut self, key: Option<&str>, problem: impl Into<String>) {
        self.faults.push(Fault {
            file: self.file.to_owned(),
            key: key.map(str::to_owned),
            problem: problem.into(),
        });
    }

    /// Takes `key` out of the table. A fault is noted and counts as missing.
    fn take<T: DeserializeOwned>(&mut self, key: &str) -> Option<T> {
        let value = self.table.remove(key)?;
        match value.try_into() {
            Ok(value) => Some(value),
            Err(error) => {
                let error: toml::de::Error = error;
                self.fault(Some(key), error.message());
                None
            }
        }
    }

    fn address(&mut self) -> Option<SocketAddr> {
        let text: String = self.take("listen")?;
        let address = text.parse().ok();
        if address.is_none() {
            self.fault(
                Some("listen"),
                "must be an address and a port, for example `127.0.0.1:8790`",
            );
        }
        address
    }

    fn check_listen(&mut self, listen: SocketAddr, plain_http: bool) {
        if !listen.ip().is_loopback() && !plain_http {
            self.fault(
                Some("listen"),
                format!(
                    "`{listen}` can be reached from other machines, and tokens would travel in the clear\nhint: listen on \
                     127.0.0.1 behind a TLS proxy, or set `dangerously_allow_plain_http = true`"
                ),
            );
        }
    }

    fn database(&mut self) -> Option<PathBuf> {
        let key = Some("database_url");
        let Some(url) = self.take::<String>("database_url") else {
            return self.default_database();
        };
        match url.strip_prefix("sqlite:") {
            Some(path) if Path::new(path).is_absolute() => Some(PathBuf::from(path)),
            Some(_) => {
                self.fault(key, "must name an absolute path, for example `sqlite:/var/lib/auto-review/reviews.db`");
                None
            }
            None if url.starts_with("postgres") => {
                self.fault(key, "PostgreSQL is not supported by this version");
                None
            }
            None => {
                self.fault(key, "must start with `sqlite:`");
                None
            }
        }
    }

    fn default_database(&mut self) -> Option<PathBuf> {
        let state = environment("XDG_STATE_HOME").map(PathBuf::from);
        let home = environment("HOME").map(|home| Path::new(&home).join(".local/state"));
        let folder = state
            .filter(|path| path.is_absolute())
            .or(home)
            .filter(|path| path.is_absolute());
        if folder.is_none() {
            self.fault(
                Some("database_url"),
                "is not set, and neither are XDG_STATE_HOME and HOME",
            );
        }
        folder.map(|folder| folder.join("auto-review/server.db"))
    }

    /// What a tenant does not say is as it is for everybody.
    fn tenants(&mut self, everybody: &ReviewerSettings) -> BTreeMap<TenantId, ReviewerSettings> {
        let tables: BTreeMap<TenantId, TenantTable> = self.take("tenants").unwrap_or_default();
        let settings = tables.into_iter().map(|(tenant, table)| {
            let whole = |path: &Path| self.beside(path);
            let reviewer = table.reviewer.map(|it| it.with_paths(&whole));
            let policy = table.policy.map(|it| it.with_paths(&whole));
            let settings = ReviewerSettings {
                reviewer: reviewer.unwrap_or_else(|| everybody.reviewer.clone()),
                policy: policy.unwrap_or_else(|| everybody.policy.clone()),
            };
            (tenant, settings)
        });
        settings.collect()
    }

    fn retention(&mut self) -> Retention {
        let table: RetentionTable = self.take("retention").unwrap_or_default();
        let (payload_days, verdict_days) = (table.payload_days, table.verdict_days);
        // What a review was decided on goes with it at the latest.
        if verdict_days.is_some() && payload_days.is_none_or(|days| Some(days) > verdict_days) {
            self.fault(
                Some("retention.verdict_days"),
                "wants a `payload_days` that is not longer",
            );
        }
        Retention {
            payload_days,
            verdict_days,
        }
    }

    fn limits(&mut self) -> Limits {
        let table: LimitsTable = self.take("limits").unwrap_or_default();
        let people: PeopleTable = self.take("people").unwrap_or_default();
        let defaults = Limits::default();
        let in_flight_mib = table.in_flight_mib.unwrap_or(defaults.in_flight_mib);
        // The largest body needs a little over 2 MiB.
        if in_flight_mib < 4 {
            self.fault(Some("limits.in_flight_mib"), "must be from 4 to 65535");
        }
        let approvals_wanted = people.approvals.unwrap_or(defaults.approvals_wanted);
        if approvals_wanted.get() > 9 {
            self.fault(Some("people.approvals"), "must be from 1 to 9");
        }
        let persons_time = people
            .deadline_secs
            .map_or(defaults.persons_time, Duration::from_secs);
        if !(10..=86_400).contains(&persons_time.as_secs()) {
            self.fault(Some("people.deadline_secs"), "must be from 10 to 86400");
        }
        Limits {
            approvals_wanted,
            persons_time,
            in_flight_mib,
            models_at_once: table.models_at_once.unwrap_or(defaults.models_at_once),
            per_minute_of_caller: table.reviews_per_minute_per_token,
            per_minute_of_tenant: table.reviews_per_minute_per_tenant,
            ..defaults
        }
    }

    fn refuse_the_rest(&mut self) {
        let keys: Vec<String> = self.table.keys().cloned().collect();
        for key in keys {
            let named = key.starts_with("tls_");
            let problem = if named {
                "is not supported by this version"
            } else {
                "is not a setting"
            };
            self.fault(Some(&key), problem);
        }
    }
}

/// Reads a settings file. Who can change it can choose the reviewer, so it must be root's or this user's alone.
pub(crate) fn read_file(path: &Path) -> Result<String, String> {
    let metadata = std::fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?;
    if !metadata.is_file() || metadata.len() > MAX_FILE_BYTES {
        return Err("is not a regular file of at most 256 KiB".to_owned());
    }
    let trusted = [0, rustix::process::geteuid().as_raw()].contains(&metadata.uid());
    if !trusted || metadata.mode() & 0o022 != 0 {
        return Err(
            "can be changed by others; it must belong to you or to root and be writable by its owner alone".to_owned(),
        );
    }
    std::fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Config, Reading};

    fn read(text: &str) -> Result<Config, String> {
        let text = format!("database_url = \"sqlite:/srv/reviews.db\"\n{text}");
        Reading::of("s.toml", &text, None).map_err(|error| error.to_string())
    }

    #[test]
    fn every_fault_is_told_with_file_and_key() {
        let told = read(
            "listen = \"nowhere\"\ntls_cert = \"x\"\nassert_users = []\n[otel]\nexporter = \"otlp\"\n[retention]\nyears = 1\n[limits]\nin_flight_mib = 1\n[reviewer]\nmodle = 1\n",
        )
        .expect_err("faults");
        insta::assert_snapshot!(told, @r"
        s.toml: `listen`: must be an address and a port, for example `127.0.0.1:8790`
        s.toml: `reviewer`: unknown field `modle`, expected one of `deadline_secs`, `built_in_allow`, `model`, `budget`, `breaker`, `prompt`, `probe`, `hedge_after_ms`
        s.toml: `limits.in_flight_mib`: must be from 4 to 65535
        s.toml: `retention`: unknown field `years`, expected `payload_days` or `verdict_days`
        s.toml: `otel`: unknown variant `otlp`, expected one of `none`, `statsig`, `otlp-http`, `otlp-grpc`
        s.toml: `assert_users`: is not a setting
        s.toml: `tls_cert`: is not supported by this version
        ");
    }

    #[test]
    fn verdicts_are_kept_no_shorter_than_what_they_were_decided_on() {
        let days = |text: &str| read(&format!("[retention]\n{text}")).is_ok();
        assert!(days("payload_days = 30"));
        assert!(days("payload_days = 30\nverdict_days = 30"));
        for refused in [
            "verdict_days = 30",
            "payload_days = 31\nverdict_days = 30",
            "payload_days = 0",
            "payload_days = 30\nverdict_days = 0",
        ] {
            assert!(!days(refused), "{refused}");
        }
    }

    #[test]
    fn a_port_that_others_reach_wants_the_danger_spelled_out() {
        assert!(read("listen = \"0.0.0.0:1\"").is_err());
        assert!(read("listen = \"0.0.0.0:1\"\ndangerously_allow_plain_http = true").is_ok());
        assert!(read("listen = \"[::1]:1\"").is_ok());
    }

    #[test]
    fn only_an_absolute_sqlite_path_is_a_database() {
        for url in [
            "postgres://h/d",
            "sqlite:reviews.db",
            "sqlite::memory:",
            "/srv/reviews.db",
        ] {
            let text = format!("database_url = \"{url}\"");
            assert!(Reading::of("s.toml", &text, None).is_err(), "{url}");
        }
        let config = read("").expect("valid");
        assert_eq!(config.database, Path::new("/srv/reviews.db"));
        assert!(config.listen.ip().is_loopback());
        assert!(config.speaks_for_user.is_empty());
    }

    #[test]
    fn a_file_that_others_can_change_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = crate::test_folder::TestFolder::new();
        let path = folder.path("s.toml");
        std::fs::write(&path, "").expect("written");
        for (mode, fine) in [(0o600, true), (0o644, true), (0o664, false), (0o602, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("chmod");
            assert_eq!(super::read_file(&path).is_ok(), fine, "{mode:o}");
        }
    }
}
