//! The service as its hosts hold it: opened, routed, closed.
//!
//! Apart, because it is the whole public face of this crate: `agent-runner` embeds it without a port, the command line
//! serves it on one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::{NonZeroU8, NonZeroU32};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use axum::Router;
use protocol::{CallerId, ServerKey, TenantId};
use reviewer::Reviewer;
use telemetry::Telemetry;
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::Admission;
use crate::api::Readiness;
use crate::auth::{Auth, AuthError, make_token};
use crate::conversations::Conversations;
use crate::desk::{Caller, Desk, People, RecoveryError, Retention, Round, Shadows, Together};
use crate::key::SigningKey;
use crate::model_health::ModelHealth;
use crate::owner::{LockError, OwnerLocks};
use crate::policies::{Policies, PolicyError, PolicySources};
use crate::role::Roles;
use crate::router;
use crate::store::sqlite::OpenStoreError;
use crate::store::sqlite::tokens::{Added, Grants};
use crate::store::{Scope, SqliteStore};
use crate::stream::Streams;
use crate::telemetry::{Measures, Observer};
use crate::webhook::{WebhookSettings, keep_telling};

/// What a service is made of.
#[derive(Debug)]
pub struct ServiceSettings {
    /// The SQLite file. It and its folder must belong to this user alone; both are made where they are missing.
    pub database: PathBuf,
    /// Signs the decisions.
    pub signing_key: SigningKey,
    /// Judges.
    pub reviewer: Arc<Reviewer>,
    /// Judges for the tenants that have settings of their own.
    pub tenants: BTreeMap<TenantId, Arc<Reviewer>>,
    /// The channels that may mark an entry of a transcript as the user's (D15). Empty: none may.
    pub speaks_for_user: BTreeSet<String>,
    /// How much is taken on.
    pub limits: Limits,
}

/// How much is taken on.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Room for submissions under review, in MiB: 1 to 65,535. What does not fit is refused with 503. A tenant gets at
    /// most four times what is left.
    pub in_flight_mib: u16,
    /// About how many reviews models are asked at once. The others wait, one of each tenant in turn; who would wait
    /// past its deadline is refused with 503 at once.
    pub models_at_once: NonZeroU32,
    /// How many reviews one token may ask for in a minute; a minute's worth may come at once. More is refused with 429.
    pub per_minute_of_caller: Option<NonZeroU32>,
    /// The same for all tokens of a tenant together.
    pub per_minute_of_tenant: Option<NonZeroU32>,
    /// How many different approvers must agree before an action is allowed: 1 to 9. One who denies is enough.
    pub approvals_wanted: NonZeroU8,
    /// How long a question that only a person may decide waits at most: 10 s to a day.
    pub persons_time: Duration,
    /// How long an approval can be spent: 60 s, or less.
    pub approval_lifetime: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            in_flight_mib: 256,
            models_at_once: Self::MODELS_AT_ONCE,
            per_minute_of_caller: None,
            per_minute_of_tenant: None,
            approvals_wanted: NonZeroU8::MIN,
            persons_time: Duration::from_secs(600),
            approval_lifetime: Self::LONGEST_LIFETIME,
        }
    }
}

/// How often the index is brought up to the record. Who looks something up brings it up first.
const INDEX_PAUSE: Duration = Duration::from_millis(500);

/// How often heads are signed and old payloads looked for.
const KEEPING_PAUSE: Duration = Duration::from_secs(60);
/// How many times that is a day.
const ROUNDS: usize = 24 * 60;

impl Limits {
    /// More than there is room for, where nothing else is said: a review holds 16 KiB at least.
    const MODELS_AT_ONCE: NonZeroU32 = match NonZeroU32::new(16_384) {
        Some(many) => many,
        None => NonZeroU32::MIN,
    };
    /// The longest life of an approval (D19).
    const LONGEST_LIFETIME: Duration = Duration::from_secs(60);
}

/// Why a service was not opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The database.
    #[error(transparent)]
    Store(#[from] OpenStoreError),
    /// The lock that says that this process lives.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// What processes that are gone left open could not be closed.
    #[error("reviews that were left open could not be closed: {0}")]
    Recovery(String),
}

