//! Enrolment codes: made for a site, and traded once for one of its keys.

use std::net::IpAddr;

use audiovault_protocol::identity::{
    enrolment::CodeDigest,
    site::{KeyDigest, SiteId},
};
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use serde::Serialize;
use sqlx::{Any, Row, Transaction, any::AnyRow};

use super::{
    Store, StoreError, StoredSite,
    sites::{self, MAX_VALID_KEYS},
    timestamp, users,
};
use crate::model::{
    account::Name,
    operator_events::{Action, Actor, Entry},
};

/// A code that will be stored.
#[derive(Debug, Clone)]
pub struct NewCode {
    /// Digest of the code.
    pub digest: CodeDigest,
    /// The user or API token that made it. `None` if it was made on the command line.
    pub created_by: Option<Name>,
    /// When it was made.
    pub created: Timestamp,
    /// When it expires.
    pub expires: Timestamp,
}

/// A code that a client presents, and the key that it gets for it.
#[derive(Debug, Clone)]
pub struct Trade {
    /// Digest of the code.
    pub digest: CodeDigest,
    /// Digest of the key that the client gets if the code is right.
    pub key: KeyDigest,
    /// The network address of the client.
    pub from: IpAddr,
    /// When the code is presented.
    pub now: Timestamp,
}

/// A code in the database: its digest, never the code itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct EnrolmentRecord {
    /// When the code was made.
    pub created: Timestamp,
    /// The user or API token that made the code. Empty if it was made on the command line.
    #[schema(value_type = Option<String>)]
    pub created_by: Option<Name>,
    /// When the code expires, unless it was used before.
    pub expires: Timestamp,
    /// When the code was traded for a key.
    pub used: Option<Timestamp>,
    /// The network address from which the code was used.
    pub used_from: Option<String>,
    /// The id of the key that was handed out.
    pub key: Option<String>,
}

const INSERT: &str = "INSERT INTO enrolments (digest, site, created_ms, created_by, expires_ms) \
     VALUES ($1, $2, $3, $4, $5)";
const DROP_UNUSED: &str = "DELETE FROM enrolments WHERE site = $1 AND used_ms IS NULL";
const SITE_OF_CODE: &str =
    "SELECT site FROM enrolments WHERE digest = $1 AND used_ms IS NULL AND expires_ms > $2";
const USE: &str = "UPDATE enrolments SET used_ms = $2, used_from = $3, key_digest = $4 \
     WHERE digest = $1 AND used_ms IS NULL AND expires_ms > $2";
const ENROLMENTS: &str = "SELECT created_ms, created_by, expires_ms, used_ms, used_from, key_digest \
     FROM enrolments WHERE site = $1 AND (used_ms IS NOT NULL OR expires_ms > $2) \
     ORDER BY created_ms DESC LIMIT $3";
const PRUNE_EXPIRED: &str = "DELETE FROM enrolments WHERE used_ms IS NULL AND expires_ms <= $1";
const PRUNE_USED: &str = "DELETE FROM enrolments WHERE used_ms < $1";

impl Store {
    /// Stores a code for a site. It replaces the unused codes of the site.
    ///
    /// # Errors
    /// [`StoreError::UnknownSite`]; [`StoreError::SiteDisabled`] and [`StoreError::NoRoomForKey`] if the code
    /// could not be traded.
    pub async fn add_code(&self, actor: &Actor, site: &SiteId, new: &NewCode) -> Result<(), StoreError> {
        let mut tx = self.locked(actor).await?;
        let stored = sites::stored(&mut tx, site).await?;
        if stored.disabled.is_some() {
            return Err(StoreError::SiteDisabled(site.clone()));
        }
        check_room(&stored)?;
        sqlx::query(DROP_UNUSED).bind(site.as_str()).execute(&mut **tx).await?;
        let query = sqlx::query(INSERT)
            .bind(text(&new.digest))
            .bind(site.as_str())
            .bind(new.created.as_millisecond())
            .bind(new.created_by.as_ref().map(|name| name.as_str().to_owned()))
            .bind(new.expires.as_millisecond());
        query.execute(&mut **tx).await?;
        let after = serde_json::json!({ "expires": new.expires });
        tx.commit(&[Entry::of_site(Action::CodeMade, site).after(after)]).await
    }

