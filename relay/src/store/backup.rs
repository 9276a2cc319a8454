//! Copies the database while it is in use.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use super::{Store, StoreError, open::Backend};
use crate::model::operator_events::{Action, Actor, Entry};

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Something stands there already, and a backup replaces nothing.
    #[error("{} exists already: choose another name, or remove it", .0.display())]
    Exists(PathBuf),
    /// The file cannot be written.
    #[error("cannot write {}: check its directory, its permissions and the space on the disk", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The name cannot be handed to the database.
    #[error("{:?} is no UTF-8: choose another name", .0)]
    Name(PathBuf),
    /// A server has means of its own.
    #[error("a database of a PostgreSQL server is backed up by its own means: pg_dump, or base backups")]
    OfServer,
    /// The event of the copy cannot be written.
    #[error("the copy cannot be put on record, so none is made: check the database")]
    Record(#[from] StoreError),
    /// The database refused.
    #[error("the database cannot be copied: check the space on the disk")]
    Database(#[from] sqlx::Error),
}

impl Store {
    /// Writes a copy of one moment into a new file, readable by its owner alone, while others go on to read and
    /// write. The copy holds no free pages, and so nothing that was deleted. A file that is not whole is removed.
    ///
    /// # Errors
    /// [`BackupError`].
    pub async fn back_up(&self, actor: &Actor, path: &Path) -> Result<(), BackupError> {
        if matches!(self.backend, Backend::Postgres(_)) {
            return Err(BackupError::OfServer);
        }
        let name = path.to_str().ok_or_else(|| BackupError::Name(path.to_owned()))?;
        // The database would make the file readable for everybody; into an empty one it writes as well.
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        made.map_err(|source| {
            let path = path.to_owned();
            let exists = source.kind() == io::ErrorKind::AlreadyExists;
            if exists { BackupError::Exists(path) } else { BackupError::Write { path, source } }
        })?;
        // Before the copy, so that it is on record in the copy too.
        let recorded = self.record(actor, &Entry::of(Action::BackedUp, name)).await;
        if let Err(error) = recorded {
            let _ = fs::remove_file(path);
            return Err(error.into());
        }
        let copied = sqlx::query("VACUUM INTO $1").bind(name).execute(&self.pool).await;
        if let Err(error) = copied {
            // What is left of it is of no use; if it cannot be removed either, the error says why.
            let _ = fs::remove_file(path);
            return Err(error.into());
        }
        let synced = fs::File::open(path).and_then(|file| file.sync_all());
        synced.map_err(|source| BackupError::Write { path: path.to_owned(), source })
    }
}
