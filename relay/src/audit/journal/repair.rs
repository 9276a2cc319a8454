//! Has the books say again which tunnels this relay holds, where they say something else: records may have been lost, and
//! whoever takes a relay for dead closes its tunnels in the books. Other relays find agents by them.

use std::collections::HashSet;

use audiovault_protocol::site::SiteId;
use jiff::Timestamp;

use super::{Journal, OpenTunnels};
use crate::store::{Record, Store, StoreError, TunnelOpened};

/// Hands in what is missing. Whatever the queue holds of it already is written before.
pub(super) async fn repair(
    journal: &Journal,
    store: &Store,
    tunnels: &dyn OpenTunnels,
) -> Result<(), StoreError> {
    // The database first: what it says is at least as old as what is open.
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
        "the books differ from the tunnels that are here"
    );
    for tunnel in unknown {
        journal.record(Record::TunnelOpened(Box::new(tunnel.clone())));
        if !tunnels.is_open(&tunnel.site, &tunnel.session) {
            // It ended in between: that may have been written before it was opened.
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
