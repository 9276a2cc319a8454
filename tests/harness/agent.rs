//! An agent as a process beside a directory of recordings.

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
pub const CONNECTED: &str = " connected session=";

/// What an agent is started with.
#[derive(Debug)]
pub struct AgentOptions {
    /// The storage roots, as `--path` takes them.
    pub paths: Vec<String>,
    /// Further arguments.
    pub extra: Vec<String>,
    /// What to dial instead of the relay itself.
    pub relay: Option<String>,
    /// Variables of its environment.
    pub environment: Vec<(&'static str, String)>,
    /// What it believes about host names, unless what the machine does.
    pub names: Option<Arc<Names>>,
    /// The network namespace that it lives in, unless that of the story.
    pub namespace: Option<String>,
    /// The certificate authorities that it trusts.
    pub trust: Trust,
    /// A program with arguments that starts it in turn.
    pub starter: Vec<String>,
}

/// Whose certificates an agent trusts.
#[derive(Debug, Clone)]
pub enum Trust {
    /// The relay's.
    Relay,
    /// Those of this file, by `--cacert`.
    File(PathBuf),
    /// Those that this file says the machine trusts.
    Machine(PathBuf),
}

impl AgentOptions {
    /// One root and nothing special.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self {
            paths: vec![format!("file:{}", path.as_ref().display())],
            extra: Vec::new(),
            relay: None,
            // The zone of the machine must not decide what a story finds.
            environment: vec![("TZ", "UTC".to_owned())],
            names: None,
            namespace: None,
            trust: Trust::Relay,
            starter: Vec::new(),
        }
    }

    /// Another root, searched after those before.
    #[must_use]
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.paths.push(path.into());
        self
    }

    /// Dials the relay by way of something else.
    #[must_use]
    pub fn through(mut self, relay: String) -> Self {
        self.relay = Some(relay);
        self
    }

    /// A variable of its environment.
    #[must_use]
    pub fn variable(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    /// Goes by a clock of the story's.
    #[must_use]
    pub fn by(mut self, clock: &Clock) -> Self {
        self.environment.extend(clock.variables());
        self
    }

    /// Host names of its own.
    #[must_use]
    pub fn believing(mut self, names: &Arc<Names>) -> Self {
        self.names = Some(Arc::clone(names));
        self
    }

    /// Lives in a network namespace.
    #[must_use]
    pub fn inside(mut self, namespace: String) -> Self {
        self.namespace = Some(namespace);
        self
    }

    /// Trusts somebody else.
    #[must_use]
    pub fn trusting(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }

    /// Is started by another program.
    #[must_use]
    pub fn started_by(mut self, starter: &[&str]) -> Self {
        self.starter = starter.iter().map(ToString::to_string).collect();
        self
    }

    /// Further arguments.
    #[must_use]
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.extra.extend(arguments.iter().map(ToString::to_string));
        self
    }

    /// The whole command line of one of the agent's commands. Secrets are put into a directory.
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

/// A program with its arguments, and its environment.
#[derive(Debug)]
pub struct CommandLine {
    words: Vec<String>,
    environment: Vec<(&'static str, String)>,
}

impl CommandLine {
    /// Starts it.
    pub fn start(&self) -> Process {
        let (program, arguments) = self.words.split_first().expect("a program");
        Process::start_program(program.as_ref(), arguments, &self.environment)
    }

    /// Runs it to its end, with further arguments: exit code, standard output, standard error.
    pub async fn run(&self, more: &[&str]) -> (i32, String, String) {
        let (program, arguments) = self.words.split_first().expect("a program");
        let more = more.iter().map(ToString::to_string);
        let arguments: Vec<String> = arguments.iter().cloned().chain(more).collect();
        run_program(program.as_ref(), &arguments, &self.environment).await
    }
}

/// Puts a secret into a file that only its owner may read; the file.
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
        agent.process.wait_for(CONNECTED).await;
        agent
    }
}
