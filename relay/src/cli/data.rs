//! The `audit`, `backup` and `import` commands: their arguments and what they do.
//!
//! They work on the database. All but `import` can run beside a relay that uses the same database.

use std::{
    io::{self, Write},
    path::PathBuf,
    pin::pin,
};

use audiovault_common::process::Exit;
use clap::{Args, Subcommand};
use futures_util::{Stream, TryStreamExt};
use jiff::Timestamp;

use super::DatabaseArgs;
use crate::{
    audit::export::{CsvRow, write_header, write_rows},
    model::operator_events::{Action, Actor},
    store::{
        AuditFilter, BackupError, DatabaseUrl, IfMissing, NoDatabase, OperatorFilter, StoreError,
        TransferError, open_named,
    },
};

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

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum DataCommandError {
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] NoDatabase),
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No backup was written.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// Nothing was copied.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// The result cannot be printed.
    #[error("cannot print the result")]
    Output(#[from] io::Error),
}

impl DataCommandError {
    /// How the process ends.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Database(error) => error.exit(),
            Self::Store(_) | Self::Backup(_) | Self::Transfer(_) | Self::Output(_) => Exit::Failed,
        }
    }
}

/// Runs an `audit` command.
///
/// # Errors
/// [`DataCommandError`].
pub async fn audit(args: AuditArgs, out: &mut (dyn Write + Send)) -> Result<(), DataCommandError> {
    let store = open_named(args.database.url.as_ref(), IfMissing::Refuse).await?;
    let actor = Actor::command_line();
    match args.command {
        AuditCommand::Export { site, from, until, call_id } => {
            let filter = AuditFilter { site, from, until, call_id, ..AuditFilter::default() };
            store.record(&actor, &filter.entry(Action::AuditExported)).await?;
            print_csv(store.audit_pages(filter), out).await?;
        }
        AuditCommand::Erase { call_ids, reason } => {
            let actor = actor.because(reason.as_deref().unwrap_or_default());
            let mut erased = 0;
            for call_id in call_ids {
                erased += store.erase_call(&actor, &call_id).await?;
            }
            writeln!(out, "{erased} audit events of the call erased.")?;
        }
        AuditCommand::Operators { site, from, until } => {
            let filter = OperatorFilter { site, from, until, ..OperatorFilter::default() };
            store.record(&actor, &filter.entry(Action::EventsExported)).await?;
            print_csv(store.operator_event_pages(filter), out).await?;
        }
    }
    store.close().await;
    Ok(out.flush()?)
}

/// Runs `backup`.
///
/// # Errors
/// [`DataCommandError`].
pub async fn backup(args: BackupArgs, out: &mut (dyn Write + Send)) -> Result<(), DataCommandError> {
    let store = open_named(args.database.url.as_ref(), IfMissing::Refuse).await?;
    store.back_up(&Actor::command_line(), &args.file).await?;
    store.close().await;
    writeln!(out, "Wrote {}.", args.file.display())?;
    Ok(out.flush()?)
}

/// Runs `import`.
///
/// # Errors
/// [`DataCommandError`].
pub async fn import(args: ImportArgs, out: &mut (dyn Write + Send)) -> Result<(), DataCommandError> {
    let from = open_named(Some(&args.from), IfMissing::Refuse).await?;
    let into = open_named(args.database.as_ref(), IfMissing::Create).await?;
    let rows = into.take_over(&Actor::command_line(), &from).await?;
    from.close().await;
    into.close().await;
    writeln!(out, "{rows} rows copied.")?;
    Ok(out.flush()?)
}

/// Prints rows as CSV, page by page.
async fn print_csv<R: CsvRow<COLUMNS>, const COLUMNS: usize>(
    pages: impl Stream<Item = Result<Vec<R>, StoreError>>,
    out: &mut (dyn Write + Send),
) -> Result<(), DataCommandError> {
    write_header::<R, COLUMNS>(&mut *out)?;
    let mut pages = pin!(pages);
    while let Some(rows) = pages.try_next().await? {
        write_rows(&mut *out, &rows)?;
    }
    Ok(())
}
