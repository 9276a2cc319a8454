//! Installs the agent on a machine with systemd, with one command; `--dry-run` shows all of its steps beforehand.
//!
//! The steps are a [`Plan`], which is made without changing anything; [`perform`] performs it, [`explain`] prints it.

mod configuration;
pub mod enrol;
mod plan;
mod unit;

use std::path::{Path, PathBuf};

pub use self::{
    configuration::{Fresh, Unreadable, fresh},
    plan::{Install, InstallError, Plan, explain, perform, uninstall},
};

/// Name of the program, its user, its unit and its directories.
const NAME: &str = "audiovault-agent";
/// The file with the site key, in the directory of the configuration.
const SITE_KEY: &str = "site-key";
/// The file with the search token, in the same directory.
const SEARCH_TOKEN: &str = "search-token";
/// The deny list, in the same directory.
const DENY: &str = "deny";

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
    fn program() -> PathBuf {
        Path::new("/usr/local/bin").join(NAME)
    }

    /// The systemd unit.
    fn unit() -> PathBuf {
        Path::new("/etc/systemd/system").join(format!("{NAME}.service"))
    }

    /// The directory of the configuration and the secrets.
    fn directory() -> PathBuf {
        Path::new("/etc").join(NAME)
    }

    /// The configuration file.
    pub fn config() -> PathBuf {
        Self::directory().join("agent.toml")
    }

    /// The index of the recordings; the agent creates it in a directory that systemd creates.
    fn index() -> PathBuf {
        Path::new("/var/lib").join(NAME).join("index")
    }

    /// The directory of the logs; systemd creates it when the agent starts, if it does not exist.
    fn logs() -> PathBuf {
        Path::new("/var/log").join(NAME)
    }

    /// The agent's audit log.
    fn audit_log() -> PathBuf {
        Self::logs().join("audit.jsonl")
    }

    /// The state file; systemd creates its directory.
    fn state_file() -> PathBuf {
        Path::new("/run").join(NAME).join("state.json")
    }
}
