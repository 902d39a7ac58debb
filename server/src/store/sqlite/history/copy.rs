//! A copy of the whole record while it is written: SQLite's `VACUUM INTO`, which reads one state of it.

use std::fs::File;
use std::path::Path;

use sqlx::{ConnectOptions as _, Connection as _};

use super::super::super::StoreError;
use super::super::SqliteStore;
use crate::private_files::create_private_file;

impl SqliteStore {
    /// Copies the record to the file `to`, which must not exist and is made private. It is on disk when this returns.
    pub(crate) async fn copy_to(&self, to: &Path) -> Result<(), StoreError> {
        let failed = |error: &dyn std::fmt::Display| StoreError::Database(error.to_string());
        let text = to
            .to_str()
            .ok_or_else(|| failed(&"the file's name is not UTF-8"))?;
        let file = create_private_file(to).map_err(|error| {
            let cause = std::error::Error::source(&error);
            let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
            failed(&format!("{error}{cause}"))
        })?;
        // A connection of its own: the writer goes on, and a reader may not write anything.
        let mut connection = self.options.connect().await?;
        sqlx::query("VACUUM INTO ?")
            .bind(text)
            .execute(&mut connection)
            .await?;
        connection.close().await?;
        file.sync_all().map_err(|error| failed(&error))?;
        let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = File::open(folder.unwrap_or_else(|| Path::new(".")));
        folder
            .and_then(|folder| folder.sync_all())
            .map_err(|error| failed(&error))
    }
}
