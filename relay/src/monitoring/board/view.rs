//! What the board shows of one site.

use audiovault_protocol::identity::site::{Alias, SiteId};
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    limits::SiteThrottle,
    model::operator_events::AccessChange,
    tunnel::view::{AgentView, RecordingsView},
};

/// State of a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SiteState {
    /// An agent was connected before, but none is now.
    Down,
    /// An agent is connected, but one of its storage roots cannot be read.
    Degraded,
    /// An agent is connected.
    Up,
    /// No agent was ever connected.
    NeverSeen,
    /// An operator has disabled the site.
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

/// One site on the board. Figures are rounded for people, so that they change only if the difference matters.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct SiteView {
    /// Name of the site.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// The operator's note on the site.
    pub note: String,
    /// Other names under which QueueMetrics can search the site.
    #[schema(value_type = Vec<String>)]
    pub aliases: Vec<Alias>,
    /// State of the site.
    pub state: SiteState,
    /// Since when the site has been in this state.
    pub since: Timestamp,
    /// The connected agents of the site.
    pub agents: Vec<AgentView>,
    /// The shortest of the agents' latest round-trip times, in milliseconds.
    pub rtt_ms: Option<f64>,
    /// Bytes of recordings delivered per second, over the last five seconds.
    pub bytes_per_second: u64,
    /// Number of requests that are being answered now.
    pub open_streams: usize,
    /// Searches of the last hour.
    pub searches_last_hour: u64,
    /// Requests of the last hour that ended in a server error.
    pub errors_last_hour: u64,
    /// Wrong search tokens and site keys of the last hour, and attempts that were refused because of them.
    pub refused_last_hour: SiteThrottle,
    /// Changes in the last day to who can answer for the site: the latest event of each action, the newest first.
    pub access_changes: Vec<AccessChange>,
    /// The health of the site's recordings; null until an agent has reported it.
    pub recordings: Option<RecordingsView>,
}
