//! Routes: which relay holds which tunnel, for relays that share a PostgreSQL server.
//!
//! A relay reads all routes once, and is notified of every change. The row of a tunnel is its route while the
//! tunnel is open. The relay that writes that a tunnel was opened or closed notifies its peers in the same
//! transaction. So they can read what they are notified of, and the notifications come in the order of the
//! writes.

use std::{fmt::Write as _, time::Duration};

use audiovault_protocol::identity::{signed_link::LinkKeyId, site::SiteId};
use futures_util::TryStreamExt;
use sqlx::{
    Any, AssertSqlSafe, Executor, PgPool, Row, Transaction,
    postgres::{PgListener, PgPoolOptions, PgRow},
};

use super::{Record, Store, StoreError, corrupt, open::Backend, postgres::SETUP, site};

/// One connection for the listener, one for everything else.
const CONNECTIONS: u32 = 2;
/// The longest time to wait for a connection. If a lease could not be renewed for this long, a new attempt is
/// better than to wait longer.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// The channel of the notifications about routes.
const CHANNEL: &str = "audiovault_routes";
/// Bytes of one notification: PostgreSQL accepts less than 8,000.
const MAX_NOTICE: usize = 7_900;

const RENEW: &str = "INSERT INTO relay_runs (run, started_ms, alive_ms, url, lease_ms) \
     SELECT $1, now_ms, now_ms, $2, now_ms FROM (SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) AS now_ms) \
     AS clock ON CONFLICT (run) DO UPDATE SET url = excluded.url, lease_ms = excluded.lease_ms";
const NODES: &str = "SELECT run, url, lease_ms, \
     CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) - lease_ms FROM relay_runs \
     WHERE url IS NOT NULL AND lease_ms IS NOT NULL AND stopped_ms IS NULL AND run <> $1";
const ROUTES: &str = "SELECT tunnels.site, tunnels.session, tunnels.run, tunnels.link_key FROM tunnels \
     JOIN relay_runs ON relay_runs.run = tunnels.run WHERE tunnels.closed_ms IS NULL AND tunnels.link_key IS NOT NULL \
     AND relay_runs.url IS NOT NULL AND relay_runs.stopped_ms IS NULL AND tunnels.run <> $1";
const MISSED: &str = "SELECT DISTINCT site, link_key FROM tunnels WHERE link_key IS NOT NULL AND closed_ms >= \
     CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) - $1";
/// The cast is there because not every driver knows the type of the result.
const NOTIFY: &str = "SELECT CAST(pg_notify($1, $2) AS TEXT)";

/// Another relay, as it describes itself in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRecord {
    /// The id of the relay's run.
    pub run: String,
    /// The URL at which its peers reach it.
    pub url: String,
    /// When it last renewed its lease, by the server's clock, in milliseconds since the Unix epoch.
    pub lease_ms: i64,
    /// The time between that and the moment of reading, by the server's clock.
    pub lease_age: Duration,
}

/// A tunnel that another relay holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteRecord {
    /// The site of the tunnel's agent.
    pub site: SiteId,
    /// The id of the tunnel.
    pub session: String,
    /// The run of the relay that holds it.
    pub run: String,
    /// The id of the key with which the agent makes its links.
    pub key: LinkKeyId,
}

/// A change of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteChange {
    /// A tunnel was opened.
    Opened(RouteRecord),
    /// A tunnel has ended.
    Closed {
        /// The site of the tunnel's agent.
        site: SiteId,
        /// The id of the tunnel.
        session: String,
        /// True if the agent should be connected again in a moment, at any relay.
        back_soon: bool,
    },
}

/// What a listener has received.
#[derive(Debug)]
pub enum RouteNews {
    /// Changes of routes.
    Changes(Vec<RouteChange>),
    /// The connection was lost and made again. Notifications in between are lost.
    Gap,
}

/// Reads routes, on connections of its own: a lease must not wait for the pages of the dashboard.
#[derive(Debug, Clone)]
pub struct RouteBook(PgPool);

/// Receives the changes of routes.
#[derive(Debug)]
pub struct RouteListener(PgListener);

impl Store {
    /// The routes of the relays that share this database. `None` if it is a file, which relays cannot share.
    pub fn route_book(&self) -> Option<RouteBook> {
        let Backend::Postgres(url) = &self.backend else { return None };
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(LOCK_TIMEOUT)
            .after_connect(|connection, _| Box::pin(async move { connection.execute(SETUP).await.map(drop) }))
            .connect_lazy(url.reveal());
        pool.ok().map(RouteBook)
    }
}

