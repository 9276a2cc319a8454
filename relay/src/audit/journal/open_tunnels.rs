//! What the journal needs to know of the tunnels that are open at this relay.

use std::fmt;

use audiovault_protocol::identity::site::SiteId;

use crate::store::{Traffic, TunnelOpened};

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
