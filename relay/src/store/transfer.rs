//! Moves all data of one database into another one, which must be empty; and copies the database to a file while it is
//! in use.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    pin::pin,
};

use futures_util::TryStreamExt;
use sqlx::{Any, AssertSqlSafe, Row, Transaction, any::AnyRow};

use super::{Store, StoreError, history::lately, open::Backend};
use crate::model::operator_events::{Action, Actor, Entry};

/// Rows per statement.
const ROWS: usize = 500;

/// The columns of one table: texts and numbers, since there are no other types.
struct Table {
    name: &'static str,
    texts: &'static [&'static str],
    numbers: &'static [&'static str],
}

/// Every table except `meta`. Tables to which others refer come first.
const TABLES: [Table; 17] = [
    Table { name: "sites", texts: &["site", "note"], numbers: &["created_ms", "disabled_ms"] },
    Table { name: "names", texts: &["name", "site"], numbers: &[] },
    Table { name: "resting_names", texts: &["name", "site"], numbers: &["removed_ms"] },
    Table { name: "site_keys", texts: &["digest", "site"], numbers: &["seq", "created_ms", "revoked_ms"] },
    Table {
        name: "relay_runs",
        texts: &["run", "url"],
        numbers: &["started_ms", "alive_ms", "stopped_ms", "lease_ms"],
    },
    Table {
        name: "tunnels",
        texts: &[
            "session",
            "site",
            "run",
            "instance",
            "agent_version",
            "host",
            "address",
            "reason",
            "link_key",
        ],
        numbers: &["slot", "opened_ms", "closed_ms"],
    },
    Table { name: "site_networks", texts: &["site", "network"], numbers: &["seen_ms"] },
    Table { name: "traffic", texts: &["site"], numbers: &["hour_ms", "searches", "errors", "bytes"] },
    Table {
        name: "audit",
        texts: &[
            "request_id",
            "kind",
            "site",
            "tenant",
            "call_id",
            "call_key",
            "recording",
            "user_name",
            "client",
            "user_agent",
            "outcome",
            "run",
        ],
        numbers: &[
            "opened_ms",
            "closed_ms",
            "status",
            "found",
            "range_start",
            "bytes",
            "size",
            "bytes_per_second",
        ],
    },
    Table { name: "erasures", texts: &["call_digest"], numbers: &["erased_ms"] },
    Table { name: "announcements", texts: &["site", "state"], numbers: &[] },
    Table {
        name: "users",
        texts: &["name", "role", "password"],
        numbers: &["all_sites", "playback", "created_ms", "password_ms", "login_ms"],
    },
    Table { name: "user_sites", texts: &["name", "site"], numbers: &[] },
    Table { name: "user_sessions", texts: &["digest", "name"], numbers: &["created_ms", "seen_ms"] },
    Table {
        name: "api_tokens",
        texts: &["name", "digest", "role", "owner"],
        numbers: &["all_sites", "playback", "created_ms", "expires_ms", "used_ms"],
    },
    Table { name: "api_token_sites", texts: &["name", "site"], numbers: &[] },
    Table {
        name: "operator_events",
        texts: &[
            "id",
            "actor_kind",
            "actor",
            "owner",
            "address",
            "action",
            "site",
            "subject",
            "before_json",
            "after_json",
            "reason",
        ],
        numbers: &["at_ms", "told_ms"],
    },
];
/// Separate from the other tables: unused codes are soon of no use, but this table records which keys were
/// handed out.
const ENROLMENTS: Table = Table {
    name: "enrolments",
    texts: &["digest", "site", "created_by", "used_from", "key_digest"],
    numbers: &["created_ms", "expires_ms", "used_ms"],
};

const LIVE_RUNS: &str = "SELECT COUNT(*) FROM relay_runs WHERE stopped_ms IS NULL AND alive_ms >= $1";
const SITES: &str = "SELECT COUNT(*) FROM sites";
const USERS: &str = "SELECT COUNT(*) FROM users";
const META: &str =
    "SELECT public_url, pseudonyms_until_ms, pseudonym_key, erasure_key FROM meta WHERE id = 1";
const SET_META: &str = "UPDATE meta SET public_url = $1, pseudonyms_until_ms = $2, pseudonym_key = $3, erasure_key = $4 WHERE id = 1";

