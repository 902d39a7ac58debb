//! The record in one SQLite file, shared by as many processes as like.
//!
//! One writer per process with group commit (`writer.rs`), readers beside it (`read.rs`). WAL with `synchronous=FULL`:
//! a commit returns after its frames are synced (SQLite's documentation of `PRAGMA synchronous`), so `Ok` means durable.
//! Invariant: the file, its folder and its companions belong to this user alone.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::ReviewId;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Connection as _, Row as _};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{
    Closing, Ended, Ending, Found, Opened, Opening, Page, Recorded, Redeemed, Redemption,
    ReviewStore, Sight, StoreError, bodies,
};
use crate::owner::OwnerId;
use crate::private_files::{NotPrivate, check_private_file, private_file, private_folder};

mod append;
mod aside;
mod batch;
mod checkpoint;
mod command;
pub(crate) mod erase;
pub(crate) mod forget;
pub(crate) mod heads;
pub(crate) mod history;
mod idle;
mod lanes;
mod leaves;
pub(crate) mod policies;
mod policy_changes;
mod read;
mod rows;
pub(crate) mod sized;
mod sql;
pub(crate) mod tenants;
mod tip;
pub(crate) mod tokens;
pub(crate) mod webhooks;
mod writer;

pub(crate) use policy_changes::Noted;

use checkpoint::Log;
use command::{Change, Command, Recording};
use writer::{Telling, Writer};

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/sqlite");

/// `ARVW`: says whose file it is (`PRAGMA application_id`).
const APPLICATION_ID: i32 = 0x4152_5657;
/// How long SQLite itself waits for another process's write; what is left after it is retried by the writer.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a start waits while other processes start.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// The least room on the disk with which the server says that it is ready, in bytes.
const LEAST_ROOM: u64 = 32 * 1024 * 1024;
/// How many changes wait at most; who comes later waits to be let in.
const QUEUE: usize = 4_096;
/// How many pieces of other work wait at most.
const WORKS: usize = 64;

/// The record in one SQLite file.
#[derive(Debug)]
pub(crate) struct SqliteStore {
    changes: mpsc::Sender<Command>,
    works: mpsc::Sender<Box<dyn aside::Work>>,
    readers: SqlitePool,
    /// Who asks, and one review by its name: short reads that wait behind no list, export or verification.
    short_readers: SqlitePool,
    /// Whose turn it is at `readers`.
    lanes: lanes::Lanes,
    options: SqliteConnectOptions,
    closing: CancellationToken,
    writer: TaskTracker,
    /// Changes with every commit of this process.
    written: watch::Receiver<()>,
    log: Log,
}

/// Why a database was not opened.
#[derive(Debug, Error)]
pub enum OpenStoreError {
    /// The file's name has no folder or no last part.
    #[error("`{}` is not a file's path", .0.display())]
    Path(PathBuf),
    /// The file or its folder is not private.
    #[error(transparent)]
    NotPrivate(#[from] NotPrivate),
    /// Other processes were starting for too long.
    #[error("another process is preparing the database `{}` and does not finish", .0.display())]
    Busy(PathBuf),
    /// It belongs to another program.
    #[error("`{}` is not a database of this program", .0.display())]
    Foreign(PathBuf),
    /// It could not be opened.
    #[error("cannot open the database `{}`", .path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: sqlx::Error,
    },
    /// Its tables could not be made or brought up to date.
    #[error("cannot bring the database `{}` up to date", .path.display())]
    Migrate {
        /// Which file.
        path: PathBuf,
        /// What went wrong; a version that this program does not know means that a newer one made the file.
        #[source]
        source: sqlx::migrate::MigrateError,
    },
}

/// At most `most` connections that write nothing.
fn pool(options: &SqliteConnectOptions, most: u32) -> SqlitePool {
    SqlitePoolOptions::new()
        .min_connections(0)
        .max_connections(most)
        .acquire_timeout(Duration::from_secs(5))
        .idle_timeout(Duration::from_secs(60))
        .connect_lazy_with(options.clone().pragma("query_only", "1"))
}

