//! Reading the configuration of a running agent again: on SIGHUP, and when a file of it has changed.

use std::{
    error::Error,
    ffi::{OsStr, OsString},
    io,
    path::PathBuf,
};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{check::Asked, in_one_line, termination};
use crate::{
    config::{
        args::{Cli, Command},
        layers::{self, LayerError, Typed},
    },
    install::Layout,
    preflight::Extent,
    stamp::Watcher,
    systemd,
};

/// The command line as it was given. Environment and files are read anew each time.
#[derive(Debug, Clone)]
pub(super) struct CommandLine(Vec<OsString>);

impl CommandLine {
    pub(super) fn of_this_process() -> Self {
        Self(std::env::args_os().collect())
    }

    /// Whether this is a check, and if so, which.
    pub(super) fn is_check(&self) -> Option<Asked> {
        let words: Vec<&OsStr> = self.0.iter().skip(1).map(OsString::as_os_str).collect();
        let extent = if words.starts_with(&["check".as_ref()]) {
            Extent::Everything
        } else if words.starts_with(&["config".as_ref(), "check".as_ref()]) {
            Extent::Configuration
        } else {
            return None;
        };
        Some(Asked { extent, json: words.contains(&OsStr::new("--json")) })
    }

    /// The flags that were typed.
    pub(super) fn typed(&self) -> Result<Vec<Typed>, LayerError> {
        layers::typed(self.0.iter().cloned())
    }

    /// Reads all layers.
    pub(super) fn read(&self) -> Result<Cli, LayerError> {
        layers::read(self.0.iter().cloned(), |name| std::env::var_os(name), &Layout::config())
    }
}

/// Waits for reasons to read the configuration again.
pub(super) struct Reloads {
    line: CommandLine,
    hangup: Signal,
    files: Watcher,
}

impl Reloads {
    /// For the configuration that `command` was made of.
    ///
    /// # Errors
    /// When the signal cannot be listened for.
    pub(super) fn new(line: CommandLine, command: &Command) -> io::Result<Self> {
        Ok(Self { line, hangup: signal(SignalKind::hangup())?, files: Watcher::new(files(command)) })
    }

    /// Has every new configuration applied until the process is asked to end. What cannot be used is said in the log,
    /// and to `note`, which is told of every attempt; then the configuration before stays in use.
    ///
    /// # Errors
    /// When signals cannot be listened for.
    pub(super) async fn run<E: Error>(
        mut self,
        apply: impl Fn(Command) -> Result<(), E>,
        note: impl Fn(Option<String>),
    ) -> io::Result<()> {
        let mut stop = Box::pin(termination()?);
        loop {
            let reason = tokio::select! {
                () = &mut stop => return Ok(()),
                Some(()) = self.hangup.recv() => "SIGHUP",
                () = self.files.changed() => "a file has changed",
            };
            systemd::reloading();
            let problem = self.read_again(&apply).err();
            match &problem {
                None => tracing::info!(reason, "the configuration was read again and is in use"),
                Some(problem) => tracing::error!(
                    reason,
                    "the new configuration cannot be used; the one before stays in use: {problem}"
                ),
            }
            note(problem.map(|problem| format!("the new configuration cannot be used: {problem}")));
            systemd::ready();
        }
    }

    fn read_again<E: Error>(&mut self, apply: impl Fn(Command) -> Result<(), E>) -> Result<(), String> {
        let command = self.line.read().map_err(|error| in_one_line(&error))?.command;
        self.files = Watcher::new(files(&command));
        apply(command).map_err(|error| in_one_line(&error))
    }
}

/// The files that a configuration consists of.
fn files(command: &Command) -> Vec<PathBuf> {
    let (access, dialect, dialling) = match command {
        Command::Tunnel(args) => (
            &args.access,
            &args.dialect.dialect,
            vec![&args.site_key_file, &args.network.cacert, &args.network.proxy_credentials_file],
        ),
        Command::Serve(args) => (&args.access, &args.dialect.dialect, vec![]),
        Command::Search(_)
        | Command::Get(_)
        | Command::Coverage(_)
        | Command::Health(_)
        | Command::Check(_)
        | Command::Status(_)
        | Command::Audit(_)
        | Command::Config(_)
        | Command::Install(_)
        | Command::Uninstall(_) => return Vec::new(),
    };
    let config = command.common().map(|common| &common.config);
    let access = [&access.token_file, &access.tenants, &access.link_secret_file];
    config.into_iter().chain(access).chain([dialect]).chain(dialling).flatten().cloned().collect()
}
