//! The `audit`, `backup` and `import` commands.
//!
//! They work on the database. All but `import` can run beside a relay that uses the same database.

use std::{
    io::{self, Write},
    pin::pin,
};

use futures_util::{Stream, TryStreamExt};

use crate::{
    audit::csv::{CsvRow, write_header, write_rows},
    cli::{AuditArgs, AuditCommand, BackupArgs, ImportArgs},
    model::operator_events::{Action, Actor},
    store::{
        AuditFilter, BackupError, IfMissing, NoDatabase, OperatorFilter, StoreError, TransferError,
        open_named,
    },
};

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
    /// The exit code of the process: 2 for a mistake on the command line, otherwise 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Database(error) => error.exit_code(),
            Self::Store(_) | Self::Backup(_) | Self::Transfer(_) | Self::Output(_) => 1,
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
