//! Writes the journal's records to the database, many in one transaction.

use std::sync::LazyLock;

use audiovault_protocol::{
    identity::{signed_link::LinkKeyId, site::SiteId},
    recording::call::NamedCall,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::{Any, Database, Encode, SqlitePool, Transaction, Type, query::Query};

use super::{
    Store, StoreError, agent_events, audit::AuditLock, open::Backend, operator_events, routes::notify,
};
use crate::model::audit::{AuditEvent, ErasureKey, Outcome, call_key};

/// A tunnel whose agent has introduced itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TunnelOpened {
    /// The id of the tunnel in the logs of relay and agent.
    pub session: String,
    /// The site of the agent.
    pub site: SiteId,
    /// The run of the relay that holds the tunnel.
    pub run: String,
    /// The run of the agent.
    pub instance: String,
    /// The number of the tunnel among those of the agent.
    pub slot: u16,
    /// Version of the agent.
    pub agent_version: String,
    /// Host name of the agent's machine.
    pub host: String,
    /// The network address from which the tunnel comes.
    pub address: String,
    /// The id of the key with which the agent makes its links.
    pub link_key: LinkKeyId,
    /// When it was opened.
    pub opened: Timestamp,
}

/// The progress of a delivery.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Progress {
    /// The request id of the delivery.
    pub request_id: String,
    /// Bytes that the socket has taken.
    pub bytes: u64,
    /// When it ended, if it has.
    pub closed: Option<Timestamp>,
    /// How the delivery ended, or that it goes on.
    pub outcome: Outcome,
}

/// The traffic of one site in one hour, which is added to what the database has.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TrafficShare {
    /// The site.
    pub site: SiteId,
    /// The beginning of the hour.
    pub hour: Timestamp,
    /// The number of searches.
    pub searches: u64,
    /// The number of requests that ended in a server error.
    pub errors: u64,
    /// Bytes of recordings.
    pub bytes: u64,
}

/// One event of any kind that is written to the database.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Record {
    /// An agent has connected.
    TunnelOpened(Box<TunnelOpened>),
    /// A tunnel has ended.
    TunnelClosed {
        /// The id of the tunnel.
        session: String,
        /// The site of its agent.
        site: SiteId,
        /// True if the agent should be connected again in a moment.
        back_soon: bool,
        /// When it ended.
        closed: Timestamp,
        /// Why it ended, in one line.
        reason: String,
    },
    /// A search, or a delivery that has begun.
    Audit(Box<AuditEvent>),
    /// A delivery has made progress or ended.
    Progress(Progress),
    /// Requests and bytes have passed for a site.
    Traffic(TrafficShare),
    /// The run of a relay is alive.
    Alive {
        /// The run.
        run: String,
        /// The time of the sign of life.
        at: Timestamp,
    },
}

/// The site may have been removed while its records waited. If the tunnel was closed because its relay was
/// taken for dead, it is open again.
const INSERT_TUNNEL: &str = "INSERT INTO tunnels (session, site, run, instance, slot, agent_version, host, address, \
     opened_ms, link_key) SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10 WHERE EXISTS (SELECT 1 FROM sites WHERE site = $2) \
     ON CONFLICT (session) DO UPDATE SET closed_ms = NULL, reason = NULL";
const CLOSE_TUNNEL: &str =
    "UPDATE tunnels SET closed_ms = $2, reason = $3 WHERE session = $1 AND closed_ms IS NULL";
/// The numbers of events that one statement can write. The largest that fits is used, since every statement is
/// a round trip to the database's thread.
const ROWS: [usize; 3] = [256, 16, 1];
/// How many columns an event has. As many values are bound for it, and after them the digests of its call if the
/// statement looks into the list of erased calls.
const EVENT_COLUMNS: usize = 20;
const DIGESTS: usize = 2;
/// The statement for each number in [`ROWS`].
type InsertAudit = [String; ROWS.len()];
static INSERT_AUDIT: LazyLock<InsertAudit> =
    LazyLock::new(|| ROWS.map(|rows| insert_audit(rows, Form::Sqlite)));
