//! A small file with the state of the running agent, for programs outside its process.

use std::{
    borrow::Cow,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use audiovault_common::advice::Advice;
use audiovault_protocol::message::DriverStatus;
use serde::{Deserialize, Serialize};

/// The file is written at least this often.
pub const HEARTBEAT: Duration = Duration::from_secs(5);
/// A file older than this was left by an agent that hangs or has died.
const STALE: Duration = Duration::from_secs(45);

/// The content of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Whether a tunnel is up.
    pub connected: bool,
    /// When this was written, in seconds since the Unix epoch.
    pub at: u64,
    /// Version of the running agent.
    #[serde(default)]
    pub version: String,
    /// Its process id.
    #[serde(default)]
    pub pid: u32,
    /// The agent's site.
    #[serde(default)]
    pub site: String,
    /// When it was started, in seconds since the Unix epoch.
    #[serde(default)]
    pub started: u64,
    /// Its tunnels.
    #[serde(default)]
    pub tunnels: Vec<Tunnel>,
    /// Its storage drivers.
    #[serde(default)]
    pub drivers: Vec<DriverStatus>,
    /// The problems of the agent itself, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// One tunnel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tunnel {
    /// The relay's address.
    pub relay: String,
    /// The number of the tunnel to this relay, from 0.
    pub slot: u16,
    /// Whether it is up.
    pub connected: bool,
    /// When it connected, in seconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// The id of the tunnel in both logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Running searches and downloads.
    #[serde(default)]
    pub streams: usize,
    /// The latest round trip in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<u64>,
    /// Why it is not up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The file to which the agent writes its state.
#[derive(Debug, Clone)]
pub struct StateFile(PathBuf);

/// Why the state is unknown, or why it is not healthy.
#[derive(Debug, thiserror::Error)]
pub enum Unhealthy {
    /// There is no such file, or it may not be read.
    #[error("cannot read {0}")]
    Unreadable(PathBuf, #[source] io::Error),
    /// The file has other content.
    #[error("{0} was not written by an agent")]
    Malformed(PathBuf),
    /// The agent has stopped writing.
    #[error("the agent has not updated its state for {0} s")]
    Stale(u64),
    /// The agent runs but is not connected.
    #[error("the agent is not connected to its relay")]
    Disconnected,
}

impl Advice for Unhealthy {
    fn advice(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Unreadable(..) => Some("check that the agent runs, with the same --state-file".into()),
            Self::Malformed(_) | Self::Stale(_) => None,
            Self::Disconnected => Some("its log says why".into()),
        }
    }
}

impl StateFile {
    /// Uses this file for the state.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Writes the state. A full disk must not stop the agent, so a failure is only logged.
    pub fn write(&self, state: &State) {
        if let Err(error) = replace(&self.0, state) {
            tracing::warn!(
                file = %self.0.display(),
                %error,
                code = "state_file.failed",
                "cannot write the state file"
            );
        }
    }
}

/// Reads the latest state that the agent wrote.
///
/// # Errors
/// [`Unhealthy::Unreadable`], [`Unhealthy::Malformed`], and [`Unhealthy::Stale`] if the state is too old.
pub fn read(path: &Path, now: SystemTime) -> Result<State, Unhealthy> {
    let text = fs::read(path).map_err(|error| Unhealthy::Unreadable(path.to_owned(), error))?;
    let state: State = serde_json::from_slice(&text).map_err(|_| Unhealthy::Malformed(path.to_owned()))?;
    let written = UNIX_EPOCH + Duration::from_secs(state.at);
    let age = now.duration_since(written).unwrap_or_default();
    if age > STALE { Err(Unhealthy::Stale(age.as_secs())) } else { Ok(state) }
}

/// Checks whether the agent that writes this file is healthy.
///
/// # Errors
/// [`Unhealthy`] unless it is connected.
pub fn check(path: &Path, now: SystemTime) -> Result<(), Unhealthy> {
    if read(path, now)?.connected { Ok(()) } else { Err(Unhealthy::Disconnected) }
}

/// A time in seconds since the Unix epoch.
pub fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Replaces the file in one step: readers see the old state or the new one, never half of it.
fn replace(path: &Path, state: &State) -> io::Result<()> {
    let draft = path.with_extension("new");
    fs::write(&draft, serde_json::to_vec(state)?)?;
    fs::rename(draft, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_agent_that_is_connected_and_alive_is_well() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        let now = SystemTime::now();
        assert!(matches!(check(&path, now), Err(Unhealthy::Unreadable(..))));
        let file = StateFile::new(path.clone());
        let state = |connected| State { connected, at: seconds(now), ..State::default() };
        file.write(&state(false));
        assert!(matches!(check(&path, now), Err(Unhealthy::Disconnected)));
        file.write(&state(true));
        assert!(check(&path, now).is_ok());
        assert!(matches!(check(&path, now + 2 * STALE), Err(Unhealthy::Stale(_))));
        fs::write(&path, "{").unwrap();
        assert!(matches!(check(&path, now), Err(Unhealthy::Malformed(_))));
    }
}
