//! Where an installed agent keeps its things.

use std::path::{Path, PathBuf};

/// Name of the program, its user, its unit and its directories.
pub(super) const NAME: &str = "audiovault-agent";

/// An installation: on this machine, or beneath a directory that becomes one.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Beneath `root`; `/` is this machine.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Whether this machine itself is meant.
    pub fn is_here(&self) -> bool {
        self.root == Path::new("/")
    }

    /// The directory that all paths lie beneath.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where to write what the installed agent knows under this absolute path.
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

    /// The unit of systemd.
    pub(super) fn unit() -> PathBuf {
        Path::new("/etc/systemd/system").join(format!("{NAME}.service"))
    }

    /// Configuration and secrets.
    pub(super) fn directory() -> PathBuf {
        Path::new("/etc").join(NAME)
    }

    /// The configuration file.
    pub fn config() -> PathBuf {
        Self::directory().join("agent.toml")
    }

    /// The index of the recordings; the agent makes it in a directory that systemd makes.
    pub(super) fn index() -> PathBuf {
        Path::new("/var/lib").join(NAME).join("index")
    }

    /// Logs; systemd makes the directory when the agent starts, if it is not there yet.
    pub(super) fn logs() -> PathBuf {
        Path::new("/var/log").join(NAME)
    }

    /// The customer's own record.
    pub(super) fn audit_log() -> PathBuf {
        Self::logs().join("audit.jsonl")
    }

    /// Where the agent says how it is; systemd makes the directory.
    pub(super) fn state_file() -> PathBuf {
        Path::new("/run").join(NAME).join("state.json")
    }
}
