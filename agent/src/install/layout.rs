//! The paths of an installed agent.

use std::path::{Path, PathBuf};

/// Name of the program, its user, its unit and its directories.
pub(super) const NAME: &str = "audiovault-agent";

/// An installation: on this machine, or in a directory that becomes the root of another machine.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// An installation in `root`; `/` is this machine.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Whether the installation is on this machine.
    pub fn is_here(&self) -> bool {
        self.root == Path::new("/")
    }

    /// The directory that contains all paths.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where to write a file that has this absolute path for the installed agent.
    pub fn at(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Whether an agent is installed.
    pub fn is_installed(&self) -> bool {
        self.at(&Self::config()).exists()
    }

    /// The program.
    pub(super) fn program() -> PathBuf {
        Path::new("/usr/local/bin").join(NAME)
    }

    /// The systemd unit.
    pub(super) fn unit() -> PathBuf {
        Path::new("/etc/systemd/system").join(format!("{NAME}.service"))
    }

    /// The directory of the configuration and the secrets.
    pub(super) fn directory() -> PathBuf {
        Path::new("/etc").join(NAME)
    }

    /// The configuration file.
    pub fn config() -> PathBuf {
        Self::directory().join("agent.toml")
    }

    /// The index of the recordings; the agent creates it in a directory that systemd creates.
    pub(super) fn index() -> PathBuf {
        Path::new("/var/lib").join(NAME).join("index")
    }

    /// The directory of the logs; systemd creates it when the agent starts, if it does not exist.
    pub(super) fn logs() -> PathBuf {
        Path::new("/var/log").join(NAME)
    }

    /// The agent's audit log.
    pub(super) fn audit_log() -> PathBuf {
        Self::logs().join("audit.jsonl")
    }

    /// The state file; systemd creates its directory.
    pub(super) fn state_file() -> PathBuf {
        Path::new("/run").join(NAME).join("state.json")
    }
}
