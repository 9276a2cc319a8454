//! Reads the audit log, erases calls from it, replaces old client addresses by pseudonyms, and deletes old events.

use audiovault_protocol::{identity::site::SiteId, recording::call::NamedCall};
use data_encoding::HEXLOWER;
use futures_util::{Stream, stream};
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use sqlx::{Any, Row, Transaction, any::AnyRow};
use zeroize::Zeroizing;

use super::{Store, StoreError, conditions::Conditions, corrupt, open::Backend, site, timestamp};
use crate::model::{
    audit::{AuditEvent, Kind, Outcome, call_key},
    operator_events::{Action, Actor, Entry, OperatorEvent, without_nulls},
};

/// A filter for audit events. A field that is not set does not restrict the result.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// The only sites that the client may see. Events from before such a site was added belong to another
    /// customer and are left out.
    pub within: Option<Vec<SiteId>>,
    /// Only events of this site.
    pub site: Option<SiteId>,
    /// Only events of this kind.
    pub kind: Option<Kind>,
    /// Only events with this outcome.
    pub outcome: Option<Outcome>,
    /// Only events of this call. Call ids are compared in their normalised form.
    pub call_id: Option<String>,
    /// Only events of this tenant.
    pub tenant: Option<String>,
    /// Only events of this user of QueueMetrics.
    pub user: Option<String>,
    /// Only events from this address or pseudonym.
    pub client: Option<String>,
    /// Only events that began at this time or later.
    pub from: Option<Timestamp>,
    /// Only events that began before this time.
    pub until: Option<Timestamp>,
    /// Only events older than this one, the last of the previous page.
    pub after: Option<Cursor>,
}

/// A position in the list of events, which runs from the newest to the oldest. As text it is the milliseconds
/// since the Unix epoch and the event's id, separated by a hyphen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cursor {
    /// When the last event of the previous page began.
    pub opened: Timestamp,
    /// The id of that event.
    pub request_id: String,
}

impl Cursor {
    /// The position of an audit event.
    pub fn at(event: &AuditEvent) -> Self {
        Self { opened: event.opened, request_id: event.request_id.clone() }
    }

    /// The position of an operators' event in the list of operators' events.
    pub fn at_event(event: &OperatorEvent) -> Self {
        Self { opened: event.at, request_id: event.id.clone() }
    }
}

/// The text is not a position in the list of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a position in the audit log: use the one from the previous response")]
pub struct NoCursor;

impl TryFrom<String> for Cursor {
    type Error = NoCursor;

    fn try_from(text: String) -> Result<Self, NoCursor> {
        let (ms, request_id) = text.split_once('-').ok_or(NoCursor)?;
        let opened = ms.parse().ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).ok_or(NoCursor)?;
        Ok(Self { opened, request_id: request_id.to_owned() })
    }
}

impl From<Cursor> for String {
    fn from(cursor: Cursor) -> Self {
        format!("{}-{}", cursor.opened.as_millisecond(), cursor.request_id)
    }
}

/// Events per page when all events are read: about 500 kB.
const PAGE: u32 = 1000;
const COLUMNS: &str = "SELECT request_id, kind, site, opened_ms, closed_ms, tenant, call_id, recording, user_name, client, \
     user_agent, status, found, range_start, bytes, size, bytes_per_second, outcome, run FROM audit";
const OF_SITE_AS_IT_IS: &str =
    "opened_ms >= (SELECT sites.created_ms FROM sites WHERE sites.site = audit.site)";
/// Events that may be about a call: by its id with any server before it, or by the recording's name.
const OF_CALL: &str = "SELECT request_id, call_key, recording FROM audit WHERE call_key = $1 \
     OR call_key LIKE $2 ESCAPE '\\' OR LOWER(recording) LIKE $3 ESCAPE '\\'";
const ERASE: &str = "DELETE FROM audit WHERE request_id = $1";
const REMEMBER_ERASURE: &str = "INSERT INTO erasures (call_digest, erased_ms) VALUES ($1, $2) \
     ON CONFLICT (call_digest) DO UPDATE SET erased_ms = excluded.erased_ms";
