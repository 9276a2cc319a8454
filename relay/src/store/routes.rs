//! Which relay holds which tunnel, for relays that share a PostgreSQL server: read as a whole, and told as it changes.
//!
//! A tunnel's row is its route while it is open. Whoever writes that it was opened or closed notifies the others within the
//! same transaction, so that what they are told of is there to be read, and in the order in which it was written.

use std::{fmt::Write as _, time::Duration};

use audiovault_protocol::{signed_link::LinkKeyId, site::SiteId};
use futures_util::TryStreamExt;
use sqlx::{
    Any, AssertSqlSafe, Executor, PgPool, Row, Transaction,
    postgres::{PgListener, PgPoolOptions, PgRow},
};

use super::{Record, Store, StoreError, corrupt, open::Backend, postgres::SETUP, site};

/// One for the listener, one for everything else.
const CONNECTIONS: u32 = 2;
/// A lease that could not be renewed for this long is worth a new try rather than more patience.
const PATIENCE: Duration = Duration::from_secs(2);
/// Where changes of routes are told.
const CHANNEL: &str = "audiovault_routes";
/// Octets of one notification: PostgreSQL takes less than 8,000.
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
/// Its result has no type that every driver knows.
const NOTIFY: &str = "SELECT CAST(pg_notify($1, $2) AS TEXT)";

/// Another relay, as it tells of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRecord {
    /// Its run.
    pub run: String,
    /// Where others reach it.
    pub url: String,
    /// When it last renewed its lease, by the server's clock, in milliseconds since the Unix epoch.
    pub lease_ms: i64,
    /// How long ago that was when it was read, by the server's clock.
    pub lease_age: Duration,
}

/// A tunnel that another relay holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteRecord {
    /// The site whose agent it is.
    pub site: SiteId,
    /// Names the tunnel.
    pub session: String,
    /// The run of the relay that holds it.
    pub run: String,
    /// The key by which the agent makes its links.
    pub key: LinkKeyId,
}

/// A change that was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteChange {
    /// A tunnel was opened.
    Opened(RouteRecord),
    /// A tunnel has ended.
    Closed {
        /// The site whose agent it was.
        site: SiteId,
        /// Names the tunnel.
        session: String,
        /// Whether the agent should be connected again in a moment, wherever.
        back_soon: bool,
    },
}

/// What was heard of routes.
#[derive(Debug)]
pub enum RouteNews {
    /// What has changed.
    Changes(Vec<RouteChange>),
    /// The connection was lost and is there again: nobody knows what was told meanwhile.
    Gap,
}

/// Reads routes, on connections of its own: a lease must not wait for pages of operators.
#[derive(Debug, Clone)]
pub struct RouteBook(PgPool);

/// Hears of changes.
#[derive(Debug)]
pub struct RouteListener(PgListener);

impl Store {
    /// The routes of the relays that share this database; none where it is a file, which nobody shares.
    pub fn route_book(&self) -> Option<RouteBook> {
        let Backend::Postgres(url) = &self.backend else { return None };
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(PATIENCE)
            .after_connect(|connection, _| Box::pin(async move { connection.execute(SETUP).await.map(drop) }))
            .connect_lazy(url.reveal());
        pool.ok().map(RouteBook)
    }
}

impl RouteBook {
    /// Renews the lease of a run, which is reached at a URL, by the server's clock.
    ///
    /// # Errors
    /// As every method.
    pub async fn renew_lease(&self, run: &str, url: &str) -> Result<(), StoreError> {
        sqlx::query(RENEW).bind(run).bind(url).execute(&self.0).await?;
        Ok(())
    }

    /// All relays but that of a run, whether their lease is fresh or not.
    ///
    /// # Errors
    /// As every method.
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

    /// Hands over every tunnel that is open at another relay than that of a run, one by one: there may be millions.
    ///
    /// # Errors
    /// As every method; not all were handed over then.
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

    /// Every tunnel of a site that is open at another relay than that of a run.
    ///
    /// # Errors
    /// As every method.
    pub async fn routes_of(&self, of: &SiteId, but: &str) -> Result<Vec<RouteRecord>, StoreError> {
        let statement = AssertSqlSafe(format!("{ROUTES} AND tunnels.site = $2"));
        let rows = sqlx::query(statement).bind(but).bind(of.as_str()).fetch_all(&self.0).await?;
        rows.iter().map(route).collect()
    }

    /// Agents that lost a tunnel within a time, wherever, by their sites and keys.
    ///
    /// # Errors
    /// As every method.
    pub async fn missed(&self, within: Duration) -> Result<Vec<(SiteId, LinkKeyId)>, StoreError> {
        let within = i64::try_from(within.as_millis()).unwrap_or(i64::MAX);
        let rows = sqlx::query(MISSED).bind(within).fetch_all(&self.0).await?;
        rows.iter().map(|row| Ok((site(&row.try_get::<String, _>(0)?)?, key(row.try_get(1)?)?))).collect()
    }

    /// Begins to hear of changes: what is read after this misses nothing.
    ///
    /// # Errors
    /// As every method.
    pub async fn listen(&self) -> Result<RouteListener, StoreError> {
        let mut listener = PgListener::connect_with(&self.0).await?;
        listener.listen(CHANNEL).await?;
        Ok(RouteListener(listener))
    }
}

impl RouteListener {
    /// Waits for news. May be dropped while it waits without losing any.
    ///
    /// # Errors
    /// As every method: the connection is lost and could not be made again.
    pub async fn next(&mut self) -> Result<RouteNews, StoreError> {
        Ok(match self.0.try_recv().await? {
            Some(notice) => RouteNews::Changes(notice.payload().lines().filter_map(read).collect()),
            None => RouteNews::Gap,
        })
    }
}

/// Tells the other relays, at the end of the transaction, what becomes of tunnels in it.
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

/// What a line tells; a later release may tell of more.
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
