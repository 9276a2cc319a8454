//! A small file in which a running agent says how it is, for whoever asks from outside its process.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use audiovault_protocol::message::DriverStatus;
use serde::{Deserialize, Serialize};

/// The file is written this often at least.
pub const HEARTBEAT: Duration = Duration::from_secs(5);
/// A file older than this was left by an agent that hangs or has died.
const STALE: Duration = Duration::from_secs(45);

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Whether a tunnel is up.
    pub connected: bool,
    /// When this was written, in seconds since the Unix epoch.
    pub at: u64,
    /// Version of the agent that runs.
    #[serde(default)]
    pub version: String,
    /// Its process id.
    #[serde(default)]
    pub pid: u32,
    /// The site that it speaks for.
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
    /// What is wrong with the agent itself, where something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// One tunnel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tunnel {
    /// The relay's address.
    pub relay: String,
    /// Which of the connections to it, from 0.
    pub slot: u16,
    /// Whether it is up.
    pub connected: bool,
    /// Since when, in seconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// Names the session in both logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Searches and downloads under way.
    #[serde(default)]
    pub streams: usize,
    /// The latest round trip in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<u64>,
    /// Why it is not up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Where the agent leaves its state.
#[derive(Debug, Clone)]
pub struct StateFile(PathBuf);

/// Why nobody can tell how the agent is, or why it is not well.
#[derive(Debug, thiserror::Error)]
pub enum Unhealthy {
    /// There is no such file, or nobody may read it.
    #[error("cannot read {0}; does the agent run, with the same --state-file?")]
    Unreadable(PathBuf, #[source] io::Error),
    /// The file holds something else.
    #[error("{0} was not written by an agent")]
    Malformed(PathBuf),
    /// The agent has stopped writing.
    #[error("the agent has not been heard of for {0} s")]
    Stale(u64),
    /// The agent runs and is not connected.
    #[error("the agent is not connected to its relay; its log says why")]
    Disconnected,
}

impl StateFile {
    /// The state is left in this file.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Says how the agent is. A disk that is full must not stop the agent, so a failure is only logged.
    pub fn write(&self, state: &State) {
        if let Err(error) = replace(&self.0, state) {
            tracing::warn!(file = %self.0.display(), %error, "cannot write the state file");
        }
    }
}

/// Reads how the agent was when it last said so.
///
/// # Errors
/// [`Unhealthy::Unreadable`], [`Unhealthy::Malformed`], and [`Unhealthy::Stale`] when that is long ago.
pub fn read(path: &Path, now: SystemTime) -> Result<State, Unhealthy> {
    let text = fs::read(path).map_err(|error| Unhealthy::Unreadable(path.to_owned(), error))?;
    let state: State = serde_json::from_slice(&text).map_err(|_| Unhealthy::Malformed(path.to_owned()))?;
    let written = UNIX_EPOCH + Duration::from_secs(state.at);
    let age = now.duration_since(written).unwrap_or_default();
    if age > STALE { Err(Unhealthy::Stale(age.as_secs())) } else { Ok(state) }
}

/// Judges the agent that writes this file.
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

/// Readers see the old state or the new one, never half of it.
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
