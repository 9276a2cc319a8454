//! What one client, one site and all together may have of the relay.

use std::fmt::Display;

use audiovault_protocol::limits::PROCESS_WINDOW_BUDGET;
use bytesize::ByteSize;

use super::{ConfigError, invalid};
use crate::{cli::ServeArgs, registry::SiteMaximum};

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
/// Tunnels of one site by default: eight agents with four connections each. A tunnel that idles costs 16 kB.
const DEFAULT_MAX_SITE_TUNNELS: u32 = 32;
/// Agents of one site by default. A site has one, or two that stand in for each other; with more machines, each with
/// recordings of its own, there are a few.
const DEFAULT_MAX_SITE_AGENTS: u32 = 8;
/// The least memory that recordings under way can do with: one tunnel's.
const MIN_MEMORY_BUDGET: u64 = audiovault_protocol::limits::TUNNEL_WINDOW_BUDGET;

/// Limits on what is under way at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Connections to the public listeners in all.
    pub max_connections: u32,
    /// Connections of one client.
    pub max_client_connections: u32,
    /// Requests of one client.
    pub max_client_requests: u32,
    /// Requests to one site.
    pub max_site_requests: u32,
    /// Tunnels and agents of one site.
    pub site_maximum: SiteMaximum,
    /// Octets of recordings that all tunnels together may have on their way through the relay.
    pub memory_budget: u64,
    /// New tunnels in a second.
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

impl LimitsConfig {
    pub(super) fn check(args: &ServeArgs) -> Result<Self, ConfigError> {
        let default = Self::default();
        Ok(Self {
            max_connections: count("--max-connections", &args.max_connections, default.max_connections)?,
            max_client_connections: count(
                "--max-client-connections",
                &args.max_client_connections,
                default.max_client_connections,
            )?,
            max_client_requests: count(
                "--max-client-requests",
                &args.max_client_requests,
                default.max_client_requests,
            )?,
            max_site_requests: count(
                "--max-site-requests",
                &args.max_site_requests,
                default.max_site_requests,
            )?,
            site_maximum: SiteMaximum {
                tunnels: count("--max-site-tunnels", &args.max_site_tunnels, default.site_maximum.tunnels)?,
                agents: count("--max-site-agents", &args.max_site_agents, default.site_maximum.agents)?,
            },
            memory_budget: memory(&args.memory_budget, default.memory_budget)?,
            accept_rate: count("--accept-rate", &args.accept_rate, default.accept_rate)?,
        })
    }
}

fn count(flag: &'static str, given: &Option<String>, default: u32) -> Result<u32, ConfigError> {
    let Some(text) = given else { return Ok(default) };
    let wrong = |reason: &dyn Display| invalid(flag, text, &format!("expected a number from 1: {reason}"));
    match text.trim().parse() {
        Ok(0) => Err(wrong(&"nothing would be let in")),
        Ok(number) => Ok(number),
        Err(error) => Err(wrong(&error)),
    }
}

fn memory(given: &Option<String>, default: u64) -> Result<u64, ConfigError> {
    let Some(text) = given else { return Ok(default) };
    let wrong = |reason: &str| {
        invalid("--memory-budget", text, &format!("expected a size such as 512MiB or 2GiB: {reason}"))
    };
    let ByteSize(octets) = text.trim().parse().map_err(|error: String| wrong(&error))?;
    if octets < MIN_MEMORY_BUDGET {
        return Err(wrong(&format!("one tunnel alone needs {}", ByteSize(MIN_MEMORY_BUDGET))));
    }
    Ok(octets)
}
