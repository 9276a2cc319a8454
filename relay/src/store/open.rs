//! The address of a database; opens the database and brings its schema up to date; opens the one that a command names.

use std::{
    env,
    fmt::{self, Display},
    net::IpAddr,
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use audiovault_common::process::Exit;
use sqlx::{
    Any, AnyPool, Connection, Executor, Transaction,
    any::{AnyConnectOptions, AnyPoolOptions},
    migrate::{MigrateError, Migrator},
    postgres::PgConnectOptions,
};
use url::Url;
use zeroize::Zeroizing;

use super::{DatabaseUrlError, OpenError, Store, StoreError, postgres, sqlite};

/// The address of a database. `Debug` and `Display` do not show passwords.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// One SQLite file on a local disk (write-ahead logging does not work over a network file system).
    Sqlite(PathBuf),
    /// A database of a PostgreSQL server, which several relays may share.
    Postgres(PostgresUrl),
}

/// `postgres://[USER[:PASSWORD]@]HOST[:PORT]/DATABASE[?OPTIONS]`, as libpq accepts it. Missing parts come from
/// `PGHOST`, `PGPORT`, `PGUSER`, `PGPASSWORD` and similar variables, and from the password file (`PGPASSFILE`).
/// A server on another machine must prove its identity by TLS (`sslmode=verify-full`), unless `sslmode` or
/// `PGSSLMODE` is set to another value.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl(Zeroizing<String>);

impl PostgresUrl {
    fn parse(text: &str) -> Result<Self, DatabaseUrlError> {
        let options: PgConnectOptions = text.parse().map_err(|_| DatabaseUrlError::NotAServer)?;
        if options.get_database().is_none_or(str::is_empty) {
            return Err(DatabaseUrlError::NotAServer);
        }
        let mut text = Zeroizing::new(text.to_owned());
        if !says_sslmode(&text) && !is_this_machine(&options) {
            let joint = if text.contains('?') { "&" } else { "?" };
            text.push_str(joint);
            text.push_str("sslmode=verify-full");
        }
        Ok(Self(text))
    }

    /// The whole address, including the defaults that were added. It may contain a password.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

/// True if the address or the environment sets how the connection is protected.
fn says_sslmode(text: &str) -> bool {
    let in_address = Url::parse(text)
        .is_ok_and(|url| url.query_pairs().any(|(name, _)| matches!(&*name, "sslmode" | "ssl-mode")));
    in_address || env::var_os("PGSSLMODE").is_some_and(|mode| !mode.is_empty())
}

/// True if the connection stays on this machine: a Unix socket or a loopback address.
fn is_this_machine(options: &PgConnectOptions) -> bool {
    let host = options.get_host();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    options.get_socket().is_some()
        || host.starts_with('/')
        || host == "localhost"
        || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

impl Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.parse::<PgConnectOptions>() {
            Ok(options) => {
                let host = options.get_host();
                let port = options.get_port();
                let database = options.get_database().unwrap_or_default();
                write!(f, "postgres://{}@{host}:{port}/{database}", options.get_username())
            }
            Err(_) => f.write_str("postgres://…"),
        }
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

impl FromStr for DatabaseUrl {
    type Err = DatabaseUrlError;

    fn from_str(text: &str) -> Result<Self, DatabaseUrlError> {
        let (scheme, rest) = text.split_once(':').ok_or(DatabaseUrlError::NoScheme)?;
        match scheme {
            "sqlite" => {
                let file = rest.strip_prefix("//").unwrap_or(rest);
                // A database in memory would be a different one for each connection and for each process.
                if file.is_empty() || file == ":memory:" || file.contains('?') {
                    return Err(DatabaseUrlError::NotAFile);
                }
                Ok(Self::Sqlite(PathBuf::from(file)))
            }
            "postgres" | "postgresql" => PostgresUrl::parse(text).map(Self::Postgres),
            other => Err(DatabaseUrlError::Scheme(other.to_owned())),
        }
    }
}

impl Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(url) => url.fmt(f),
        }
    }
}

/// A text from any source, without the passwords of the addresses in it. After `//`, everything between the
/// first colon and the last at sign is replaced by `…`.
pub(crate) fn without_passwords(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("://") {
        let (before, after) = rest.split_at(start + 3);
        shown.push_str(before);
        let end = after.find(|c: char| c.is_whitespace() || c == '\'').unwrap_or(after.len());
        let (address, further) = after.split_at(end);
        match address.rsplit_once('@') {
            Some((user, host)) if user.contains(':') => {
                shown.push_str(user.split(':').next().unwrap_or_default());
                shown.push_str(":…@");
                shown.push_str(host);
            }
            _ => shown.push_str(address),
        }
        rest = further;
    }
    shown + rest
}

