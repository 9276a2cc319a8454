//! What is seen of one site.

use audiovault_protocol::site::{Alias, SiteId};
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    limits::SiteThrottle,
    model::operator_events::AccessChange,
    tunnel::view::{AgentView, RecordingsView},
};

/// How a site is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SiteState {
    /// An agent was connected, but none is.
    Down,
    /// An agent is connected, but one of its storage drivers cannot be read.
    Degraded,
    /// An agent is connected.
    Up,
    /// No agent was ever connected.
    NeverSeen,
    /// The operator has disabled the site.
    Disabled,
}

impl SiteState {
    /// The name in the API and in addresses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Degraded => "degraded",
            Self::Up => "up",
            Self::NeverSeen => "never_seen",
            Self::Disabled => "disabled",
        }
    }
}

/// One site on the board. Figures are rounded to what people read, so that it changes only when there is news.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct SiteView {
    /// Its name.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// The operator's note.
    pub note: String,
    /// Further names under which QueueMetrics asks for it.
    #[schema(value_type = Vec<String>)]
    pub aliases: Vec<Alias>,
    /// How it is.
    pub state: SiteState,
    /// Since when it is so.
    pub since: Timestamp,
    /// Its connected agents.
    pub agents: Vec<AgentView>,
    /// The shortest of its agents' latest round trips, in milliseconds.
    pub rtt_ms: Option<f64>,
    /// Octets of recordings handed over per second, over the last five.
    pub bytes_per_second: u64,
    /// Requests being answered now.
    pub open_streams: usize,
    /// Searches of the last hour.
    pub searches_last_hour: u64,
    /// Requests of the last hour that ended in a server error.
    pub errors_last_hour: u64,
    /// Wrong search tokens and site keys of the last hour, and attempts that were refused because of them.
    pub refused_last_hour: SiteThrottle,
    /// What changed in the last day who can answer for the site: of every action the latest event, the newest first.
    pub access_changes: Vec<AccessChange>,
    /// How its recordings are; nothing while no agent has told.
    pub recordings: Option<RecordingsView>,
}