const PRUNE: &str = "DELETE FROM audit WHERE opened_ms < $1";
const PRUNE_ERASURES: &str = "DELETE FROM erasures WHERE erased_ms < $1";
/// This program's number among the advisory locks of the database.
const WRITE_LOCK: &str = "SELECT pg_advisory_xact_lock_shared(7216101)";
const ERASE_LOCK: &str = "SELECT pg_advisory_xact_lock(7216101)";
/// Moves the write-ahead log into the database, and truncates the log to zero bytes.
const TRUNCATE_LOG: &str = "PRAGMA wal_checkpoint(TRUNCATE)";

impl AuditFilter {
    /// An operators' event: the audit log was read or exported with this filter.
    pub(crate) fn entry(&self, action: Action) -> Entry {
        // Calls, users and client addresses are erased from the audit log or replaced by pseudonyms there. They
        // must not stay here.
        let hidden = |given: bool| given.then_some("(given)");
        let after = serde_json::json!({
            "kind": self.kind, "outcome": self.outcome, "tenant": self.tenant,
            "call_id": hidden(self.call_id.is_some()), "user": hidden(self.user.is_some()),
            "client": hidden(self.client.is_some()), "from": self.from, "until": self.until,
        });
        Entry { site: self.site.clone(), ..Entry::new(action).after(without_nulls(&after)) }
    }

    fn conditions(&self) -> Conditions {
        let mut conditions = Conditions::default();
        if let Some(sites) = &self.within {
            conditions.one_of("site", sites.iter().map(SiteId::as_str));
            conditions.also(OF_SITE_AS_IT_IS);
        }
        conditions.equal("site", self.site.as_ref().map(SiteId::as_str));
        conditions.equal("kind", self.kind.map(Kind::as_str));
        conditions.equal("outcome", self.outcome.map(Outcome::as_str));
        conditions.equal("call_key", self.call_id.as_deref().map(call_key));
        conditions.equal("tenant", self.tenant.as_deref());
        conditions.equal("user_name", self.user.as_deref());
        conditions.equal("client", self.client.as_deref());
        conditions.at_least("opened_ms", self.from.map(Timestamp::as_millisecond));
        conditions.below("opened_ms", self.until.map(Timestamp::as_millisecond));
        if let Some(cursor) = &self.after {
            conditions.before(
                ["opened_ms", "request_id"],
                cursor.opened.as_millisecond(),
                &cursor.request_id,
            );
        }
        conditions
    }
}

