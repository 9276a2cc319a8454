//! A relay as a process, and its command line.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

use command_fds::{CommandFdExt, FdMapping};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{process::Command, sync::OnceCell};

pub use crate::certificate::Certificate;
use crate::{
    address::free_address,
    authority::Authority,
    clock::Clock,
    postgres::Postgres,
    process::{Process, program, run},
    secrets,
};

/// A relay with a database of its own.
#[derive(Debug)]
pub struct Relay {
    dir: TempDir,
    /// The database as the command line takes it: a file in the relay's own directory, unless the test chooses
    /// another.
    database: String,
    /// Its public address, plain or TLS.
    pub address: SocketAddr,
    tls: Option<Certificate>,
    /// The host name in the public URL; `None` if it has the address.
    name: Option<String>,
    /// The public URL, if the relay is behind something else.
    public_url: Option<String>,
    extra: Vec<String>,
    /// Environment variables of the relay.
    environment: Vec<(&'static str, String)>,
    /// The public listening socket, if the relay inherits it instead of opening it.
    socket: Option<TcpListener>,
    /// The running program; `None` while it is killed.
    pub process: Option<Process>,
    admin: Option<SocketAddr>,
    /// An API token with all rights. It is made when it is first needed.
    token: OnceCell<String>,
}

/// A site as `site add --json` prints it.
#[derive(Debug, Clone)]
pub struct Site {
    /// Its name.
    pub name: String,
    /// The key for the agent.
    pub site_key: String,
    /// The search token for the agent and QueueMetrics.
    pub search_token: String,
    /// The address at which QueueMetrics searches.
    pub search_url: String,
}

impl Relay {
    /// Starts a relay with plain HTTP.
    pub async fn start() -> Self {
        Self::start_with(&[], false).await
    }

    /// Starts a relay with HTTPS.
    pub async fn start_tls() -> Self {
        Self::start_with(&[], true).await
    }

    /// Starts a relay with further arguments.
    pub async fn start_with(extra: &[&str], tls: bool) -> Self {
        let mut relay = Self::stopped();
        let names = ["localhost", &relay.address.ip().to_string()];
        relay.tls = tls.then(|| Certificate::make(relay.dir.path(), &names));
        relay.extra = extra.iter().map(ToString::to_string).collect();
        relay.restart().await;
        relay
    }

    /// Starts a relay with HTTPS whose public URL has a host name. The certificate is for that name and all names
    /// below it.
    pub async fn start_named(name: &str) -> Self {
        let mut relay = Self::stopped();
        let names = [name, &format!("*.{name}"), &relay.address.ip().to_string()];
        relay.tls = Some(Certificate::make(relay.dir.path(), &names));
        relay.name = Some(name.to_owned());
        relay.restart().await;
        relay
    }

    /// Starts a relay with HTTPS whose certificate an authority has signed. The certificate is for `name`, which is
    /// then in the public URL, or for the relay's address.
    pub async fn start_signed(authority: &Authority, name: Option<&str>) -> Self {
        let mut relay = Self::stopped();
        let address = relay.address.ip().to_string();
        relay.tls = Some(authority.sign(relay.dir.path(), name.unwrap_or(&address)));
        relay.name = name.map(str::to_owned);
        relay.restart().await;
        relay
    }

    /// Starts a relay with HTTPS at an address of the test's choice.
    pub async fn start_at(address: SocketAddr) -> Self {
        let mut relay = Self { address, ..Self::stopped() };
        relay.tls = Some(Certificate::make(relay.dir.path(), &[&address.ip().to_string()]));
        relay.restart().await;
        relay
    }

    /// Starts a relay with plain HTTP whose database is in a directory of the test's choice.
    pub async fn start_on(directory: &Path) -> Self {
        let mut relay = Self { database: sqlite(directory), ..Self::stopped() };
        relay.restart().await;
        relay
    }

    /// Starts a relay with plain HTTP on the database of a server, which other relays may use too.
    pub async fn start_on_postgres(server: &Postgres, extra: &[&str]) -> Self {
        let mut relay = Self::stopped();
        relay.moves_to(server);
        relay.extra = extra.iter().map(ToString::to_string).collect();
        relay.restart().await;
        relay
    }

