//! Reads the audit log, erases calls from it, and deletes old events.

use audiovault_protocol::{identity::site::SiteId, recording::call::NamedCall};
use futures_util::{Stream, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::{Any, Row, Transaction, any::AnyRow};

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
            if call.is_told_of(key.as_deref(), recording.as_deref()) {
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
