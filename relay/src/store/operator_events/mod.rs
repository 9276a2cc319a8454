//! Operators' events: written with the change that they record, read, sent, and deleted at the end of their
//! retention.

use std::ops::{Deref, DerefMut};

use audiovault_protocol::identity::site::SiteId;
use futures_util::{Stream, stream};
use jiff::Timestamp;
use serde_json::Value;
use sqlx::{Any, Row, Transaction, any::AnyRow};

use super::{BUMP_GENERATION, Cursor, Store, StoreError, conditions::Conditions, corrupt, site, timestamp};
use crate::model::operator_events::{Action, Actor, Entry, OperatorEvent, without_nulls};

/// The maximum size of `before` or `after` in bytes: the names of a thousand sites fit, and a row has a bounded
/// size.
const MAX_JSON_LEN: usize = 64 * 1024;
/// Within this time, in milliseconds, the same read by the same actor is one event. Otherwise a program that
/// reads the audit log every second would write 86,400 rows a day.
const REPEAT_MS: i64 = 600_000;
/// Events per page when all events are read.
const PAGE: u32 = 500;

const LAST: &str = "SELECT MAX(id) FROM operator_events";
const INSERT: &str = "INSERT INTO operator_events (id, at_ms, actor_kind, actor, owner, address, action, site, subject, \
     before_json, after_json, reason) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
const IS_REPEATED: &str = "SELECT COUNT(*) FROM operator_events WHERE at_ms >= $1 AND actor_kind = $2 AND actor = $3 \
     AND COALESCE(address, '') = $4 AND action = $5 AND COALESCE(site, '') = $6 AND COALESCE(after_json, '') = $7";
const COLUMNS: &str = "SELECT id, at_ms, actor_kind, actor, owner, address, action, site, subject, before_json, after_json, \
     reason FROM operator_events";
const OF_SITE_AS_IT_IS: &str =
    "at_ms >= (SELECT sites.created_ms FROM sites WHERE sites.site = operator_events.site)";
const UNTOLD: &str = "SELECT id, at_ms, actor_kind, actor, owner, address, action, site, subject, before_json, after_json, \
     reason FROM operator_events WHERE told_ms IS NULL AND at_ms >= $1 ORDER BY at_ms, id LIMIT $2";
const CLAIM: &str = "UPDATE operator_events SET told_ms = $2 WHERE id = $1 AND told_ms IS NULL";
const PRUNE: &str = "DELETE FROM operator_events WHERE at_ms < $1";
/// Takes the write lock before anything is read, so that two writers queue up and neither fails.
pub(super) const LOCK: &str = "UPDATE meta SET id = 1 WHERE id = 1";

/// A change that an actor makes. It is committed together with its events, and rolled back when it is dropped.
pub(super) struct Change<'a> {
    tx: Transaction<'static, Any>,
    actor: &'a Actor,
}

impl Deref for Change<'_> {
    type Target = Transaction<'static, Any>;

    fn deref(&self) -> &Self::Target {
        &self.tx
    }
}

impl DerefMut for Change<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.tx
    }
}

impl Change<'_> {
    /// Writes the events of the change, and commits it.
    pub(super) async fn commit(mut self, entries: &[Entry]) -> Result<(), StoreError> {
        insert(&mut self.tx, self.actor, entries).await?;
        Ok(self.tx.commit().await?)
    }
}

/// A filter for operators' events. A field that is not set does not restrict the result.
#[derive(Debug, Clone, Default)]
pub struct OperatorFilter {
    /// The only sites whose events the client may see. Events without a site are only for those who see all
    /// sites.
    pub within: Option<Vec<SiteId>>,
    /// Only events of this site.
    pub site: Option<SiteId>,
    /// Only events with this action.
    pub action: Option<Action>,
    /// Only events with one of these actions. An empty list does not restrict the result.
    pub one_of: Vec<Action>,
    /// Only events of this user, API token or user of the operating system, or of a token that this user owns.
    pub actor: Option<String>,
    /// Only events at this time or later.
    pub from: Option<Timestamp>,
    /// Only events before this time.
    pub until: Option<Timestamp>,
    /// Only events older than this one, the last of the previous page.
    pub after: Option<Cursor>,
}

