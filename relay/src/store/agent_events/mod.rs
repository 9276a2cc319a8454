//! Operators' events about agents that connect.
//!
//! There is one for a second agent of a site, and one for an address from which no agent of the site has come
//! before. With a key of the site, any person can run an agent that receives requests of the site. So both are
//! events.

use std::net::IpAddr;

use audiovault_protocol::admission::throttle::ClientKey;
use jiff::Timestamp;
use serde_json::json;
use sqlx::{Any, Row, Transaction, any::AnyRow};

use super::{Store, StoreError, TunnelOpened, journal::Record, operator_events, site, timestamp};
use crate::model::operator_events::{AccessChange, Action, Actor, ActorKind, Entry};

/// The maximum number of events of one kind for a site in an hour. Otherwise an agent that fails and restarts
/// every few seconds would fill the table. The timeline of the site has every tunnel.
const MAX_EVENTS: i64 = 10;
/// The hour of [`MAX_EVENTS`], in milliseconds.
const HOUR_MS: i64 = 3_600_000;
/// The maximum number of networks that are remembered for a site. A line whose address changes every day takes
/// three years to reach it.
const MAX_NETWORKS: i64 = 1_000;

const SITE_EXISTS: &str = "SELECT COUNT(*) FROM sites WHERE site = $1";
const SEE_NETWORK: &str = "UPDATE site_networks SET seen_ms = $3 WHERE site = $1 AND network = $2";
const ADD_NETWORK: &str = "INSERT INTO site_networks (site, network, seen_ms) VALUES ($1, $2, $3)";
const COUNT_NETWORKS: &str = "SELECT COUNT(*) FROM site_networks WHERE site = $1";
const DROP_OLDEST_NETWORK: &str = "DELETE FROM site_networks WHERE site = $1 AND network = \
     (SELECT network FROM site_networks WHERE site = $1 ORDER BY seen_ms, network LIMIT 1)";
const TUNNELS_OF_INSTANCE: &str = "SELECT COUNT(*) FROM tunnels WHERE site = $1 AND instance = $2";
const OTHER_INSTANCES: &str = "SELECT COUNT(DISTINCT instance) FROM tunnels WHERE site = $1 AND instance <> $2 \
     AND closed_ms IS NULL";
const RECENT_EVENTS: &str =
    "SELECT COUNT(*) FROM operator_events WHERE site = $1 AND action = $2 AND at_ms >= $3";
/// The latest event of each action at each site, without events of an earlier site of the same name.
const ACCESS_CHANGES: &str = "SELECT site, action, at_ms, actor, address FROM operator_events WHERE id IN \
     (SELECT MAX(operator_events.id) FROM operator_events JOIN sites ON sites.site = operator_events.site \
     WHERE operator_events.at_ms >= $1 AND operator_events.at_ms >= sites.created_ms \
     AND operator_events.action IN ($2, $3, $4, $5) GROUP BY operator_events.site, operator_events.action) \
     ORDER BY id DESC";

/// True if one of the records may cause an event. Events need the write lock.
pub(super) fn may_come_of(records: &[Record]) -> bool {
    records.iter().any(|record| matches!(record, Record::TunnelOpened(_)))
}

/// Writes the events of a tunnel before the tunnel itself is written, in a transaction that has the write lock.
pub(super) async fn write(
    tx: &mut Transaction<'static, Any>,
    tunnel: &TunnelOpened,
) -> Result<(), StoreError> {
    let site = tunnel.site.as_str();
    // A site may be removed while its records wait.
    if count(tx, SITE_EXISTS, &[site]).await? == 0 {
        return Ok(());
    }
    let agents_before = count(tx, OTHER_INSTANCES, &[site, &tunnel.instance]).await?;
    if is_new_network(tx, tunnel).await? {
        event(tx, tunnel, Action::AgentNewAddress, agents_before).await?;
    }
    // Most sites have one agent, and need no look at its past tunnels.
    if agents_before > 0 && count(tx, TUNNELS_OF_INSTANCE, &[site, &tunnel.instance]).await? == 0 {
        event(tx, tunnel, Action::AgentAdded, agents_before).await?;
    }
    Ok(())
}

