//! Opens a database and brings its schema up to date.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
    time::Duration,
};

use sqlx::{
    AnyConnection, AnyPool, ConnectOptions, Connection, Executor,
    any::{AnyConnectOptions, AnyPoolOptions},
    migrate::{MigrateError, Migrator},
    sqlite::SqliteConnectOptions,
};

use super::{DatabaseFile, DatabaseUrl, OpenError, Store, error::is_damage};

static MIGRATIONS: Migrator = sqlx::migrate!("src/store/migrations/sqlite");

/// How long a writer waits for another one. Every transaction here is a handful of rows: a lock held for longer
/// belongs to a program that hangs.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The poller, the audit's writer, pages of operators and some slack; SQLite has a single writer anyway.
const MAX_CONNECTIONS: u32 = 8;
/// Processes that start on a fresh file race for its schema. Who loses finds one more migration done at the next attempt,
/// so there are more attempts than migrations.
const OPEN_ATTEMPTS: u32 = 10;
/// What every connection begins with. Write-ahead logging lets readers and the writer work side by side; what is
/// deleted is overwritten with zeros, because it may be somebody's call.
const SQLITE_SETUP: &str = "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; \
     PRAGMA foreign_keys = ON; PRAGMA secure_delete = ON";

/// What to do when the database does not exist yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfMissing {
    /// Make an empty one, readable by its owner alone.
    Create,
    /// Say so; for commands that make no sense on an empty database.
    Refuse,
}

impl IfMissing {
    /// For commands of which only some have sense on an empty database: those that add something.
    pub(crate) fn when_adding(adds: bool) -> Self {
        if adds { Self::Create } else { Self::Refuse }
    }
}

/// Opens a database and brings its schema up to date. A new file gets mode 0600, and SQLite gives its journals the
/// same.
///
/// # Errors
/// [`OpenError`] when it cannot be opened, is missing and must not be made, or was written by a newer release.
pub async fn open(url: &DatabaseUrl, if_missing: IfMissing) -> Result<Store, OpenError> {
    sqlx::any::install_default_drivers();
    let DatabaseUrl::Sqlite(path) = url;
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
            Err(OpenError::Connect { .. } | OpenError::Migrate { .. }) if attempt < OPEN_ATTEMPTS => {
                attempt += 1;
            }
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
    let url = SqliteConnectOptions::new().filename(path).create_if_missing(false).to_url_lossy();
    let options = AnyConnectOptions::from_url(&url).map_err(failed)?;
    // A pool would try again and again where the file is no database at all; one connection says so at once.
    let mut probe = options.connect().await.map_err(failed)?;
    set_up(&mut probe).await.map_err(failed)?;
    let pool = pool(MAX_CONNECTIONS).connect_with(options.clone()).await.map_err(failed)?;
    probe.close().await.map_err(failed)?;
    let identity = identity(path).map_err(|error| failed(error.into()))?;
    migrate(&pool, path).await?;
    let journal = journal_pool(options);
    Ok(Store { pool, journal, file: DatabaseFile { path: path.to_owned(), identity } })
}

fn pool(connections: u32) -> AnyPoolOptions {
    AnyPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(BUSY_TIMEOUT)
        .after_connect(|connection, _| Box::pin(set_up(connection)))
        .after_release(|connection, _| Box::pin(is_at_rest(connection)))
}

/// One connection that is always the same: it has in memory the pages that the next rows go to, where one of many would
/// read them anew each time.
fn journal_pool(options: AnyConnectOptions) -> AnyPool {
    pool(1).idle_timeout(None).max_lifetime(None).connect_lazy_with(options)
}

async fn set_up(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    connection.execute(SQLITE_SETUP).await.map(drop)
}

/// Whether a connection may be used again. With a full disk SQLite itself takes a transaction back, of which sqlx does
/// not know: what it begins next would never be committed, and keep the write lock.
async fn is_at_rest(connection: &mut AnyConnection) -> Result<bool, sqlx::Error> {
    // The end of a dropped transaction may still be on its way to the connection; this waits for it.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}

async fn migrate(pool: &AnyPool, path: &Path) -> Result<(), OpenError> {
    MIGRATIONS.run(pool).await.map_err(|source| {
        let path = path.to_owned();
        if matches!(source, MigrateError::VersionMissing(_)) {
            return OpenError::NewerSchema(path);
        }
        if let MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) = &source
            && is_damage(error)
        {
            return OpenError::Damaged { path, source: source.into() };
        }
        OpenError::Migrate { path, source }
    })
}

fn create(path: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map(drop)
}

pub(super) fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}
