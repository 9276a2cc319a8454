//! The health of the relays of a cluster.

use serde::{Deserialize, Serialize};

use crate::audit::journal::JournalHealth;

/// One relay of a cluster.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeView {
    /// The address under which the peer relays reach it.
    pub url: String,
    /// Whether it is the relay that answers this request.
    pub here: bool,
    /// Its health.
    #[serde(flatten)]
    pub health: NodeHealth,
}

/// The health of a relay, as it reports it to its peers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeHealth {
    /// Whether the database answers this relay.
    pub database: bool,
    /// Whether it can write the audit log and the history.
    pub journal: bool,
}

impl NodeHealth {
    pub(crate) fn new(database: bool, journal: &JournalHealth) -> Self {
        Self { database, journal: journal.is_well() }
    }

    /// Whether everything works.
    pub fn is_well(&self) -> bool {
        self.database && self.journal
    }
}
