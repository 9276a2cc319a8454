//! The views of connected agents that the API and the dashboard show.

use audiovault_protocol::message::DriverStatus;
use jiff::Timestamp;
use semver::Version;
use serde::{Deserialize, Serialize};

use crate::tunnel::session::Session;

/// A connected agent, as the board shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AgentView {
    /// Host name of the agent's machine.
    pub host: String,
    /// Version of the agent.
    pub version: String,
    /// Whether the agent is older than this relay.
    pub outdated: bool,
}

/// The health of a site's recordings, over all its agents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RecordingsView {
    /// Whether every storage root can be read.
    pub readable: bool,
    /// What is wrong with the first storage root that cannot be read.
    pub problem: Option<String>,
    /// How many recordings there are, as last counted.
    pub count: Option<u64>,
    /// When the newest recording was last written to.
    pub newest: Option<Timestamp>,
}

/// One tunnel of an agent, with all details.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SessionView {
    /// Identifies the tunnel in the logs of the relay and of the agent.
    pub session: String,
    /// Identifies the run of the agent, from its start to its end.
    pub instance: String,
    /// Which of the agent's tunnels this is.
    pub slot: u16,
    /// When the tunnel was opened.
    pub since: Timestamp,
    /// Version of the agent.
    pub agent_version: String,
    /// Whether the agent is older than this relay.
    pub outdated: bool,
    /// Host name of the agent's machine.
    pub host: String,
    /// Operating system of the agent's machine.
    pub os: String,
    /// IP address that the tunnel comes from.
    pub address: String,
    /// Latest round-trip time in milliseconds.
    pub rtt_ms: Option<f64>,
    /// Number of requests that are being answered now.
    pub open_streams: usize,
    /// Bytes received through the tunnel.
    pub bytes_received: u64,
    /// Bytes sent through the tunnel.
    pub bytes_sent: u64,
    /// Whether the agent is about to disconnect and takes no new requests.
    pub leaving: bool,
    /// Tenants that the agent serves.
    pub tenants: Vec<String>,
    /// The agent's storage roots; empty until the agent has reported them.
    #[schema(value_type = Vec<Object>)]
    pub drivers: Vec<DriverStatus>,
    /// What the agent reports as wrong with its configuration.
    #[serde(default)]
    pub problems: Vec<String>,
    /// Address of the relay that holds the tunnel, as the peer relays know it; null if the relay is not part of a
    /// cluster.
    #[serde(default)]
    pub relay: Option<String>,
}

impl AgentView {
    pub(crate) fn of(session: &Session) -> Self {
        let version = session.hello.agent_version.clone();
        Self { host: session.hello.host.clone(), outdated: is_outdated(&version), version }
    }
}

impl RecordingsView {
    /// Summary of the drivers of all agents. Several agents of a site see the same recordings, so the highest count of
    /// each path pattern is taken.
    pub(crate) fn of(drivers: &[DriverStatus]) -> Option<Self> {
        drivers.first()?;
        let broken = drivers.iter().find(|driver| !driver.readable);
        let newest = drivers.iter().filter_map(|driver| driver.newest).max();
        let mut counts: Vec<(&str, u64)> = Vec::new();
        for driver in drivers {
            let Some(count) = driver.recordings else { continue };
            match counts.iter_mut().find(|(pattern, _)| *pattern == driver.pattern) {
                Some((_, known)) => *known = count.max(*known),
                None => counts.push((&driver.pattern, count)),
            }
        }
        Some(Self {
            readable: broken.is_none(),
            problem: broken.and_then(|driver| driver.problem.clone()),
            count: (!counts.is_empty()).then(|| counts.iter().map(|(_, count)| count).sum()),
            newest: newest.and_then(|seconds| Timestamp::from_second(i64::try_from(seconds).ok()?).ok()),
        })
    }

    /// Merges this view with what other agents see of the same recordings.
    pub(crate) fn and(self, other: &Self) -> Self {
        Self {
            readable: self.readable && other.readable,
            problem: self.problem.or_else(|| other.problem.clone()),
            count: self.count.max(other.count),
            newest: self.newest.max(other.newest),
        }
    }
}

impl SessionView {
    /// The session as it is now. `relay` is the address by which peer relays know this relay.
    pub fn of(session: &Session, relay: Option<&str>) -> Self {
        let status = session.status().unwrap_or_default();
        Self {
            session: session.id.clone(),
            instance: session.hello.instance.clone(),
            slot: session.hello.slot,
            since: session.since,
            agent_version: session.hello.agent_version.clone(),
            outdated: is_outdated(&session.hello.agent_version),
            host: session.hello.host.clone(),
            os: session.hello.os.clone(),
            address: session.address.to_string(),
            rtt_ms: session.caller.rtt().map(|rtt| rtt.as_secs_f64() * 1000.0),
            open_streams: session.caller.open_streams(),
            bytes_received: session.caller.traffic().received(),
            bytes_sent: session.caller.traffic().sent(),
            leaving: !session.takes_requests(),
            tenants: session.tenants.iter().map(str::to_owned).collect(),
            problems: status.problems,
            drivers: status.drivers,
            relay: relay.map(str::to_owned),
        }
    }
}

/// Whether a version is older than this relay's own. A text that is not a version is not outdated.
fn is_outdated(version: &str) -> bool {
    let own = Version::parse(env!("CARGO_PKG_VERSION"));
    matches!((Version::parse(version), own), (Ok(theirs), Ok(own)) if theirs < own)
}

/// Rounds a round-trip time for people: to tenths below ten milliseconds, to whole milliseconds above.
pub(crate) fn readable_ms(ms: f64) -> f64 {
    if ms < 10.0 { (ms * 10.0).round() / 10.0 } else { ms.round() }
}