    /// Starts a relay with plain HTTP on a database in the command line's notation, with environment variables.
    pub async fn start_on_database(database: &str, environment: Vec<(&'static str, String)>) -> Self {
        let mut relay = Self { database: database.to_owned(), environment, ..Self::stopped() };
        relay.restart().await;
        relay
    }

    /// Starts a relay of a cluster on the database of a server, behind a load balancer.
    pub async fn start_in_cluster(server: &Postgres, public_url: String, key: &str, extra: &[&str]) -> Self {
        let mut relay = Self::stopped();
        relay.moves_to(server);
        relay.environment.push(("AUDIOVAULT_RELAY_CLUSTER_KEY", key.to_owned()));
        relay.public_url = Some(public_url);
        relay.extra = ["--spool-dir", &relay.spool_dir().display().to_string()]
            .iter()
            .chain(extra)
            .map(ToString::to_string)
            .collect();
        relay.restart().await;
        relay
    }

    /// The directory for audit events that wait for the database, if the relay is in a cluster.
    pub fn spool_dir(&self) -> PathBuf {
        self.dir.path().join("spool")
    }

    /// Makes the relay use the database of a server from its next start on.
    pub fn moves_to(&mut self, server: &Postgres) {
        (self.database, self.environment) = (server.url(), server.variables());
    }

    /// Starts a relay with plain HTTP that uses a clock of the test.
    pub async fn start_by(clock: &Clock) -> Self {
        let mut relay = Self { environment: clock.variables(), ..Self::stopped() };
        relay.restart().await;
        relay
    }

    fn stopped() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        Self {
            database: sqlite(dir.path()),
            dir,
            address: free_address(),
            tls: None,
            name: None,
            public_url: None,
            extra: Vec::new(),
            environment: Vec::new(),
            socket: None,
            process: None,
            admin: None,
            token: OnceCell::new(),
        }
    }

    /// Starts a relay with plain HTTP that inherits its public socket, as with systemd's socket activation.
    pub async fn start_activated(extra: &[&str]) -> Self {
        let mut relay = Self::stopped();
        relay.socket = Some(TcpListener::bind(relay.address).expect("the address is free"));
        relay.extra = extra.iter().map(ToString::to_string).collect();
        relay.restart().await;
        relay
    }

    /// Starts the program again at the same address with the same database. If the test has taken the running process,
    /// that one continues; otherwise it is killed.
    pub async fn restart(&mut self) {
        let mut arguments = vec!["serve".to_owned()];
        match &self.tls {
            None => arguments.extend(["--bind".to_owned(), self.address.to_string()]),
            Some(tls) => arguments.extend([
                "--tls-bind".to_owned(),
                self.address.to_string(),
                "--tls-cert".to_owned(),
                tls.certificate.display().to_string(),
                "--tls-key".to_owned(),
                tls.key.display().to_string(),
            ]),
        }
        let public_url = self.public_url.clone().unwrap_or_else(|| self.url());
        arguments.extend(["--public-url".to_owned(), public_url, "--database".to_owned(), self.database()]);
        if !self.extra.iter().any(|argument| argument == "--admin-bind") {
            arguments.extend(["--admin-bind".to_owned(), format!("{}:0", self.address.ip())]);
            // Networks of a test have other addresses than loopback.
            arguments.extend(["--admin-allow-plaintext".to_owned(), "true".to_owned()]);
        }
        arguments.extend(self.extra.clone());
        let mut command = Command::new(program("audiovault-relay"));
        command.args(&arguments).envs(self.environment.clone());
        if let Some(socket) = &self.socket {
            let parent_fd = socket.try_clone().expect("a descriptor").into();
            // The number of the first inherited descriptor (`sd_listen_fds(3)`).
            let inherited = vec![FdMapping { parent_fd, child_fd: 3 }];
            command.env("LISTEN_FDS", "1").fd_mappings(inherited).expect("no collision");
        }
        let process = Process::watch(command);
        let line = process.wait_for_code("operator_listener.started").await;
        let admin = line.split("addr=").nth(1).and_then(|rest| rest.split_whitespace().next());
        self.admin = Some(admin.expect("the address is logged").parse().expect("an address"));
        self.process = Some(process);
    }