impl Store {
    /// Events, the newest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn audit(&self, filter: &AuditFilter, limit: u32) -> Result<Vec<AuditEvent>, StoreError> {
        let order = format!("ORDER BY opened_ms DESC, request_id DESC LIMIT {limit}");
        let rows = filter.conditions().fetch(COLUMNS, &order, &self.pool).await?;
        rows.iter().map(event).collect()
    }

    /// All events, the newest first, in pages. Each page is read when the stream is polled.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails; the stream ends with the error.
    pub fn audit_pages(
        &self,
        filter: AuditFilter,
    ) -> impl Stream<Item = Result<Vec<AuditEvent>, StoreError>> + Send + 'static {
        stream::try_unfold((self.clone(), filter), async |(store, mut filter)| {
            let events = store.audit(&filter, PAGE).await?;
            let Some(last) = events.last() else { return Ok(None) };
            filter.after = Some(Cursor::at(last));
            Ok(Some((events, (store, filter))))
        })
    }

    /// Deletes every event of a call from the database, and for an SQLite file from its write-ahead log too.
    /// Events of the call that are still on their way are not written either. Returns how many events were
    /// deleted.
    ///
    /// A call id without a server is the call on every server. A call id with a server is also the call where
    /// it is named without one. Events of other legs of the conversation are deleted if the recording's name
    /// contains the id; otherwise they have to be erased by their own ids.
    ///
    /// # Errors
    /// [`StoreError::LogInUse`] if the write-ahead log could not be truncated: the events are deleted from the
    /// database, but not yet from the file of the log.
    pub async fn erase_call(&self, actor: &Actor, call_id: &str) -> Result<u64, StoreError> {
        let call = NamedCall::new(call_id);
        let digests = self.erasure_key().await?.erased(&call);
        let mut tx = self.locked(actor).await?;
        self.lock_audit(&mut tx, AuditLock::Erase).await?;
        for digest in digests {
            sqlx::query(REMEMBER_ERASURE)
                .bind(digest)
                .bind(Timestamp::now().as_millisecond())
                .execute(&mut **tx)
                .await?;
        }
        let pattern = anywhere(call.bare());
        let rows =
            sqlx::query(OF_CALL).bind(call.key()).bind(&pattern).bind(&pattern).fetch_all(&mut **tx).await?;
        let mut erased = 0;
        for row in rows {
            let key: Option<String> = row.try_get(1)?;
            let recording: Option<String> = row.try_get(2)?;
            if call.is_subject_of(key.as_deref(), recording.as_deref()) {
                let id: String = row.try_get(0)?;
                erased += sqlx::query(ERASE).bind(id).execute(&mut **tx).await?.rows_affected();
            }
        }
        // The event does not contain the call id: otherwise the id would stay in the database.
        let entry = Entry::new(Action::AuditErased).after(serde_json::json!({ "erased": erased }));
        tx.commit(&[entry]).await?;
        self.truncate_log().await?;
        Ok(erased)
    }

    /// Deletes audit events, and digests of erased calls, from before a time.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn prune_audit(&self, before: Timestamp) -> Result<u64, StoreError> {
        let done = sqlx::query(PRUNE).bind(before.as_millisecond()).execute(&self.pool).await?;
        sqlx::query(PRUNE_ERASURES).bind(before.as_millisecond()).execute(&self.pool).await?;
        Ok(done.rows_affected())
    }

    async fn truncate_log(&self) -> Result<(), StoreError> {
        if matches!(self.backend, Backend::Postgres(_)) {
            return Ok(());
        }
        let row = sqlx::query(TRUNCATE_LOG).fetch_one(&self.pool).await?;
        match row.try_get::<i64, _>(0)? {
            0 => Ok(()),
            _ => Err(StoreError::LogInUse),
        }
    }
}

/// What a transaction will do with the audit log.
#[derive(Debug, Clone, Copy)]
pub(super) enum AuditLock {
    /// Write events. Gossip may write at the same time.
    Write,
    /// Erase events while no other transaction writes: an event that began earlier must not be written later.
    Erase,
}

impl Store {
    /// Keeps transactions that write events and transactions that erase them apart until the transaction ends.
    /// SQLite has a single writer anyway.
    pub(super) async fn lock_audit(
        &self,
        tx: &mut Transaction<'static, Any>,
        what: AuditLock,
    ) -> Result<(), StoreError> {
        let statement = match (&self.backend, what) {
            (Backend::Sqlite(_), _) => return Ok(()),
            (Backend::Postgres(_), AuditLock::Write) => WRITE_LOCK,
            (Backend::Postgres(_), AuditLock::Erase) => ERASE_LOCK,
        };
        sqlx::query(statement).execute(&mut **tx).await?;
        Ok(())
    }
}

/// A pattern of LIKE for texts that contain an id. `_` matches any character there, which is right for `.` and
/// `_`.
fn anywhere(id: &str) -> String {
    let mut pattern = String::from("%");
    for character in id.chars() {
        match character {
            '.' => pattern.push('_'),
            '%' | '\\' => pattern.extend(['\\', character]),
            other => pattern.push(other),
        }
    }
    pattern.push('%');
    pattern
}

