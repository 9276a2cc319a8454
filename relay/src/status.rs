//! What operators see of the sites: one snapshot, made from the directory and the registry.

use std::sync::atomic::Ordering;

use audiovault_protocol::{message::DriverStatus, site::SiteId};
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    directory::{Directory, SiteRecord},
    registry::Registry,
    session::Session,
};

/// How a site is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SiteState {
    /// An agent is connected.
    Up,
    /// An agent is connected, but one of its storage drivers cannot be read.
    Degraded,
    /// No agent is connected, but one was.
    Down,
    /// No agent was connected since this relay started.
    NeverSeen,
    /// The operator has disabled the site.
    Disabled,
}

/// All sites at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct StatusSnapshot {
    /// Version of the relay.
    pub relay_version: &'static str,
    /// Every site, in the order of their names.
    pub sites: Vec<SiteStatus>,
}

/// One site.
#[derive(Debug, Clone, Serialize)]
pub struct SiteStatus {
    /// Its name.
    pub site: SiteId,
    /// The operator's note.
    pub note: String,
    /// How it is.
    pub state: SiteState,
    /// When an agent was last connected, since this relay started.
    pub last_seen: Option<Timestamp>,
    /// Its connected agents.
    pub sessions: Vec<SessionStatus>,
    /// Searches asked since this relay started.
    pub searches: u64,
    /// Requests that ended in a server error since this relay started.
    pub errors: u64,
    /// Octets of recordings delivered since this relay started.
    pub bytes_delivered: u64,
}

/// One connected agent.
#[derive(Debug, Clone, Serialize)]
pub struct SessionStatus {
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
    /// The agent's storage drivers, once it has told.
    pub drivers: Vec<DriverStatus>,
}

impl StatusSnapshot {
    /// The sites as they are now.
    pub fn take(directory: &Directory, registry: &Registry) -> Self {
        let mut sites: Vec<_> =
            directory.sites().map(|(site, record)| SiteStatus::take(site, record, registry)).collect();
        sites.sort_by(|a, b| a.site.cmp(&b.site));
        Self { relay_version: env!("CARGO_PKG_VERSION"), sites }
    }
}

impl SiteStatus {
    fn take(site: &SiteId, record: &SiteRecord, registry: &Registry) -> Self {
        let counters = registry.counters(site);
        let sessions: Vec<_> =
            registry.sessions(site).iter().map(|session| SessionStatus::take(session)).collect();
        let unreadable = sessions.iter().flat_map(|session| &session.drivers).any(|driver| !driver.readable);
        let state = match (record.disabled, sessions.is_empty(), counters.last_seen()) {
            (true, ..) => SiteState::Disabled,
            (false, false, _) if unreadable => SiteState::Degraded,
            (false, false, _) => SiteState::Up,
            (false, true, Some(_)) => SiteState::Down,
            (false, true, None) => SiteState::NeverSeen,
        };
        Self {
            site: site.clone(),
            note: record.note.clone(),
            state,
            last_seen: counters.last_seen(),
            sessions,
            searches: counters.searches.load(Ordering::Relaxed),
            errors: counters.errors.load(Ordering::Relaxed),
            bytes_delivered: counters.bytes_delivered.load(Ordering::Relaxed),
        }
    }
}

impl SessionStatus {
    fn take(session: &Session) -> Self {
        Self {
            session: session.id.clone(),
            instance: session.hello.instance.clone(),
            slot: session.hello.slot,
            since: session.since,
            agent_version: session.hello.agent_version.clone(),
            host: session.hello.host.clone(),
            os: session.hello.os.clone(),
            address: session.address.to_string(),
            rtt_ms: session.caller.rtt().map(|rtt| rtt.as_secs_f64() * 1000.0),
            open_streams: session.caller.open_streams(),
            bytes_received: session.caller.traffic().received(),
            bytes_sent: session.caller.traffic().sent(),
            leaving: !session.takes_requests(),
            drivers: session.status().map(|status| status.drivers).unwrap_or_default(),
        }
    }
}
