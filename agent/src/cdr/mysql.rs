//! Call detail records in MySQL or MariaDB: the table `cdr` that Asterisk's `cdr_mysql` and `cdr_adaptive_odbc` fill, and
//! FreePBX, which adds `recordingfile`.

use std::{str::FromStr, time::Duration};

use sqlx::{
    Executor, MySqlPool, Row,
    mysql::{MySqlConnectOptions, MySqlPoolOptions, MySqlRow},
};
use url::Url;

use super::{CdrError, Leg};
use crate::secret::Secret;

/// Questions at a time. The database is the PBX's, and has calls to write.
const CONNECTIONS: u32 = 2;
/// A connection that nobody has used for so long is closed.
const IDLE: Duration = Duration::from_secs(60);
/// SQLSTATE of a column that there is not.
const UNKNOWN_COLUMN: &str = "42S22";

/// The database.
pub(super) struct Database {
    pool: MySqlPool,
}

impl Database {
    pub(super) fn new(url: &Url, password: Option<&Secret>) -> Result<Self, CdrError> {
        let mut options = MySqlConnectOptions::from_str(url.as_str()).map_err(CdrError::Address)?;
        if let Some(password) = password {
            options = options.password(password.reveal());
        }
        let read_only = MySqlPoolOptions::new()
            .max_connections(CONNECTIONS)
            .idle_timeout(IDLE)
            .after_connect(|connection, _| {
                Box::pin(
                    async move { connection.execute("SET SESSION TRANSACTION READ ONLY").await.map(drop) },
                )
            });
        Ok(Self { pool: read_only.connect_lazy_with(options) })
    }

    /// All legs of the conversations that have a leg with one of these ids.
    pub(super) async fn legs(&self, ids: &[String; 2]) -> Result<Vec<Leg>, sqlx::Error> {
        let conversations =
            "SELECT DISTINCT linkedid FROM cdr WHERE uniqueid IN (?, ?) OR linkedid IN (?, ?) LIMIT 10";
        let [text, bare] = ids;
        let found = sqlx::query(conversations)
            .bind(text)
            .bind(bare)
            .bind(text)
            .bind(bare)
            .fetch_all(&self.pool)
            .await?;
        let mut legs = Vec::new();
        for conversation in found.iter().map(|row| string(row, 0)).filter(|linked| !linked.is_empty()) {
            legs.extend(self.conversation(&conversation).await?);
        }
        Ok(legs)
    }

    async fn conversation(&self, linked: &str) -> Result<Vec<Leg>, sqlx::Error> {
        let told = "SELECT DISTINCT uniqueid, recordingfile FROM cdr WHERE linkedid = ? LIMIT 100";
        let rows = match sqlx::query(told).bind(linked).fetch_all(&self.pool).await {
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(UNKNOWN_COLUMN) => {
                // Plain Asterisk does not know what was recorded.
                let plain = "SELECT DISTINCT uniqueid FROM cdr WHERE linkedid = ? LIMIT 100";
                sqlx::query(plain).bind(linked).fetch_all(&self.pool).await
            }
            rows => rows,
        };
        Ok(rows?.iter().map(|row| Leg { id: string(row, 0), recording: string(row, 1) }).collect())
    }
}

/// A text; nothing where there is none.
fn string(row: &MySqlRow, column: usize) -> String {
    row.try_get::<Option<String>, _>(column).ok().flatten().unwrap_or_default()
}
