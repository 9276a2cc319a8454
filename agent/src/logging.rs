//! The log on standard error.
//!
//! `error`: somebody must act. `warn`: something is wrong and may recover by itself. `info`: one line for each request
//! and each change of state. `debug` and `trace`: for finding a mistake in this program.

use std::{
    io::{self, IsTerminal},
    sync::LazyLock,
};

use audiovault_protocol::call::log_name;
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

/// What stands for a call in the log: the same in all lines of a run. An id would outlive what is erased of the call from the audit log, since
/// the log is kept by others; to look for a request, use its id, which is in both.
pub(crate) fn call_in_log(call_id: &str) -> String {
    static KEY: LazyLock<[u8; 32]> = LazyLock::new(rand::random);
    log_name(&*KEY, call_id)
}
