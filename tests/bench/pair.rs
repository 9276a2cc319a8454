//! A relay and an agent of any build, for measurements: over `wss`, with the audit log, and with their logs in files.

#![expect(clippy::unwrap_used, reason = "a measurement that fails has no result")]

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use harness::{
    address::free_address,
    agent::secret,
    process::{PATIENCE, Process, program, run_program},
    relay::Certificate,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    client::{Connection, SearchPlace},
    searched,
};

/// Relay and agent of one build.
#[derive(Debug, Clone)]
pub(crate) struct Build {
    /// The name of the directory, or all of it if another build has the same name; `None` for the programs beside
    /// this one.
    pub(crate) name: Option<String>,
    pub(crate) relay: PathBuf,
    pub(crate) agent: PathBuf,
}

impl Build {
    /// The programs beside this one. Builds them if necessary.
    pub(crate) fn own() -> Self {
        Self { name: None, relay: program("audiovault-relay"), agent: program("audiovault-agent") }
    }

    /// The programs in each of these directories, or [`Build::own`] without any.
    pub(crate) fn all(directories: &[PathBuf]) -> Vec<Self> {
        if directories.is_empty() {
            return vec![Self::own()];
        }
        let last = |directory: &PathBuf| directory.file_name().map(ToOwned::to_owned);
        let build = |directory: &PathBuf| {
            let is_alone = directories.iter().filter(|other| last(other) == last(directory)).count() == 1;
            let short = last(directory).filter(|_| is_alone);
            let name = short.unwrap_or_else(|| directory.clone().into_os_string()).display().to_string();
            let [relay, agent] = ["audiovault-relay", "audiovault-agent"].map(|name| {
                let path = directory.join(name);
                assert!(path.is_file(), "{} does not exist", path.display());
                path
            });
            Self { name: Some(name), relay, agent }
        };
        directories.iter().map(build).collect()
    }
}

/// How a pair is started.
#[derive(Debug)]
pub(crate) struct PairOptions<'a> {
    /// The recordings, with [`searched`].
    pub(crate) files: &'a Path,
    /// The number of the agent's tunnels.
    pub(crate) tunnels: u16,
    /// Whether the programs log at their default level instead of warnings only.
    pub(crate) default_log: bool,
    /// Programs with arguments that start the relay and the agent.
    pub(crate) starters: [Vec<String>; 2],
    pub(crate) environment: Vec<(&'static str, String)>,
}

impl<'a> PairOptions<'a> {
    /// One tunnel, and only warnings in the logs.
    pub(crate) fn new(files: &'a Path) -> Self {
        Self {
            files,
            tunnels: 1,
            default_log: false,
            starters: [Vec::new(), Vec::new()],
            environment: Vec::new(),
        }
    }
}

/// A running relay, with an agent that is connected.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) relay: Process,
    pub(crate) agent: Process,
    pub(crate) place: SearchPlace,
    _dir: TempDir,
}

impl Pair {
    /// Starts relay and agent, and waits until a search finds the recording.
    pub(crate) async fn start(build: &Build, options: &PairOptions<'_>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path();
        let (public, tls) = (free_address(), free_address());
        let certificate = Certificate::make(home, &["localhost", &tls.ip().to_string()]);
        let database = format!("sqlite:{}", home.join("relay.db").display());
        let site = site(build, &database).await;
        let text = |name: &str| site[name].as_str().unwrap_or_else(|| panic!("{name} in {site}"));
        let level: &[&str] = if options.default_log { &[] } else { &["--log-level", "warn"] };
        let [relay_starter, agent_starter] = &options.starters;
        let arguments = words(&[
            "serve",
            "--bind",
            &public.to_string(),
            "--public-url",
            &format!("http://{public}"),
            "--tls-bind",
            &tls.to_string(),
            "--tls-cert",
            &certificate.certificate.display().to_string(),
            "--tls-key",
            &certificate.key.display().to_string(),
            "--admin-bind",
            &format!("{}:0", public.ip()),
            "--database",
            &database,
        ]);
        let environment = &options.environment;
        let relay =
            start(relay_starter, &build.relay, arguments, level, &home.join("relay.log"), environment);
        let arguments = words(&[
            "tunnel",
            "--relay",
            &format!("wss://{tls}"),
            "--cacert",
            &certificate.authority.display().to_string(),
            "--site-key-file",
            &secret(home, "site.key", text("site_key")),
            "--token-file",
            &secret(home, "search.token", text("search_token")),
            "--connections",
            &options.tunnels.to_string(),
        ]);
        let arguments = [arguments, searched::paths(options.files).into()].concat();
        offers(public, PATIENCE).await.unwrap_or_else(|| panic!("no relay: {}", log(home, "relay.log")));
        let agent =
            start(agent_starter, &build.agent, arguments, level, &home.join("agent.log"), environment);
        let place = SearchPlace {
            address: public,
            path: "/acme/search".to_owned(),
            token: text("search_token").to_owned(),
        };
        place
            .wait_for(searched::CALL)
            .await
            .unwrap_or_else(|| panic!("no agent: {}{}", log(home, "relay.log"), log(home, "agent.log")));
        Self { relay, agent, place, _dir: dir }
    }

    /// Ends both programs and waits for that. Returns how they ended: relay, agent.
    pub(crate) async fn end(&mut self) -> [ExitStatus; 2] {
        self.agent.terminate();
        let agent = self.agent.wait().await;
        self.relay.terminate();
        [self.relay.wait().await, agent]
    }
}

/// Adds the site `acme`, and returns what the relay's program says about it.
async fn site(build: &Build, database: &str) -> Value {
    let arguments = words(&["site", "add", "acme", "--database", database, "--json"]);
    let (code, out, err) = run_program(&build.relay, &arguments, &[]).await;
    assert_eq!(code, 0, "site add: {err}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("site add printed {out:?}: {error}"))
}

/// Starts a program with its log in a file.
pub(crate) fn start(
    starter: &[String],
    program: &Path,
    arguments: Vec<String>,
    more: &[&str],
    log: &Path,
    environment: &[(&str, String)],
) -> Process {
    let mut line = starter.to_vec();
    line.push(program.display().to_string());
    line.extend(arguments);
    line.extend(words(more));
    let log = File::create(log).unwrap();
    Process::start_into(log, line[0].as_ref(), &line[1..], environment)
}

/// Waits until a connection is accepted.
pub(crate) async fn offers(address: SocketAddr, patience: Duration) -> Option<()> {
    let asked = async {
        while Connection::open(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(patience, asked).await.ok()
}

pub(crate) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

fn log(dir: &Path, name: &str) -> String {
    fs::read_to_string(dir.join(name)).unwrap_or_default()
}