/// Remembers the network from which a tunnel comes. Returns true if it is new. The first network of a site does
/// not count as new, as there was nothing to compare it with.
async fn is_new_network(
    tx: &mut Transaction<'static, Any>,
    tunnel: &TunnelOpened,
) -> Result<bool, StoreError> {
    let Ok(address) = tunnel.address.parse::<IpAddr>() else { return Ok(false) };
    let network = ClientKey::from(address).to_string();
    let opened = tunnel.opened.as_millisecond();
    let write = async |tx: &mut Transaction<'static, Any>, statement| -> Result<u64, StoreError> {
        let query = sqlx::query(statement).bind(tunnel.site.as_str()).bind(&network).bind(opened);
        Ok(query.execute(&mut **tx).await?.rows_affected())
    };
    if write(tx, SEE_NETWORK).await? > 0 {
        return Ok(false);
    }
    let known = count(tx, COUNT_NETWORKS, &[tunnel.site.as_str()]).await?;
    if known >= MAX_NETWORKS {
        sqlx::query(DROP_OLDEST_NETWORK).bind(tunnel.site.as_str()).execute(&mut **tx).await?;
    }
    write(tx, ADD_NETWORK).await?;
    Ok(known > 0)
}

async fn event(
    tx: &mut Transaction<'static, Any>,
    tunnel: &TunnelOpened,
    action: Action,
    agents_before: i64,
) -> Result<(), StoreError> {
    let since = Timestamp::now().as_millisecond() - HOUR_MS;
    let recent = sqlx::query(RECENT_EVENTS)
        .bind(tunnel.site.as_str())
        .bind(action.as_str())
        .bind(since)
        .fetch_one(&mut **tx)
        .await?;
    if recent.try_get::<i64, _>(0)? >= MAX_EVENTS {
        return Ok(());
    }
    // The agent names its host itself. Its address is what the relay has seen.
    let actor = Actor {
        kind: ActorKind::Agent,
        name: tunnel.host.clone(),
        owner: None,
        address: tunnel.address.parse().ok(),
        reason: None,
    };
    let entry = Entry::of_site(action, &tunnel.site).after(json!({
        "session": tunnel.session,
        "instance": tunnel.instance,
        "agent_version": tunnel.agent_version,
        "link_key": tunnel.link_key.to_string(),
        "agents_before": agents_before,
    }));
    operator_events::insert(tx, &actor, &[entry]).await
}

async fn count(
    tx: &mut Transaction<'static, Any>,
    statement: &'static str,
    texts: &[&str],
) -> Result<i64, StoreError> {
    let mut query = sqlx::query(statement);
    for text in texts {
        query = query.bind((*text).to_owned());
    }
    Ok(query.fetch_one(&mut **tx).await?.try_get(0)?)
}

impl Store {
    /// The latest event of each site and each of [`Action::OF_ACCESS`] since a time, the newest first.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn access_changes(&self, since: Timestamp) -> Result<Vec<AccessChange>, StoreError> {
        let mut query = sqlx::query(ACCESS_CHANGES).bind(since.as_millisecond());
        for action in Action::OF_ACCESS {
            query = query.bind(action.as_str());
        }
        let rows = query.fetch_all(&self.pool).await?;
        let change = |row: &AnyRow| {
            Ok(AccessChange {
                site: site(&row.try_get::<String, _>(0)?)?,
                action: operator_events::action(&row.try_get::<String, _>(1)?)?,
                at: timestamp(row.try_get(2)?)?,
                actor: row.try_get(3)?,
                address: row.try_get(4)?,
            })
        };
        rows.iter().map(change).collect()
    }
}

#[cfg(test)]
mod tests;
