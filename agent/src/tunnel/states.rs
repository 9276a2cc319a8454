//! The states of all tunnels, for status displays.

use std::{
    cmp::Ordering,
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use audiovault_protocol::link::AgentControl;
use tokio::sync::watch;
use url::Url;

/// Identifies a tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TunnelName {
    /// The relay.
    pub relay: Url,
    /// The number of the tunnel among those to this relay, from 0.
    pub slot: u16,
}

impl PartialOrd for TunnelName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for TunnelName {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.relay.as_str(), self.slot).cmp(&(other.relay.as_str(), other.slot))
    }
}

/// The state of one tunnel.
#[derive(Debug, Clone)]
pub enum TunnelState {
    /// It is being dialled.
    Dialling,
    /// It is connected and serves requests.
    Connected {
        /// Identifies the tunnel in the logs of agent and relay.
        session: String,
        /// When the relay welcomed it.
        since: SystemTime,
        /// Gives the current figures of the tunnel.
        control: AgentControl,
    },
    /// It failed and will be dialled again.
    Waiting {
        /// Why it failed or ended.
        reason: String,
        /// The time from the failure to the next attempt.
        wait: Duration,
    },
}

impl TunnelState {
    /// Whether the tunnel is connected.
    pub fn is_connected(&self) -> bool {
        matches!(self, Self::Connected { .. })
    }
}

/// The states of all tunnels of this agent. Cheap to clone; all clones share one state.
#[derive(Debug, Clone, Default)]
pub struct TunnelStates(watch::Sender<BTreeMap<TunnelName, TunnelState>>);

impl TunnelStates {
    /// Subscribes to changes.
    pub fn follow(&self) -> watch::Receiver<BTreeMap<TunnelName, TunnelState>> {
        self.0.subscribe()
    }

    pub(super) fn set(&self, name: &TunnelName, state: TunnelState) {
        self.0.send_modify(|states| drop(states.insert(name.clone(), state)));
    }

    pub(super) fn forget(&self, name: &TunnelName) {
        self.0.send_modify(|states| drop(states.remove(name)));
    }
}