impl SqliteStore {
    /// Opens the database `path`, makes it where it is missing and brings it up to date.
    pub(crate) async fn open(path: &Path) -> Result<Self, OpenStoreError> {
        let path = prepare_files(path)?;
        let lock = start_lock(&path).await?;
        let options = options(&path);
        let connection = connect(&options, &path).await?;
        drop(lock);
        let (changes, queue) = mpsc::channel(QUEUE);
        let (works, asked) = mpsc::channel(WORKS);
        let closing = CancellationToken::new();
        let writer = TaskTracker::new();
        let readers = pool(&options, 4);
        let short_readers = pool(&options, 2);
        let log = Log::default();
        let (commits, written) = watch::channel(());
        let telling = Telling {
            log: log.clone(),
            commits,
        };
        let task = Writer::new(connection, options.clone(), path, telling);
        drop(writer.spawn(task.run(queue, asked, closing.clone())));
        drop(writer.spawn(log.clone().follow(readers.clone(), closing.clone())));
        writer.close();
        Ok(Self {
            changes,
            works,
            readers,
            short_readers,
            lanes: lanes::Lanes::default(),
            options,
            closing,
            writer,
            written,
            log,
        })
    }

    /// Refuses where the disk under the database is all but full: reviews that are taken in then could not be ended.
    pub(crate) fn has_room(&self) -> Result<(), StoreError> {
        let disk = rustix::fs::statvfs(self.options.get_filename());
        let disk = disk.map_err(|error| StoreError::Database(error.to_string()))?;
        if disk.f_bavail.saturating_mul(disk.f_frsize) < LEAST_ROOM {
            return Err(StoreError::Full);
        }
        Ok(())
    }

    /// Changes whenever this process has written something. What others write, it does not tell.
    pub(crate) fn written(&self) -> watch::Receiver<()> {
        let mut written = self.written.clone();
        written.mark_unchanged();
        written
    }

    /// Returns when the disk has lost a write to the database: nothing is recorded any more until it is opened anew.
    pub(crate) async fn lost(&self) {
        self.log.lost().await;
    }

    /// Refuses once that has happened.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        self.log.check()
    }

    /// Writes what is queued and closes the file. What comes later is refused.
    pub(crate) async fn close(&self) {
        self.closing.cancel();
        self.writer.wait().await;
        if self.check().is_err() {
            // Closed by the system, with this process: SQLite itself would carry the log over (`checkpoint.rs`).
            std::mem::forget((self.readers.clone(), self.short_readers.clone()));
            return;
        }
        self.readers.close().await;
        self.short_readers.close().await;
    }

    async fn change<T>(
        &self,
        make: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Command,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let sent = self.changes.send(make(reply)).await;
        sent.map_err(|_closed| StoreError::Closed)?;
        answer.await.map_err(|_closed| StoreError::Closed)?
    }
}

impl ReviewStore for SqliteStore {
    async fn open(&self, opening: Opening) -> Result<Opened, StoreError> {
        let body = bodies::opened(&opening)?;
        self.change(|reply| {
            Command::Open(
                Box::new(Change {
                    what: opening,
                    body,
                }),
                reply,
            )
        })
        .await
    }

    async fn record(&self, opening: Opening, ending: Ending) -> Result<Opened, StoreError> {
        let both = Recording {
            opening: Change {
                body: bodies::opened(&opening)?,
                what: opening,
            },
            ending: Change {
                body: bodies::ended(&ending)?,
                what: ending,
            },
        };
        self.change(|reply| Command::Record(Box::new(both), reply))
            .await
    }

    async fn end(&self, ending: Ending) -> Result<Ended, StoreError> {
        let body = bodies::ended(&ending)?;
        self.change(|reply| Command::End(Box::new(Change { what: ending, body }), reply))
            .await
    }

