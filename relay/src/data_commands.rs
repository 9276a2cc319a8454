//! What the `audit`, `backup` and `import` commands do. They work on the database; but for `import`, beside a relay that runs
//! on it.

use std::{
    io::{self, Write},
    pin::pin,
};

use futures_util::TryStreamExt;

use crate::{
    audit::export,
    cli::{AuditArgs, AuditCommand, BackupArgs, ImportArgs},
    operator_events::{self, Action, Actor, Entry},
    store::{
        AuditFilter, BackupError, IfMissing, NoDatabase, OperatorFilter, Store, StoreError, TransferError,
        open_named,
    },
};

/// Why a command has not done what it should.
#[derive(Debug, thiserror::Error)]
pub enum DataCommandError {
    /// There is no database to work on.
    #[error(transparent)]
    Database(#[from] NoDatabase),
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no backup.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// Nothing was moved.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// The result cannot be written.
    #[error("the result cannot be printed")]
    Output(#[from] io::Error),
}

impl DataCommandError {
    /// What the process exits with: 2 for a mistake on the command line, otherwise 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Database(error) => error.exit_code(),
            Self::Store(_) | Self::Backup(_) | Self::Transfer(_) | Self::Output(_) => 1,
        }
    }
}

/// Carries out an `audit` command.
///
/// # Errors
/// [`DataCommandError`].
pub async fn audit(args: AuditArgs, out: &mut (dyn Write + Send)) -> Result<(), DataCommandError> {
    let store = open_named(args.database.url.as_ref(), IfMissing::Refuse).await?;
    let actor = Actor::command_line();
    match args.command {
        AuditCommand::Export { site, from, until, call_id } => {
            let filter = AuditFilter { site, from, until, call_id, ..AuditFilter::default() };
            store.record(&actor, &Entry::of_audit(Action::AuditExported, &filter)).await?;
            export_all(&store, filter, out).await?;
        }
        AuditCommand::Erase { call_id, reason } => {
            let actor = actor.because(reason.as_deref().unwrap_or_default());
            let erased = store.erase_call(&actor, &call_id).await?;
            writeln!(out, "{erased} audit events of the call are erased.")?;
        }
        AuditCommand::Operators { site, from, until } => {
            let filter = OperatorFilter { site, from, until, ..OperatorFilter::default() };
            store.record(&actor, &Entry::of_events(Action::EventsExported, &filter)).await?;
            export_operators(&store, filter, out).await?;
        }
    }
    store.close().await;
    Ok(out.flush()?)
}

/// Carries out `backup`.
///
/// # Errors
/// [`DataCommandError`].
pub async fn backup(args: BackupArgs, out: &mut (dyn Write + Send)) -> Result<(), DataCommandError> {
    let store = open_named(args.database.url.as_ref(), IfMissing::Refuse).await?;
    store.back_up(&Actor::command_line(), &args.file).await?;
    store.close().await;
    writeln!(out, "{} is written.", args.file.display())?;
    Ok(out.flush()?)
}

/// Carries out `import`.
///
/// # Errors
/// [`DataCommandError`].
pub async fn import(args: ImportArgs, out: &mut (dyn Write + Send)) -> Result<(), DataCommandError> {
    let from = open_named(Some(&args.from), IfMissing::Refuse).await?;
    let into = open_named(args.database.as_ref(), IfMissing::Create).await?;
    let rows = into.take_over(&Actor::command_line(), &from).await?;
    from.close().await;
    into.close().await;
    writeln!(out, "{rows} rows are copied.")?;
    Ok(out.flush()?)
}

async fn export_all(
    store: &Store,
    filter: AuditFilter,
    out: &mut (dyn Write + Send),
) -> Result<(), DataCommandError> {
    export::write_header(&mut *out)?;
    let mut pages = pin!(store.audit_pages(filter));
    while let Some(events) = pages.try_next().await? {
        export::write_events(&mut *out, &events)?;
    }
    Ok(())
}

async fn export_operators(
    store: &Store,
    filter: OperatorFilter,
    out: &mut (dyn Write + Send),
) -> Result<(), DataCommandError> {
    operator_events::export::write_header(&mut *out)?;
    let mut pages = pin!(store.operator_event_pages(filter));
    while let Some(events) = pages.try_next().await? {
        operator_events::export::write_events(&mut *out, &events)?;
    }
    Ok(())
}
