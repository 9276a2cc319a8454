//! Replaces old client addresses by pseudonyms.

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::Sha256;
use sqlx::{Any, Row, Transaction};
use zeroize::Zeroizing;

use super::{Store, StoreError, corrupt};

/// Rows per transaction: few enough that other writers do not have to wait for the write lock.
const BATCH: i64 = 500;
/// Bytes of a pseudonym. The probability of a collision among a million clients is below one in five hundred.
const PSEUDONYM_LEN: usize = 6;

const SETTINGS: &str = "SELECT pseudonyms_until_ms, pseudonym_key FROM meta WHERE id = 1";
const SET_KEY: &str = "UPDATE meta SET pseudonym_key = $1 WHERE id = 1 AND pseudonym_key IS NULL";
const SET_UNTIL: &str = "UPDATE meta SET pseudonyms_until_ms = $1 WHERE id = 1";
/// Events from the mark on that still have an address. The mark moves to the last event of a batch, so that no
/// row is read every time.
const OLD_ADDRESSES: &str = "SELECT request_id, opened_ms, client FROM audit \
     WHERE opened_ms >= $1 AND opened_ms < $2 AND client IS NOT NULL AND client NOT LIKE '~%' \
     ORDER BY opened_ms LIMIT $3";
const REPLACE: &str = "UPDATE audit SET client = $2, user_agent = NULL WHERE request_id = $1";

impl Store {
    /// Replaces the client addresses of events from before a time by pseudonyms, and deletes their user agents.
    /// The same address always gets the same pseudonym. Returns how many events were changed.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails; what was changed before stays changed.
    pub async fn pseudonymise_audit(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut changed = 0;
        let before_ms = before.as_millisecond();
        loop {
            let mut tx = self.pool.begin().await?;
            let (until_ms, key) = settings(&mut tx).await?;
            let rows = sqlx::query(OLD_ADDRESSES)
                .bind(until_ms)
                .bind(before_ms)
                .bind(BATCH)
                .fetch_all(&mut *tx)
                .await?;
            let mut mark = before_ms;
            for row in &rows {
                let pseudonym = pseudonym(&key, &row.try_get::<String, _>(2)?)?;
                let id: String = row.try_get(0)?;
                sqlx::query(REPLACE).bind(id).bind(pseudonym).execute(&mut *tx).await?;
                changed += 1;
                mark = row.try_get(1)?;
            }
            let full = rows.len() as i64 == BATCH;
            let mark = if full { mark } else { before_ms };
            sqlx::query(SET_UNTIL).bind(mark.max(until_ms)).execute(&mut *tx).await?;
            tx.commit().await?;
            if !full {
                return Ok(changed);
            }
        }
    }
}

async fn settings(tx: &mut Transaction<'static, Any>) -> Result<(i64, Zeroizing<Vec<u8>>), StoreError> {
    let fresh: Zeroizing<[u8; 32]> = Zeroizing::new(rand::random());
    // This statement comes first because it takes the write lock.
    sqlx::query(SET_KEY).bind(HEXLOWER.encode(fresh.as_slice())).execute(&mut **tx).await?;
    let row = sqlx::query(SETTINGS).fetch_one(&mut **tx).await?;
    let key: String = row.try_get(1)?;
    let key = HEXLOWER.decode(key.as_bytes()).map_err(|_| corrupt("pseudonym key"))?;
    Ok((row.try_get(0)?, Zeroizing::new(key)))
}

fn pseudonym(key: &[u8], address: &str) -> Result<String, StoreError> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).map_err(|_| corrupt("pseudonym key"))?;
    mac.update(address.as_bytes());
    Ok(format!("~{}", HEXLOWER.encode(&mac.finalize().into_bytes()[..PSEUDONYM_LEN])))
}