    /// Uses a code, and adds the key to its site. Returns the site.
    ///
    /// # Errors
    /// [`StoreError::CodeRefused`]; [`StoreError::NoRoomForKey`], after which the code can still be used.
    pub async fn trade_code(&self, actor: &Actor, trade: &Trade) -> Result<SiteId, StoreError> {
        // If a client guesses, there are many wrong codes. They must not take the write lock, so the code is
        // looked up before.
        let query = sqlx::query(SITE_OF_CODE).bind(text(&trade.digest)).bind(trade.now.as_millisecond());
        let row = query.fetch_optional(&self.pool).await?.ok_or(StoreError::CodeRefused)?;
        let site = super::site(&row.try_get::<String, _>(0)?)?;
        let mut tx = self.change(actor).await?;
        use_up(&mut tx, trade).await?;
        let stored = sites::stored(&mut tx, &site).await?;
        if stored.disabled.is_some() {
            return Err(StoreError::CodeRefused);
        }
        check_room(&stored)?;
        sites::insert_key(&mut tx, &site, &trade.key, trade.now.as_millisecond()).await?;
        let valid = || stored.valid_keys().map(|key| key.digest);
        let entry = Entry::of_site(Action::KeyEnrolled, &site)
            .before(sites::keys(valid()))
            .after(sites::keys(valid().chain([trade.key])));
        tx.commit(&[entry]).await?;
        Ok(site)
    }

    /// The codes of a site that were used or can still be used, the newest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn enrolments(
        &self,
        site: &SiteId,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<EnrolmentRecord>, StoreError> {
        let rows = sqlx::query(ENROLMENTS)
            .bind(site.as_str())
            .bind(now.as_millisecond())
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(record).collect()
    }

    /// Deletes codes that expired unused, and codes that were used before a time.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn prune_codes(&self, now: Timestamp, used_before: Timestamp) -> Result<(), StoreError> {
        for (statement, time) in [(PRUNE_EXPIRED, now), (PRUNE_USED, used_before)] {
            sqlx::query(statement).bind(time.as_millisecond()).execute(&self.pool).await?;
        }
        Ok(())
    }
}

/// Marks a code as used. If several clients present it at once, the first one gets the key.
async fn use_up(tx: &mut Transaction<'static, Any>, trade: &Trade) -> Result<(), StoreError> {
    let query = sqlx::query(USE)
        .bind(text(&trade.digest))
        .bind(trade.now.as_millisecond())
        .bind(trade.from.to_string())
        .bind(sites::digest_text(&trade.key));
    if query.execute(&mut **tx).await?.rows_affected() == 0 {
        return Err(StoreError::CodeRefused);
    }
    Ok(())
}

fn check_room(stored: &StoredSite) -> Result<(), StoreError> {
    if stored.valid_keys().count() >= MAX_VALID_KEYS {
        return Err(StoreError::NoRoomForKey(stored.site.clone()));
    }
    Ok(())
}

fn record(row: &AnyRow) -> Result<EnrolmentRecord, StoreError> {
    let name = row.try_get::<Option<String>, _>(1)?;
    let key = row.try_get::<Option<String>, _>(5)?.map(|text| sites::digest(&text)).transpose()?;
    Ok(EnrolmentRecord {
        created: timestamp(row.try_get(0)?)?,
        created_by: name.map(|name| users::name(&name)).transpose()?,
        expires: timestamp(row.try_get(2)?)?,
        used: row.try_get::<Option<i64>, _>(3)?.map(timestamp).transpose()?,
        used_from: row.try_get(4)?,
        key: key.map(|key| key.short()),
    })
}

fn text(digest: &CodeDigest) -> String {
    HEXLOWER.encode(digest.as_bytes())
}

#[cfg(test)]
mod tests;