/// Why no token was made.
#[derive(Debug, Error)]
pub enum TokenError {
    /// Roles that nobody knows.
    #[error("{0}")]
    Roles(String),
    /// Nothing to make it of.
    #[error(transparent)]
    Random(#[from] AuthError),
    /// It could not be stored.
    #[error("the token could not be stored: {0}")]
    Store(String),
}

/// The review service: store, reviewer, signing key and the tasks that judge.
///
/// Close it by [`Service::close`]; a service that is only dropped leaves its open reviews to the next one's recovery.
#[derive(Debug)]
pub struct Service {
    desk: Arc<Desk>,
    auth: Arc<Auth>,
    readiness: Arc<Readiness>,
}

impl Service {
    /// Opens the store, closes what processes that are gone left open, and is ready.
    ///
    /// # Errors
    /// The database or its lock cannot be used.
    pub async fn open(settings: ServiceSettings) -> Result<Self, OpenError> {
        let store = SqliteStore::open(&settings.database).await?;
        let locks = OwnerLocks::beside(&settings.database)?;
        let lock = locks.take()?;
        let limits = Limits {
            approval_lifetime: settings
                .limits
                .approval_lifetime
                .min(Limits::LONGEST_LIFETIME),
            ..settings.limits
        };
        let desk = Arc::new(Desk {
            store,
            reviewer: settings.reviewer,
            tenants: settings.tenants,
            policies: Policies::default(),
            shadows: OnceLock::new(),
            key: settings.signing_key,
            speaks_for_user: settings.speaks_for_user,
            limits,
            owner: lock.id().clone(),
            lock: Mutex::new(Some(lock)),
            locks,
            admission: Arc::new(Admission::new(&limits)),
            together: Together::default(),
            keeps: OnceLock::new(),
            flights: Mutex::new(HashMap::new()),
            conversations: Conversations::default(),
            models: ModelHealth::default(),
            tasks: TaskTracker::new(),
            streams: Arc::new(Streams::of_events()),
            long_reads: Arc::new(Streams::of_long_reads()),
            webhooks: OnceLock::new(),
            observer: Observer::default(),
            untold: Mutex::default(),
            clock: Mutex::default(),
            stopping: CancellationToken::new(),
        });
        let recovered = desk.recover().await;
        let recovered =
            recovered.map_err(|error: RecoveryError| OpenError::Recovery(error.to_string()))?;
        desk.untold
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(recovered);
        let recovering = Arc::clone(&desk);
        drop(
            desk.tasks
                .spawn(async move { recovering.keep_recovering().await }),
        );
        Ok(Self {
            auth: Arc::new(Auth::new(Arc::clone(&desk))),
            readiness: Arc::new(Readiness::new(Arc::clone(&desk))),
            desk,
        })
    }

    /// What its signatures are checked with.
    #[must_use]
    pub fn server_key(&self) -> ServerKey {
        self.desk.key.server_key()
    }

    /// The API for the one `caller` whose process this is: no token is asked, no port is opened, and a person at this
    /// terminal may answer (`POST /v1/reviews/{id}/answer`). Never put it on a socket.
    pub fn embedded_router(&self, caller: CallerId) -> Router {
        let caller = Caller {
            scope: Scope {
                tenant: TenantId::default(),
                caller,
            },
            people: People::AtThisTerminal,
            roles: Roles::runner(),
            person: None,
        };
        router::embedded(&self.desk, &self.readiness, caller)
    }

    /// The API for a TCP port: a bearer token on everything but `/healthz` and `/readyz`, and nobody at a terminal who could
    /// answer for a person (approvers do, by their role).
    pub fn router(&self) -> Router {
        router::public(&self.desk, &self.readiness, Arc::clone(&self.auth))
    }

    /// The same as [`Service::router`] for programs that only show the service: without streams, webhooks, measures, the
    /// API's document and compression, so that they do not hold what these need.
    pub fn bare_router(&self) -> Router {
        router::bare(&self.desk, &self.readiness, Arc::clone(&self.auth))
    }

