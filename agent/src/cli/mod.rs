//! The commands, from checked configuration to exit code.

mod audit;
mod check;
mod coverage;
mod get;
mod install;
mod search;
mod service;
mod status;

use std::{
    ffi::{OsStr, OsString},
    io::{self, Write},
    process::ExitCode,
};

use self::check::CheckOptions;
use crate::{
    check::Extent,
    config::{
        args::{Cli, Command, CommonArgs, DEFAULT_LOG_LEVEL},
        check::Checked,
        error::ConfigError,
        settings::{self, LAYERS},
    },
    http::listener as classic,
    install::Layout,
    limits::{be_nice, make_room},
};
use audiovault_common::{
    advice::{Advice, with_advice},
    logging::{Log, LogConfig, LogError},
    process::{Exit, keep_memory_private},
    settings::{Origins, Settings, SettingsError, Typed, one_line},
};
use clap::error::ErrorKind;

/// Most threads that wait for disks. Each storage root has about eighty at most, for requests of all kinds, so that
/// fifty roots on servers that never respond leave threads for the rest. A thread is created only when it is needed.
const MAX_WAITING_THREADS: usize = 4096;

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum CommandError {
    /// The configuration is wrong: exit code 2.
    Config(ConfigError),
    /// An error while running: exit code 1.
    Runtime(Box<dyn Advice + Send + Sync>),
}

impl From<ConfigError> for CommandError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

/// Runs the program.
pub fn run() -> ExitCode {
    // Before any secret is in memory.
    keep_memory_private();
    // It outlives the runtime, whose tasks may log as long as they live.
    let mut log = Log::default();
    let line = CommandLine::of_this_process();
    let Settings { cli, origins } = match line.read() {
        Ok(settings) => settings,
        Err(SettingsError::Typed(error)) => return usage(&error),
        Err(error) => {
            return match line.is_check() {
                Some(asked) => check::unreadable(&error, asked),
                None => misconfigured(&mut log, &error),
            };
        }
    };
    if let Some(limits) = cli.command.limits() {
        // Before other threads start, so that all of them have the same niceness.
        be_nice(limits.nice);
        make_room(limits.max_streams, cli.command.max_connections());
    }
    // The table says everything; with an explicit log level the log is shown too.
    let tells_by_itself = matches!(cli.command, Command::Check(_) | Command::Config(_));
    let logs = |common: &&CommonArgs| !tells_by_itself || common.log_level != DEFAULT_LOG_LEVEL;
    if let Some(common) = cli.command.common().filter(logs) {
        let config = match log_config(common) {
            Ok(config) => config,
            Err(error) => return misconfigured(&mut log, &origins.locate(error)),
        };
        let is_service = matches!(cli.command, Command::Tunnel(_) | Command::Serve(_));
        match if is_service { config.start_in_background() } else { config.start() } {
            Ok(started) => log = started,
            // A second start, in a program that embeds this one, leaves its log as it is.
            Err(LogError::Taken(_)) => {}
            Err(error) => return failed(&mut log, &error),
        }
    }
    classic::install_provider();
    // One thread for everything but the disks: a request is so little work that waking another thread would cost more
    // than the work, and the machine belongs to the PBX.
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(MAX_WAITING_THREADS)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return failed(&mut log, &error),
    };
    let code =
        runtime.block_on(dispatch(cli.command, line, &origins)).unwrap_or_else(|failure| match failure {
            CommandError::Config(error) => misconfigured(&mut log, &origins.locate(error)),
            CommandError::Runtime(error) => failed(&mut log, error.as_ref()),
        });
    // A disk that never responds must not keep the process from ending.
    runtime.shutdown_background();
    code
}

/// The command line as it was typed. Environment and files are read again each time.
#[derive(Debug, Clone)]
struct CommandLine(Vec<OsString>);

impl CommandLine {
    fn of_this_process() -> Self {
        Self(std::env::args_os().collect())
    }

    /// The check that this command line runs, if it is a check.
    fn is_check(&self) -> Option<CheckOptions> {
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
    fn typed(&self) -> Result<Vec<Typed>, SettingsError> {
        LAYERS.typed::<Cli>(self.0.iter().cloned())
    }

    /// Reads the command line, the environment and the file.
    fn read(&self) -> Result<Settings<Cli>, SettingsError> {
        settings::read(self.0.iter().cloned(), |name| std::env::var_os(name), &Layout::config())
    }
}

/// The log that the flags describe.
fn log_config(common: &CommonArgs) -> Result<LogConfig, ConfigError> {
    let log = LogConfig::new(common.log_format, &common.log_level)
        .map_err(|_| ConfigError::LogLevel(common.log_level.clone()))?;
    Ok(log.without_modules())
}

async fn dispatch(command: Command, line: CommandLine, origins: &Origins) -> Result<ExitCode, CommandError> {
    match command {
        Command::Tunnel(_) => service::tunnel(command, line).await,
        Command::Serve(_) => service::serve(command, line).await,
        Command::Search(args) => search::run(&args).await,
        Command::Get(args) => get::run(&args).await,
        Command::Coverage(args) => coverage::run(*args).await,
        Command::Health(args) => status::health(&args),
        Command::Status(args) => status::run(&args),
        Command::Audit(args) => audit::run(args.command).await,
        Command::Check(args) => check::run(args, origins, Extent::Everything).await,
        Command::Config(args) => check::config(args.command, origins).await,
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

/// Wraps an error that happened while running.
pub(crate) fn runtime(error: impl Advice + Send + Sync + 'static) -> CommandError {
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
        say(
            &mut io::stderr(),
            "give a command, such as install, check, tunnel, serve, search or get; --help explains them",
        );
        return Exit::Misconfigured.into();
    }
    say(&mut io::stderr(), &one_line(error));
    Exit::Misconfigured.into()
}

fn misconfigured(log: &mut Log, error: &dyn Advice) -> ExitCode {
    say(log, &with_advice(error));
    Exit::Misconfigured.into()
}

fn failed(log: &mut Log, error: &dyn Advice) -> ExitCode {
    say(log, &with_advice(error));
    Exit::Failed.into()
}

fn say(err: &mut impl Write, line: &str) {
    // Standard error may be closed; then there is no other place for the message.
    let _ = err.write_all(format!("audiovault-agent: {line}\n").as_bytes());
}
