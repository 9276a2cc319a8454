//! The commands, from checked configuration to exit code.

mod get;
mod search;

use std::{
    error::Error,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    time::SystemTime,
};

use clap::error::ErrorKind;
use tokio_util::sync::CancellationToken;

use crate::{
    config::{
        args::{Command, HealthArgs},
        check::{self, Checked, TunnelSettings},
        error::ConfigError,
        layers::{self, LayerError},
    },
    logging, monitor,
    serve::{self, ServeSettings},
    service::AgentService,
    state,
    tunnel::{self, TunnelConfig},
};

/// Exit code of a wrong configuration.
const MISCONFIGURED: u8 = 2;

/// Why a command ended badly.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The configuration is wrong: exit code 2.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Something happened: exit code 1.
    #[error(transparent)]
    Runtime(#[from] Box<dyn Error + Send + Sync>),
}

/// Runs the program.
pub fn run() -> ExitCode {
    let cli = match layers::read(std::env::args_os(), |name| std::env::var_os(name)) {
        Ok(cli) => cli,
        Err(LayerError::Clap(error)) => return usage(&error),
        Err(error) => return misconfigured(&error),
    };
    if let Err(error) = logging::start(cli.command.common()) {
        return misconfigured(&error);
    }
    serve::install_provider();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let code = runtime.block_on(dispatch(cli.command)).unwrap_or_else(|failure| match failure {
        Failure::Config(error) => misconfigured(&error),
        Failure::Runtime(error) => failed(error.as_ref()),
    });
    // A disk that never answers must not keep the process from ending.
    runtime.shutdown_background();
    code
}

async fn dispatch(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Tunnel(args) => tunnel(announced(check::tunnel(args)?)).await,
        Command::Serve(args) => serve(announced(check::serve(args)?)).await,
        Command::Search(args) => search::run(&args).await,
        Command::Get(args) => get::run(&args).await,
        Command::Health(args) => health(&args),
    }
}

fn announced<T>(checked: Checked<T>) -> T {
    for warning in &checked.warnings {
        tracing::warn!("{warning}");
    }
    checked.settings
}

async fn tunnel(settings: TunnelSettings) -> Result<ExitCode, Failure> {
    let service = AgentService::new(settings.service);
    let config = TunnelConfig {
        relay: settings.relay,
        site_key: settings.site_key,
        network: settings.network,
        link_key_id: service.link_key_id(),
        tenants: service.tenants(),
        status: monitor::start(service.vault().clone()),
        state_file: settings.state_file,
    };
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let signals = termination().map_err(runtime)?;
    tokio::spawn(async move {
        signals.await;
        stop.cancel();
    });
    // What the tunnel refuses before it dials is a mistake in its configuration.
    match tunnel::run(config, service.router(), shutdown).await {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => Ok(misconfigured(&error)),
    }
}

async fn serve(settings: ServeSettings) -> Result<ExitCode, Failure> {
    let signals = termination().map_err(runtime)?;
    let running = serve::start(settings).await.map_err(runtime)?;
    signals.await;
    tracing::info!("shutting down; running downloads may finish");
    running.shutdown(serve::DRAIN).await;
    Ok(ExitCode::SUCCESS)
}

fn health(args: &HealthArgs) -> Result<ExitCode, Failure> {
    let path: &PathBuf = args.state_file.as_ref().ok_or(ConfigError::Missing("--state-file"))?;
    match state::check(path, SystemTime::now()) {
        Ok(()) => {
            writeln!(io::stdout(), "connected").map_err(runtime)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => Ok(failed(&error)),
    }
}

/// Completes when the process is asked to end.
fn termination() -> io::Result<impl Future<Output = ()> + Send> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Wraps what happened while running.
pub(crate) fn runtime(error: impl Error + Send + Sync + 'static) -> Failure {
    Failure::Runtime(Box::new(error))
}

/// Help and version as clap prints them; mistakes in one line.
fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // Nobody reads on when standard output is closed.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        say("name a command: tunnel, serve, search, get or health; --help explains them");
        return ExitCode::from(MISCONFIGURED);
    }
    let text = error.to_string();
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let said: Vec<&str> = lines.filter(|line| !line.is_empty() && !line.starts_with("For more")).collect();
    say(said.join(" ").trim_start_matches("error: "));
    ExitCode::from(MISCONFIGURED)
}

fn misconfigured(error: &dyn Error) -> ExitCode {
    say(&in_one_line(error));
    ExitCode::from(MISCONFIGURED)
}

fn failed(error: &dyn Error) -> ExitCode {
    say(&in_one_line(error));
    ExitCode::FAILURE
}

/// An error and its causes.
fn in_one_line(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line = format!("{line}: {error}");
        cause = error.source();
    }
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn say(line: &str) {
    // Standard error may be closed; there is nobody left to tell.
    let _ = writeln!(io::stderr(), "audiovault-agent: {line}");
}
