//! The arguments of `audit`, `backup` and `import`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::DatabaseArgs;
use crate::store::DatabaseUrl;

/// What every `audit` command takes.
#[derive(Debug, Clone, Args)]
pub struct AuditArgs {
    /// Where the relay keeps what it has.
    #[command(flatten)]
    pub database: DatabaseArgs,

    /// What to do.
    #[command(subcommand)]
    pub command: AuditCommand,
}

/// What is done with the audit.
#[derive(Debug, Clone, Subcommand)]
pub enum AuditCommand {
    /// Print searches and deliveries as CSV, the newest first
    Export {
        /// Only events of this site
        #[arg(long, value_name = "SITE")]
        site: Option<audiovault_protocol::identity::site::SiteId>,
        /// Only from this time on, such as 2026-11-01T00:00:00Z
        #[arg(long, value_name = "TIME")]
        from: Option<Timestamp>,
        /// Only before this time
        #[arg(long, value_name = "TIME")]
        until: Option<Timestamp>,
        /// Only events of this call
        #[arg(long, value_name = "ID")]
        call_id: Option<String>,
    },
    /// Remove all data of a call from the database, its write-ahead log and all later backups
    Erase {
        /// Ids of the call and of its other legs, with or without the name of the server as a prefix
        #[arg(required = true, value_name = "CALL-ID")]
        call_ids: Vec<String>,
        /// Reason, which is stored in the operators' events
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Print the operators' events as CSV, the newest first: who changed what, and who read the audit log
    Operators {
        /// Only events that concern this site
        #[arg(long, value_name = "SITE")]
        site: Option<audiovault_protocol::identity::site::SiteId>,
        /// Only from this time on, such as 2026-11-01T00:00:00Z
        #[arg(long, value_name = "TIME")]
        from: Option<Timestamp>,
        /// Only before this time
        #[arg(long, value_name = "TIME")]
        until: Option<Timestamp>,
    },
}

/// What `backup` takes.
#[derive(Debug, Clone, Args)]
pub struct BackupArgs {
    /// File to write; it must not exist yet
    pub file: PathBuf,

    /// Where the relay keeps what it has.
    #[command(flatten)]
    pub database: DatabaseArgs,
}

/// What `import` takes.
#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// Database to copy from, as sqlite:FILE or postgres://USER@HOST/DATABASE; stop its relay first
    #[arg(long, value_name = "URL")]
    pub from: DatabaseUrl,

    /// Database to copy to; it must be empty (required)
    #[arg(long, value_name = "URL", env = "AUDIOVAULT_RELAY_DATABASE", hide_env_values = true)]
    pub database: Option<DatabaseUrl>,
}