static INSERT_AUDIT_UNCHECKED: LazyLock<InsertAudit> =
    LazyLock::new(|| ROWS.map(|rows| insert_audit(rows, Form::SqliteUnchecked)));
static INSERT_AUDIT_POSTGRES: LazyLock<InsertAudit> =
    LazyLock::new(|| ROWS.map(|rows| insert_audit(rows, Form::Postgres)));
/// Takes the write lock at once: what is read after it does not change before the transaction ends.
const BEGIN_TO_WRITE: &str = "BEGIN IMMEDIATE";
const ERASED_SINCE: &str = "SELECT EXISTS (SELECT 1 FROM erasures WHERE erased_ms >= $1)";
/// From this number of events on, one question costs less than their digests.
const MANY_EVENTS: usize = 8;
const UPDATE_DELIVERY: &str =
    "UPDATE audit SET bytes = $2, closed_ms = $3, outcome = $4 WHERE request_id = $1 AND closed_ms IS NULL";
const ADD_TRAFFIC: &str = "INSERT INTO traffic (site, hour_ms, searches, errors, bytes) \
     SELECT $1, $2, $3, $4, $5 WHERE EXISTS (SELECT 1 FROM sites WHERE site = $1) \
     ON CONFLICT (site, hour_ms) DO UPDATE SET searches = traffic.searches + excluded.searches, \
     errors = traffic.errors + excluded.errors, bytes = traffic.bytes + excluded.bytes";
const ALIVE: &str = "INSERT INTO relay_runs (run, started_ms, alive_ms) VALUES ($1, $2, $2) \
     ON CONFLICT (run) DO UPDATE SET alive_ms = excluded.alive_ms";

impl Store {
    /// Writes records in their order, all or none.
    ///
    /// # Errors
    /// [`StoreError::Database`]; no record is written then.
    pub async fn write(&self, records: &[Record]) -> Result<(), StoreError> {
        // Before the transaction begins: inside it, this would wait for the transaction itself.
        let key = self.erasure_key().await?;
        if let Some(pool) = &self.events
            && records.iter().all(|record| matches!(record, Record::Audit(_) | Record::Progress(_)))
        {
            return write_events(pool, key, records).await;
        }
        let mut tx = self.journal.begin().await?;
        // Before the lock of the audit log: changes by operators take both locks in this order.
        if agent_events::may_come_of(records) {
            sqlx::query(operator_events::LOCK).execute(&mut *tx).await?;
        }
        self.lock_audit(&mut tx, AuditLock::Write).await?;
        let statements = match self.backend {
            Backend::Sqlite(_) => &*INSERT_AUDIT,
            Backend::Postgres(_) => &*INSERT_AUDIT_POSTGRES,
        };
        let mut rest = records;
        while let Some(record) = rest.first() {
            if let Record::TunnelOpened(tunnel) = record {
                agent_events::write(&mut tx, tunnel).await?;
            }
            let written = match insert_events(statements, Some(key), rest) {
                Some((rows, query)) => query.execute(&mut *tx).await.map(|_| rows)?,
                None => write(&mut tx, record).await.map(|()| 1)?,
            };
            rest = rest.get(written..).unwrap_or_default();
        }
        if let Backend::Postgres(_) = self.backend {
            notify(&mut tx, records).await?;
        }
        Ok(tx.commit().await?)
    }
}

/// Writes events to a SQLite file, in their order, all or none. Its own types save a copy of each value that `Any`
/// makes.
async fn write_events(pool: &SqlitePool, key: &ErasureKey, records: &[Record]) -> Result<(), StoreError> {
    let mut tx = pool.begin_with(BEGIN_TO_WRITE).await?;
    let first = records.iter().filter_map(event).map(|event| event.opened).min();
    let may_be_erased = match first {
        Some(first) if records.len() >= MANY_EVENTS => {
            sqlx::query_scalar(ERASED_SINCE).bind(first.as_millisecond()).fetch_one(&mut *tx).await?
        }
        _ => true,
    };
    let (statements, key) =
        if may_be_erased { (&*INSERT_AUDIT, Some(key)) } else { (&*INSERT_AUDIT_UNCHECKED, None) };
    let mut rest = records;
    while let Some(record) = rest.first() {
        let written = match (insert_events(statements, key, rest), record) {
            (Some((rows, query)), _) => query.execute(&mut *tx).await.map(|_| rows)?,
            (None, Record::Progress(progress)) => {
                update_delivery(progress).execute(&mut *tx).await.map(|_| 1)?
            }
            (None, _) => 1,
        };
        rest = rest.get(written..).unwrap_or_default();
    }
    Ok(tx.commit().await?)
}

