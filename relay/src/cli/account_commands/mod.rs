//! The `user` and `token` commands.
//!
//! They change only the database. A running relay reads it for every request, so changes take effect at once.

mod password;
mod report;

use std::{
    collections::BTreeSet,
    io::{self, Write},
};

use audiovault_protocol::identity::site::SiteId;

use self::{password::read_password, report::Report};
use crate::{
    admin::auth::{PasswordError, Passwords, WeakPassword},
    cli::{RightsArgs, TokenArgs, TokenCommand, UserArgs, UserCommand},
    model::{
        name::Name,
        operator_events::Actor,
        rights::{Rights, Scope},
        secret::{Secret, reveal_api_token, token_end},
    },
    store::{IfMissing, NewToken, NewUser, NoDatabase, Store, StoreError, open_named},
};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum AccountCommandError {
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] NoDatabase),
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No password could be read.
    #[error("cannot read the password from {from}")]
    NoPassword {
        /// The source that was read.
        from: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The two passwords that were typed differ.
    #[error("the two passwords differ: try again")]
    Differ,
    /// The password is too weak.
    #[error(transparent)]
    Weak(#[from] WeakPassword),
    /// The password cannot be hashed.
    #[error(transparent)]
    Hash(#[from] PasswordError),
    /// The expiry time is not in the future, or is later than allowed.
    #[error("--expires must be from 1s to 365d")]
    Expires,
    /// The result cannot be printed. The change that it reports has been made.
    #[error("the change was made, but its result cannot be printed")]
    Output(#[from] io::Error),
}

impl AccountCommandError {
    /// The exit code of the process: 2 for a mistake on the command line, otherwise 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Database(error) => error.exit_code(),
            Self::Expires => 2,
            Self::Store(_)
            | Self::NoPassword { .. }
            | Self::Differ
            | Self::Weak(_)
            | Self::Hash(_)
            | Self::Output(_) => 1,
        }
    }
}

/// Runs a `user` command and prints its result.
///
/// # Errors
/// [`AccountCommandError`]. Nothing has changed then, unless it is [`AccountCommandError::Output`].
pub async fn user(args: UserArgs, out: &mut (dyn Write + Send)) -> Result<(), AccountCommandError> {
    // Users can be added before the relay has ever run, so this command makes the database if it is missing.
    let adds = matches!(args.command, UserCommand::Add { .. });
    let store = open_named(args.database.url.as_ref(), IfMissing::when_adding(adds)).await?;
    let report = change_user(&store, args.command).await;
    store.close().await;
    report?.print(args.json, out)
}

/// Runs a `token` command and prints its result.
///
/// # Errors
/// [`AccountCommandError`]. Nothing has changed then, unless it is [`AccountCommandError::Output`].
pub async fn token(args: TokenArgs, out: &mut (dyn Write + Send)) -> Result<(), AccountCommandError> {
    let adds = matches!(args.command, TokenCommand::Add { .. });
    let store = open_named(args.database.url.as_ref(), IfMissing::when_adding(adds)).await?;
    let report = change_token(&store, args.command).await;
    store.close().await;
    report?.print(args.json, out)
}

async fn change_user(store: &Store, command: UserCommand) -> Result<Report, AccountCommandError> {
    let shown = async |done: &'static str, name: &Name| -> Result<Report, AccountCommandError> {
        Ok(Report::User { done, user: (&store.user(name).await?).into() })
    };
    let actor = Actor::command_line();
    match command {
        UserCommand::Add { name, rights, password } => {
            let password = read_password(password, &name)?;
            let password = Passwords::default().hash(password).await?;
            store.add_user(&actor, &NewUser { name: name.clone(), rights: rights.into(), password }).await?;
            shown("added", &name).await
        }
        UserCommand::Passwd { name, password } => {
            // Check that the user exists before asking for the password.
            store.user(&name).await?;
            let password = Passwords::default().hash(read_password(password, &name)?).await?;
            store.set_password(&actor, &name, &password).await?;
            shown("password set, all sessions ended", &name).await
        }
        UserCommand::Set { name, role, sites, all_sites, playback } => {
            let now = store.user(&name).await?.rights;
            let scope = if all_sites { Some(Scope::All) } else { sites.map(scope) };
            let rights = Rights {
                role: role.unwrap_or(now.role),
                scope: scope.unwrap_or(now.scope),
                playback: playback.unwrap_or(now.playback),
            };
            store.change_user(&actor, &name, &rights).await?;
            shown("changed, all sessions ended", &name).await
        }
        UserCommand::List => Ok(Report::Users(store.users().await?.iter().map(Into::into).collect())),
        UserCommand::Remove { name } => {
            store.remove_user(&actor, &name).await?;
            Ok(Report::Removed { name, removed: true })
        }
    }
}

async fn change_token(store: &Store, command: TokenCommand) -> Result<Report, AccountCommandError> {
    let actor = Actor::command_line();
    match command {
        TokenCommand::Add { name, rights, expires, owner } => {
            let expires = token_end(expires).ok_or(AccountCommandError::Expires)?;
            let secret = Secret::mint();
            let new = NewToken {
                name: name.clone(),
                digest: secret.digest(),
                rights: rights.into(),
                expires,
                owner,
            };
            store.add_token(&actor, &new).await?;
            Ok(Report::Made { name, token: reveal_api_token(&secret).to_string() })
        }
        TokenCommand::List => Ok(Report::Tokens(store.tokens().await?.iter().map(Into::into).collect())),
        TokenCommand::Remove { name } => {
            store.remove_token(&actor, &name).await?;
            Ok(Report::Removed { name, removed: true })
        }
    }
}

fn scope(sites: Vec<SiteId>) -> Scope {
    Scope::Sites(sites.into_iter().collect::<BTreeSet<_>>())
}

impl From<RightsArgs> for Rights {
    fn from(args: RightsArgs) -> Self {
        Self { role: args.role, scope: args.sites.map_or(Scope::All, scope), playback: args.playback }
    }
}
