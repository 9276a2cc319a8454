//! Writes the journal's records to the database, many in one transaction.

use std::sync::LazyLock;

use audiovault_protocol::{
    identity::{signed_link::LinkKeyId, site::SiteId},
    recording::call::NamedCall,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::{Any, Transaction};

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
const ROWS: [usize; 3] = [64, 8, 1];
/// The values that are bound for each event: its columns, and two digests of its call for the list of erased
/// calls.
const BOUND: usize = 22;
/// How many of those are columns.
const EVENT_COLUMNS: usize = 20;
/// The statement for each number in [`ROWS`]. Its parameters are numbered for PostgreSQL alone: to SQLite
/// numbered parameters are names, and it searches through all of them for each value.
static INSERT_AUDIT: LazyLock<[String; 3]> =
    LazyLock::new(|| ROWS.map(|rows| insert_audit(rows, |_| "?".to_owned())));
static INSERT_AUDIT_NUMBERED: LazyLock<[String; 3]> =
    LazyLock::new(|| ROWS.map(|rows| insert_audit(rows, |n| format!("${n}"))));
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
        let mut tx = self.journal.begin().await?;
        // Before the lock of the audit log: changes by operators take both locks in this order.
        if agent_events::may_come_of(records) {
            sqlx::query(operator_events::LOCK).execute(&mut *tx).await?;
        }
        self.lock_audit(&mut tx, AuditLock::Write).await?;
        let statements = match self.backend {
            Backend::Sqlite(_) => &*INSERT_AUDIT,
            Backend::Postgres(_) => &*INSERT_AUDIT_NUMBERED,
        };
        let mut rest = records;
        while let Some(record) = rest.first() {
            let events: Vec<&AuditEvent> = rest.iter().map_while(event).take(ROWS[0]).collect();
            if let Record::TunnelOpened(tunnel) = record {
                agent_events::write(&mut tx, tunnel).await?;
            }
            let written = if events.is_empty() {
                write(&mut tx, statements, key, record).await.map(|()| 1)
            } else {
                insert_events(&mut tx, statements, key, &events).await
            }?;
            rest = rest.get(written..).unwrap_or_default();
        }
        if let Backend::Postgres(_) = self.backend {
            notify(&mut tx, records).await?;
        }
        Ok(tx.commit().await?)
    }
}

async fn write(
    tx: &mut Transaction<'static, Any>,
    statements: &'static [String; 3],
    key: &ErasureKey,
    record: &Record,
) -> Result<(), StoreError> {
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
        Record::Audit(event) => return insert_events(tx, statements, key, &[event]).await.map(drop),
        Record::Progress(progress) => sqlx::query(UPDATE_DELIVERY)
            .bind(&progress.request_id)
            .bind(number(progress.bytes))
            .bind(progress.closed.map(Timestamp::as_millisecond))
            .bind(progress.outcome.as_str()),
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

/// The statement that writes `rows` events. It leaves out an event whose call was erased after the event began,
/// so that an erased call does not come back.
fn insert_audit(rows: usize, place: impl Fn(usize) -> String) -> String {
    let row = |row: usize| (1..=BOUND).map(|n| place(row * BOUND + n)).collect::<Vec<_>>().join(", ");
    let rows: Vec<String> = (0..rows).map(|n| format!("({})", row(n))).collect();
    let columns: Vec<String> = (1..=EVENT_COLUMNS).map(|n| format!("column{n}")).collect();
    format!(
        "INSERT INTO audit (request_id, kind, site, opened_ms, closed_ms, tenant, call_id, call_key, recording, \
         user_name, client, user_agent, status, found, range_start, bytes, size, bytes_per_second, outcome, run) \
         SELECT {} FROM (VALUES {}) AS event \
         WHERE NOT EXISTS (SELECT 1 FROM erasures WHERE call_digest IN (column21, column22) \
         AND erased_ms >= column4) \
         ON CONFLICT (request_id) DO NOTHING",
        columns.join(", "),
        rows.join(", ")
    )
}

/// Writes as many of the events as the largest fitting statement takes, and returns how many.
async fn insert_events(
    tx: &mut Transaction<'static, Any>,
    statements: &'static [String; 3],
    erasures: &ErasureKey,
    events: &[&AuditEvent],
) -> Result<usize, StoreError> {
    let fitting = ROWS.iter().zip(statements).find(|(rows, _)| **rows <= events.len());
    let Some((rows, statement)) = fitting else { return Ok(0) };
    let mut query = sqlx::query(statement.as_str());
    for event in &events[..*rows] {
        let call_id = event.call_id.as_deref().map(storable);
        let digests = call_id.as_deref().map(|id| erasures.digests(&NamedCall::new(id)));
        query = query
            .bind(&event.request_id)
            .bind(event.kind.as_str())
            .bind(event.site.as_str())
            .bind(event.opened.as_millisecond())
            .bind(event.closed.map(Timestamp::as_millisecond))
            .bind(event.tenant.as_deref().map(storable))
            .bind(call_id.as_deref().map(str::to_owned))
            .bind(call_id.as_deref().map(call_key))
            .bind(event.recording.as_deref().map(storable))
            .bind(event.user.as_deref().map(storable))
            .bind(event.client.as_deref().map(storable))
            .bind(event.user_agent.as_deref().map(storable))
            .bind(i64::from(event.status))
            .bind(event.found.map(i64::from))
            .bind(event.range_start.map(number))
            .bind(number(event.bytes))
            .bind(event.size.map(number))
            .bind(event.bytes_per_second.map(i64::from))
            .bind(event.outcome.as_str())
            .bind(event.run.as_deref())
            .bind(digests.as_ref().map(|digests| digests.exact.clone()))
            .bind(digests.map(|digests| digests.anywhere));
    }
    query.execute(&mut **tx).await?;
    Ok(*rows)
}

/// Replaces NUL: a client may send it, and PostgreSQL's TEXT does not accept it.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Databases have signed numbers only. No count here comes near the limit.
fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
