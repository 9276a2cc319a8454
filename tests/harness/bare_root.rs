//! A machine with nothing on it: a directory that is the whole file system of the static agent.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::{
    agent::CONNECTED,
    process::{Process, artefacts, skip},
    relay::{Relay, Site},
};

/// The directory of recordings, as the agent sees it.
pub const RECORDINGS: &str = "/recordings";
const CONFIG: &str = "/etc/audiovault/agent.toml";
const SITE_KEY: &str = "/etc/audiovault/site-key";
const TOKEN: &str = "/etc/audiovault/search-token";
const CACERT: &str = "/etc/audiovault/relay.pem";

/// The directory.
#[derive(Debug)]
pub struct BareRoot {
    dir: TempDir,
}

/// The static agent, as `agent/build-static.sh` builds it.
pub fn static_agent() -> PathBuf {
    artefacts("static").join("audiovault-agent")
}

impl BareRoot {
    /// A directory with only the static agent. `None`, recorded as skipped, if the static agent is not built or the
    /// test does not run as root.
    pub fn new() -> Option<Self> {
        if !static_agent().exists() {
            skip("tests with the static agent: it is not built; agent/build-static.sh builds it");
            return None;
        }
        if !Command::new("chroot").args(["/", "true"]).output().is_ok_and(|output| output.status.success()) {
            skip("tests with the static agent: only root may change the root directory");
            return None;
        }
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::copy(static_agent(), dir.path().join("audiovault-agent")).expect("room on the disk");
        Some(Self { dir })
    }

    /// The directory as programs outside of it see it.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file that only its owner may read.
    pub fn file(&self, path: &str, content: &str) {
        let path = self.inside(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("directories");
        fs::write(&path, content).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its owner's");
    }

    /// All files in the directory, sorted.
    pub fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut open = vec![self.dir.path().to_owned()];
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(dir).expect("a directory") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    open.push(path);
                } else {
                    let path = path.strip_prefix(self.dir.path()).expect("inside");
                    found.push(format!("/{}", path.display()));
                }
            }
        }
        found.sort();
        found
    }

    /// Starts the agent with a configuration file, its secrets and the relay's certificate. Waits until it is
    /// connected.
    pub async fn start_agent(&self, relay: &Relay, site: &Site, name: &str, more: &str) -> Process {
        self.file(SITE_KEY, &site.site_key);
        self.file(TOKEN, &site.search_token);
        let certificate = &relay.certificate().expect("a relay with TLS").certificate;
        self.file(CACERT, &fs::read_to_string(certificate).expect("the certificate"));
        let port = relay.address.port();
        let config = format!(
            "relay = 'wss://{name}:{port}'\nsite-key-file = '{SITE_KEY}'\ntoken-file = '{TOKEN}'\n\
             cacert = '{CACERT}'\n{more}"
        );
        self.file(CONFIG, &config);
        let process = self.run(&["tunnel", "--config", CONFIG]);
        process.wait_for_code(CONNECTED).await;
        process
    }

    /// Starts the agent with arguments.
    pub fn run(&self, arguments: &[&str]) -> Process {
        let mut all = vec![self.dir.path().display().to_string(), "/audiovault-agent".to_owned()];
        all.extend(arguments.iter().map(ToString::to_string));
        Process::start_program("chroot".as_ref(), &all, &[])
    }

    fn inside(&self, path: &str) -> PathBuf {
        self.dir.path().join(path.trim_start_matches('/'))
    }
}