/// How long a task waits for a connection, or a writer for another writer. Every transaction here changes only
/// a few rows: if a lock is held for longer, the program that holds it hangs.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
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
pub(super) async fn is_at_rest<C: Connection>(connection: &mut C) -> Result<bool, sqlx::Error> {
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

/// Why a command has no database to work on.
#[derive(Debug, thiserror::Error)]
pub enum NoDatabase {
    /// The command does not name one.
    #[error("--database is required: set the flag or AUDIOVAULT_RELAY_DATABASE")]
    NotNamed,
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl NoDatabase {
    /// How the process ends.
    pub fn exit(&self) -> Exit {
        match self {
            Self::NotNamed => Exit::Misconfigured,
            Self::Open(_) => Exit::Failed,
        }
    }
}

/// Opens the database that a command names, if it names one.
///
/// # Errors
/// [`NoDatabase`].
pub async fn open_named(url: Option<&DatabaseUrl>, if_missing: IfMissing) -> Result<Store, NoDatabase> {
    Ok(open(url.ok_or(NoDatabase::NotNamed)?, if_missing).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_named_by_scheme_and_file() {
        for (text, file) in [
            ("sqlite:relay.db", "relay.db"),
            ("sqlite:/var/lib/r.db", "/var/lib/r.db"),
            ("sqlite:///var/lib/r.db", "/var/lib/r.db"),
        ] {
            let url: DatabaseUrl = text.parse().unwrap();
            assert_eq!(url, DatabaseUrl::Sqlite(PathBuf::from(file)));
        }
        for bad in ["", "relay.db", "sqlite:", "sqlite::memory:", "sqlite:a?mode=ro", "mysql://h/d"] {
            assert!(bad.parse::<DatabaseUrl>().is_err(), "{bad:?} must be refused");
        }
    }

    #[test]
    fn a_database_is_named_by_a_server_and_its_password_is_never_shown() {
        for text in [
            "postgres://relay:s3cr3t@db.example.com/audiovault",
            "postgresql://relay:s3cr3t@db.example.com:5432/audiovault",
        ] {
            let url: DatabaseUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), "postgres://relay@db.example.com:5432/audiovault");
            assert!(!format!("{url:?}").contains("s3cr3t"), "{url:?}");
            let DatabaseUrl::Postgres(url) = url else { panic!("{text} is a server's") };
            assert_eq!(url.reveal(), format!("{text}?sslmode=verify-full"));
        }
        for bad in ["postgres:", "postgres://relay:s3cr3t@db:port/d", "postgres://db.example.com"] {
            let error = bad.parse::<DatabaseUrl>().unwrap_err().to_string();
            assert!(!error.contains("s3cr3t"), "{error}");
        }
    }

    #[test]
    fn a_server_on_another_machine_has_to_prove_who_it_is_unless_the_address_says_otherwise() {
        let revealed = |text: &str| match text.parse().unwrap() {
            DatabaseUrl::Postgres(url) => url.reveal().to_owned(),
            DatabaseUrl::Sqlite(_) => panic!("{text} is a server's"),
        };
        for (far, added) in [
            ("postgres://relay@db.example.com/a", "?sslmode=verify-full"),
            ("postgres://relay@10.0.0.5/a?sslrootcert=/ca.pem", "&sslmode=verify-full"),
            ("postgres://relay@[2001:db8::1]/a", "?sslmode=verify-full"),
            ("postgres://relay@localhost.example.com/a", "?sslmode=verify-full"),
        ] {
            assert_eq!(revealed(far), format!("{far}{added}"));
        }
        for same in [
            "postgres://relay@db.example.com/a?sslmode=disable",
            "postgres://relay@db.example.com/a?ssl-mode=require",
            "postgres://relay@localhost/a",
            "postgres://relay@127.8.8.8:5433/a",
            "postgres://relay@[::1]/a",
            "postgres://relay@%2Frun%2Fpostgresql/a",
            "postgres:///a?host=/run/postgresql",
        ] {
            assert_eq!(revealed(same), same);
        }
    }

    #[test]
    fn a_mistake_in_an_address_shows_no_password() {
        for (text, expected) in [
            ("invalid value 'postgres://u:p@w@h/d' for", "invalid value 'postgres://u:…@h/d' for"),
            ("sqlite:relay.db", "sqlite:relay.db"),
            ("postgres://u@h/d https://a:b@c", "postgres://u@h/d https://a:…@c"),
            ("://", "://"),
        ] {
            assert_eq!(without_passwords(text), expected);
        }
    }
}
