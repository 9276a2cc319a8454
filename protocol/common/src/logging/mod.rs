//! The log on standard error.
//!
//! Levels: *error*, an operator has to act; *warn*, something is wrong and may recover by itself; *info*, one line for
//! each request and each change of state, such as start and end of listeners, tunnels and sites; *debug* and *trace*,
//! details that help to find a fault.
//!
//! Services hand their lines to a thread (`background`); commands write them directly.

mod background;
mod clock;
mod fields;

use std::{
    borrow::Cow,
    io::{self, IsTerminal, Write},
};

use clap::ValueEnum;
use thiserror::Error;
use tracing_subscriber::{
    EnvFilter,
    filter::ParseError,
    fmt::{self, MakeWriter},
    layer::SubscriberExt,
    util::{SubscriberInitExt, TryInitError},
};

use self::{background::Lines, clock::Clock, fields::Fields};
use crate::advice::Advice;

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

    /// Starts logging for the whole process, for a command: each line is written by the thread that logs it. Text is
    /// coloured on a terminal.
    ///
    /// # Errors
    /// [`LogError::Taken`] if the process already has a log, which then stays as it is.
    pub fn start(&self) -> Result<Log, LogError> {
        self.init(io::stderr)?;
        Ok(Log::default())
    }

    /// Starts logging for the whole process, for a service: a thread of its own writes the lines, and panics too. A line
    /// appears within some milliseconds. A process that is killed (SIGKILL) may lose the lines of this time.
    ///
    /// # Errors
    /// [`LogError`] if the process already has a log, which then stays as it is, or if the thread cannot start.
    pub fn start_in_background(&self) -> Result<Log, LogError> {
        let lines = Lines::new();
        self.init(lines.clone())?;
        lines.write_to(io::stderr())?;
        lines.write_panics();
        Ok(Log(Some(lines)))
    }

    fn init<W>(&self, writer: W) -> Result<(), TryInitError>
    where
        W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
    {
        // `new` has already parsed the level. At worst, this constructor would skip a directive that it cannot parse.
        let log = tracing_subscriber::registry().with(EnvFilter::new(&self.level));
        match self.format {
            LogFormat::Text => {
                let colours = io::stderr().is_terminal();
                let lines = fmt::layer().fmt_fields(Fields).with_timer(Clock).with_writer(writer);
                log.with(lines.with_target(self.modules).with_ansi(colours)).try_init()
            }
            LogFormat::Json => {
                let lines = fmt::layer().json().flatten_event(true);
                log.with(lines.with_timer(Clock).with_writer(writer)).try_init()
            }
        }
    }
}

/// Why the log does not start.
#[derive(Debug, Error)]
pub enum LogError {
    /// The process has a log already.
    #[error("the log has already started")]
    Taken(#[from] TryInitError),
    /// The thread that writes the log cannot start.
    #[error("cannot start the thread that writes the log")]
    Thread(#[from] io::Error),
}

impl Advice for LogError {
    fn advice(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Taken(_) => None,
            Self::Thread(_) => Some("check the limits of threads and memory".into()),
        }
    }
}

/// The end of the log: what a program says last is written to it. Dropping it waits until all lines are written; a
/// program keeps it until nothing else logs.
///
/// The default is standard error without a log.
#[derive(Debug, Default)]
pub struct Log(Option<Lines>);

impl Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        match &self.0 {
            Some(lines) => {
                lines.append(text);
                Ok(text.len())
            }
            None => io::stderr().write(text),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(lines) = &self.0 {
            lines.flush();
        }
        Ok(())
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if let Some(lines) = &self.0 {
            lines.flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{env, process::Command, thread};

    use super::*;

    #[test]
    fn a_level_is_checked_before_the_log_starts() {
        for level in ["info", "warn,audiovault_agent=debug"] {
            assert!(LogConfig::new(LogFormat::Text, level).is_ok(), "{level}");
        }
        assert!(LogConfig::new(LogFormat::Json, "audiovault=loud").is_err());
    }

    #[test]
    fn everything_is_written_in_order_at_a_panic_and_at_the_end() {
        const CHILD: &str = "AUDIOVAULT_TEST_LOG";
        if env::var_os(CHILD).is_some() {
            let mut log = LogConfig::new(LogFormat::Text, "info").unwrap().start_in_background().unwrap();
            (0..1000).for_each(|number| tracing::info!(code = "test.line", number, "before"));
            assert!(thread::spawn(|| panic!("of a thread")).join().is_err());
            (0..1000).for_each(|number| tracing::info!(code = "test.line", number, "after"));
            log.write_all(b"error: last words\n").unwrap();
            return;
        }
        // The log and the hook for panics belong to a whole process, so this test runs in one of its own.
        let this = "logging::tests::everything_is_written_in_order_at_a_panic_and_at_the_end";
        let output = Command::new(env::current_exe().unwrap())
            .args(["--exact", this, "--nocapture"])
            .env(CHILD, "1")
            .env_remove("RUST_BACKTRACE")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let of = |line: &str, part: &str| line.contains(part) && line.contains("test.line");
        let before: Vec<_> = (0..lines.len()).filter(|at| of(lines[*at], "before")).collect();
        let after: Vec<_> = (0..lines.len()).filter(|at| of(lines[*at], "after")).collect();
        assert!(before.iter().copied().eq(0..1000), "{text}");
        assert!(lines[1000].starts_with("thread '<unnamed>' panicked at "), "{}", lines[1000]);
        assert_eq!(lines[1001], "of a thread");
        assert!(after.iter().copied().eq(1002..2002), "{text}");
        assert_eq!(lines[2002], "error: last words");
    }
}
