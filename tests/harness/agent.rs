//! An agent as a process beside a directory of recordings.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tempfile::TempDir;

use crate::{
    names::Names,
    process::{Process, program},
    relay::{Relay, Site},
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

    /// Further arguments.
    #[must_use]
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.extra.extend(arguments.iter().map(ToString::to_string));
        self
    }
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
        let file = |name: &str, secret: &str| -> PathBuf {
            let path = secrets.path().join(name);
            std::fs::write(&path, secret).expect("a file");
            path
        };
        let mut arguments = vec![
            "tunnel".to_owned(),
            "--relay".to_owned(),
            options.relay.unwrap_or_else(|| relay.tunnel_url()),
        ];
        let mut flag = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        flag("--site-key-file", file("site.key", &site.site_key).display().to_string());
        flag("--token-file", file("search.token", &site.search_token).display().to_string());
        for path in options.paths {
            flag("--path", path);
        }
        if let Some(tls) = relay.certificate() {
            flag("--cacert", tls.certificate.display().to_string());
        }
        arguments.extend(options.extra);
        let program = program("audiovault-agent");
        let process = match (&options.names, &options.namespace) {
            (None, Some(namespace)) => {
                let enter = ["netns", "exec", namespace].map(str::to_owned);
                let program = program.display().to_string();
                let all: Vec<_> = enter.into_iter().chain([program]).chain(arguments).collect();
                Process::start_program("ip".as_ref(), &all, &options.environment)
            }
            (None, None) => Process::start_program(&program, &arguments, &options.environment),
            (Some(names), _) => names.start(&program, &arguments, &options.environment),
        };
        Self { process, _secrets: secrets, _names: options.names }
    }

    /// Starts an agent and waits until it is connected.
    pub async fn start(relay: &Relay, site: &Site, options: AgentOptions) -> Self {
        let agent = Self::spawn(relay, site, options);
        agent.process.wait_for(CONNECTED).await;
        agent
    }
}
