//! The commands, from checked configuration to exit code.

mod audit;
mod check;
mod config;
mod coverage;
mod get;
mod install;
mod reload;
mod search;
mod serve;
mod status;
mod tunnel;

use std::{
    error::Error,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    time::SystemTime,
};

use self::reload::CommandLine;
use crate::{
    check::Extent,
    config::{
        args::{Command, CommonArgs, DEFAULT_LOG_LEVEL},
        ask_args::HealthArgs,
        check::Checked,
        error::ConfigError,
    },
    http::listener as classic,
    limits::process::{be_nice, keep_memory_private, make_room},
    status::state,
};
use audiovault_common::{
    error_chain::in_one_line,
    logging::LogConfig,
    settings::{Settings, SettingsError, one_line},
};
use clap::error::ErrorKind;

/// Most threads that wait for disks. Each storage root has about eighty at most, for requests of all kinds, so that
/// fifty roots on servers that never respond leave threads for the rest. A thread is created only when it is needed.
const MAX_WAITING_THREADS: usize = 4096;
/// Exit code of a wrong configuration.
const MISCONFIGURED: u8 = 2;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// The configuration is wrong: exit code 2.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An error while running: exit code 1.
    #[error(transparent)]
    Runtime(#[from] Box<dyn Error + Send + Sync>),
}

/// Runs the program.
pub fn run() -> ExitCode {
    // Before any secret is in memory.
    keep_memory_private();
    let line = CommandLine::of_this_process();
    let Settings { cli, origins } = match line.read() {
        Ok(settings) => settings,
        Err(SettingsError::Typed(error)) => return usage(&error),
        Err(error) => {
            return match line.is_check() {
                Some(asked) => check::unreadable(&error, asked),
                None => misconfigured(&error),
            };
        }
    };
    // The table says everything; with an explicit log level the log is shown too.
    let tells_by_itself = matches!(cli.command, Command::Check(_) | Command::Config(_));
    let logs = |common: &&CommonArgs| !tells_by_itself || common.log_level != DEFAULT_LOG_LEVEL;
    if let Some(common) = cli.command.common().filter(logs)
        && let Err(error) = start_log(common)
    {
        return misconfigured(&origins.locate(error));
    }
    classic::install_provider();
    if let Some(limits) = cli.command.limits() {
        // Before other threads start, so that all of them have the same niceness.
        be_nice(limits.nice);
        make_room(limits.max_streams, cli.command.max_connections());
    }
    // One thread for everything but the disks: a request is so little work that waking another thread would cost more
    // than the work, and the machine belongs to the PBX.
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(MAX_WAITING_THREADS)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let code = runtime.block_on(dispatch(cli.command, line)).unwrap_or_else(|failure| match failure {
        CommandError::Config(error) => misconfigured(&origins.locate(error)),
        CommandError::Runtime(error) => failed(error.as_ref()),
    });
    // A disk that never responds must not keep the process from ending.
    runtime.shutdown_background();
    code
}

/// Starts the log that the flags describe.
fn start_log(common: &CommonArgs) -> Result<(), ConfigError> {
    let log = LogConfig::new(common.log_format, &common.log_level)
        .map_err(|_| ConfigError::LogLevel(common.log_level.clone()))?;
    // A second start, in a program that embeds this one, leaves its log as it is.
    let _ = log.without_modules().init();
    Ok(())
}

async fn dispatch(command: Command, line: CommandLine) -> Result<ExitCode, CommandError> {
    match command {
        Command::Tunnel(_) => tunnel::run(command, line).await,
        Command::Serve(_) => serve::run(command, line).await,
        Command::Search(args) => search::run(&args).await,
        Command::Get(args) => get::run(&args).await,
        Command::Coverage(args) => coverage::run(*args).await,
        Command::Health(args) => health(&args),
        Command::Status(args) => status::run(&args),
        Command::Audit(args) => audit::run(args.command).await,
        Command::Check(args) => check::run(args, Extent::Everything).await,
        Command::Config(args) => config::run(args.command).await,
        Command::Install(args) => install::run(args, &line).await,
        Command::Uninstall(args) => install::remove(&args).await,
    }
}

fn announced<T>(checked: Checked<T>) -> T {
    for warning in &checked.warnings {
        tracing::warn!(code = "config.warning", "{warning}");
    }
    checked.settings
}

fn health(args: &HealthArgs) -> Result<ExitCode, CommandError> {
    match state::check(state_file(args.state_file.as_ref())?, SystemTime::now()) {
        Ok(()) => {
            writeln!(io::stdout(), "connected").map_err(runtime)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => Ok(failed(&error)),
    }
}

fn state_file(named: Option<&PathBuf>) -> Result<&PathBuf, ConfigError> {
    named.ok_or(ConfigError::Missing("--state-file (the file that the agent writes)"))
}

/// Completes when SIGTERM or SIGINT asks the process to end.
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

/// Wraps an error that happened while running.
pub(crate) fn runtime(error: impl Error + Send + Sync + 'static) -> CommandError {
    CommandError::Runtime(Box::new(error))
}

/// Prints help and version as clap does, and mistakes in one line.
fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // Standard output may be closed; that is no failure.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        say("give a command, such as install, check, tunnel, serve, search or get; --help explains them");
        return ExitCode::from(MISCONFIGURED);
    }
    say(&one_line(error));
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

fn say(line: &str) {
    // Standard error may be closed; then there is no other place for the message.
    let _ = writeln!(io::stderr(), "audiovault-agent: {line}");
}
