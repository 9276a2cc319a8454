//! The errors of the store.

use std::{io, path::PathBuf};

use audiovault_common::error_chain::causes_in_one_line;
use audiovault_protocol::identity::site::{Alias, SiteId};

use crate::model::account::Name;

/// Why a text is not the address of a database. The message does not repeat a text that may contain a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseUrlError {
    /// There is no colon in the text.
    #[error("expected sqlite:FILE or postgres://USER@HOST/DATABASE")]
    NoScheme,
    /// The scheme is not known.
    #[error("{0:?} is not a supported database: expected sqlite:FILE or postgres://USER@HOST/DATABASE")]
    Scheme(String),
    /// The part after `sqlite:` is not a plain file name.
    #[error("expected a file name after sqlite:, without parameters")]
    NotAFile,
    /// The PostgreSQL address has no server and database.
    #[error("expected postgres://USER@HOST:PORT/DATABASE with the name of a database")]
    NotAServer,
}

/// Why a database could not be opened. Addresses of databases are shown without passwords.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The database does not exist, and the operation does not create it.
    #[error(
        "there is no database at {}: check --database, or add a site or start the relay to create one", .0.display()
    )]
    Missing(PathBuf),
    /// The database on the server has no tables of a relay, and the operation does not create them.
    #[error(
        "{0} has no tables of a relay: check --database, or add a site or start the relay to create them"
    )]
    Empty(String),
    /// The file could not be created.
    #[error("cannot create the database {}: check its directory and its permissions", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file exists but cannot be opened as a database.
    #[error(
        "cannot open the database {}: check that it is an SQLite file, and its permissions", path.display()
    )]
    Connect {
        /// The file.
        path: PathBuf,
        /// The error of SQLite.
        source: sqlx::Error,
    },
    /// The server does not answer, or refuses the login.
    #[error(
        "cannot reach {database}: check that the server runs, and the host, port, user, password and database"
    )]
    Unreachable {
        /// The database.
        database: String,
        /// What went wrong.
        source: sqlx::Error,
    },
    /// The server has no TLS, or its certificate does not prove its identity.
    #[error(
        "{database} does not prove its identity by TLS: install a certificate for that host on the server, and name \
         the CA that signed it with sslrootcert=FILE in the address; on a private network, sslmode=require \
         (encrypted, not verified) or sslmode=disable relaxes this"
    )]
    Unproven {
        /// The database.
        database: String,
        /// What went wrong.
        source: sqlx::Error,
    },
    /// The server is older than the relay needs.
    #[error("{database} is PostgreSQL {version}: version 15 or later is needed")]
    OldServer {
        /// The database.
        database: String,
        /// The version that the server reports.
        version: String,
    },
    /// The file is not a valid database.
    #[error(
        "{} is damaged, or not a database: check --database, or restore the latest backup", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The error of SQLite.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A newer release has changed the schema.
    #[error("the database {0} was written by a newer release: use that release or restore a backup")]
    NewerSchema(String),
    /// The schema could not be brought up to date.
    #[error("cannot bring the schema of {database} up to date")]
    Migrate {
        /// The database.
        database: String,
        /// What went wrong.
        source: sqlx::migrate::MigrateError,
    },
}

/// Why an operation on the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No site has this name.
    #[error("there is no site {0}: see the list of sites")]
    UnknownSite(SiteId),
    /// The name is in use, or it rests since its site or alias was removed, or the client may not use it. All
    /// have the same message, since the name may be another customer's. Sites and aliases share one namespace.
    #[error("the name {0} cannot be used here: choose another one")]
    NameTaken(String),
    /// The site has no such alias.
    #[error("{alias} is not an alias of the site {site}")]
    UnknownAlias {
        /// The site.
        site: SiteId,
        /// The name that is not an alias of the site.
        alias: Alias,
    },
    /// No valid key of the site has this id.
    #[error("the site {site} has no valid key {id}: see its keys")]
    UnknownKey {
        /// The site.
        site: SiteId,
        /// The short id that was given.
        id: String,
    },
    /// The site has no valid key that could be revoked.
    #[error("the site {0} has no valid key: rotate its key to give it one")]
    NoValidKey(SiteId),
    /// The site has as many valid keys as it may have, so it cannot get another one with a code.
    #[error(
        "the site {0} has two valid keys already: revoke the one that its agents do not use, then try again"
    )]
    NoRoomForKey(SiteId),
    /// The operation does nothing for a disabled site.
    #[error("the site {0} is disabled: enable it, then try again")]
    SiteDisabled(SiteId),
    /// One error for all that can be wrong with a code, so that a client without a right code learns nothing.
    #[error("the code is wrong, used or older than 15 minutes; ask the relay's operator for a new one")]
    CodeRefused,
    /// No user has this name.
    #[error("there is no user {0}: see the list of users")]
    UnknownUser(Name),
    /// A user has this name already.
    #[error("there is a user {0} already: choose another name, or change that user")]
    UserExists(Name),
    /// There would be no user left who may manage users.
    #[error(
        "{0} is the last user who can manage users: give another user the role admin for all sites first"
    )]
    LastManager(Name),
    /// The set-up link was used, has expired, or never existed.
    #[error(
        "this set-up link is no longer valid: if there are still no users, restart the relay for a new one"
    )]
    SetupLinkEnded,
    /// No API token has this name.
    #[error("there is no API token {0}: see the list of tokens")]
    UnknownToken(Name),
    /// An API token has this name already.
    #[error("there is an API token {0} already: choose another name, or remove that token")]
    TokenExists(Name),
    /// Another program reads from the write-ahead log.
    #[error(
        "the write-ahead log is in use and still contains data of the call: erase again when no backup is running"
    )]
    LogInUse,
    /// The file was moved or replaced while it was open.
    #[error("the database {} was moved or replaced: put it back, or restart the relay", .0.display())]
    Moved(PathBuf),
    /// A row contains a value that this program does not write.
    #[error("the database contains an invalid {what}: restore a backup")]
    Corrupt {
        /// What was expected.
        what: &'static str,
    },
    /// The file is not a valid database.
    #[error("the database is damaged: stop the relay, and restore the latest backup")]
    Damaged(#[source] sqlx::Error),
    /// The database failed.
    #[error("the database failed: check that it runs, its disk space and its permissions")]
    Database(#[source] sqlx::Error),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        if is_damage(&error) { Self::Damaged(error) } else { Self::Database(error) }
    }
}

/// True if SQLite found that the file is damaged (`SQLITE_CORRUPT` and its extended codes) or not a database at
/// all (`SQLITE_NOTADB`): <https://sqlite.org/rescode.html>.
pub(super) fn is_damage(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else { return false };
    let code = error.code().and_then(|code| code.parse::<u32>().ok());
    matches!(code.map(|code| code & 0xff), Some(11 | 26))
}

impl StoreError {
    /// The causes of the error in one line, for the log. Empty if the error has no cause.
    pub(crate) fn cause(&self) -> String {
        causes_in_one_line(self).unwrap_or_default()
    }

    /// True if the database works but does not accept the record, so that a retry is of no use.
    pub(crate) fn is_about_the_record(&self) -> bool {
        let Self::Database(sqlx::Error::Database(error)) = self else { return false };
        // Data exceptions (SQL standard, class 22): PostgreSQL reports them for what is not a valid value of a
        // column.
        let no_value = error.code().is_some_and(|code| code.len() == 5 && code.starts_with("22"));
        error.is_unique_violation()
            || error.is_foreign_key_violation()
            || error.is_check_violation()
            || no_value
    }
}
