//! Corrects the list of this relay's tunnels in the database, from the tunnels that are open.
//!
//! The list can be wrong: records may have been lost, and a relay that takes another for dead closes the other's
//! tunnels in the database. It must be right because other relays find agents by it.

use std::{collections::HashSet, fmt};

use audiovault_protocol::identity::site::SiteId;
use jiff::Timestamp;

use super::Journal;
use crate::store::{Record, Store, StoreError, Traffic, TunnelOpened};

/// The tunnels that are open at this relay.
pub trait OpenTunnels: fmt::Debug + Send + Sync {
    /// A record of opening for every open tunnel, with `run` as the relay's run.
    fn opened(&self, run: &str) -> Vec<TunnelOpened>;

    /// True if the tunnel is open.
    fn is_open(&self, site: &SiteId, session: &str) -> bool;

    /// The traffic of every site since this process started, in the order of the sites' names. Relays that
    /// share a database write their traffic in this one order, so they never wait for each other's locks.
    fn traffic(&self) -> Vec<(SiteId, Traffic)>;
}

/// Queues the missing records. Those that are already in the queue are written before them.
pub(super) async fn repair(
    journal: &Journal,
    store: &Store,
    tunnels: &dyn OpenTunnels,
) -> Result<(), StoreError> {
    // Read the database first: its list must be at least as old as the list of open tunnels.
    let stored = store.open_tunnels(journal.run()).await?;
    let open = tunnels.opened(journal.run());
    let ended: Vec<&(String, SiteId)> = {
        let sessions: HashSet<&str> = open.iter().map(|tunnel| tunnel.session.as_str()).collect();
        stored.iter().filter(|(session, _)| !sessions.contains(session.as_str())).collect()
    };
    let known: HashSet<&str> = stored.iter().map(|(session, _)| session.as_str()).collect();
    let unknown: Vec<&TunnelOpened> =
        open.iter().filter(|tunnel| !known.contains(tunnel.session.as_str())).collect();
    if unknown.is_empty() && ended.is_empty() {
        return Ok(());
    }
    tracing::info!(
        unknown = unknown.len(),
        ended = ended.len(),
        code = "tunnels.corrected",
        "the database differs from the open tunnels; correcting it"
    );
    for tunnel in unknown {
        journal.record(Record::TunnelOpened(Box::new(tunnel.clone())));
        if !tunnels.is_open(&tunnel.site, &tunnel.session) {
            // It ended in between: its end may have been written before its beginning.
            journal.record(closed(tunnel.session.clone(), &tunnel.site));
        }
    }
    for (session, site) in ended {
        journal.record(closed(session.clone(), site));
    }
    Ok(())
}

fn closed(session: String, site: &SiteId) -> Record {
    Record::TunnelClosed {
        session,
        site: site.clone(),
        back_soon: false,
        closed: Timestamp::now(),
        reason: "its end was not written down".to_owned(),
    }
}
