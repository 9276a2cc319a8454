//! An SQLite file as the relay's database.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use sqlx::{
    AnyConnection, AnyPool, ConnectOptions, Connection, Executor, SqlitePool,
    any::AnyConnectOptions,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions},
};

use super::{
    DEFAULT_NAME_REST, OpenError, Store,
    error::is_damage,
    migrations::{self, STEPS},
    open::{BUSY_TIMEOUT, Backend, IfMissing, is_at_rest, journal_pool, migrate, pool},
};

/// The statements that every connection runs first. With write-ahead logging, readers and the writer work at
/// the same time. Deleted data is overwritten with zeros, because it may be about a person's call.
const SETUP: &str = "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; \
     PRAGMA foreign_keys = ON; PRAGMA secure_delete = ON";
/// Processes that start on a new file race to create its schema. A process that loses finds at least one more step
/// done at the next attempt. One attempt is for the file itself.
const ATTEMPTS: usize = STEPS + 2;

/// The file that was opened, to notice if another file has taken its place.
#[derive(Debug, Clone)]
pub(super) struct DatabaseFile {
    pub(super) path: PathBuf,
    /// Device and inode at the time of opening.
    identity: (u64, u64),
}

impl DatabaseFile {
    /// True if the file is still where it was opened.
    pub(super) fn is_in_place(&self) -> bool {
        identity(&self.path).ok() == Some(self.identity)
    }
}

/// Opens a file. A new file gets mode 0600, and SQLite gives its journals the same mode.
pub(super) async fn open(path: &Path, if_missing: IfMissing) -> Result<Store, OpenError> {
    match if_missing {
        IfMissing::Create => {
            create(path).map_err(|source| OpenError::Create { path: path.to_owned(), source })?;
        }
        IfMissing::Refuse if !path.exists() => return Err(OpenError::Missing(path.to_owned())),
        IfMissing::Refuse => {}
    }
    let mut attempt = 1;
    loop {
        match try_open(path).await {
            Err(OpenError::Connect { .. } | OpenError::Migrate { .. }) if attempt < ATTEMPTS => attempt += 1,
            result => return result,
        }
    }
}

async fn try_open(path: &Path) -> Result<Store, OpenError> {
    let failed = |source| {
        let path = path.to_owned();
        if is_damage(&source) {
            OpenError::Damaged { path, source: source.into() }
        } else {
            OpenError::Connect { path, source }
        }
    };
    let events = SqliteConnectOptions::new().filename(path).create_if_missing(false);
    let url = events.to_url_lossy();
    let options = AnyConnectOptions::from_url(&url).map_err(failed)?;
    // A pool would retry again and again if the file is not a database; one connection reports the error at
    // once.
    let mut probe = options.connect().await.map_err(failed)?;
    set_up(&mut probe).await.map_err(failed)?;
    let all: AnyPool = pool(SETUP).connect_with(options.clone()).await.map_err(failed)?;
    probe.close().await.map_err(failed)?;
    let identity = identity(path).map_err(|error| failed(error.into()))?;
    migrate(&migrations::SQLITE, &all, &path.display()).await.map_err(|error| or_damage(error, path))?;
    let backend = Backend::Sqlite(DatabaseFile { path: path.to_owned(), identity });
    Ok(Store {
        pool: all,
        journal: journal_pool(SETUP, options),
        events: Some(events_pool(events)),
        backend,
        name_rest: DEFAULT_NAME_REST,
        erasure_key: Arc::default(),
    })
}

fn or_damage(error: OpenError, path: &Path) -> OpenError {
    use sqlx::migrate::MigrateError::{Execute, ExecuteMigration};
    if let OpenError::Migrate { source, .. } = &error
        && let Execute(cause) | ExecuteMigration(cause, _) = source
        && is_damage(cause)
    {
        return OpenError::Damaged { path: path.to_owned(), source: error.into() };
    }
    error
}

/// As [`journal_pool`], with SQLite's own types.
fn events_pool(options: SqliteConnectOptions) -> SqlitePool {
    SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(BUSY_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        .after_connect(|connection, _| Box::pin(async move { connection.execute(SETUP).await.map(drop) }))
        .after_release(|connection, _| Box::pin(is_at_rest(connection)))
        .connect_lazy_with(options)
}

async fn set_up(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    connection.execute(SETUP).await.map(drop)
}

fn create(path: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map(drop)
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests;
