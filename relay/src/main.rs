//! `audiovault-relay`: parses the command line, loads the configuration, starts the log, runs, and sets the exit code.
//!
//! The exit code is 0 for success, 1 for a failure, 2 for a mistake in the command line or the configuration.

use std::{
    env,
    error::Error,
    io::{self, Write},
    num::NonZero,
    process::ExitCode,
    thread::available_parallelism,
};

use audiovault_common::{
    error_chain::in_one_line,
    logging::Log,
    process::{Exit, keep_memory_private, termination},
    settings::{Origins, Settings},
};
use audiovault_relay::{
    app::{
        self,
        config::{
            ServeConfig,
            settings::{self, ServeArgs},
        },
    },
    cli::{Cli, Command, ConfigCommand, account, data, health, site},
    model::ABOUT,
};
use rustls::crypto::aws_lc_rs;
use tikv_jemallocator::Jemalloc;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

/// Takes less processor time than the allocator of the system ([decision 0012](../../docs/decisions/0012-threads-and-blocking-files.md)).
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    // Before the process has any secret.
    keep_memory_private();
    // It outlives the runtime, whose tasks may log as long as they live.
    let mut log = Log::default();
    match runtime() {
        Ok(runtime) => runtime.block_on(run(&mut log)),
        Err(error) => fail(&mut log, &error, Exit::Failed),
    }
}

/// The runtime, with threads for half of the cores unless `TOKIO_WORKER_THREADS` says otherwise. A request takes a few
/// dozen microseconds here. With more threads, waking one after the other would take several times that. The other
/// cores are for the database's threads and the kernel's network code.
fn runtime() -> io::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    if env::var_os("TOKIO_WORKER_THREADS").is_none() {
        let cores = available_parallelism().map_or(1, NonZero::get);
        builder.worker_threads(cores.div_ceil(2));
    }
    builder.enable_all().build()
}

async fn run(log: &mut Log) -> ExitCode {
    // An error means that a provider is already installed, which works as well.
    let _ = aws_lc_rs::default_provider().install_default();
    let Settings { cli, origins } = match Cli::from_process() {
        Ok(settings) => settings,
        Err(code) => return ExitCode::from(code),
    };
    let out = &mut io::stdout();
    let err = &mut io::stderr();
    match cli.command {
        Command::Serve(args) => serve(*args, &origins, log).await,
        Command::Site(args) => ended(log, site::run(args, out, err).await, |error| error.exit()),
        Command::User(args) => ended(log, account::user(args, out).await, |error| error.exit()),
        Command::Token(args) => ended(log, account::token(args, out).await, |error| error.exit()),
        Command::Audit(args) => ended(log, data::audit(args, out).await, |error| error.exit()),
        Command::Import(args) => ended(log, data::import(args, out).await, |error| error.exit()),
        Command::Backup(args) => ended(log, data::backup(args, out).await, |error| error.exit()),
        Command::Health(args) => ended(log, health::check(&args.url).await, |_| Exit::Failed),
        Command::Config(args) => config(args.command, &origins, out, log),
    }
}

/// The exit code of a command. Prints the error if there is one.
fn ended<E: Error>(log: &mut Log, result: Result<(), E>, exit: impl FnOnce(&E) -> Exit) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(log, &error, exit(&error)),
    }
}

fn config(command: ConfigCommand, origins: &Origins, out: &mut impl Write, log: &mut Log) -> ExitCode {
    let text = match command {
        ConfigCommand::Check(args) => match ServeConfig::load(*args) {
            Ok(_) => "The configuration can be used.\n".to_owned(),
            Err(error) => return fail(log, &origins.locate(error), Exit::Misconfigured),
        },
        ConfigCommand::Example => settings::example::<Cli>(),
        ConfigCommand::Reference => settings::reference::<Cli>(),
    };
    ended(log, out.write_all(text.as_bytes()), |_| Exit::Failed)
}

async fn serve(args: ServeArgs, origins: &Origins, log: &mut Log) -> ExitCode {
    let config = match ServeConfig::load(args) {
        Ok(config) => config,
        Err(error) => return fail(log, &origins.locate(error), Exit::Misconfigured),
    };
    match config.log.start_in_background() {
        Ok(started) => *log = started,
        Err(error) => return fail(log, &error, Exit::Failed),
    }
    ABOUT.warn_of_slow_build();
    let shutdown = CancellationToken::new();
    match termination() {
        Ok(asked_to_end) => tokio::spawn(cancel_after(asked_to_end, shutdown.clone())),
        Err(error) => return fail(log, &error, Exit::Failed),
    };
    ended(log, app::run(config, shutdown).await, |_| Exit::Failed)
}

/// Makes the relay drain once the process is asked to end.
async fn cancel_after(asked_to_end: impl Future<Output = ()>, shutdown: CancellationToken) {
    asked_to_end.await;
    shutdown.cancel();
}

/// Prints an error and its causes in one line.
fn fail(log: &mut Log, error: &dyn Error, exit: Exit) -> ExitCode {
    // If standard error is closed, there is no other place to report the error.
    let _ = log.write_all(format!("error: {}\n", in_one_line(error)).as_bytes());
    exit.into()
}
