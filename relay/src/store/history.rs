//! The history of sites: their tunnels and their traffic, and the state of each site that was announced last.

use std::{collections::HashMap, time::Duration};

use audiovault_protocol::identity::site::SiteId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::{Row, any::AnyRow};

use super::{Store, StoreError, site, timestamp};

/// A run is alive if its last sign of life is not older than this. It gives one every ten seconds.
const ALIVE_FOR: Duration = Duration::from_secs(30);

/// One tunnel of a site, past or present.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct TunnelRecord {
    /// The id of the tunnel in the logs of relay and agent.
    pub session: String,
    /// Version of the agent.
    pub agent_version: String,
    /// Host name of the agent's machine.
    pub host: String,
    /// The network address from which the tunnel came.
    pub address: String,
    /// When the agent connected.
    pub opened: Timestamp,
    /// When the tunnel ended. Empty while it is open.
    pub closed: Option<Timestamp>,
    /// Why it ended.
    pub reason: Option<String>,
}

/// The traffic of a site in a period.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Traffic {
    /// The number of searches.
    pub searches: u64,
    /// The number of requests that ended in a server error.
    pub errors: u64,
    /// Bytes of recordings that were handed over.
    pub bytes: u64,
}

impl Traffic {
    /// The sum of both.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            searches: self.searches + other.searches,
            errors: self.errors + other.errors,
            bytes: self.bytes + other.bytes,
        }
    }

    /// The difference to another one. A number that would be negative is zero.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        Self {
            searches: self.searches.saturating_sub(other.searches),
            errors: self.errors.saturating_sub(other.errors),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}

/// The traffic of a site in one minute at one run of a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunMinute {
    /// The site.
    pub site: SiteId,
    /// The run. Empty if it was not stored.
    pub run: String,
    /// Minutes since the Unix epoch.
    pub minute: i64,
    /// The traffic in that minute.
    pub traffic: Traffic,
}

const TUNNELS_SINCE: &str = "SELECT session, agent_version, host, address, opened_ms, closed_ms, reason FROM tunnels \
     WHERE site = $1 AND (closed_ms IS NULL OR closed_ms >= $2) ORDER BY opened_ms DESC LIMIT $3";
const FIRST_SEEN: &str = "SELECT MIN(opened_ms) FROM tunnels WHERE site = $1";
const LAST_SEEN: &str = "SELECT site, MAX(COALESCE(closed_ms, opened_ms)) FROM tunnels GROUP BY site";
/// A tunnel without an end lasted as long as the run of its relay.
const CONNECTED_SINCE: &str = "SELECT DISTINCT tunnels.site FROM tunnels LEFT JOIN relay_runs ON relay_runs.run = tunnels.run \
     WHERE COALESCE(tunnels.closed_ms, relay_runs.alive_ms, tunnels.opened_ms) >= $1";
const MINUTES_SINCE: &str = "SELECT site, COALESCE(run, ''), opened_ms / 60000, \
     CAST(SUM(CASE WHEN kind = 'search' THEN 1 ELSE 0 END) AS BIGINT), \
     CAST(SUM(CASE WHEN status >= 500 THEN 1 ELSE 0 END) AS BIGINT), CAST(SUM(bytes) AS BIGINT) FROM audit \
     WHERE opened_ms >= $1 GROUP BY site, run, opened_ms / 60000";
const TRAFFIC_SINCE: &str = "SELECT CAST(COALESCE(SUM(searches), 0) AS BIGINT), CAST(COALESCE(SUM(errors), 0) AS BIGINT), \
     CAST(COALESCE(SUM(bytes), 0) AS BIGINT) FROM traffic WHERE site = $1 AND hour_ms >= $2";
/// Ends the tunnels of runs that have stopped, or have given no sign of life since a time. They end with the
/// last sign of life.
const CLOSE_ORPHANS: &str = "UPDATE tunnels SET reason = $2, closed_ms = COALESCE((SELECT alive_ms FROM relay_runs \
     WHERE relay_runs.run = tunnels.run), opened_ms) WHERE closed_ms IS NULL AND run <> $1 AND NOT EXISTS \
     (SELECT 1 FROM relay_runs WHERE relay_runs.run = tunnels.run AND stopped_ms IS NULL AND alive_ms >= $3)";
const OPEN_TUNNELS: &str = "SELECT session, site FROM tunnels WHERE run = $1 AND closed_ms IS NULL";
const OTHERS: &str =
    "SELECT COUNT(*) FROM relay_runs WHERE run <> $1 AND stopped_ms IS NULL AND alive_ms >= $2";
const STOP_RUN: &str = "UPDATE relay_runs SET stopped_ms = $2, alive_ms = $2 WHERE run = $1";
const PRUNE_TUNNELS: &str = "DELETE FROM tunnels WHERE closed_ms < $1";
const PRUNE_TRAFFIC: &str = "DELETE FROM traffic WHERE hour_ms < $1";
const PRUNE_NETWORKS: &str = "DELETE FROM site_networks WHERE seen_ms < $1";
const PRUNE_RUNS: &str = "DELETE FROM relay_runs WHERE alive_ms < $1";

