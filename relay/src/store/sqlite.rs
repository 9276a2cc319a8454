//! The store in one SQLite file.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use audiovault_protocol::site::{Alias, KeyDigest, SiteId};
use jiff::Timestamp;
use sqlx::{
    Row, Sqlite, SqlitePool, Transaction,
    migrate::{MigrateError, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous},
};

use super::{IfMissing, NewSite, OpenError, Store, StoreError, StoredSite, rows, statements as sql};
use crate::directory::Directory;

static MIGRATIONS: Migrator = sqlx::migrate!("src/store/migrations");

/// How long a writer waits for another one. Every transaction here is a handful of rows: a lock held for longer
/// belongs to a program that hangs.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The poller, one command and some slack; SQLite has a single writer anyway.
const MAX_CONNECTIONS: u32 = 4;
/// Two processes that start on a fresh file race for its schema; the loser finds it done on its next attempt.
const OPEN_ATTEMPTS: u32 = 3;

/// A [`Store`] in one SQLite file, shared safely with other processes of this machine.
#[derive(Debug)]
pub struct SqliteStore {
    pool: SqlitePool,
    path: PathBuf,
    /// Device and inode at the time of opening.
    identity: (u64, u64),
}

impl SqliteStore {
    /// Opens a file and brings its schema up to date. A new file gets mode 0600, and SQLite gives its journals
    /// the same.
    ///
    /// # Errors
    /// [`OpenError`] when the file cannot be opened, is missing and must not be made, or is of a newer release.
    pub async fn open(path: &Path, if_missing: IfMissing) -> Result<Self, OpenError> {
        match if_missing {
            IfMissing::Create => {
                create(path).map_err(|source| OpenError::Create { path: path.to_owned(), source })?
            }
            IfMissing::Refuse if !path.exists() => return Err(OpenError::Missing(path.to_owned())),
            IfMissing::Refuse => {}
        }
        let mut attempt = 1;
        loop {
            match Self::try_open(path).await {
                Err(OpenError::Connect { .. } | OpenError::Migrate { .. }) if attempt < OPEN_ATTEMPTS => {
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    async fn try_open(path: &Path) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Connect { path: path.to_owned(), source };
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(false)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new()
            .max_connections(MAX_CONNECTIONS)
            .acquire_timeout(BUSY_TIMEOUT)
            .connect_with(options)
            .await
            .map_err(failed)?;
        let identity = identity(path).map_err(|error| failed(error.into()))?;
        MIGRATIONS.run(&pool).await.map_err(|source| {
            let path = path.to_owned();
            if matches!(source, MigrateError::VersionMissing(_)) {
                OpenError::NewerSchema(path)
            } else {
                OpenError::Migrate { path, source }
            }
        })?;
        Ok(Self { pool, path: path.to_owned(), identity })
    }

    /// Begins a change: takes the write lock and bumps the generation. Dropping it rolls both back.
    async fn change(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        let mut tx = self.pool.begin().await?;
        sqlx::query(sql::BUMP_GENERATION).execute(&mut *tx).await?;
        Ok(tx)
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn add_site(&self, new: &NewSite) -> Result<(), StoreError> {
        let mut tx = self.change().await?;
        let now = Timestamp::now().as_millisecond();
        // The name first: it says who has it, where the table of sites would only say that it is taken.
        if let Some(owner) = owner(&mut tx, new.site.as_str()).await? {
            return Err(taken(new.site.as_str(), owner));
        }
        sqlx::query(sql::INSERT_SITE)
            .bind(new.site.as_str())
            .bind(&new.note)
            .bind(now)
            .execute(&mut *tx)
            .await?;
        insert_name(&mut tx, new.site.as_str(), &new.site).await?;
        for alias in &new.aliases {
            if !insert_name(&mut tx, alias.as_str(), &new.site).await? {
                let owner = owner(&mut tx, alias.as_str()).await?.unwrap_or_default();
                return Err(taken(alias.as_str(), owner));
            }
        }
        insert_key(&mut tx, &new.site, &new.key, now).await?;
        Ok(tx.commit().await?)
    }

    async fn list(&self) -> Result<Vec<StoredSite>, StoreError> {
        let mut tx = self.pool.begin().await?;
        let sites = sqlx::query(sql::SITES).fetch_all(&mut *tx).await?;
        let names = sqlx::query(sql::NAMES).fetch_all(&mut *tx).await?;
        let keys = sqlx::query(sql::KEYS).fetch_all(&mut *tx).await?;
        rows::sites(&sites, &names, &keys)
    }

    async fn show(&self, site: &SiteId) -> Result<StoredSite, StoreError> {
        let mut tx = self.pool.begin().await?;
        stored(&mut tx, site).await
    }

    async fn rotate_key(&self, site: &SiteId, key: &KeyDigest) -> Result<Vec<KeyDigest>, StoreError> {
        let mut tx = self.change().await?;
        let now = Timestamp::now().as_millisecond();
        let stored = stored(&mut tx, site).await?;
        // One place is for the new key; whatever is older than the newest of the others goes.
        let dropped: Vec<KeyDigest> =
            stored.valid_keys().rev().skip(super::MAX_VALID_KEYS - 1).map(|key| key.digest).collect();
        for old in &dropped {
            revoke(&mut tx, site, old, now).await?;
        }
        insert_key(&mut tx, site, key, now).await?;
        tx.commit().await?;
        Ok(dropped)
    }

    async fn revoke_key(&self, site: &SiteId, short: Option<&str>) -> Result<KeyDigest, StoreError> {
        let mut tx = self.change().await?;
        let stored = stored(&mut tx, site).await?;
        let found = match short {
            Some(short) => stored.valid_keys().find(|key| key.digest.short() == short),
            None => stored.valid_keys().next(),
        };
        let Some(key) = found.map(|key| key.digest) else {
            return Err(match short {
                Some(short) => StoreError::UnknownKey { site: site.clone(), id: short.to_owned() },
                None => StoreError::NoValidKey(site.clone()),
            });
        };
        revoke(&mut tx, site, &key, Timestamp::now().as_millisecond()).await?;
        tx.commit().await?;
        Ok(key)
    }

    async fn set_disabled(&self, site: &SiteId, disabled: bool) -> Result<(), StoreError> {
        let mut tx = self.change().await?;
        let query = if disabled {
            sqlx::query(sql::DISABLE_SITE).bind(site.as_str()).bind(Timestamp::now().as_millisecond())
        } else {
            sqlx::query(sql::ENABLE_SITE).bind(site.as_str())
        };
        if query.execute(&mut *tx).await?.rows_affected() == 0 {
            return Err(StoreError::UnknownSite(site.clone()));
        }
        Ok(tx.commit().await?)
    }

    async fn remove(&self, site: &SiteId) -> Result<(), StoreError> {
        let mut tx = self.change().await?;
        let done = sqlx::query(sql::DELETE_SITE).bind(site.as_str()).execute(&mut *tx).await?;
        if done.rows_affected() == 0 {
            return Err(StoreError::UnknownSite(site.clone()));
        }
        Ok(tx.commit().await?)
    }

    async fn add_alias(&self, site: &SiteId, alias: &Alias) -> Result<(), StoreError> {
        let mut tx = self.change().await?;
        stored(&mut tx, site).await?;
        if !insert_name(&mut tx, alias.as_str(), site).await? {
            let owner = owner(&mut tx, alias.as_str()).await?.unwrap_or_default();
            let already_its_alias = owner == site.as_str() && alias.as_str() != site.as_str();
            return if already_its_alias { Ok(()) } else { Err(taken(alias.as_str(), owner)) };
        }
        Ok(tx.commit().await?)
    }

    async fn remove_alias(&self, site: &SiteId, alias: &Alias) -> Result<(), StoreError> {
        let mut tx = self.change().await?;
        stored(&mut tx, site).await?;
        let done =
            sqlx::query(sql::DELETE_ALIAS).bind(alias.as_str()).bind(site.as_str()).execute(&mut *tx).await?;
        if done.rows_affected() == 0 {
            return Err(StoreError::UnknownAlias { site: site.clone(), alias: alias.clone() });
        }
        Ok(tx.commit().await?)
    }

    async fn generation(&self) -> Result<i64, StoreError> {
        // SQLite would go on reading a file that was deleted or replaced, and never see another change.
        if identity(&self.path).ok() != Some(self.identity) {
            return Err(StoreError::Moved(self.path.clone()));
        }
        let row = sqlx::query(sql::GENERATION).fetch_one(&self.pool).await?;
        Ok(row.try_get(0)?)
    }

    async fn load(&self) -> Result<Directory, StoreError> {
        // One transaction, hence one snapshot: the generation is the one of these very rows.
        let mut tx = self.pool.begin().await?;
        let generation: i64 = sqlx::query(sql::GENERATION).fetch_one(&mut *tx).await?.try_get(0)?;
        let sites = sqlx::query(sql::SITES).fetch_all(&mut *tx).await?;
        let names = sqlx::query(sql::NAMES).fetch_all(&mut *tx).await?;
        let keys = sqlx::query(sql::KEYS).fetch_all(&mut *tx).await?;
        Ok(Directory::new(generation, rows::sites(&sites, &names, &keys)?))
    }

    async fn public_url(&self) -> Result<Option<String>, StoreError> {
        let row = sqlx::query(sql::PUBLIC_URL).fetch_one(&self.pool).await?;
        Ok(row.try_get(0)?)
    }

    async fn set_public_url(&self, url: &str) -> Result<(), StoreError> {
        let mut tx = self.change().await?;
        sqlx::query(sql::SET_PUBLIC_URL).bind(url).execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}

fn create(path: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map(drop)
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

async fn stored(tx: &mut Transaction<'static, Sqlite>, site: &SiteId) -> Result<StoredSite, StoreError> {
    let row: Option<SqliteRow> = sqlx::query(sql::SITE).bind(site.as_str()).fetch_optional(&mut **tx).await?;
    let row = row.ok_or_else(|| StoreError::UnknownSite(site.clone()))?;
    let names = sqlx::query(sql::NAMES_OF_SITE).bind(site.as_str()).fetch_all(&mut **tx).await?;
    let keys = sqlx::query(sql::KEYS_OF_SITE).bind(site.as_str()).fetch_all(&mut **tx).await?;
    rows::sites(&[row], &names, &keys)?.pop().ok_or_else(|| StoreError::UnknownSite(site.clone()))
}

async fn owner(tx: &mut Transaction<'static, Sqlite>, name: &str) -> Result<Option<String>, StoreError> {
    let row = sqlx::query(sql::OWNER_OF_NAME).bind(name).fetch_optional(&mut **tx).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// Whether the name was free.
async fn insert_name(
    tx: &mut Transaction<'static, Sqlite>,
    name: &str,
    site: &SiteId,
) -> Result<bool, StoreError> {
    let done = sqlx::query(sql::INSERT_NAME).bind(name).bind(site.as_str()).execute(&mut **tx).await?;
    Ok(done.rows_affected() == 1)
}

async fn insert_key(
    tx: &mut Transaction<'static, Sqlite>,
    site: &SiteId,
    key: &KeyDigest,
    now_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query(sql::INSERT_KEY)
        .bind(rows::digest_text(key))
        .bind(site.as_str())
        .bind(now_ms)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn revoke(
    tx: &mut Transaction<'static, Sqlite>,
    site: &SiteId,
    key: &KeyDigest,
    now_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query(sql::REVOKE_KEY)
        .bind(site.as_str())
        .bind(rows::digest_text(key))
        .bind(now_ms)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

fn taken(name: &str, owner: String) -> StoreError {
    StoreError::NameTaken { name: name.to_owned(), owner }
}
