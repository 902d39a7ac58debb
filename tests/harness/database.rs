//! A database file from outside the programs: its event chain read, its write lock held.

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection as _, Executor as _, Row as _};
use tokio::runtime::{Builder, Runtime};

/// A line of the event chain.
#[derive(Debug, Clone)]
pub struct Event {
    /// Whose.
    pub tenant: String,
    /// Its number.
    pub seq: i64,
    /// The review's id.
    pub review: Vec<u8>,
    /// What happened.
    pub kind: String,
    /// When, in milliseconds.
    pub at: i64,
    /// More of it.
    pub body: String,
    /// The hash that the program wrote.
    pub hash: Vec<u8>,
}

/// A connection of this process's own to a database file.
#[derive(Debug)]
pub struct Database {
    runtime: Runtime,
    connection: SqliteConnection,
}

/// The write lock of a database, held.
#[derive(Debug)]
pub struct HeldLock(Database);

impl Database {
    /// Opens the file.
    ///
    /// # Panics
    /// It is none.
    #[must_use]
    pub fn open(path: &Path) -> Self {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime can be made");
        let options = SqliteConnectOptions::new().filename(path);
        let connection = runtime
            .block_on(SqliteConnection::connect_with(&options))
            .expect("the database opens");
        Self {
            runtime,
            connection,
        }
    }

    /// Takes the write lock and keeps it, as another program in the middle of a long transaction would.
    ///
    /// # Panics
    /// Somebody else has it.
    #[must_use]
    pub fn lock(mut self) -> HeldLock {
        self.runtime
            .block_on(self.connection.execute("BEGIN EXCLUSIVE"))
            .expect("the lock is free");
        HeldLock(self)
    }

    /// Every event, in the order of the chain.
    ///
    /// # Panics
    /// The table is not as the migrations make it.
    #[must_use]
    pub fn events(&mut self) -> Vec<Event> {
        let query = sqlx::query(
            "SELECT tenant_id, seq, review_id, kind, at, body, hash FROM review_events ORDER BY tenant_id, seq",
        );
        let rows = self
            .runtime
            .block_on(query.fetch_all(&mut self.connection))
            .expect("the events can be read");
        rows.iter()
            .map(|row| Event {
                tenant: row.get("tenant_id"),
                seq: row.get("seq"),
                review: row.get("review_id"),
                kind: row.get("kind"),
                at: row.get("at"),
                body: row.get("body"),
                hash: row.get("hash"),
            })
            .collect()
    }
}

impl HeldLock {
    /// Lets it go.
    ///
    /// # Panics
    /// It was lost before.
    pub fn release(self) {
        let Database {
            runtime,
            mut connection,
        } = self.0;
        runtime
            .block_on(connection.execute("ROLLBACK"))
            .expect("the lock was held until now");
    }
}
