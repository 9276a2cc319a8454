//! Linked calls: a PBX gives every leg of a conversation its own call id, and its call detail records (CDR) say which
//! legs belong together. With them, a search for one leg finds the recordings of all legs.
//!
//! The records are read, never written. If they cannot be read, a search finds only what the call's own id finds.

mod master_csv;
mod mysql;

use std::{fmt, path::PathBuf, time::Duration};

use crate::{
    auth::secret::Secret,
    storage::{
        call_id::{CallId, CallIdRules},
        query::Linked,
    },
};

use self::mysql::Database;
pub use self::mysql::DatabaseError;

/// How long reading the records may take. The search needs the rest of the agent's 12 s.
const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// The most legs of one conversation: a call that was transferred for hours has a few dozen.
const MOST_LEGS: usize = 100;

/// The source of the call detail records.
#[derive(Clone)]
pub enum CdrSettings {
    /// The table `cdr` of a MySQL or MariaDB database, as Asterisk and FreePBX create it.
    MySql {
        /// Host, user and database, without the password.
        url: url::Url,
        /// The password.
        password: Option<Secret>,
    },
    /// Asterisk's `Master.csv`, written with `newcdrcolumns=yes`.
    MasterCsv(PathBuf),
}

impl fmt::Debug for CdrSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MySql { url, .. } => write!(f, "MySql({url})"),
            Self::MasterCsv(path) => write!(f, "MasterCsv({})", path.display()),
        }
    }
}

/// Why the call detail records cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CdrError {
    /// The address is not valid.
    #[error("the address of the call records is invalid; write mysql://USER@HOST/DATABASE")]
    Address(#[source] sqlx::Error),
    /// The database does not answer, or refuses the query.
    #[error(
        "cannot query the database of the call records; check its address, user and grants (SELECT on cdr)"
    )]
    Database(#[source] DatabaseError),
    /// The file cannot be read.
    #[error("the call records in {} cannot be read", .0.display())]
    File(PathBuf, #[source] std::io::Error),
    /// The file does not say which calls belong together.
    #[error("{} has no linkedid; set newcdrcolumns=yes and loguniqueid=yes in cdr.conf of Asterisk", .0.display())]
    NoLinks(PathBuf),
    /// Reading the records took too long.
    #[error(
        "the call records took more than {} s to answer; create indexes on uniqueid and linkedid",
        READ_TIMEOUT.as_secs()
    )]
    Slow,
}

/// A leg of a conversation, from its call detail record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Leg {
    id: String,
    /// The file in which it was recorded, or empty if the record does not say.
    recording: String,
}

/// The call detail records.
pub struct Cdr {
    source: Source,
}

enum Source {
    MySql(Box<Database>),
    MasterCsv(PathBuf),
}

impl fmt::Debug for Cdr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cdr").finish_non_exhaustive()
    }
}

impl Cdr {
    /// Prepares the source. Opens nothing yet.
    ///
    /// # Errors
    /// [`CdrError::Address`].
    pub fn new(settings: &CdrSettings) -> Result<Self, CdrError> {
        let source = match settings {
            CdrSettings::MySql { url, password } => {
                Source::MySql(Box::new(Database::new(url, password.as_ref())?))
            }
            CdrSettings::MasterCsv(path) => Source::MasterCsv(path.clone()),
        };
        Ok(Self { source })
    }

    /// The other legs of a call's conversation.
    ///
    /// # Errors
    /// [`CdrError`].
    pub async fn linked(&self, call: &CallId, rules: &CallIdRules) -> Result<Linked, CdrError> {
        let bare = call.bare().to_owned();
        let ids = [call.as_str().to_owned(), bare];
        let legs = tokio::time::timeout(READ_TIMEOUT, self.legs(ids)).await.map_err(|_| CdrError::Slow)??;
        let mut linked = Linked::default();
        for leg in legs.into_iter().take(MOST_LEGS) {
            if let Ok(id) = rules.parse(&leg.id)
                && id.needle() != call.needle()
                && !linked.ids.contains(&id)
            {
                linked.ids.push(id);
            }
            let name = leg.recording.trim().rsplit(['/', '\\']).next().unwrap_or_default();
            if !name.is_empty() && !linked.files.iter().any(|known| known == name) {
                linked.files.push(name.to_owned());
            }
        }
        Ok(linked)
    }

    async fn legs(&self, ids: [String; 2]) -> Result<Vec<Leg>, CdrError> {
        match &self.source {
            Source::MySql(database) => database.legs(&ids).await.map_err(CdrError::Database),
            Source::MasterCsv(path) => {
                let path = path.clone();
                let job = tokio::task::spawn_blocking(move || master_csv::legs(&path, &ids));
                job.await.unwrap_or(Err(CdrError::Slow))
            }
        }
    }
}