impl Store {
    /// The tunnels of a site that were open at or after a time, the newest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn tunnels(
        &self,
        site: &SiteId,
        since: Timestamp,
        limit: u32,
    ) -> Result<Vec<TunnelRecord>, StoreError> {
        let rows = sqlx::query(TUNNELS_SINCE)
            .bind(site.as_str())
            .bind(since.as_millisecond())
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(tunnel).collect()
    }

    /// When an agent of a site first connected, as far as the database remembers.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn first_seen(&self, site: &SiteId) -> Result<Option<Timestamp>, StoreError> {
        let row = sqlx::query(FIRST_SEEN).bind(site.as_str()).fetch_one(&self.pool).await?;
        row.try_get::<Option<i64>, _>(0)?.map(timestamp).transpose()
    }

    /// When an agent of each site was last known to be connected. Sites that never had an agent are missing.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn last_seen(&self) -> Result<HashMap<SiteId, Timestamp>, StoreError> {
        let rows = sqlx::query(LAST_SEEN).fetch_all(&self.pool).await?;
        rows.iter()
            .map(|row| Ok((site(&row.try_get::<String, _>(0)?)?, timestamp(row.try_get(1)?)?)))
            .collect()
    }

    /// The sites that had a tunnel at or after a time, at any run of a relay.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn connected_since(&self, since: Timestamp) -> Result<Vec<SiteId>, StoreError> {
        let rows = sqlx::query(CONNECTED_SINCE).bind(since.as_millisecond()).fetch_all(&self.pool).await?;
        rows.iter().map(|row| site(&row.try_get::<String, _>(0)?)).collect()
    }

    /// The traffic of each site since a time, by the minute and by the run of a relay, as far as agents were
    /// asked.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn minutes_since(&self, since: Timestamp) -> Result<Vec<RunMinute>, StoreError> {
        let rows = sqlx::query(MINUTES_SINCE).bind(since.as_millisecond()).fetch_all(&self.pool).await?;
        let minute = |row: &AnyRow| {
            Ok(RunMinute {
                site: site(&row.try_get::<String, _>(0)?)?,
                run: row.try_get(1)?,
                minute: row.try_get(2)?,
                traffic: Traffic { searches: count(row, 3)?, errors: count(row, 4)?, bytes: count(row, 5)? },
            })
        };
        rows.iter().map(minute).collect()
    }

    /// The traffic of a site since the beginning of the hour to which a time belongs.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn traffic(&self, site: &SiteId, since: Timestamp) -> Result<Traffic, StoreError> {
        let row = sqlx::query(TRAFFIC_SINCE)
            .bind(site.as_str())
            .bind(hour(since).as_millisecond())
            .fetch_one(&self.pool)
            .await?;
        Ok(Traffic { searches: count(&row, 0)?, errors: count(&row, 1)?, bytes: count(&row, 2)? })
    }

    /// Ends, in the database, the tunnels of runs that were killed before they could end them. Tunnels of
    /// relays that run at the same time as this one, or drain after it, stay open.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn close_orphans(&self, run: &str) -> Result<u64, StoreError> {
        let done = sqlx::query(CLOSE_ORPHANS)
            .bind(run)
            .bind("the relay stopped without notice")
            .bind(lately())
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected())
    }

    /// The tunnels of a run that are open according to the database: their ids and sites.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn open_tunnels(&self, run: &str) -> Result<Vec<(String, SiteId)>, StoreError> {
        let rows = sqlx::query(OPEN_TUNNELS).bind(run).fetch_all(&self.pool).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, site(row.try_get(1)?)?))).collect()
    }

    /// The number of other relays that gave a sign of life recently and have not stopped.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn others_alive(&self, run: &str) -> Result<u64, StoreError> {
        let row = sqlx::query(OTHERS).bind(run).bind(lately()).fetch_one(&self.pool).await?;
        count(&row, 0)
    }

    /// Stores that a run has stopped normally.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn stop_run(&self, run: &str) -> Result<(), StoreError> {
        sqlx::query(STOP_RUN).bind(run).bind(Timestamp::now().as_millisecond()).execute(&self.pool).await?;
        Ok(())
    }

    /// Deletes tunnels, runs, traffic and networks of agents from before a time.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn prune_history(&self, before: Timestamp) -> Result<(), StoreError> {
        for statement in [PRUNE_TUNNELS, PRUNE_TRAFFIC, PRUNE_RUNS, PRUNE_NETWORKS] {
            sqlx::query(statement).bind(before.as_millisecond()).execute(&self.pool).await?;
        }
        Ok(())
    }
}

/// The time since which every running relay has given a sign of life, in milliseconds since the Unix epoch.
pub(super) fn lately() -> i64 {
    Timestamp::now().as_millisecond() - i64::try_from(ALIVE_FOR.as_millis()).unwrap_or(i64::MAX)
}

/// The beginning of the hour to which a time belongs, in UTC.
pub fn hour(time: Timestamp) -> Timestamp {
    const HOUR: i64 = 3600;
    Timestamp::from_second(time.as_second().div_euclid(HOUR) * HOUR).unwrap_or(time)
}

fn count(row: &AnyRow, column: usize) -> Result<u64, StoreError> {
    Ok(u64::try_from(row.try_get::<i64, _>(column)?).unwrap_or_default())
}

fn tunnel(row: &AnyRow) -> Result<TunnelRecord, StoreError> {
    Ok(TunnelRecord {
        session: row.try_get(0)?,
        agent_version: row.try_get(1)?,
        host: row.try_get(2)?,
        address: row.try_get(3)?,
        opened: timestamp(row.try_get(4)?)?,
        closed: row.try_get::<Option<i64>, _>(5)?.map(timestamp).transpose()?,
        reason: row.try_get(6)?,
    })
}

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
