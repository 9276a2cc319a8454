//! How the relays of a cluster are.

use serde::{Deserialize, Serialize};

use crate::audit::journal::JournalHealth;

/// One of several relays.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeView {
    /// Where the others reach it.
    pub url: String,
    /// Whether it is the one that tells.
    pub here: bool,
    /// How it is.
    #[serde(flatten)]
    pub health: NodeHealth,
}

/// How a relay is, as it tells others.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeHealth {
    /// Whether the database answers it.
    pub database: bool,
    /// Whether it writes audit and history.
    pub journal: bool,
}

impl NodeHealth {
    pub(crate) fn new(database: bool, journal: &JournalHealth) -> Self {
        Self { database, journal: journal.is_well() }
    }

    /// Whether all is well.
    pub fn is_well(&self) -> bool {
        self.database && self.journal
    }
}
