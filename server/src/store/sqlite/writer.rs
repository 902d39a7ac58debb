//! The one writer of this process: takes what is waiting, writes it in one transaction, and only then answers.
//!
//! Group commit: while one batch is synced, the next one gathers, so that a sync is shared by all who wait for it.
//! Invariant (P4): nobody is told `Ok` before the commit that holds the change has returned and the files it went to
//! are still the database.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::super::StoreError;
use super::aside::Work;
use super::batch::{Fold, State};
use super::checkpoint::{EVERY, EVERY_COMMITS, Log, WORK};
use super::command::{Command, Outcome};
use super::tip::Tip;
use super::{beside, rows, sql};

/// The most changes in one transaction: enough to share a sync, few enough to answer soon.
pub(super) const BATCH: usize = 128;
/// How often a transaction that found the database locked is begun; each time SQLite waits its busy timeout.
const ATTEMPTS: usize = 3;

/// The one writer of this process.
#[derive(Debug)]
pub(super) struct Writer {
    connection: Option<SqliteConnection>,
    options: SqliteConnectOptions,
    path: PathBuf,
    files: Option<Identity>,
    telling: Telling,
    changes: usize,
    commits: usize,
    tip: Tip,
}

/// Whom the writer tells.
#[derive(Debug)]
pub(super) struct Telling {
    /// Told when it has grown.
    pub(super) log: Log,
    /// Told after each commit.
    pub(super) commits: watch::Sender<()>,
}

/// Which files the database was when it was first written: device and inode of file and log.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity([(u64, u64); 2]);

impl Writer {
    pub(super) fn new(
        connection: SqliteConnection,
        options: SqliteConnectOptions,
        path: PathBuf,
        telling: Telling,
    ) -> Self {
        let mut writer = Self {
            connection: Some(connection),
            options,
            path,
            files: None,
            telling,
            changes: 0,
            commits: 0,
            tip: Tip::default(),
        };
        writer.files = writer.identity();
        writer
    }

    /// Works until the queue of changes is closed, by dropping its senders or by `closing`, and empty. Between two
    /// batches there is time for one piece of other work.
    pub(super) async fn run(
        mut self,
        mut queue: mpsc::Receiver<Command>,
        mut works: mpsc::Receiver<Box<dyn Work>>,
        closing: CancellationToken,
    ) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                biased;
                () = closing.cancelled(), if !queue.is_closed() => {
                    works.close();
                    queue.close();
                }
                taken = queue.recv_many(&mut batch, BATCH) => {
                    if taken == 0 {
                        break;
                    }
                    self.settle(std::mem::take(&mut batch)).await;
                    batch.reserve(BATCH);
                    if let Ok(work) = works.try_recv() {
                        self.work(work).await;
                    }
                }
                Some(work) = works.recv() => self.work(work).await,
            }
        }
        while let Ok(work) = works.try_recv() {
            self.work(work).await;
        }
        self.finish().await;
    }

    async fn finish(mut self) {
        self.carry_over().await;
        match self.connection.take() {
            // SQLite carries the log over when the last one closes; without that, the next start reads all of it.
            Some(connection) if self.telling.log.check().is_err() => std::mem::forget(connection),
            Some(connection) => close(connection).await,
            None => {}
        }
    }

    async fn carry_over(&mut self) {
        if let Some(connection) = &mut self.connection {
            self.telling.log.carry(connection).await;
        }
    }

    async fn work(&mut self, work: Box<dyn Work>) {
        // It may move what is known, a turn's counts for one: the next batch reads.
        self.tip = Tip::default();
        if let Err(error) = self.still_the_database() {
            return work.refuse(error);
        }
        let connection = match self.connection.take() {
            Some(connection) => Ok(connection),
            None => self.options.connect().await,
        };
        match connection {
            Ok(mut connection) => {
                let mut counts = || self.still_the_database();
                let sound = match work.run(&mut connection, &mut counts).await {
                    Ok(()) => {
                        self.written(WORK);
                        true
                    }
                    Err(_told) => rolled_back(&mut connection).await,
                };
                self.connection = sound.then_some(connection);
            }
            Err(error) => work.refuse(error.into()),
        }
        self.catch_up().await;
    }

    /// Something was committed, about as much as so many changes.
    fn written(&mut self, changes: usize) {
        self.telling.commits.send_replace(());
        self.changes += changes;
        self.commits += 1;
        if self.changes >= EVERY || self.commits >= EVERY_COMMITS {
            (self.changes, self.commits) = (0, 0);
            self.telling.log.grow();
        }
    }

    async fn catch_up(&mut self) {
        if self.telling.log.is_behind() {
            self.carry_over().await;
        }
    }

    /// Writes a batch and tells everybody. What fails as a whole, and not because of the disk, is tried one by one, so
    /// that one change cannot take the others with it.
    async fn settle(&mut self, batch: Vec<Command>) {
        self.write(batch).await;
        self.catch_up().await;
    }

    async fn write(&mut self, batch: Vec<Command>) {
        match self.commit(&batch).await {
            Err(error) if batch.len() > 1 && error.concerns_one_change() => {
                for command in batch {
                    let alone = [command];
                    let outcome = self.commit(&alone).await;
                    let [command] = alone;
                    let outcome = outcome.and_then(|mut outcomes| {
                        outcomes
                            .pop()
                            .unwrap_or(Err(StoreError::Corrupt("a change without an outcome")))
                    });
                    command.settle(outcome);
                }
            }
            Ok(outcomes) => {
                for (command, outcome) in batch.into_iter().zip(outcomes) {
                    command.settle(outcome);
                }
            }
            Err(error) => {
                for command in batch {
                    command.settle(Err(error.clone()));
                }
            }
        }
    }

    async fn commit(
        &mut self,
        batch: &[Command],
    ) -> Result<Vec<Result<Outcome, StoreError>>, StoreError> {
        self.still_the_database()?;
        let mut attempts = 1..ATTEMPTS;
        let outcomes = loop {
            match self.transact(batch).await {
                Err(StoreError::Locked) if attempts.next().is_some() => {}
                done => break done?,
            }
        };
        // Frames synced into a file that has no name any more are on no disk that a restart would read.
        self.still_the_database()?;
        self.written(batch.len());
        Ok(outcomes)
    }

    async fn transact(
        &mut self,
        batch: &[Command],
    ) -> Result<Vec<Result<Outcome, StoreError>>, StoreError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        let written = match self.tip.take_for(batch) {
            None => read_and_write(&mut connection, batch).await,
            Some(known) => match write_on(&mut connection, batch, known, sql::BEGIN).await {
                // Another process wrote in between, or a nonce is asked again: nothing of it was written.
                Err(error) if is_constraint(&error) => read_and_write(&mut connection, batch).await,
                written => written.map_err(StoreError::from),
            },
        };
        // Whatever went wrong, the next batch starts clean: on this connection, or on a new one.
        let clean = match &written {
            Ok(_) => true,
            Err(_) => rolled_back(&mut connection).await,
        };
        if clean {
            self.connection = Some(connection);
        } else {
            drop(connection);
        }
        let (outcomes, known) = written?;
        self.tip = Tip::after(known);
        Ok(outcomes)
    }

    fn still_the_database(&mut self) -> Result<(), StoreError> {
        self.telling.log.check()?;
        let found = self.identity();
        if self.files.is_none() {
            self.files.clone_from(&found);
        }
        if found.is_some() && found == self.files {
            Ok(())
        } else {
            Err(StoreError::Gone)
        }
    }

    fn identity(&self) -> Option<Identity> {
        let of = |path: PathBuf| {
            let metadata = std::fs::symlink_metadata(path).ok()?;
            Some((metadata.dev(), metadata.ino()))
        };
        Some(Identity([
            of(self.path.clone())?,
            of(beside(&self.path, "-wal"))?,
        ]))
    }
}