async fn write(tx: &mut Transaction<'static, Any>, record: &Record) -> Result<(), StoreError> {
    let query = match record {
        Record::TunnelOpened(tunnel) => sqlx::query(INSERT_TUNNEL)
            .bind(&tunnel.session)
            .bind(tunnel.site.as_str())
            .bind(&tunnel.run)
            .bind(&tunnel.instance)
            .bind(i64::from(tunnel.slot))
            .bind(&tunnel.agent_version)
            .bind(&tunnel.host)
            .bind(&tunnel.address)
            .bind(tunnel.opened.as_millisecond())
            .bind(tunnel.link_key.to_string()),
        Record::TunnelClosed { session, closed, reason, .. } => {
            sqlx::query(CLOSE_TUNNEL).bind(session).bind(closed.as_millisecond()).bind(reason)
        }
        // Events are written many at a time.
        Record::Audit(_) => return Ok(()),
        Record::Progress(progress) => update_delivery(progress),
        Record::Traffic(share) => sqlx::query(ADD_TRAFFIC)
            .bind(share.site.as_str())
            .bind(share.hour.as_millisecond())
            .bind(number(share.searches))
            .bind(number(share.errors))
            .bind(number(share.bytes)),
        Record::Alive { run, at } => sqlx::query(ALIVE).bind(run).bind(at.as_millisecond()),
    };
    query.execute(&mut **tx).await?;
    Ok(())
}

fn event(record: &Record) -> Option<&AuditEvent> {
    match record {
        Record::Audit(event) => Some(event),
        Record::TunnelOpened(_)
        | Record::TunnelClosed { .. }
        | Record::Progress(_)
        | Record::Traffic(_)
        | Record::Alive { .. } => None,
    }
}

/// What differs between statements that write events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Parameters without numbers: to SQLite numbered parameters are names, and it searches through all of them for
    /// each value. `OR IGNORE` skips what is there already, as `DO NOTHING` does. With it no row can make the
    /// statement fail after others were written, so SQLite does not keep the old content of each page.
    Sqlite,
    /// As [`Form::Sqlite`], while nothing is erased.
    SqliteUnchecked,
    /// With numbered parameters.
    Postgres,
}

/// The statement that writes `rows` events. It leaves out an event whose call was erased after the event began,
/// so that an erased call does not come back.
fn insert_audit(rows: usize, form: Form) -> String {
    let bound = EVENT_COLUMNS + if form == Form::SqliteUnchecked { 0 } else { DIGESTS };
    let place = |n: usize| if form == Form::Postgres { format!("${n}") } else { "?".to_owned() };
    let row = |row: usize| (1..=bound).map(|n| place(row * bound + n)).collect::<Vec<_>>().join(", ");
    let rows: Vec<String> = (0..rows).map(|n| format!("({})", row(n))).collect();
    let rows = rows.join(", ");
    let columns: Vec<String> = (1..=EVENT_COLUMNS).map(|n| format!("column{n}")).collect();
    let columns = columns.join(", ");
    let checked = format!(
        "SELECT {columns} FROM (VALUES {rows}) AS event \
         WHERE NOT EXISTS (SELECT 1 FROM erasures WHERE call_digest IN (column21, column22) \
         AND erased_ms >= column4)"
    );
    let (insert, source, end) = match form {
        Form::Sqlite => ("INSERT OR IGNORE", checked, ""),
        Form::SqliteUnchecked => ("INSERT OR IGNORE", format!("VALUES {rows}"), ""),
        Form::Postgres => ("INSERT", checked, " ON CONFLICT (request_id) DO NOTHING"),
    };
    format!(
        "{insert} INTO audit (request_id, kind, site, opened_ms, closed_ms, tenant, call_id, call_key, recording, \
         user_name, client, user_agent, status, found, range_start, bytes, size, bytes_per_second, outcome, run) \
         {source}{end}"
    )
}

