//! The table `meta`: the generation of the sites, the relay's public URL, and the key for the list of erased
//! calls.

use data_encoding::HEXLOWER;
use sqlx::Row;
use zeroize::Zeroizing;

use super::{Store, StoreError, corrupt, open::Backend};
use crate::model::audit::ErasureKey;

/// Comes first in every change of the sites. It takes the write lock before anything is read, so that two
/// writers queue up and neither fails at commit.
pub(super) const BUMP_GENERATION: &str = "UPDATE meta SET generation = generation + 1 WHERE id = 1";
pub(super) const GENERATION: &str = "SELECT generation FROM meta WHERE id = 1";
const PUBLIC_URL: &str = "SELECT public_url FROM meta WHERE id = 1";
const ERASURE_KEY: &str = "SELECT erasure_key FROM meta WHERE id = 1";
const SET_PUBLIC_URL: &str = "UPDATE meta SET public_url = $1 WHERE id = 1";

impl Store {
    /// A number that increases with every change of the sites, made by any process.
    ///
    /// # Errors
    /// [`StoreError::Moved`] if the database file is no longer where it was opened; [`StoreError::Database`] if
    /// the database fails.
    pub async fn generation(&self) -> Result<i64, StoreError> {
        // SQLite would continue to read a file that was deleted or replaced, and never see another change.
        if let Backend::Sqlite(file) = &self.backend
            && !file.is_in_place()
        {
            return Err(StoreError::Moved(file.path.clone()));
        }
        let row = sqlx::query(GENERATION).fetch_one(&self.pool).await?;
        Ok(row.try_get(0)?)
    }

    /// The public URL of the relay that last started on this database.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn public_url(&self) -> Result<Option<String>, StoreError> {
        let row = sqlx::query(PUBLIC_URL).fetch_one(&self.pool).await?;
        Ok(row.try_get(0)?)
    }

    /// The key for the list of erased calls. It was drawn at random when the table was created, and is read
    /// once.
    pub(super) async fn erasure_key(&self) -> Result<&ErasureKey, StoreError> {
        let read = async || {
            let row = sqlx::query(ERASURE_KEY).fetch_one(&self.pool).await?;
            let key: Zeroizing<String> = Zeroizing::new(row.try_get(0)?);
            let key = HEXLOWER.decode(key.as_bytes()).map_err(|_| corrupt("key of erasures"))?;
            Ok(ErasureKey::new(key))
        };
        self.erasure_key.get_or_try_init(read).await
    }

    /// Stores the public URL for commands, which run in other processes.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn set_public_url(&self, url: &str) -> Result<(), StoreError> {
        let mut tx = self.begin(BUMP_GENERATION).await?;
        sqlx::query(SET_PUBLIC_URL).bind(url).execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }
}
