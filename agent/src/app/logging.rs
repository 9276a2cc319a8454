//! The log on standard error.
//!
//! `error`: somebody must act. `warn`: something is wrong and may recover by itself. `info`: one line for each request
//! and each change of state. `debug` and `trace`: for finding a mistake in this program.

use std::io::{self, IsTerminal};

use clap::ValueEnum;
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// Format of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object per line
    Json,
}

/// The level of the log is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "--log-level {0:?} is invalid; use error, warn, info, debug or trace, or a list such as \
     info,audiovault_agent=debug"
)]
pub struct UnknownLogLevel(String);

/// Starts the log, once for the whole process.
///
/// # Errors
/// [`UnknownLogLevel`].
pub fn start(format: LogFormat, level: &str) -> Result<(), UnknownLogLevel> {
    let filter = EnvFilter::try_new(level).map_err(|_| UnknownLogLevel(level.to_owned()))?;
    let log = tracing_subscriber::registry().with(filter);
    let colours = io::stderr().is_terminal();
    // A second start, in a program that embeds this one, leaves its log as it is.
    let _ = match format {
        LogFormat::Text => {
            let lines = fmt::layer().with_writer(io::stderr).with_target(false).with_ansi(colours);
            log.with(lines).try_init()
        }
        LogFormat::Json => {
            log.with(fmt::layer().json().flatten_event(true).with_writer(io::stderr)).try_init()
        }
    };
    Ok(())
}
