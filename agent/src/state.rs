//! A small file in which a running agent says that it is connected, for health checks from outside its process.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

/// The file is written this often while the tunnel is up.
pub const HEARTBEAT: Duration = Duration::from_secs(15);
/// A file older than three heartbeats was left by an agent that hangs or has died.
const STALE: Duration = Duration::from_secs(45);

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    connected: bool,
    /// When this was written, in seconds since the Unix epoch.
    at: u64,
}

/// Where the agent leaves its state.
#[derive(Debug, Clone)]
pub struct StateFile(PathBuf);

/// Why an agent is not well.
#[derive(Debug, thiserror::Error)]
pub enum Unhealthy {
    /// There is no such file, or nobody may read it.
    #[error("cannot read {0}; does the agent run, with the same AUDIOVAULT_STATE_FILE?")]
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

    /// Says how the tunnel is. A disk that is full must not stop the agent, so a failure is only logged.
    pub fn write(&self, connected: bool) {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if let Err(error) = replace(&self.0, State { connected, at }) {
            tracing::warn!(file = %self.0.display(), %error, "cannot write the state file");
        }
    }
}

/// Judges the agent that writes this file.
///
/// # Errors
/// [`Unhealthy`] unless it is connected.
pub fn check(path: &Path, now: SystemTime) -> Result<(), Unhealthy> {
    let text = fs::read(path).map_err(|error| Unhealthy::Unreadable(path.to_owned(), error))?;
    let state: State = serde_json::from_slice(&text).map_err(|_| Unhealthy::Malformed(path.to_owned()))?;
    let written = UNIX_EPOCH + Duration::from_secs(state.at);
    let age = now.duration_since(written).unwrap_or_default();
    if age > STALE {
        return Err(Unhealthy::Stale(age.as_secs()));
    }
    if state.connected { Ok(()) } else { Err(Unhealthy::Disconnected) }
}

/// Readers see the old state or the new one, never half of it.
fn replace(path: &Path, state: State) -> io::Result<()> {
    let draft = path.with_extension("new");
    fs::write(&draft, serde_json::to_vec(&state)?)?;
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
        file.write(false);
        assert!(matches!(check(&path, now), Err(Unhealthy::Disconnected)));
        file.write(true);
        assert!(check(&path, now).is_ok());
        assert!(matches!(check(&path, now + 2 * STALE), Err(Unhealthy::Stale(_))));
        fs::write(&path, "{").unwrap();
        assert!(matches!(check(&path, now), Err(Unhealthy::Malformed(_))));
    }
}