/// A statement with its values.
type Bound<DB> = Query<'static, DB, <DB as Database>::Arguments>;

/// A statement that writes as many of the events at the beginning of the records as the largest fitting one takes,
/// and how many those are. `None` if the first record is no event. Without a key, the statement must be one that
/// does not look for erased calls.
fn insert_events<DB: Database>(
    statements: &'static InsertAudit,
    key: Option<&ErasureKey>,
    records: &[Record],
) -> Option<(usize, Bound<DB>)>
where
    String: Encode<'static, DB> + Type<DB>,
    Option<String>: Encode<'static, DB>,
    &'static str: Encode<'static, DB> + Type<DB>,
    i64: Encode<'static, DB> + Type<DB>,
    Option<i64>: Encode<'static, DB>,
{
    let events: Vec<&AuditEvent> = records.iter().map_while(event).take(ROWS[0]).collect();
    let (rows, statement) = ROWS.iter().zip(statements).find(|(rows, _)| **rows <= events.len())?;
    let mut query = sqlx::query(statement.as_str());
    for event in &events[..*rows] {
        query = bind_event(query, event);
        if let Some(key) = key {
            let digests = event.call_id.as_deref().map(|id| key.digests(&NamedCall::new(&storable(id))));
            let (exact, anywhere) = digests.map(|digests| (digests.exact, digests.anywhere)).unzip();
            query = query.bind(exact).bind(anywhere);
        }
    }
    Some((*rows, query))
}

/// Binds the columns of an event.
fn bind_event<DB: Database>(query: Bound<DB>, event: &AuditEvent) -> Bound<DB>
where
    String: Encode<'static, DB> + Type<DB>,
    Option<String>: Encode<'static, DB>,
    &'static str: Encode<'static, DB> + Type<DB>,
    i64: Encode<'static, DB> + Type<DB>,
    Option<i64>: Encode<'static, DB>,
{
    let text = |text: &Option<String>| text.as_deref().map(storable);
    query
        .bind(event.request_id.clone())
        .bind(event.kind.as_str())
        .bind(event.site.as_str().to_owned())
        .bind(event.opened.as_millisecond())
        .bind(event.closed.map(Timestamp::as_millisecond))
        .bind(text(&event.tenant))
        .bind(text(&event.call_id))
        .bind(event.call_id.as_deref().map(|id| call_key(&storable(id))))
        .bind(text(&event.recording))
        .bind(text(&event.user))
        .bind(text(&event.client))
        .bind(text(&event.user_agent))
        .bind(i64::from(event.status))
        .bind(event.found.map(i64::from))
        .bind(event.range_start.map(number))
        .bind(number(event.bytes))
        .bind(event.size.map(number))
        .bind(event.bytes_per_second.map(i64::from))
        .bind(event.outcome.as_str())
        .bind(event.run.clone())
}

/// The statement that writes the progress of a delivery.
fn update_delivery<DB: Database>(progress: &Progress) -> Bound<DB>
where
    String: Encode<'static, DB> + Type<DB>,
    &'static str: Encode<'static, DB> + Type<DB>,
    i64: Encode<'static, DB> + Type<DB>,
    Option<i64>: Encode<'static, DB>,
{
    sqlx::query(UPDATE_DELIVERY)
        .bind(progress.request_id.clone())
        .bind(number(progress.bytes))
        .bind(progress.closed.map(Timestamp::as_millisecond))
        .bind(progress.outcome.as_str())
}

/// Replaces NUL: a client may send it, and PostgreSQL's TEXT does not accept it.
fn storable(text: &str) -> String {
    // Texts with it are rare, and bytes are found faster than characters.
    if text.as_bytes().contains(&0) { text.replace('\0', "\u{fffd}") } else { text.to_owned() }
}

/// Databases have signed numbers only. No count here comes near the limit.
fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