impl RouteBook {
    /// Renews the lease of a run by the server's clock. `url` is where the peers reach the run.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn renew_lease(&self, run: &str, url: &str) -> Result<(), StoreError> {
        sqlx::query(RENEW).bind(run).bind(url).execute(&self.0).await?;
        Ok(())
    }

    /// All relays except that of the run `but`, with valid and with expired leases.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn nodes(&self, but: &str) -> Result<Vec<NodeRecord>, StoreError> {
        let rows = sqlx::query(NODES).bind(but).fetch_all(&self.0).await?;
        let node = |row: &PgRow| {
            let age_ms = u64::try_from(row.try_get::<i64, _>(3)?).unwrap_or_default();
            Ok(NodeRecord {
                run: row.try_get(0)?,
                url: row.try_get(1)?,
                lease_ms: row.try_get(2)?,
                lease_age: Duration::from_millis(age_ms),
            })
        };
        rows.iter().map(node).collect()
    }

    /// Passes every tunnel that is open at another relay than that of the run `but` to `take`. They are passed
    /// one by one, since there may be millions.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails; some tunnels have been passed to `take` then.
    pub async fn routes(
        &self,
        but: &str,
        mut take: impl FnMut(RouteRecord) + Send,
    ) -> Result<(), StoreError> {
        let mut rows = sqlx::query(ROUTES).bind(but).fetch(&self.0);
        while let Some(row) = rows.try_next().await? {
            take(route(&row)?);
        }
        Ok(())
    }

    /// Every tunnel of a site that is open at another relay than that of the run `but`.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn routes_of(&self, of: &SiteId, but: &str) -> Result<Vec<RouteRecord>, StoreError> {
        let statement = AssertSqlSafe(format!("{ROUTES} AND tunnels.site = $2"));
        let rows = sqlx::query(statement).bind(but).bind(of.as_str()).fetch_all(&self.0).await?;
        rows.iter().map(route).collect()
    }

    /// The agents that lost a tunnel within a time, at any relay, by their sites and link keys.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn missed(&self, within: Duration) -> Result<Vec<(SiteId, LinkKeyId)>, StoreError> {
        let within = i64::try_from(within.as_millis()).unwrap_or(i64::MAX);
        let rows = sqlx::query(MISSED).bind(within).fetch_all(&self.0).await?;
        rows.iter().map(|row| Ok((site(&row.try_get::<String, _>(0)?)?, key(row.try_get(1)?)?))).collect()
    }

    /// Subscribes to changes. Together with what is read after this, no change is missed.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn listen(&self) -> Result<RouteListener, StoreError> {
        let mut listener = PgListener::connect_with(&self.0).await?;
        listener.listen(CHANNEL).await?;
        Ok(RouteListener(listener))
    }
}

impl RouteListener {
    /// Waits for the next changes. It may be dropped while it waits, without losing any.
    ///
    /// # Errors
    /// [`StoreError`] if the connection is lost and cannot be made again.
    pub async fn next(&mut self) -> Result<RouteNews, StoreError> {
        Ok(match self.0.try_recv().await? {
            Some(notice) => RouteNews::Changes(notice.payload().lines().filter_map(read).collect()),
            None => RouteNews::Gap,
        })
    }
}

/// Notifies the peer relays of the tunnels that the records open and close, when the transaction is committed.
pub(super) async fn notify(tx: &mut Transaction<'static, Any>, records: &[Record]) -> Result<(), StoreError> {
    let mut notice = String::new();
    for line in records.iter().filter_map(write) {
        if notice.len() + line.len() >= MAX_NOTICE {
            sqlx::query(NOTIFY).bind(CHANNEL).bind(std::mem::take(&mut notice)).execute(&mut **tx).await?;
        }
        // Writing to a string does not fail.
        let _ = writeln!(notice, "{line}");
    }
    if !notice.is_empty() {
        sqlx::query(NOTIFY).bind(CHANNEL).bind(notice).execute(&mut **tx).await?;
    }
    Ok(())
}

/// A record as a line of a notification, if it is about a tunnel.
fn write(record: &Record) -> Option<String> {
    match record {
        Record::TunnelOpened(tunnel) => {
            Some(format!("+ {} {} {} {}", tunnel.site.as_str(), tunnel.session, tunnel.run, tunnel.link_key))
        }
        Record::TunnelClosed { session, site, back_soon, .. } => {
            Some(format!("- {} {session} {}", site.as_str(), u8::from(*back_soon)))
        }
        Record::Audit(_) | Record::Progress(_) | Record::Traffic(_) | Record::Alive { .. } => None,
    }
}

/// The change in a line. A later release may send lines that this one does not know.
fn read(line: &str) -> Option<RouteChange> {
    let words: Vec<&str> = line.split(' ').collect();
    match *words.as_slice() {
        ["+", site, session, run, key] => Some(RouteChange::Opened(RouteRecord {
            site: SiteId::parse(site).ok()?,
            session: session.to_owned(),
            run: run.to_owned(),
            key: LinkKeyId::try_from(key.to_owned()).ok()?,
        })),
        ["-", site, session, back_soon] => Some(RouteChange::Closed {
            site: SiteId::parse(site).ok()?,
            session: session.to_owned(),
            back_soon: back_soon == "1",
        }),
        _ => None,
    }
}

fn route(row: &PgRow) -> Result<RouteRecord, StoreError> {
    Ok(RouteRecord {
        site: site(&row.try_get::<String, _>(0)?)?,
        session: row.try_get(1)?,
        run: row.try_get(2)?,
        key: key(row.try_get(3)?)?,
    })
}

fn key(text: String) -> Result<LinkKeyId, StoreError> {
    LinkKeyId::try_from(text).map_err(|_| corrupt("link key"))
}
