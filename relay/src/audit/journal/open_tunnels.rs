//! What the journal asks of the tunnels that are open at this relay.

use std::fmt;

use audiovault_protocol::site::SiteId;

use crate::store::{Traffic, TunnelOpened};

/// The tunnels that are open at this relay.
pub trait OpenTunnels: fmt::Debug + Send + Sync {
    /// Every open tunnel, as the record of its opening by a run of the relay.
    fn opened(&self, run: &str) -> Vec<TunnelOpened>;

    /// Whether a tunnel is open.
    fn is_open(&self, site: &SiteId, session: &str) -> bool;

    /// What passed for every site since this process started, in the order of their names: relays that share a database write
    /// what they count in one order, and so never wait for each other.
    fn traffic(&self) -> Vec<(SiteId, Traffic)>;
}
