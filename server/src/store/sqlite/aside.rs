//! Work on the writer's connection that is not a review's own way: tokens, tenants, the index, erasure.
//!
//! Apart from the batches, because it is rare, may read and write as it likes, and must not be in anybody's way: one
//! piece of work between two batches. Invariant: a piece of work is one transaction; what fails leaves nothing behind.

use std::pin::Pin;

use sqlx::sqlite::SqliteConnection;
use tokio::sync::oneshot;

use super::super::StoreError;
use super::SqliteStore;

/// What a piece of work comes to.
pub(super) type Working<'c, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'c>>;

/// Says whether what was written is in the database that everybody else reads.
pub(super) type Counts<'c> = &'c mut (dyn FnMut() -> Result<(), StoreError> + Send);

/// A piece of work; it answers whoever waits once its transaction is durable and counts.
pub(super) trait Work: Send {
    /// Does it in a transaction of its own; an error where the connection cannot be trusted any more.
    fn run<'c>(
        self: Box<Self>,
        connection: &'c mut SqliteConnection,
        counts: Counts<'c>,
    ) -> Working<'c, ()>;
    /// Tells whoever waits that it was not done.
    fn refuse(self: Box<Self>, error: StoreError);
}

struct Task<F, T> {
    work: F,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<F, T> Work for Task<F, T>
where
    F: for<'c> FnOnce(&'c mut SqliteConnection) -> Working<'c, T> + Send + 'static,
    T: Send + 'static,
{
    fn run<'c>(
        self: Box<Self>,
        connection: &'c mut SqliteConnection,
        counts: Counts<'c>,
    ) -> Working<'c, ()> {
        Box::pin(async move {
            let Self { work, reply } = *self;
            let done = transact(connection, work).await;
            let done = done.and_then(|done| counts().map(|()| done));
            let sound = done.as_ref().map(|_| ()).map_err(Clone::clone);
            if reply.send(done).is_err() {
                tracing::debug!("nobody waits for a piece of work any more");
            }
            sound
        })
    }

    fn refuse(self: Box<Self>, error: StoreError) {
        if self.reply.send(Err(error)).is_err() {
            tracing::debug!("nobody waits for a piece of work any more");
        }
    }
}

async fn transact<F, T>(connection: &mut SqliteConnection, work: F) -> Result<T, StoreError>
where
    F: for<'c> FnOnce(&'c mut SqliteConnection) -> Working<'c, T>,
{
    sqlx::query("BEGIN IMMEDIATE")
        .execute(&mut *connection)
        .await?;
    let done = work(connection).await?;
    sqlx::query("COMMIT").execute(&mut *connection).await?;
    Ok(done)
}

impl SqliteStore {
    /// Has `work` done by the writer, in a transaction of its own.
    pub(super) async fn aside<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> Working<'c, T> + Send + 'static,
        T: Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let task = Box::new(Task { work, reply });
        let sent = self.works.send(task).await;
        sent.map_err(|_closed| StoreError::Closed)?;
        answer.await.map_err(|_closed| StoreError::Closed)?
    }
}
