//! What the relay keeps: sites, the names they answer to, and digests of their keys.
//!
//! [`Store`] is the seam between the relay and a database. Every change bumps one generation number in the same
//! transaction, so that a running relay notices what another process changed by reading a single integer.

mod error;
mod rows;
mod sqlite;
mod statements;

use std::{collections::BTreeSet, fmt, path::PathBuf, str::FromStr, sync::Arc};

use async_trait::async_trait;
use audiovault_protocol::site::{Alias, KeyDigest, SiteId};
use jiff::Timestamp;

pub use self::{
    error::{DatabaseUrlError, OpenError, StoreError},
    sqlite::SqliteStore,
};
use crate::directory::Directory;

/// Keys of one site that may be valid at a time: the one in use and the one that is being rolled out.
pub const MAX_VALID_KEYS: usize = 2;

/// Where the database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// One SQLite file on a local disk (write-ahead logging does not work over a network file system).
    Sqlite(PathBuf),
}

impl FromStr for DatabaseUrl {
    type Err = DatabaseUrlError;

    fn from_str(text: &str) -> Result<Self, DatabaseUrlError> {
        let (scheme, rest) = text.split_once(':').ok_or(DatabaseUrlError::NoScheme)?;
        if scheme != "sqlite" {
            return Err(DatabaseUrlError::Scheme(scheme.to_owned()));
        }
        let file = rest.strip_prefix("//").unwrap_or(rest);
        // A database in memory would be another one for each connection and for each process.
        if file.is_empty() || file == ":memory:" || file.contains('?') {
            return Err(DatabaseUrlError::NotAFile);
        }
        Ok(Self::Sqlite(PathBuf::from(file)))
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
        }
    }
}

/// What to do when the database does not exist yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfMissing {
    /// Make an empty one, readable by its owner alone.
    Create,
    /// Say so; for commands that make no sense on an empty database.
    Refuse,
}

/// Opens a database and brings its schema up to date.
///
/// # Errors
/// [`OpenError`] when it cannot be opened, is missing and must not be made, or was written by a newer release.
pub async fn open(url: &DatabaseUrl, if_missing: IfMissing) -> Result<Arc<dyn Store>, OpenError> {
    match url {
        DatabaseUrl::Sqlite(path) => Ok(Arc::new(SqliteStore::open(path, if_missing).await?)),
    }
}

/// A site about to be added.
#[derive(Debug, Clone)]
pub struct NewSite {
    /// Its name.
    pub site: SiteId,
    /// Free text for people.
    pub note: String,
    /// Further names under which QueueMetrics may ask for it.
    pub aliases: BTreeSet<Alias>,
    /// Digest of its first key.
    pub key: KeyDigest,
}

/// A site as stored.
#[derive(Debug, Clone)]
pub struct StoredSite {
    /// Its name.
    pub site: SiteId,
    /// Free text for people.
    pub note: String,
    /// When it was added.
    pub created: Timestamp,
    /// Since when it is disabled; nothing of it is served meanwhile.
    pub disabled: Option<Timestamp>,
    /// Further names under which QueueMetrics may ask for it.
    pub aliases: Vec<Alias>,
    /// Its keys, oldest first, revoked ones included.
    pub keys: Vec<StoredKey>,
}

impl StoredSite {
    /// The keys by which an agent may connect, oldest first; at most [`MAX_VALID_KEYS`].
    pub fn valid_keys(&self) -> impl DoubleEndedIterator<Item = &StoredKey> {
        self.keys.iter().filter(|key| key.revoked.is_none())
    }
}

/// A key as stored: never the secret.
#[derive(Debug, Clone)]
pub struct StoredKey {
    /// SHA-256 of the secret.
    pub digest: KeyDigest,
    /// When it was made.
    pub created: Timestamp,
    /// Since when it is no longer valid.
    pub revoked: Option<Timestamp>,
}

/// A database of sites.
///
/// Every method but the reading ones is one transaction that also bumps the generation; a refused change leaves
/// both as they were.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync {
    /// Adds a site with its aliases and its first key.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`] when the site or one of the aliases is already the name of something.
    async fn add_site(&self, new: &NewSite) -> Result<(), StoreError>;

    /// Every site, in the order of their names.
    ///
    /// # Errors
    /// [`StoreError::Database`] and [`StoreError::Corrupt`], as every method.
    async fn list(&self) -> Result<Vec<StoredSite>, StoreError>;

    /// One site.
    ///
    /// # Errors
    /// [`StoreError::UnknownSite`].
    async fn show(&self, site: &SiteId) -> Result<StoredSite, StoreError>;

    /// Adds a key. The previous one stays valid until it is revoked or the next rotation drops it; keys that are
    /// dropped now are returned.
    ///
    /// # Errors
    /// [`StoreError::UnknownSite`].
    async fn rotate_key(&self, site: &SiteId, key: &KeyDigest) -> Result<Vec<KeyDigest>, StoreError>;

    /// Revokes the valid key whose [`KeyDigest::short`] is given, otherwise the oldest valid one, and returns it.
    ///
    /// # Errors
    /// [`StoreError::UnknownSite`], [`StoreError::UnknownKey`], [`StoreError::NoValidKey`].
    async fn revoke_key(&self, site: &SiteId, short: Option<&str>) -> Result<KeyDigest, StoreError>;

    /// Disables or enables a site; doing so twice is no error.
    ///
    /// # Errors
    /// [`StoreError::UnknownSite`].
    async fn set_disabled(&self, site: &SiteId, disabled: bool) -> Result<(), StoreError>;

    /// Removes a site with its aliases and keys.
    ///
    /// # Errors
    /// [`StoreError::UnknownSite`].
    async fn remove(&self, site: &SiteId) -> Result<(), StoreError>;

    /// Adds an alias; one that the site already has is no error.
    ///
    /// # Errors
    /// [`StoreError::UnknownSite`], [`StoreError::NameTaken`].
    async fn add_alias(&self, site: &SiteId, alias: &Alias) -> Result<(), StoreError>;

    /// Removes an alias.
    ///
    /// # Errors
    /// [`StoreError::UnknownSite`], [`StoreError::UnknownAlias`].
    async fn remove_alias(&self, site: &SiteId, alias: &Alias) -> Result<(), StoreError>;

    /// A number that grows with every change, whichever process makes it.
    ///
    /// # Errors
    /// [`StoreError::Moved`] when the database is no longer where it was opened.
    async fn generation(&self) -> Result<i64, StoreError>;

    /// The picture that a running relay works from.
    ///
    /// # Errors
    /// As every method.
    async fn load(&self) -> Result<Directory, StoreError>;

    /// The public URL of the relay that last started on this database.
    ///
    /// # Errors
    /// As every method.
    async fn public_url(&self) -> Result<Option<String>, StoreError>;

    /// Keeps the public URL for commands of other processes.
    ///
    /// # Errors
    /// As every method.
    async fn set_public_url(&self, url: &str) -> Result<(), StoreError>;

    /// Ends all use; waits for what is under way.
    async fn close(&self);
}

#[cfg(test)]
mod tests;
