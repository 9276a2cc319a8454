//! Copies the database while it is in use.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use super::{Store, StoreError, open::Backend};
use crate::model::operator_events::{Action, Actor, Entry};

/// Why no backup was made.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The file exists already, and a backup never replaces a file.
    #[error("{} exists already: choose another name, or remove it", .0.display())]
    Exists(PathBuf),
    /// The file cannot be written.
    #[error("cannot write {}: check its directory, its permissions and the free disk space", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The name is not UTF-8, so it cannot be passed to the database.
    #[error("{:?} is not valid UTF-8: choose another name", .0)]
    Name(PathBuf),
    /// The database is on a server, which has its own tools for backups.
    #[error("cannot back up a PostgreSQL database: use pg_dump or base backups")]
    OfServer,
    /// The event of the copy cannot be written.
    #[error("cannot store the backup as an operators' event, so no backup was made: check the database")]
    Record(#[from] StoreError),
    /// The database reported an error.
    #[error("cannot copy the database: check the free disk space")]
    Database(#[from] sqlx::Error),
}

impl Store {
    /// Writes a snapshot of the database into a new file, readable by its owner alone, while others continue to
    /// read and write. The copy has no free pages, and so contains nothing that was deleted. An incomplete file
    /// is removed.
    ///
    /// # Errors
    /// [`BackupError`].
    pub async fn back_up(&self, actor: &Actor, path: &Path) -> Result<(), BackupError> {
        if matches!(self.backend, Backend::Postgres(_)) {
            return Err(BackupError::OfServer);
        }
        let name = path.to_str().ok_or_else(|| BackupError::Name(path.to_owned()))?;
        // The database would make a new file readable for all users. It also writes into an empty file that
        // exists.
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        made.map_err(|source| {
            let path = path.to_owned();
            let exists = source.kind() == io::ErrorKind::AlreadyExists;
            if exists { BackupError::Exists(path) } else { BackupError::Write { path, source } }
        })?;
        // Before the copy, so that the copy contains the event too.
        let recorded = self.record(actor, &Entry::of(Action::BackedUp, name)).await;
        if let Err(error) = recorded {
            let _ = fs::remove_file(path);
            return Err(error.into());
        }
        let copied = sqlx::query("VACUUM INTO $1").bind(name).execute(&self.pool).await;
        if let Err(error) = copied {
            // An incomplete copy is of no use. If it cannot be removed either, the error says why.
            let _ = fs::remove_file(path);
            return Err(error.into());
        }
        let synced = fs::File::open(path).and_then(|file| file.sync_all());
        synced.map_err(|source| BackupError::Write { path: path.to_owned(), source })
    }
}
