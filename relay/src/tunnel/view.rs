//! What is shown of connected agents.

use audiovault_protocol::message::DriverStatus;
use jiff::Timestamp;
use semver::Version;
use serde::{Deserialize, Serialize};

use crate::tunnel::session::Session;

/// A connected agent, as far as the board shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AgentView {
    /// Host name of its machine.
    pub host: String,
    /// Its version.
    pub version: String,
    /// Whether it is older than this relay.
    pub outdated: bool,
}

/// The health of a site's recordings, over all its agents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RecordingsView {
    /// Whether every storage driver can be read.
    pub readable: bool,
    /// What is wrong with the first one that cannot.
    pub problem: Option<String>,
    /// How many recordings there are, as last counted.
    pub count: Option<u64>,
    /// When the newest one was last written to.
    pub newest: Option<Timestamp>,
}

/// One session in every detail.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SessionView {
    /// Names the session in both logs.
    pub session: String,
    /// Names the run of the agent.
    pub instance: String,
    /// Which of the agent's connections this is.
    pub slot: u16,
    /// Since when it is connected.
    pub since: Timestamp,
    /// Version of the agent.
    pub agent_version: String,
    /// Whether the agent is older than this relay.
    pub outdated: bool,
    /// Host name of the agent's machine.
    pub host: String,
    /// Its operating system.
    pub os: String,
    /// Where the tunnel comes from.
    pub address: String,
    /// Latest round trip in milliseconds.
    pub rtt_ms: Option<f64>,
    /// Requests being answered now.
    pub open_streams: usize,
    /// Octets received through the tunnel.
    pub bytes_received: u64,
    /// Octets sent through the tunnel.
    pub bytes_sent: u64,
    /// Whether the agent is leaving and takes no new requests.
    pub leaving: bool,
    /// Tenants that the agent serves.
    pub tenants: Vec<String>,
    /// The agent's storage drivers, once it has told.
    #[schema(value_type = Vec<Object>)]
    pub drivers: Vec<DriverStatus>,
    /// What the agent says is wrong with its configuration.
    #[serde(default)]
    pub problems: Vec<String>,
    /// The relay that holds the tunnel, by the address that others know it by; nothing where it stands alone.
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
    /// Over the drivers of all agents; several agents of a site look at the same recordings, so the highest figures
    /// of a pattern count.
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

    /// Together with what other agents see of the same recordings.
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
    /// A session as it is now, at a relay that others know by an address.
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

/// Whether a version comes before this relay's own. What is no version is not judged.
fn is_outdated(version: &str) -> bool {
    let own = Version::parse(env!("CARGO_PKG_VERSION"));
    matches!((Version::parse(version), own), (Ok(theirs), Ok(own)) if theirs < own)
}

/// Rounds a round trip to what people read: tenths below ten milliseconds, whole ones above.
pub(crate) fn readable_ms(ms: f64) -> f64 {
    if ms < 10.0 { (ms * 10.0).round() / 10.0 } else { ms.round() }
}
