//! The flags of `audit`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{args::CommonArgs, cdr_args::CdrArgs};

const ERASE_HELP: &str = "\
1772705472.1 also matches pbx1-1772705472.1 and the same call on every other server. An id with a server matches the \
call on that server and the id without a server. With --cdr (or cdr in the configuration file) all legs of the \
conversation are erased, and their ids are printed for the relay, which has an audit log of its own. The agent can \
continue to run, but new requests for the call are logged again, so deny the call first (--deny). One line remains: \
when, by which user and why something was erased, but not which call.

Exit code: 0 the call is erased or was not in the log, 1 something failed or a file was not searched.

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
    /// Erase every line about a call from the audit log and its older files
    Erase(Box<EraseArgs>),
}

/// Flags of `audit erase`.
#[derive(Debug, Args)]
#[command(after_help = ERASE_HELP)]
pub struct EraseArgs {
    /// The ids of the call and of its other legs, with or without a server name in front
    #[arg(required = true, value_name = "CALL-ID")]
    pub call_ids: Vec<String>,
    /// Reason, for the line that remains
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// The audit log that the agent writes
    #[arg(long, value_name = "FILE")]
    pub audit_log: Option<PathBuf>,
    /// The call records, which link the legs of a conversation.
    #[command(flatten)]
    pub cdr: CdrArgs,
    /// Logging and the configuration file.
    #[command(flatten)]
    pub common: CommonArgs,
}
