//! `tunnel` and `serve`: run the agent until the process is asked to end. Its configuration is reloaded on SIGHUP, and
//! when one of its files has changed.

use std::{io, path::PathBuf, process::ExitCode, time::Duration};

use audiovault_common::{
    advice::{Advice, with_advice},
    file_watch::{Stamp, Watcher},
    process::termination,
    settings::{OfSetting, Settings},
    systemd,
};
use audiovault_protocol::identity::signed_link::LinkSecret;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{CommandError, CommandLine, announced, runtime};
use crate::{
    app::{Agent, AgentSettings},
    config::{args::Command, check, error::ConfigError},
    http::{
        about::ABOUT,
        listener::{self, DRAIN, ServeSettings},
    },
    tunnel::DRAIN_TIMEOUT,
};

/// How often the files of the configuration are checked. An admin who has changed one waits seconds.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Runs the agent with its tunnels.
pub(super) async fn tunnel(command: Command, line: CommandLine) -> Result<ExitCode, CommandError> {
    ABOUT.warn_of_slow_build();
    let run_secret = LinkSecret::from_bytes(rand::random());
    let reloads = Reloads::new(line, &command).map_err(runtime)?;
    let shutdown = CancellationToken::new();
    let agent =
        Agent::start(tunnel_settings(command, &run_secret)?, shutdown.clone()).map_err(ConfigError::from)?;
    systemd::ready();
    let apply = |command| -> Result<(), ConfigError> {
        Ok(agent.reconfigure(tunnel_settings(command, &run_secret)?)?)
    };
    reloads.run(apply, |problem| agent.note_problem(problem)).await.map_err(runtime)?;
    systemd::stopping(Some(DRAIN_TIMEOUT));
    shutdown.cancel();
    agent.finished().await;
    Ok(ExitCode::SUCCESS)
}

/// Runs the classic AudioVault.
pub(super) async fn serve(command: Command, line: CommandLine) -> Result<ExitCode, CommandError> {
    ABOUT.warn_of_slow_build();
    let run_secret = LinkSecret::from_bytes(rand::random());
    let reloads = Reloads::new(line, &command).map_err(runtime)?;
    let running = listener::start(serve_settings(command, &run_secret)?).await.map_err(runtime)?;
    systemd::ready();
    let apply = |command| -> Result<(), ConfigError> {
        running.renew(serve_settings(command, &run_secret)?);
        Ok(())
    };
    reloads.run(apply, |_| {}).await.map_err(runtime)?;
    systemd::stopping(Some(DRAIN));
    tracing::info!(code = "program.stopping", "shutting down; running downloads can finish");
    running.shutdown(DRAIN).await;
    Ok(ExitCode::SUCCESS)
}

/// Waits for events that require a reload of the configuration.
struct Reloads {
    line: CommandLine,
    hangup: Signal,
    files: Watcher<Vec<Stamp>>,
}

impl Reloads {
    /// Watches the files of the configuration that `command` was made from.
    ///
    /// # Errors
    /// If the signal handler cannot be installed.
    fn new(line: CommandLine, command: &Command) -> io::Result<Self> {
        Ok(Self { line, hangup: signal(SignalKind::hangup())?, files: watch(command) })
    }

    /// Applies every new configuration until the process is asked to end. `note` gets the result of every attempt. If a
    /// configuration cannot be used, the error is also logged and the previous one stays in use.
    ///
    /// # Errors
    /// If signal handlers cannot be installed.
    async fn run<E: OfSetting + Advice>(
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

    fn read_again<E: OfSetting + Advice>(
        &mut self,
        apply: impl Fn(Command) -> Result<(), E>,
    ) -> Result<(), String> {
        let Settings { cli, origins } = self.line.read().map_err(|error| with_advice(&error))?;
        self.files = watch(&cli.command);
        apply(cli.command).map_err(|error| with_advice(&origins.locate(error)))
    }
}

fn tunnel_settings(command: Command, run_secret: &LinkSecret) -> Result<AgentSettings, ConfigError> {
    let args = command.into_tunnel().ok_or(ConfigError::OtherCommand)?;
    Ok(announced(check::tunnel(args, run_secret)?))
}

fn serve_settings(command: Command, run_secret: &LinkSecret) -> Result<ServeSettings, ConfigError> {
    let args = command.into_serve().ok_or(ConfigError::OtherCommand)?;
    Ok(announced(check::serve(args, run_secret)?))
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
