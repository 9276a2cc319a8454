//! How every tunnel is, for whoever tells it to people.

use std::{
    cmp::Ordering,
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use audiovault_protocol::link::AgentControl;
use tokio::sync::watch;
use url::Url;

/// Which tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TunnelName {
    /// To which relay.
    pub relay: Url,
    /// Which of the connections to it, from 0.
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

/// How one tunnel is.
#[derive(Debug, Clone)]
pub enum TunnelState {
    /// It is being dialled.
    Dialling,
    /// It serves.
    Connected {
        /// Names the session in both logs.
        session: String,
        /// Since when.
        since: SystemTime,
        /// Knows the figures of this moment.
        control: AgentControl,
    },
    /// It failed and will be dialled again.
    Waiting {
        /// What was wrong.
        reason: String,
        /// How long from the failure to the next attempt.
        wait: Duration,
    },
}

impl TunnelState {
    /// Whether it serves.
    pub fn is_connected(&self) -> bool {
        matches!(self, Self::Connected { .. })
    }
}

/// All tunnels of this agent. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct TunnelStates(watch::Sender<BTreeMap<TunnelName, TunnelState>>);

impl TunnelStates {
    /// Follows the tunnels.
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