impl OperatorFilter {
    /// An operators' event: operators' events were read or exported with this filter.
    pub(crate) fn entry(&self, action: Action) -> Entry {
        let after = serde_json::json!({
            "site": self.site, "action": self.action, "actor": self.actor, "from": self.from,
            "until": self.until,
        });
        // Without a site: otherwise most events of a site would be reads of its events.
        Entry::new(action).after(without_nulls(&after))
    }

    fn conditions(&self) -> Conditions {
        let mut conditions = Conditions::default();
        if let Some(sites) = &self.within {
            conditions.one_of("site", sites.iter().map(SiteId::as_str));
            conditions.also(OF_SITE_AS_IT_IS);
        }
        conditions.equal("site", self.site.as_ref().map(SiteId::as_str));
        conditions.equal("action", self.action.map(Action::as_str));
        if !self.one_of.is_empty() {
            conditions.one_of("action", self.one_of.iter().map(|action| action.as_str()));
        }
        conditions.either("actor", "owner", self.actor.as_deref());
        conditions.at_least("at_ms", self.from.map(Timestamp::as_millisecond));
        conditions.below("at_ms", self.until.map(Timestamp::as_millisecond));
        if let Some(cursor) = &self.after {
            conditions.before(["at_ms", "id"], cursor.opened.as_millisecond(), &cursor.request_id);
        }
        conditions
    }
}

impl Store {
    /// Begins a change of the sites: takes the write lock and bumps the generation.
    pub(super) async fn change<'a>(&self, actor: &'a Actor) -> Result<Change<'a>, StoreError> {
        Ok(Change { tx: self.begin(BUMP_GENERATION).await?, actor })
    }

    /// Begins a change of anything but sites: takes the write lock.
    pub(super) async fn locked<'a>(&self, actor: &'a Actor) -> Result<Change<'a>, StoreError> {
        Ok(Change { tx: self.begin(LOCK).await?, actor })
    }

    /// Writes an event of an actor who has changed nothing. A read or a lockout that the same actor has just
    /// made is not written again.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails; what the event is about must not happen then.
    pub(crate) async fn record(&self, actor: &Actor, entry: &Entry) -> Result<(), StoreError> {
        let repeatable = matches!(entry.action, Action::AuditRead | Action::EventsRead | Action::LockedOut);
        if repeatable && self.is_repeated(actor, entry).await? {
            return Ok(());
        }
        self.locked(actor).await?.commit(std::slice::from_ref(entry)).await
    }

    async fn is_repeated(&self, actor: &Actor, entry: &Entry) -> Result<bool, StoreError> {
        let row = sqlx::query(IS_REPEATED)
            .bind(Timestamp::now().as_millisecond() - REPEAT_MS)
            .bind(actor.kind.as_str())
            .bind(&actor.name)
            .bind(actor.address.map(|address| address.to_string()).unwrap_or_default())
            .bind(entry.action.as_str())
            .bind(entry.site.as_ref().map_or("", SiteId::as_str))
            .bind(entry.after.as_ref().map(json).unwrap_or_default())
            .fetch_one(&self.pool)
            .await?;
        Ok(row.try_get::<i64, _>(0)? > 0)
    }

    /// Operators' events, the newest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn operator_events(
        &self,
        filter: &OperatorFilter,
        limit: u32,
    ) -> Result<Vec<OperatorEvent>, StoreError> {
        let order = format!("ORDER BY at_ms DESC, id DESC LIMIT {limit}");
        let rows = filter.conditions().fetch(COLUMNS, &order, &self.pool).await?;
        rows.iter().map(event).collect()
    }

    /// All operators' events, the newest first, in pages. Each page is read when the stream is polled.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails; the stream ends with the error.
    pub fn operator_event_pages(
        &self,
        filter: OperatorFilter,
    ) -> impl Stream<Item = Result<Vec<OperatorEvent>, StoreError>> + Send + 'static {
        stream::try_unfold((self.clone(), filter), async |(store, mut filter)| {
            let events = store.operator_events(&filter, PAGE).await?;
            let Some(last) = events.last() else { return Ok(None) };
            filter.after = Some(Cursor::at_event(last));
            Ok(Some((events, (store, filter))))
        })
    }

    /// Takes the events that no relay has sent to the webhook yet, the oldest first. Of all relays on one
    /// database, only one takes each event.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub(crate) async fn claim_operator_events(
        &self,
        since: Timestamp,
        limit: u32,
    ) -> Result<Vec<OperatorEvent>, StoreError> {
        let rows = sqlx::query(UNTOLD)
            .bind(since.as_millisecond())
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?;
        let mut claimed = Vec::new();
        for row in &rows {
            let event = event(row)?;
            let now = Timestamp::now().as_millisecond();
            let done = sqlx::query(CLAIM).bind(&event.id).bind(now).execute(&self.pool).await?;
            if done.rows_affected() == 1 {
                claimed.push(event);
            }
        }
        Ok(claimed)
    }

    /// Deletes operators' events from before a time, and returns how many there were. Only the retention task
    /// calls it.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub(crate) async fn prune_operator_events(&self, before: Timestamp) -> Result<u64, StoreError> {
        let done = sqlx::query(PRUNE).bind(before.as_millisecond()).execute(&self.pool).await?;
        Ok(done.rows_affected())
    }
}