async fn close(connection: SqliteConnection) {
    if let Err(error) = connection.close().await {
        tracing::debug!(%error, "the database was not closed cleanly");
    }
}

/// What came of each command, and what is known after them.
type Written = (Vec<Result<Outcome, StoreError>>, State);

async fn read_and_write(
    connection: &mut SqliteConnection,
    batch: &[Command],
) -> Result<Written, StoreError> {
    let mut begin = sql::begin(batch);
    let read = begin
        .build()
        .persistent(is_kept(batch))
        .fetch_all(&mut *connection)
        .await;
    let known = sql::state(&read?)?;
    Ok(write_on(connection, batch, known, "").await?)
}

/// Writes what follows from `known`, in the transaction that `before` opens or that is open already.
async fn write_on(
    connection: &mut SqliteConnection,
    batch: &[Command],
    known: State,
    before: &str,
) -> Result<Written, sqlx::Error> {
    let mut fold = Fold::new(known);
    let outcomes = batch.iter().map(|command| fold.add(command)).collect();
    let (rows, known) = fold.finish().map_err(|error| spelling(&error))?;
    let mut write = rows::write(before, &rows);
    let written = write
        .build()
        .persistent(is_kept(batch))
        .execute(connection)
        .await;
    written?;
    Ok((outcomes, known))
}

/// Statements come in few shapes and are kept prepared; only what recovery closes may be of any size.
fn is_kept(batch: &[Command]) -> bool {
    batch.iter().all(|command| command.closes().is_none())
}

fn spelling(error: &StoreError) -> sqlx::Error {
    sqlx::Error::Encode(error.to_string().into())
}

fn is_constraint(error: &sqlx::Error) -> bool {
    extended_code(error).map(primary) == Some(19)
}

/// Whether the connection holds no transaction any more. SQLite may have ended it itself; then there is none to end.
async fn rolled_back(connection: &mut SqliteConnection) -> bool {
    match sqlx::query("ROLLBACK").execute(&mut *connection).await {
        Ok(_) => true,
        Err(error) => {
            // 1: "cannot rollback - no transaction is active" (sqlite.org/rescode.html#error).
            extended_code(&error).map(primary) == Some(1)
        }
    }
}

fn primary(code: u32) -> u32 {
    code & 0xff
}

/// SQLite's extended result code (sqlite.org/rescode.html); its last eight bits are the primary one.
fn extended_code(error: &sqlx::Error) -> Option<u32> {
    let code = error.as_database_error()?.code()?;
    code.parse().ok()
}

/// Whether the disk did not read or write (`SQLITE_IOERR`).
pub(super) fn is_of_the_disk(error: &sqlx::Error) -> bool {
    extended_code(error).map(primary) == Some(10)
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let code = extended_code(&error);
        match code.map(primary) {
            Some(5 | 6) => Self::Locked,
            Some(8) => Self::ReadOnly,
            Some(10) => Self::Disk(code.unwrap_or(10)),
            Some(13) => Self::Full,
            Some(11 | 26) => Self::Corrupt(
                "SQLite finds the file damaged\nhint: `auto-review-server verify` says what holds; restore a copy",
            ),
            Some(_) | None => Self::Database(error.to_string()),
        }
    }
}

impl StoreError {
    /// Whether a smaller batch may fare better.
    fn concerns_one_change(&self) -> bool {
        match self {
            Self::Database(_) => true,
            Self::Locked
            | Self::Full
            | Self::ReadOnly
            | Self::Disk(_)
            | Self::Lost
            | Self::Gone
            | Self::Corrupt(_)
            | Self::DoesNotHold { .. }
            | Self::Closed => false,
        }
    }
}
