//! The flags of `audit`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{args::CommonArgs, cdr_args::CdrArgs};

const ERASE_HELP: &str = "\
1772705472.1 is the call on every server, pbx1-1772705472.1 too; with a server, the call on that one and what names none. With --cdr
(or the cdr of the configuration file) all legs of the conversation go, and are printed for the relay, which has a record of its own.
The agent may go on running; what it records of the call from then on is recorded, so deny the call first (--deny). Nothing of the call
stands in the line that says what was erased, by whom and why.

Exit code: 0 erased, also if there was nothing, 1 something went wrong or a file was not looked into.

Examples:
  sudo audiovault-agent audit erase 1772705472.1 --reason 'request 4711 of the data subject'";

/// Flags of `audit`.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: AuditCommand,
}

/// What to do with the audit log.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Erase every line about a call from the audit log and the files of it that were put aside
    Erase(Box<EraseArgs>),
}

/// Flags of `audit erase`.
#[derive(Debug, Args)]
#[command(after_help = ERASE_HELP)]
pub struct EraseArgs {
    /// The ids of the call and of its other legs, with or without a server before them
    #[arg(required = true, value_name = "CALL-ID")]
    pub call_ids: Vec<String>,
    /// Why it is erased, for the line that says so
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// The audit log that the agent writes
    #[arg(long, value_name = "FILE")]
    pub audit_log: Option<PathBuf>,
    /// What tells which calls belong together.
    #[command(flatten)]
    pub cdr: CdrArgs,
    /// Logging and the configuration file.
    #[command(flatten)]
    pub common: CommonArgs,
}
