//! The log on standard error.
//!
//! `error`: somebody must act. `warn`: something is wrong and may heal by itself. `info`: one line for each request
//! and each change of state. `debug` and `trace`: for whoever looks for a mistake in this program.

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::config::{
    args::{CommonArgs, LogFormat},
    error::ConfigError,
};

/// Starts the log, once for the whole process.
///
/// # Errors
/// [`ConfigError::LogLevel`] when the level is none.
pub fn start(args: &CommonArgs) -> Result<(), ConfigError> {
    let filter =
        EnvFilter::try_new(&args.log_level).map_err(|_| ConfigError::LogLevel(args.log_level.clone()))?;
    let log = tracing_subscriber::registry().with(filter);
    let colours = io::stderr().is_terminal();
    // A second start, in a program that embeds this one, leaves its log as it is.
    let _ = match args.log_format {
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
