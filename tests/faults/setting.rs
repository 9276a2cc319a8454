//! What most tests of faults start with.

use std::{path::PathBuf, time::Duration};

use harness::{
    agent::{Agent, AgentOptions},
    bad_link::BadLink,
    client::{client, first_link, search, search_with},
    process::Process,
    recordings::{CALL, noise, wav, write},
    relay::{Relay, Site},
    secrets::remember_file,
};
use reqwest::Client;
use serde_json::Value;
use tempfile::TempDir;

/// The call of the long recording.
pub(crate) const LONG: &str = "1711441902.18";
/// Its size in bytes: more than the sockets and windows on the way can hold.
pub(crate) const LONG_LEN: usize = 48 << 20;

/// A relay with one site, recordings, and a connection between them that can fail.
pub(crate) struct Setting {
    pub(crate) relay: Relay,
    pub(crate) site: Site,
    pub(crate) client: Client,
    pub(crate) recordings: TempDir,
    /// The file with the link key of the site's agents.
    secret: PathBuf,
    _secrets: TempDir,
}

impl Setting {
    pub(crate) async fn new(relay: Relay) -> Self {
        let site = relay.add_site("acme", &[]).await;
        let recordings = tempfile::tempdir().unwrap();
        write(recordings.path(), format!("in-{CALL}.wav"), &wav(1.0, 1));
        let secrets = tempfile::tempdir().unwrap();
        let secret = secrets.path().join("link.secret");
        remember_file(&secret);
        let client = client(&relay);
        Self { relay, site, client, recordings, secret, _secrets: secrets }
    }

    /// Adds the long recording. Returns its bytes.
    pub(crate) fn with_long(&self) -> Vec<u8> {
        self.with_recording(LONG_LEN)
    }

    /// Adds a recording of another size in place of the long one.
    pub(crate) fn with_recording(&self, len: usize) -> Vec<u8> {
        let bytes = noise(len, 7);
        write(self.recordings.path(), format!("in-{LONG}.mp3"), &bytes);
        bytes
    }

    /// Options of the agents; all of them have the same link key.
    pub(crate) fn options(&self) -> AgentOptions {
        AgentOptions::new(self.recordings.path())
            .with(&["--link-secret-file", &self.secret.display().to_string()])
    }

    pub(crate) async fn agent(&self) -> Agent {
        Agent::start(&self.relay, &self.site, self.options()).await
    }

    /// An agent behind a connection that can fail.
    pub(crate) async fn agent_behind(&self, line: &BadLink) -> Agent {
        Agent::start(&self.relay, &self.site, self.options().through(line.url())).await
    }

    pub(crate) async fn search(&self) {
        search(&self.client, &self.site, CALL, &[]).await;
    }

    /// The status of a search; any status is accepted.
    pub(crate) async fn search_status(&self) -> u16 {
        search_with(&self.client, &self.site, CALL, &[]).await.status().as_u16()
    }

    /// Waits until the relay has released everything of this test: no stream, and no open delivery.
    pub(crate) async fn nothing_is_left(&self) {
        let idle = |session: &Value| session["open_streams"] == 0;
        let none = |status: &Value| status["sessions"].as_array().is_some_and(|all| all.iter().all(idle));
        self.relay.wait_for_status("acme", none).await;
    }

    pub(crate) async fn short_link(&self) -> String {
        first_link(&search(&self.client, &self.site, CALL, &[]).await)
    }

    pub(crate) async fn long_link(&self) -> String {
        first_link(&search(&self.client, &self.site, LONG, &[]).await)
    }
}

/// Bytes of resident memory of a program.
pub(crate) fn resident(process: &Process) -> u64 {
    let id = i32::try_from(process.id()).unwrap();
    let status = procfs::process::Process::new(id).unwrap().status().unwrap();
    status.vmrss.unwrap() * 1024
}

/// Milliseconds, as the matrix shows them.
pub(crate) fn ms(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}
