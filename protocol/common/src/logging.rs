//! The log on standard error.
//!
//! Levels: *error*, an operator has to act; *warn*, something is wrong and may recover by itself; *info*, one line for
//! each request and each change of state, such as start and end of listeners, tunnels and sites; *debug* and *trace*,
//! details that help to find a fault.

use std::io::{self, IsTerminal};

use clap::ValueEnum;
use tracing_subscriber::{
    EnvFilter,
    filter::ParseError,
    fmt,
    layer::SubscriberExt,
    util::{SubscriberInitExt, TryInitError},
};

/// Format of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object per line
    Json,
}

/// The format and the level of the log, and whether its text names the modules that write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    format: LogFormat,
    level: String,
    modules: bool,
}

impl LogConfig {
    /// A log with this format, and with a level such as `info` or directives such as `info,audiovault_relay=debug`. Its
    /// lines name the modules that write them.
    ///
    /// # Errors
    /// [`ParseError`] if the level cannot be parsed.
    pub fn new(format: LogFormat, level: &str) -> Result<Self, ParseError> {
        EnvFilter::try_new(level)?;
        Ok(Self { format, level: level.to_owned(), modules: true })
    }

    /// The same log, but its lines of text do not name modules. JSON always names them.
    #[must_use]
    pub fn without_modules(self) -> Self {
        Self { modules: false, ..self }
    }

    /// Starts logging for the whole process. Text is coloured on a terminal.
    ///
    /// # Errors
    /// [`TryInitError`] if the process already has a log, which then stays as it is.
    pub fn init(&self) -> Result<(), TryInitError> {
        // `new` has already parsed the level. At worst, this constructor would skip a directive that it cannot parse.
        let log = tracing_subscriber::registry().with(EnvFilter::new(&self.level));
        match self.format {
            LogFormat::Text => {
                let colours = io::stderr().is_terminal();
                let lines = fmt::layer().with_writer(io::stderr);
                log.with(lines.with_target(self.modules).with_ansi(colours)).try_init()
            }
            LogFormat::Json => {
                log.with(fmt::layer().json().flatten_event(true).with_writer(io::stderr)).try_init()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_checked_before_the_log_starts() {
        for level in ["info", "warn,audiovault_agent=debug"] {
            assert!(LogConfig::new(LogFormat::Text, level).is_ok(), "{level}");
        }
        assert!(LogConfig::new(LogFormat::Json, "audiovault=loud").is_err());
    }
}
