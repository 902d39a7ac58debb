//! The service as its hosts hold it: opened, routed, closed.
//!
//! Apart, because it is the whole public face of this crate: `agent-runner` embeds it without a port, the command line
//! serves it on one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use axum::Router;
use protocol::{CallerId, ServerKey, TenantId};
use reviewer::Reviewer;
use telemetry::Telemetry;
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::Readiness;
use crate::auth::{Auth, AuthError, make_token};
use crate::desk::{Caller, Desk, People, RecoveryError};
use crate::key::SigningKey;
use crate::owner::{LockError, OwnerLocks};
use crate::role::Roles;
use crate::router;
use crate::store::sqlite::OpenStoreError;
use crate::store::sqlite::tokens::{Added, Grants};
use crate::store::{Scope, SqliteStore};
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
    /// Room for submissions under review, in MiB: 1 to 65,536. What does not fit is refused with 503.
    pub in_flight_mib: u16,
    /// How long an approval can be spent: 60 s, or less.
    pub approval_lifetime: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            in_flight_mib: 256,
            approval_lifetime: Self::LONGEST_LIFETIME,
        }
    }
}

/// How often the index is brought up to the record. Who looks something up brings it up first.
const INDEX_PAUSE: Duration = Duration::from_millis(500);

impl Limits {
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
            key: settings.signing_key,
            speaks_for_user: settings.speaks_for_user,
            limits,
            owner: lock.id().clone(),
            lock: Mutex::new(Some(lock)),
            locks,
            room: Arc::new(Semaphore::new(usize::from(limits.in_flight_mib) * 1024)),
            flights: Mutex::new(HashMap::new()),
            tasks: TaskTracker::new(),
            streams: Arc::default(),
            webhooks: OnceLock::new(),
            observer: Observer::default(),
            stopping: CancellationToken::new(),
        });
        let recovered = desk.recover().await;
        recovered.map_err(|error: RecoveryError| OpenError::Recovery(error.to_string()))?;
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

    /// The API for a TCP port: a bearer token on everything but `/healthz` and `/readyz`, and nobody who could answer for
    /// a person.
    pub fn router(&self) -> Router {
        router::public(&self.desk, &self.readiness, Arc::clone(&self.auth))
    }

    /// The same as [`Service::router`] for programs that only show the service: without streams, webhooks, measures, the
    /// API's document and compression, so that they do not hold what these need.
    pub fn bare_router(&self) -> Router {
        router::bare(&self.desk, &self.readiness, Arc::clone(&self.auth))
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
        self.desk.store.close().await;
        self.desk.release_lock();
    }

    /// Makes a bearer token for `name`, with the role `runner` and no end. It is told here, once; only its SHA-256 is
    /// stored.
    ///
    /// # Errors
    /// No random bytes, or the store cannot be written.
    pub async fn create_token(&self, name: &str) -> Result<String, TokenError> {
        let grants = Grants {
            tenant: TenantId::default(),
            roles: Roles::runner(),
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