/// Writes events within a transaction that has the write lock. Their ids count up without a gap. So their order
/// is the order of the changes, and a row that was deleted by hand leaves a gap.
pub(super) async fn insert(
    tx: &mut Transaction<'static, Any>,
    actor: &Actor,
    entries: &[Entry],
) -> Result<(), StoreError> {
    let last: Option<String> = sqlx::query(LAST).fetch_one(&mut **tx).await?.try_get(0)?;
    let last =
        last.map_or(Ok(0), |id| u64::from_str_radix(&id, 16)).map_err(|_| corrupt("operator event"))?;
    for (id, entry) in (last + 1..).zip(entries) {
        insert_one(tx, &format!("{id:016x}"), actor, entry).await?;
    }
    Ok(())
}

async fn insert_one(
    tx: &mut Transaction<'static, Any>,
    id: &str,
    actor: &Actor,
    entry: &Entry,
) -> Result<(), StoreError> {
    sqlx::query(INSERT)
        .bind(id.to_owned())
        .bind(Timestamp::now().as_millisecond())
        .bind(actor.kind.as_str())
        .bind(&actor.name)
        .bind(&actor.owner)
        .bind(actor.address.map(|address| address.to_string()))
        .bind(entry.action.as_str())
        .bind(entry.site.as_ref().map(|site| site.as_str().to_owned()))
        .bind(&entry.subject)
        .bind(entry.before.as_ref().map(json))
        .bind(entry.after.as_ref().map(json))
        .bind(&actor.reason)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// JSON in the form that is stored. PostgreSQL does not accept NUL, and JSON escapes it.
fn json(value: &Value) -> String {
    let text = value.to_string();
    if text.len() <= MAX_JSON_LEN { text } else { format!("{{\"too_long\":{}}}", text.len()) }
}

/// An action from the text that is stored.
pub(super) fn action(text: &str) -> Result<Action, StoreError> {
    text.parse().map_err(|_| corrupt("action of an operator"))
}

fn event(row: &AnyRow) -> Result<OperatorEvent, StoreError> {
    let json = |column: usize| -> Result<Option<Value>, StoreError> {
        let text = row.try_get::<Option<String>, _>(column)?;
        text.map(|text| serde_json::from_str(&text).map_err(|_| corrupt("operator event"))).transpose()
    };
    Ok(OperatorEvent {
        id: row.try_get(0)?,
        at: timestamp(row.try_get(1)?)?,
        actor_kind: row.try_get::<String, _>(2)?.parse().map_err(|_| corrupt("kind of actor"))?,
        actor: row.try_get(3)?,
        owner: row.try_get(4)?,
        address: row.try_get(5)?,
        action: action(&row.try_get::<String, _>(6)?)?,
        site: row.try_get::<Option<String>, _>(7)?.map(|text| site(&text)).transpose()?,
        subject: row.try_get(8)?,
        before: json(9)?,
        after: json(10)?,
        reason: row.try_get(11)?,
    })
}

#[cfg(test)]
mod tests;
