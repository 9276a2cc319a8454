//! Settings of the limits.

use audiovault_protocol::limits::PROCESS_WINDOW_BUDGET;

/// Connections of all clients together by default: hundreds of sites with a tunnel or two, and ten times as many
/// listeners.
const DEFAULT_MAX_CONNECTIONS: u32 = 10_000;
/// Connections of one client by default. An office of two hundred behind one address opens six for each browser
/// with HTTP/1.1 at worst, and not all at once; a carrier's NAT has thousands of customers, few of whom listen to
/// recordings.
const DEFAULT_MAX_CLIENT_CONNECTIONS: u32 = 1_000;
/// Requests of one client under way by default: QueueMetrics searches hundreds of sites from one address, each in
/// a fraction of a second.
const DEFAULT_MAX_CLIENT_REQUESTS: u32 = 512;
/// Requests to one site under way by default: what one tunnel carries.
const DEFAULT_MAX_SITE_REQUESTS: u32 = 256;
/// New tunnels per second by default: five hundred sites are back five seconds after a restart, and the
/// handshakes of a hundred take a fraction of one core.
const DEFAULT_ACCEPT_RATE: u32 = 100;
/// Tunnels of one site by default: eight agents with four tunnels each. An idle tunnel costs 16 kB.
const DEFAULT_MAX_SITE_TUNNELS: u32 = 32;
/// Agents of one site by default. A site has one agent, or two that replace each other. A site with several
/// machines, each with recordings of its own, has a few.
const DEFAULT_MAX_SITE_AGENTS: u32 = 8;
/// The limits of one relay, as configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Connections to the public listeners, of all clients together.
    pub max_connections: u32,
    /// Connections of one client.
    pub max_client_connections: u32,
    /// Requests under way of one client.
    pub max_client_requests: u32,
    /// Requests under way to one site.
    pub max_site_requests: u32,
    /// Tunnels and agents of one site.
    pub site_maximum: SiteMaximum,
    /// Bytes of recordings that all tunnels together may have on their way through the relay.
    pub memory_budget: u64,
    /// New tunnels per second.
    pub accept_rate: u32,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            max_connections: DEFAULT_MAX_CONNECTIONS,
            max_client_connections: DEFAULT_MAX_CLIENT_CONNECTIONS,
            max_client_requests: DEFAULT_MAX_CLIENT_REQUESTS,
            max_site_requests: DEFAULT_MAX_SITE_REQUESTS,
            site_maximum: SiteMaximum { tunnels: DEFAULT_MAX_SITE_TUNNELS, agents: DEFAULT_MAX_SITE_AGENTS },
            memory_budget: PROCESS_WINDOW_BUDGET,
            accept_rate: DEFAULT_ACCEPT_RATE,
        }
    }
}

/// The most that one site may have at this relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SiteMaximum {
    /// Tunnels, those of all its agents together.
    pub tunnels: u32,
    /// Agents, each with all its tunnels.
    pub agents: u32,
}

impl SiteMaximum {
    /// No limit.
    pub const UNLIMITED: Self = Self { tunnels: u32::MAX, agents: u32::MAX };
}
