//! Reloads the configuration of a running agent: on SIGHUP, and when one of its files has changed.

use std::{
    ffi::{OsStr, OsString},
    io,
    path::PathBuf,
    time::Duration,
};

use audiovault_common::{
    error_chain::in_one_line,
    file_watch::{Stamp, Watcher},
    settings::{OfSetting, Settings, SettingsError, Typed},
    systemd,
};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{check::CheckOptions, termination};
use crate::{
    check::Extent,
    config::{
        args::{Cli, Command},
        settings::{self, LAYERS},
    },
    install::Layout,
};

/// How often the files of the configuration are checked. An operator who has changed one waits seconds.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The command line as it was typed. Environment and files are read again each time.
#[derive(Debug, Clone)]
pub(super) struct CommandLine(Vec<OsString>);

impl CommandLine {
    pub(super) fn of_this_process() -> Self {
        Self(std::env::args_os().collect())
    }

    /// The check that this command line runs, if it is a check.
    pub(super) fn is_check(&self) -> Option<CheckOptions> {
        let words: Vec<&OsStr> = self.0.iter().skip(1).map(OsString::as_os_str).collect();
        let extent = if words.starts_with(&["check".as_ref()]) {
            Extent::Everything
        } else if words.starts_with(&["config".as_ref(), "check".as_ref()]) {
            Extent::Configuration
        } else {
            return None;
        };
        Some(CheckOptions { extent, json: words.contains(&OsStr::new("--json")) })
    }

    /// The flags that were typed.
    pub(super) fn typed(&self) -> Result<Vec<Typed>, SettingsError> {
        LAYERS.typed::<Cli>(self.0.iter().cloned())
    }

    /// Reads the command line, the environment and the file.
    pub(super) fn read(&self) -> Result<Settings<Cli>, SettingsError> {
        settings::read(self.0.iter().cloned(), |name| std::env::var_os(name), &Layout::config())
    }
}

/// Waits for events that require a reload of the configuration.
pub(super) struct Reloads {
    line: CommandLine,
    hangup: Signal,
    files: Watcher<Vec<Stamp>>,
}

impl Reloads {
    /// Watches the files of the configuration that `command` was made from.
    ///
    /// # Errors
    /// If the signal handler cannot be installed.
    pub(super) fn new(line: CommandLine, command: &Command) -> io::Result<Self> {
        Ok(Self { line, hangup: signal(SignalKind::hangup())?, files: watch(command) })
    }

    /// Applies every new configuration until the process is asked to end. `note` gets the result of every attempt. If a
    /// configuration cannot be used, the error is also logged and the previous one stays in use.
    ///
    /// # Errors
    /// If signal handlers cannot be installed.
    pub(super) async fn run<E: OfSetting>(
        mut self,
        apply: impl Fn(Command) -> Result<(), E>,
        note: impl Fn(Option<String>),
    ) -> io::Result<()> {
        let mut stop = Box::pin(termination()?);
        loop {
            let reason = tokio::select! {
                () = &mut stop => return Ok(()),
                Some(()) = self.hangup.recv() => "SIGHUP",
                _ = self.files.settled() => "a file has changed",
            };
            systemd::reloading();
            let problem = self.read_again(&apply).err();
            match &problem {
                None => tracing::info!(
                    reason,
                    code = "config.reloaded",
                    "the configuration was read again and is in use"
                ),
                Some(problem) => tracing::error!(
                    reason,
                    code = "config.reload_failed",
                    "the new configuration cannot be used; the old one stays in use: {problem}"
                ),
            }
            note(problem.map(|problem| format!("the new configuration cannot be used: {problem}")));
            systemd::ready();
        }
    }

    fn read_again<E: OfSetting>(&mut self, apply: impl Fn(Command) -> Result<(), E>) -> Result<(), String> {
        let Settings { cli, origins } = self.line.read().map_err(|error| in_one_line(&error))?;
        self.files = watch(&cli.command);
        apply(cli.command).map_err(|error| in_one_line(&origins.locate(error)))
    }
}

fn watch(command: &Command) -> Watcher<Vec<Stamp>> {
    Watcher::of_files(files(command), POLL_INTERVAL)
}

/// The files of a configuration.
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
