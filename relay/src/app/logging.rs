//! The log: to standard error, as text for people or as one JSON object a line for machines.
//!
//! Levels mean: *error*, somebody has to act; *warn*, somebody should know; *info*, the life of listeners, tunnels
//! and sites, and a line for each request; *debug*, what helps to find a fault; *trace*, frames.

use std::io::{self, IsTerminal};

use tracing_subscriber::{
    EnvFilter,
    filter::ParseError,
    util::{SubscriberInitExt, TryInitError},
};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people; in colour on a terminal.
    Text,
    /// One JSON object a line.
    Json,
}

/// How the log is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    format: LogFormat,
    level: String,
}

impl LogConfig {
    /// A log of this format, with a level such as `info` or directives such as `info,audiovault_relay=debug`.
    ///
    /// # Errors
    /// [`ParseError`] when the level cannot be understood.
    pub fn new(format: LogFormat, level: &str) -> Result<Self, ParseError> {
        EnvFilter::try_new(level)?;
        Ok(Self { format, level: level.to_owned() })
    }

    /// Begins to log, for the whole process.
    ///
    /// # Errors
    /// [`TryInitError`] when something else in this process logs already.
    pub fn init(&self) -> Result<(), TryInitError> {
        // The level was parsed by `new`; the lossy constructor would at worst drop a directive.
        let builder =
            tracing_subscriber::fmt().with_env_filter(EnvFilter::new(&self.level)).with_writer(io::stderr);
        match self.format {
            LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).finish().try_init(),
            LogFormat::Json => builder.json().flatten_event(true).with_current_span(true).finish().try_init(),
        }
    }
}