    /// Tells of what was closed when the service was opened, to those who are told by now.
    pub(crate) async fn tell_of_recovered(&self) {
        let untold = std::mem::take(
            &mut *self
                .desk
                .untold
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        self.desk.observe_ends(&untold).await;
    }

    /// Keeps what admins look things up by close behind the record, until the service goes down. A service that nobody
    /// asks for more than its own caller's history need not.
    pub(crate) fn keep_indexing(&self) {
        let desk = Arc::clone(&self.desk);
        drop(self.desk.tasks.spawn(async move {
            loop {
                let pause = match desk.store.index_step().await {
                    Ok(0) => INDEX_PAUSE,
                    // Behind: the next step soon, and time for reviews in between.
                    Ok(_left) => INDEX_PAUSE / 50,
                    Err(error) => {
                        tracing::warn!(%error, "the history's index could not be written");
                        INDEX_PAUSE * 4
                    }
                };
                tokio::select! {
                    () = desk.stopping.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
            }
        }));
    }

    /// Signs where the chains stand, and erases what is older than the settings keep it, until the service goes down and
    /// once more then. Not for a service whose key lives no longer than its process.
    pub(crate) fn keep_the_record(&self, retention: Retention) {
        let desk = Arc::clone(&self.desk);
        desk.keeps.get_or_init(|| ());
        drop(self.desk.tasks.spawn(async move {
            if let Err(error) = desk.keep_policies().await {
                tracing::warn!(%error, "the texts of the policies could not be kept");
            }
            let rounds = std::iter::once(Round::EachDay)
                .chain(std::iter::repeat_n(Round::EachMinute, ROUNDS - 1))
                .cycle();
            for round in rounds {
                desk.keep_the_record(retention, round).await;
                tokio::select! {
                    () = desk.stopping.cancelled() => return,
                    () = tokio::time::sleep(KEEPING_PAUSE) => {}
                }
            }
        }));
    }

    /// From now on the record says which policy judges, and what judges alongside does, `at_once` at a time, until the
    /// service goes down. To be called before anything is asked. Only once.
    ///
    /// # Errors
    /// What is on record cannot be read.
    pub(crate) async fn follow_policies(
        &self,
        sources: PolicySources,
        at_once: NonZeroU32,
    ) -> Result<(), PolicyError> {
        let (shadows, lines) = Shadows::new(at_once);
        if self.desk.shadows.set(shadows).is_ok() {
            let desk = Arc::clone(&self.desk);
            drop(
                self.desk
                    .tasks
                    .spawn(async move { desk.keep_shadows(lines).await }),
            );
        }
        self.desk.begin_following(sources).await?;
        let desk = Arc::clone(&self.desk);
        drop(
            self.desk
                .tasks
                .spawn(async move { desk.keep_following().await }),
        );
        Ok(())
    }

    /// Asks the configured models whether they are there, beside everything else, until they are.
    pub(crate) fn keep_probing(&self) {
        let desk = Arc::clone(&self.desk);
        drop(
            self.desk
                .tasks
                .spawn(async move { desk.keep_probing().await }),
        );
    }

    /// Tells `telemetry` what reviews come to and what models took. Only once.
    pub fn observe(&self, telemetry: Telemetry) {
        if self.desk.observer.telemetry.set(telemetry).is_err() {
            tracing::warn!("somebody is told already what reviews come to");
        }
    }

    /// Counts what reviews come to, for `/metrics`.
    pub(crate) fn keep_measures(&self) {
        // Counting that has begun goes on.
        drop(self.desk.observer.measures.set(Measures::default()));
    }

    /// Tells webhooks what happens, until the service goes down. Only once.
    pub(crate) fn keep_webhooks(&self, settings: WebhookSettings) {
        let settings = Arc::new(settings);
        if self.desk.webhooks.set(Arc::clone(&settings)).is_ok() {
            let desk = Arc::clone(&self.desk);
            drop(self.desk.tasks.spawn(keep_telling(desk, settings)));
        }
    }

    /// Takes nothing on any more and ends what is open as `failed` (step `drain`). [`Service::close`] waits for it.
    pub fn drain(&self) {
        self.desk.stopping.cancel();
    }

    /// Drains, waits until every open review is on record as ended (or its last attempt at it failed), closes the store
    /// and releases this process's lock. Its routers refuse everything from then on.
    pub async fn close(self) {
        self.drain();
        self.desk.tasks.close();
        self.desk.tasks.wait().await;
        if self.desk.keeps.get().is_some() {
            self.desk.sign_heads().await;
        }
        self.desk.store.close().await;
        self.desk.release_lock();
    }

    /// Makes a bearer token for `name`, with the role `runner` and no end. It is told here, once; only its SHA-256 is
    /// stored.
    ///
    /// # Errors
    /// No random bytes, or the store cannot be written.
    pub async fn create_token(&self, name: &str) -> Result<String, TokenError> {
        self.create_token_for(name, &["runner"]).await
    }

    /// The same with the roles that `token create --role` knows.
    ///
    /// # Errors
    /// A name is no role; no random bytes, or the store cannot be written.
    pub async fn create_token_for(&self, name: &str, roles: &[&str]) -> Result<String, TokenError> {
        let grants = Grants {
            tenant: TenantId::default(),
            roles: Roles::parse(roles.iter().copied())
                .map_err(|error| TokenError::Roles(error.to_string()))?,
            person: None,
            expires_at: None,
        };
        let (text, token) = make_token(name.to_owned(), grants)?;
        let stored = self.desk.store.add_token(token).await;
        match stored.map_err(|error| TokenError::Store(error.to_string()))? {
            Added::Kept => Ok(text.reveal().to_owned()),
            Added::NoTenant | Added::NothingToReplace => Err(TokenError::Store(
                "the default tenant is missing".to_owned(),
            )),
        }
    }

    pub(crate) fn desk(&self) -> &Desk {
        &self.desk
    }
}