fn event(row: &AnyRow) -> Result<AuditEvent, StoreError> {
    let name = |column: usize| row.try_get::<String, _>(column);
    let count = |column: usize| row.try_get::<Option<i64>, _>(column);
    let number = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
    let small = |value: Option<i64>| value.and_then(|value| u32::try_from(value).ok());
    Ok(AuditEvent {
        request_id: name(0)?,
        kind: name(1)?.parse().map_err(|_| corrupt("kind of audit event"))?,
        site: site(&name(2)?)?,
        opened: timestamp(row.try_get(3)?)?,
        closed: count(4)?.map(timestamp).transpose()?,
        tenant: row.try_get(5)?,
        call_id: row.try_get(6)?,
        recording: row.try_get(7)?,
        user: row.try_get(8)?,
        client: row.try_get(9)?,
        user_agent: row.try_get(10)?,
        status: u16::try_from(row.try_get::<i64, _>(11)?).map_err(|_| corrupt("HTTP status"))?,
        found: small(count(12)?),
        range_start: number(count(13)?),
        bytes: number(count(14)?).unwrap_or_default(),
        size: number(count(15)?),
        bytes_per_second: small(count(16)?),
        outcome: name(17)?.parse().map_err(|_| corrupt("outcome"))?,
        run: row.try_get(18)?,
    })
}

/// Rows per transaction: few enough that other writers do not have to wait for the write lock.
const PSEUDONYM_BATCH: i64 = 500;
/// Bytes of a pseudonym. The probability of a collision among a million clients is below one in five hundred.
const PSEUDONYM_LEN: usize = 6;

const PSEUDONYM_SETTINGS: &str = "SELECT pseudonyms_until_ms, pseudonym_key FROM meta WHERE id = 1";
const SET_PSEUDONYM_KEY: &str = "UPDATE meta SET pseudonym_key = $1 WHERE id = 1 AND pseudonym_key IS NULL";
const SET_PSEUDONYMS_UNTIL: &str = "UPDATE meta SET pseudonyms_until_ms = $1 WHERE id = 1";
/// Events from the mark on that still have an address. The mark moves to the last event of a batch, so that no
/// row is read every time.
const OLD_ADDRESSES: &str = "SELECT request_id, opened_ms, client FROM audit \
     WHERE opened_ms >= $1 AND opened_ms < $2 AND client IS NOT NULL AND client NOT LIKE '~%' \
     ORDER BY opened_ms LIMIT $3";
const REPLACE_ADDRESS: &str = "UPDATE audit SET client = $2, user_agent = NULL WHERE request_id = $1";

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
            let (until_ms, key) = pseudonym_settings(&mut tx).await?;
            let rows = sqlx::query(OLD_ADDRESSES)
                .bind(until_ms)
                .bind(before_ms)
                .bind(PSEUDONYM_BATCH)
                .fetch_all(&mut *tx)
                .await?;
            let mut mark = before_ms;
            for row in &rows {
                let pseudonym = pseudonym(&key, &row.try_get::<String, _>(2)?)?;
                let id: String = row.try_get(0)?;
                sqlx::query(REPLACE_ADDRESS).bind(id).bind(pseudonym).execute(&mut *tx).await?;
                changed += 1;
                mark = row.try_get(1)?;
            }
            let full = rows.len() as i64 == PSEUDONYM_BATCH;
            let mark = if full { mark } else { before_ms };
            sqlx::query(SET_PSEUDONYMS_UNTIL).bind(mark.max(until_ms)).execute(&mut *tx).await?;
            tx.commit().await?;
            if !full {
                return Ok(changed);
            }
        }
    }
}

async fn pseudonym_settings(
    tx: &mut Transaction<'static, Any>,
) -> Result<(i64, Zeroizing<Vec<u8>>), StoreError> {
    let fresh: Zeroizing<[u8; 32]> = Zeroizing::new(rand::random());
    // This statement comes first because it takes the write lock.
    sqlx::query(SET_PSEUDONYM_KEY).bind(HEXLOWER.encode(fresh.as_slice())).execute(&mut **tx).await?;
    let row = sqlx::query(PSEUDONYM_SETTINGS).fetch_one(&mut **tx).await?;
    let key: String = row.try_get(1)?;
    let key = HEXLOWER.decode(key.as_bytes()).map_err(|_| corrupt("pseudonym key"))?;
    Ok((row.try_get(0)?, Zeroizing::new(key)))
}

fn pseudonym(key: &[u8], address: &str) -> Result<String, StoreError> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).map_err(|_| corrupt("pseudonym key"))?;
    mac.update(address.as_bytes());
    Ok(format!("~{}", HEXLOWER.encode(&mac.finalize().into_bytes()[..PSEUDONYM_LEN])))
}