    /// Kills the program.
    pub async fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill().await;
        }
    }

    /// The running program.
    ///
    /// # Panics
    /// If the relay has been killed.
    pub fn process(&self) -> &Process {
        self.process.as_ref().expect("the relay runs")
    }

    /// The public address.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        match &self.name {
            Some(name) => format!("{scheme}://{name}:{}", self.address.port()),
            None => format!("{scheme}://{}", self.address),
        }
    }

    /// The host name in the public URL, if there is one.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The value of the agents' `--relay`.
    pub fn tunnel_url(&self) -> String {
        format!("{}://{}", if self.tls.is_some() { "wss" } else { "ws" }, self.address)
    }

    /// The database as the command line takes it.
    pub fn database(&self) -> String {
        self.database.clone()
    }

    /// The certificate, with TLS.
    pub fn certificate(&self) -> Option<&Certificate> {
        self.tls.as_ref()
    }

    /// Runs a `site` command as a process and parses the JSON that it prints.
    pub async fn site_command(&self, arguments: &[&str]) -> Value {
        self.command("site", arguments).await
    }

    /// Runs a command on the relay's database as a process and parses the JSON that it prints.
    pub async fn command(&self, command: &str, arguments: &[&str]) -> Value {
        let database = self.database();
        let arguments = [&[command], arguments, &["--database", &database, "--json"]].concat();
        let (code, out, err) = run("audiovault-relay", &arguments, &self.environment).await;
        assert_eq!(code, 0, "{arguments:?}: {err}");
        let said = serde_json::from_str(&out);
        let said: Value = said.unwrap_or_else(|error| panic!("{arguments:?} printed {out:?}: {error}"));
        for (name, value) in said.as_object().into_iter().flatten() {
            if ["key", "token", "code", "secret"].iter().any(|secret| name.ends_with(secret)) {
                value.as_str().into_iter().for_each(secrets::remember);
            }
        }
        said
    }

    /// Adds a site with aliases.
    pub async fn add_site(&self, name: &str, aliases: &[&str]) -> Site {
        let flags: Vec<&str> = aliases.iter().flat_map(|alias| ["--alias", alias]).collect();
        self.add_site_with(name, &flags).await
    }

    /// Adds a site with further flags of `site add`.
    pub async fn add_site_with(&self, name: &str, flags: &[&str]) -> Site {
        let arguments: Vec<&str> = ["add", name].iter().chain(flags).copied().collect();
        let added = self.site_command(&arguments).await;
        let field =
            |name: &str| added[name].as_str().unwrap_or_else(|| panic!("{name} in {added}")).to_owned();
        Site {
            name: field("site"),
            site_key: field("site_key"),
            search_token: field("search_token"),
            search_url: field("search_url"),
        }
    }

    /// The address of the admin listener, without a slash at the end.
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin.expect("the relay runs"))
    }

    /// An API token with all rights.
    pub async fn token(&self) -> &str {
        let make = || async {
            // Relays may share a database, and the names of tokens are unique in it.
            let name = format!("harness-{}", self.address.port());
            let made = self.command("token", &["add", &name, "--role", "admin", "--playback"]).await;
            made["token"].as_str().expect("a token").to_owned()
        };
        self.token.get_or_init(make).await
    }

    /// Requests a page of the admin listener with [`Relay::token`]. Returns status and text.
    pub async fn admin(&self, path: &str) -> (u16, String) {
        let url = format!("{}{path}", self.admin_url());
        let request = reqwest::Client::new().get(url).bearer_auth(self.token().await);
        let response = request.send().await.expect("the admin listener answers");
        (response.status().as_u16(), response.text().await.expect("text"))
    }

    /// The value of a metric in `/metrics`, by its full name with its labels.
    pub async fn figure(&self, name: &str) -> f64 {
        let (status, text) = self.admin("/metrics").await;
        assert_eq!(status, 200, "{text}");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name} in {text}"))
    }

    /// The audit log as CSV lines without the header, once it has this many events and all deliveries have ended.
    pub async fn audit(&self, events: usize) -> Vec<String> {
        let database = self.database();
        let exported = async {
            loop {
                let arguments = ["audit", "export", "--database", &database];
                let (code, out, err) = run("audiovault-relay", &arguments, &self.environment).await;
                assert_eq!(code, 0, "{err}");
                let lines: Vec<_> = out.lines().skip(1).map(str::to_owned).collect();
                if lines.len() == events && !out.contains(",open,") {
                    return lines;
                }
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(crate::process::PATIENCE, exported)
            .await
            .expect("the events are in the audit log")
    }

    /// The API's response about one site; null if the API does not know the site.
    pub async fn status(&self, site: &str) -> Value {
        let (status, text) = self.admin(&format!("/api/v1/sites/{site}")).await;
        if status == 404 {
            return Value::Null;
        }
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).expect("JSON")
    }

    /// Waits until the API's response about a site is as the test wants.
    pub async fn wait_for_status(&self, site: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let asked = async {
            loop {
                let status = self.status(site).await;
                if wanted(&status) {
                    return status;
                }
                // The status sends no events, so the test polls it, as an operator would.
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(crate::process::PATIENCE, asked).await.expect("the status changes")
    }
}

/// The SQLite database in a directory.
fn sqlite(directory: &Path) -> String {
    format!("sqlite:{}", directory.join("relay.db").display())
}
