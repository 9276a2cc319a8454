//! Has the books say again which tunnels this relay holds, where they say something else: records may have been lost, and
//! whoever takes a relay for dead closes its tunnels in the books. Other relays find agents by them.

use std::{collections::HashSet, sync::Arc};

use audiovault_protocol::site::SiteId;
use jiff::Timestamp;

use super::Journal;
use crate::{
    registry::Registry,
    session::Session,
    store::{Record, Store, StoreError},
};

/// Hands in what is missing. Whatever the queue holds of it already is written before.
pub(super) async fn repair(journal: &Journal, store: &Store, registry: &Registry) -> Result<(), StoreError> {
    // The books first: what they say is at least as old as what is there.
    let booked = store.open_tunnels(journal.run()).await?;
    let held = registry.all_sessions();
    let known: HashSet<&str> = booked.iter().map(|(session, _)| session.as_str()).collect();
    let unknown: Vec<&Arc<Session>> =
        held.iter().filter(|session| !known.contains(session.id.as_str())).collect();
    let held: HashSet<&str> = held.iter().map(|session| session.id.as_str()).collect();
    let ended: Vec<_> = booked.iter().filter(|(session, _)| !held.contains(session.as_str())).collect();
    if unknown.is_empty() && ended.is_empty() {
        return Ok(());
    }
    tracing::info!(
        unknown = unknown.len(),
        ended = ended.len(),
        "the books differ from the tunnels that are here"
    );
    for session in unknown {
        journal.record(session.opened(journal.run()));
        if !registry.sessions(&session.site).iter().any(|held| Arc::ptr_eq(held, session)) {
            // It ended in between: that may have been written before it was opened.
            journal.record(closed(session.id.clone(), &session.site));
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