    async fn redeem(&self, redemption: Redemption) -> Result<Redeemed, StoreError> {
        let body = bodies::redeemed(&redemption)?;
        let change = Box::new(Change {
            what: redemption,
            body,
        });
        self.change(|reply| Command::Redeem(change, reply)).await
    }

    async fn end_all_of(
        &self,
        owner: OwnerId,
        closing: Closing,
    ) -> Result<Vec<Ending>, StoreError> {
        self.change(|reply| Command::EndAllOf(owner, Box::new(closing), reply))
            .await
    }

    async fn owners_of_open(&self) -> Result<Vec<OwnerId>, StoreError> {
        read::owners_of_open(&self.readers).await
    }

    async fn review(
        &self,
        sight: &Sight,
        review_id: ReviewId,
    ) -> Result<Option<Recorded>, StoreError> {
        read::review(&self.short_readers, sight, review_id).await
    }

    async fn page(&self, sight: &Sight, page: &Page) -> Result<Found, StoreError> {
        let _lane = self.lanes.enter(sight.tenant()).await;
        read::page(&self.readers, sight, page).await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        let now = jiff::Timestamp::now();
        self.change(|reply| Command::Probe(now.as_millisecond(), reply))
            .await
    }
}

/// Makes folder and file where they are missing, and checks them and what SQLite keeps beside them.
fn prepare_files(path: &Path) -> Result<PathBuf, OpenStoreError> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(OpenStoreError::Path(path.to_owned()));
    };
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let path = private_folder(folder)?.join(name);
    drop(private_file(&path)?);
    for suffix in ["-wal", "-shm"] {
        let companion = beside(&path, suffix);
        match check_private_file(&companion) {
            Err(NotPrivate::Unusable { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound => {}
            checked => checked?,
        }
    }
    Ok(path)
}

/// `path` with `suffix` at the end of its name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// One process prepares the database at a time: switching to WAL and migrating are no place for a race.
async fn start_lock(path: &Path) -> Result<File, OpenStoreError> {
    let name = beside(path, ".start");
    let file = private_file(&name)?;
    let until = Instant::now() + START_TIMEOUT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(source)) => {
                return Err(NotPrivate::Unusable { path: name, source }.into());
            }
            Err(TryLockError::WouldBlock) if Instant::now() >= until => {
                return Err(OpenStoreError::Busy(path.to_owned()));
            }
            Err(TryLockError::WouldBlock) => tokio::time::sleep(Duration::from_millis(3)).await,
        }
    }
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        // `checkpoint.rs` carries the log over: SQLite itself would keep it to itself when the disk fails.
        .pragma("wal_autocheckpoint", "0")
        .pragma("cache_size", "-16384")
        // The shapes of `rows.rs`; each one prepared takes some 100 KiB at most.
        .statement_cache_capacity(48)
        // What one batch reads, so that SQLite's thread never stops to be read from.
        .row_buffer_size(4 * writer::BATCH)
        .disable_statement_logging()
}

async fn connect(
    options: &SqliteConnectOptions,
    path: &Path,
) -> Result<SqliteConnection, OpenStoreError> {
    let open = |source| OpenStoreError::Open {
        path: path.to_owned(),
        source,
    };
    let mut connection = options.connect().await.map_err(open)?;
    let found = sqlx::query(
        "SELECT (SELECT application_id FROM pragma_application_id), (SELECT count(*) FROM sqlite_schema)",
    )
    .fetch_one(&mut connection)
    .await
    .map_err(open)?;
    let (application, tables): (i32, i64) = (
        found.try_get(0).map_err(open)?,
        found.try_get(1).map_err(open)?,
    );
    if application != APPLICATION_ID && (application != 0 || tables != 0) {
        return Err(OpenStoreError::Foreign(path.to_owned()));
    }
    if let Err(source) = MIGRATIONS.run(&mut connection).await {
        connection.close().await.map_err(open)?;
        return Err(OpenStoreError::Migrate {
            path: path.to_owned(),
            source,
        });
    }
    Ok(connection)
}

#[cfg(test)]
mod tests;
