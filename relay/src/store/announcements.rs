//! The state of each site that was announced last.

use std::collections::HashMap;

use audiovault_protocol::identity::site::SiteId;
use sqlx::Row;

use super::{Store, StoreError, site};

const ANNOUNCED: &str = "SELECT site, state FROM announcements";
const ANNOUNCE: &str = "INSERT INTO announcements (site, state) SELECT $1, $2 \
     WHERE EXISTS (SELECT 1 FROM sites WHERE site = $1) \
     ON CONFLICT (site) DO UPDATE SET state = excluded.state WHERE announcements.state <> excluded.state";

impl Store {
    /// The state of each site that was announced last, as a name.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn announced(&self) -> Result<HashMap<SiteId, String>, StoreError> {
        let rows = sqlx::query(ANNOUNCED).fetch_all(&self.pool).await?;
        rows.iter().map(|row| Ok((site(&row.try_get::<String, _>(0)?)?, row.try_get(1)?))).collect()
    }

    /// Claims the announcement of a site's state for this relay. Returns false if the state was announced
    /// already, perhaps by another relay on the same database.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn announce(&self, site: &SiteId, state: &str) -> Result<bool, StoreError> {
        let done = sqlx::query(ANNOUNCE).bind(site.as_str()).bind(state).execute(&self.pool).await?;
        Ok(done.rows_affected() > 0)
    }
}
