//! An agent as a process, with a directory of recordings.

use std::{
    fs::Permissions,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use tempfile::TempDir;

use crate::{
    clock::Clock,
    names::Names,
    process::{Process, program, run_program},
    relay::{Relay, Site},
    secrets,
};

/// What an agent logs when its tunnel is up.
pub const CONNECTED: &str = "tunnel.connected";

/// The options with which an agent is started.
#[derive(Debug)]
pub struct AgentOptions {
    /// The storage roots, as `--path` takes them.
    pub paths: Vec<String>,
    /// Further arguments.
    pub extra: Vec<String>,
    /// The value of `--relay`, if it is not the relay's own address.
    pub relay: Option<String>,
    /// Environment variables of the agent.
    pub environment: Vec<(&'static str, String)>,
    /// The agent's view of host names; `None` for that of the machine.
    pub names: Option<Arc<Names>>,
    /// The network namespace in which the agent runs; `None` for that of the test.
    pub namespace: Option<String>,
    /// The certificate authorities that it trusts.
    pub trust: Trust,
    /// A program with arguments that starts the agent.
    pub starter: Vec<String>,
}

/// The certificate authorities that an agent trusts.
#[derive(Debug, Clone)]
pub enum Trust {
    /// The certificate of the relay.
    Relay,
    /// The certificates in this file, given by `--cacert`.
    File(PathBuf),
    /// The certificates in this file, as if they were the machine's trust store.
    Machine(PathBuf),
}

impl AgentOptions {
    /// One storage root and no other options.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self {
            paths: vec![format!("file:{}", path.as_ref().display())],
            extra: Vec::new(),
            relay: None,
            // The result of a test must not depend on the machine's time zone.
            environment: vec![("TZ", "UTC".to_owned())],
            names: None,
            namespace: None,
            trust: Trust::Relay,
            starter: Vec::new(),
        }
    }

    /// Adds another storage root, which is searched after the earlier ones.
    #[must_use]
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.paths.push(path.into());
        self
    }

    /// Makes the agent dial this address instead of the relay.
    #[must_use]
    pub fn through(mut self, relay: String) -> Self {
        self.relay = Some(relay);
        self
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn variable(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    /// Makes the agent use this clock.
    #[must_use]
    pub fn by(mut self, clock: &Clock) -> Self {
        self.environment.extend(clock.variables());
        self
    }

    /// Makes the agent use these host names.
    #[must_use]
    pub fn believing(mut self, names: &Arc<Names>) -> Self {
        self.names = Some(Arc::clone(names));
        self
    }

    /// Runs the agent in a network namespace.
    #[must_use]
    pub fn inside(mut self, namespace: String) -> Self {
        self.namespace = Some(namespace);
        self
    }

    /// Sets the certificate authorities that the agent trusts.
    #[must_use]
    pub fn trusting(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }

    /// Starts the agent by another program.
    #[must_use]
    pub fn started_by(mut self, starter: &[&str]) -> Self {
        self.starter = starter.iter().map(ToString::to_string).collect();
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.extra.extend(arguments.iter().map(ToString::to_string));
        self
    }

    /// The whole command line of one of the agent's commands. Secrets are written to files in a directory.
    pub fn command_line(&self, command: &str, relay: &Relay, site: &Site, secrets: &Path) -> CommandLine {
        let mut words = match (&self.names, &self.namespace) {
            (Some(names), _) => names.enter(),
            (None, Some(namespace)) => ["ip", "netns", "exec", namespace].map(str::to_owned).to_vec(),
            (None, None) => Vec::new(),
        };
        words.extend_from_slice(&self.starter);
        words.extend([program("audiovault-agent").display().to_string(), command.to_owned()]);
        let mut flag = |name: &str, value: String| words.extend([name.to_owned(), value]);
        flag("--relay", self.relay.clone().unwrap_or_else(|| relay.tunnel_url()));
        flag("--site-key-file", secret(secrets, "site.key", &site.site_key));
        flag("--token-file", secret(secrets, "search.token", &site.search_token));
        self.paths.iter().for_each(|path| flag("--path", path.clone()));
        let mut environment = self.environment.clone();
        match (&self.trust, relay.certificate()) {
            (Trust::Relay, None) => {}
            (Trust::Relay, Some(tls)) => flag("--cacert", tls.authority.display().to_string()),
            (Trust::File(file), _) => flag("--cacert", file.display().to_string()),
            (Trust::Machine(file), _) => environment.push(("SSL_CERT_FILE", file.display().to_string())),
        }
        words.extend_from_slice(&self.extra);
        CommandLine { words, environment }
    }
}

/// A program with its arguments and its environment.
#[derive(Debug)]
pub struct CommandLine {
    words: Vec<String>,
    environment: Vec<(&'static str, String)>,
}

impl CommandLine {
    /// Starts the program.
    pub fn start(&self) -> Process {
        let (program, arguments) = self.words.split_first().expect("a program");
        Process::start_program(program.as_ref(), arguments, &self.environment)
    }

    /// Runs the program with further arguments until it ends. Returns exit code, standard output and standard error.
    pub async fn run(&self, more: &[&str]) -> (i32, String, String) {
        let (program, arguments) = self.words.split_first().expect("a program");
        let more = more.iter().map(ToString::to_string);
        let arguments: Vec<String> = arguments.iter().cloned().chain(more).collect();
        run_program(program.as_ref(), &arguments, &self.environment).await
    }
}

/// Writes a secret to a file that only its owner may read. Returns the file.
pub fn secret(directory: &Path, name: &str, secret: &str) -> String {
    secrets::remember(secret);
    let path = directory.join(name);
    std::fs::write(&path, secret).expect("a file");
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("its owner");
    path.display().to_string()
}

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    /// The program.
    pub process: Process,
    _secrets: TempDir,
    _names: Option<Arc<Names>>,
}

impl Agent {
    /// Starts an agent without waiting for its tunnel.
    pub fn spawn(relay: &Relay, site: &Site, options: AgentOptions) -> Self {
        let secrets = tempfile::tempdir().expect("a temporary directory");
        let process = options.command_line("tunnel", relay, site, secrets.path()).start();
        Self { process, _secrets: secrets, _names: options.names }
    }

    /// Starts an agent and waits until it is connected.
    pub async fn start(relay: &Relay, site: &Site, options: AgentOptions) -> Self {
        let agent = Self::spawn(relay, site, options);
        agent.process.wait_for_code(CONNECTED).await;
        agent
    }
}
