//! The log, on standard error: text for people, or one JSON object per line for programs.
//!
//! Levels: *error*, an operator has to act; *warn*, an operator should know; *info*, start and end of listeners,
//! tunnels and sites, and one line for each request; *debug*, details that help to find a fault; *trace*, frames.

use std::io::{self, IsTerminal};

use tracing_subscriber::{
    EnvFilter,
    filter::ParseError,
    util::{SubscriberInitExt, TryInitError},
};

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for people, coloured on a terminal.
    Text,
    /// One JSON object per line.
    Json,
}

/// The format and the level of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    format: LogFormat,
    level: String,
}

impl LogConfig {
    /// A log with this format and a level such as `info`, or directives such as `info,audiovault_relay=debug`.
    ///
    /// # Errors
    /// [`ParseError`] if the level cannot be parsed.
    pub fn new(format: LogFormat, level: &str) -> Result<Self, ParseError> {
        EnvFilter::try_new(level)?;
        Ok(Self { format, level: level.to_owned() })
    }

    /// Starts logging for the whole process.
    ///
    /// # Errors
    /// [`TryInitError`] if the process already has a logger.
    pub fn init(&self) -> Result<(), TryInitError> {
        // `new` has already parsed the level. At worst, this constructor would skip a directive that it cannot parse.
        let builder =
            tracing_subscriber::fmt().with_env_filter(EnvFilter::new(&self.level)).with_writer(io::stderr);
        match self.format {
            LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).finish().try_init(),
            LogFormat::Json => builder.json().flatten_event(true).with_current_span(true).finish().try_init(),
        }
    }
}
