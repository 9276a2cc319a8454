//! Opens a database and brings its schema up to date.

use std::{fmt::Display, time::Duration};

use sqlx::{
    Any, AnyConnection, AnyPool, Connection, Executor, Transaction,
    any::{AnyConnectOptions, AnyPoolOptions},
    migrate::{MigrateError, Migrator},
};

use super::{DatabaseUrl, OpenError, PostgresUrl, Store, StoreError, postgres, sqlite};

/// How long a task waits for a connection, or a writer for another writer. Every transaction here changes only
/// a few rows: if a lock is held for longer, the program that holds it hangs.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections for the poller, the audit log's writer, the dashboard's pages, and a few more. SQLite has a
/// single writer anyway.
const MAX_CONNECTIONS: u32 = 8;

/// What to do when the database does not exist yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfMissing {
    /// Create an empty one, readable by its owner alone.
    Create,
    /// Return an error. For commands that make no sense on an empty database.
    Refuse,
}

impl IfMissing {
    /// For commands of which only those that add something make sense on an empty database.
    pub(crate) fn when_adding(adds: bool) -> Self {
        if adds { Self::Create } else { Self::Refuse }
    }
}

/// The database behind a store, for operations that differ between the two kinds.
#[derive(Debug, Clone)]
pub(super) enum Backend {
    Sqlite(sqlite::DatabaseFile),
    Postgres(PostgresUrl),
}

/// Opens a database and brings its schema up to date. A file that is missing is created if `if_missing` allows
/// it. A database of a server must exist, and may be empty.
///
/// # Errors
/// [`OpenError`] if the database cannot be opened, is missing and must not be created, or was written by a
/// newer release.
pub async fn open(url: &DatabaseUrl, if_missing: IfMissing) -> Result<Store, OpenError> {
    sqlx::any::install_default_drivers();
    match url {
        DatabaseUrl::Sqlite(path) => sqlite::open(path, if_missing).await,
        DatabaseUrl::Postgres(url) => postgres::open(url, if_missing).await,
    }
}

pub(super) fn pool(set_up: &'static str) -> AnyPoolOptions {
    pool_of(MAX_CONNECTIONS, set_up)
}

/// A pool of one connection, which is always the same. It has the pages in memory to which the next rows go;
/// one connection of many would read them again each time.
pub(super) fn journal_pool(set_up: &'static str, options: AnyConnectOptions) -> AnyPool {
    pool_of(1, set_up).idle_timeout(None).max_lifetime(None).connect_lazy_with(options)
}

fn pool_of(connections: u32, set_up: &'static str) -> AnyPoolOptions {
    AnyPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(BUSY_TIMEOUT)
        .after_connect(move |connection, _| {
            Box::pin(async move { connection.execute(set_up).await.map(drop) })
        })
        .after_release(|connection, _| Box::pin(is_at_rest(connection)))
}

/// True if a connection may be used again. If the disk is full, SQLite itself rolls a transaction back without
/// sqlx noticing. What begins next on such a connection would never be committed, and would keep the write
/// lock.
async fn is_at_rest(connection: &mut AnyConnection) -> Result<bool, sqlx::Error> {
    // The rollback of a dropped transaction may not have reached the connection yet; this waits for it.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}

pub(super) async fn migrate(
    migrations: &Migrator,
    pool: &AnyPool,
    database: &impl Display,
) -> Result<(), OpenError> {
    migrations.run(pool).await.map_err(|source| {
        let database = database.to_string();
        if matches!(source, MigrateError::VersionMissing(_)) {
            return OpenError::NewerSchema(database);
        }
        OpenError::Migrate { database, source }
    })
}

impl Store {
    /// Begins to read from one snapshot, which later writes do not change.
    pub(super) async fn snapshot(&self) -> Result<Transaction<'static, Any>, StoreError> {
        let begin = match self.backend {
            // In SQLite every transaction reads from one snapshot, from its first statement on.
            Backend::Sqlite(_) => "BEGIN",
            Backend::Postgres(_) => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        };
        Ok(self.pool.begin_with(begin).await?)
    }
}