/// Why no data was moved.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// A relay still writes to the database that is moved. What it wrote would be left behind.
    #[error(
        "a relay uses the database to copy, or was killed less than 30 seconds ago: stop it, then try again"
    )]
    InUse,
    /// The target has data already, and nothing is mixed with it.
    #[error("the database to copy to must be empty: it has sites or users already")]
    NotEmpty,
    /// One of the databases failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for TransferError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl Store {
    /// Copies all data of another database into this one, which must be empty. It copies all rows or none, and
    /// returns how many.
    ///
    /// # Errors
    /// [`TransferError`]; this database is unchanged then.
    pub async fn take_over(&self, actor: &Actor, from: &Store) -> Result<u64, TransferError> {
        let mut source = from.snapshot().await?;
        let live: i64 = sqlx::query(LIVE_RUNS).bind(lately()).fetch_one(&mut *source).await?.try_get(0)?;
        if live > 0 {
            return Err(TransferError::InUse);
        }
        let mut target = self.change(actor).await?;
        for table in [SITES, USERS] {
            if sqlx::query(table).fetch_one(&mut **target).await?.try_get::<i64, _>(0)? > 0 {
                return Err(TransferError::NotEmpty);
            }
        }
        let mut rows = 0;
        for table in TABLES.iter().chain([&ENROLMENTS]) {
            rows += copy(table, &mut source, &mut target).await?;
        }
        let kept = sqlx::query(META).fetch_one(&mut *source).await?;
        sqlx::query(SET_META)
            .bind(kept.try_get::<Option<String>, _>(0)?)
            .bind(kept.try_get::<i64, _>(1)?)
            .bind(kept.try_get::<Option<String>, _>(2)?)
            .bind(kept.try_get::<String, _>(3)?)
            .execute(&mut **target)
            .await?;
        let entry = Entry::new(Action::Imported).after(serde_json::json!({ "rows": rows }));
        target.commit(&[entry]).await?;
        Ok(rows)
    }
}

impl Table {
    fn columns(&self) -> String {
        [self.texts, self.numbers].concat().join(", ")
    }

    fn width(&self) -> usize {
        self.texts.len() + self.numbers.len()
    }

    fn insert(&self, rows: usize) -> String {
        let places = |row: usize| {
            let places = (1..=self.width()).map(|n| format!("${}", row * self.width() + n));
            format!("({})", places.collect::<Vec<_>>().join(", "))
        };
        let rows: Vec<String> = (0..rows).map(places).collect();
        format!("INSERT INTO {} ({}) VALUES {}", self.name, self.columns(), rows.join(", "))
    }
}

async fn copy(
    table: &Table,
    source: &mut Transaction<'static, Any>,
    target: &mut Transaction<'static, Any>,
) -> Result<u64, TransferError> {
    let select = format!("SELECT {} FROM {}", table.columns(), table.name);
    // The audit log of several years does not fit into memory.
    let mut chunks = pin!(sqlx::query(AssertSqlSafe(select)).fetch(&mut **source).try_chunks(ROWS));
    let mut copied = 0;
    while let Some(rows) = chunks.try_next().await.map_err(|error| error.1)? {
        write(table, &rows, target).await?;
        copied += rows.len() as u64;
    }
    Ok(copied)
}

async fn write(
    table: &Table,
    rows: &[AnyRow],
    target: &mut Transaction<'static, Any>,
) -> Result<(), TransferError> {
    // Every part of the statement is a literal of this program or a number.
    let mut query = sqlx::query(AssertSqlSafe(table.insert(rows.len())));
    for row in rows {
        for column in 0..table.texts.len() {
            let text: Option<String> = row.try_get(column)?;
            query = query.bind(text.map(|text| text.replace('\0', "\u{fffd}")));
        }
        for column in table.texts.len()..table.width() {
            query = query.bind(row.try_get::<Option<i64>, _>(column)?);
        }
    }
    query.execute(&mut **target).await?;
    Ok(())
}

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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::store::fresh::Fresh;

    /// Every table of a database, with its columns.
    async fn columns(store: &Store) -> BTreeSet<String> {
        let sql = "SELECT m.name || '.' || c.name FROM sqlite_schema m, pragma_table_info(m.name) c \
                   WHERE m.type = 'table' AND m.name NOT LIKE '\\_%' ESCAPE '\\'";
        let rows = sqlx::query(sql).fetch_all(&store.pool).await.unwrap();
        rows.iter().map(|row| row.try_get(0).unwrap()).collect()
    }

    #[tokio::test]
    async fn no_column_of_any_table_is_left_behind() {
        let database = Fresh::file();
        let all = columns(&database.open().await).await;
        let moved = TABLES.iter().chain([&ENROLMENTS]).flat_map(|table| {
            [table.texts, table.numbers].concat().into_iter().map(|column| format!("{}.{column}", table.name))
        });
        let moved: BTreeSet<String> = moved.collect();
        let left: Vec<_> = all.difference(&moved).collect();
        // Values that the next start of a relay makes again, or that are set automatically.
        let expected = [
            "meta.erasure_key",
            "meta.generation",
            "meta.id",
            "meta.pseudonym_key",
            "meta.pseudonyms_until_ms",
            "meta.public_url",
            "setup_link.digest",
            "setup_link.expires_ms",
            "setup_link.id",
        ];
        assert_eq!(left, expected.iter().collect::<Vec<_>>());
    }
}
