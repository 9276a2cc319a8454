//! The `user` and `token` commands: their arguments, what they do, and their results as JSON for programs and as text
//! for people.
//!
//! They change only the database. A running relay reads it for every request, so changes take effect at once.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, BufRead, IsTerminal, Write},
    path::{Path, PathBuf},
};

use audiovault_common::process::Exit;
use audiovault_protocol::identity::site::SiteId;
use clap::{Args, Subcommand};
use serde::Serialize;
use zeroize::Zeroizing;

use super::DatabaseArgs;
use crate::{
    admin::{
        api::{RightsView, TokenView, UserView},
        auth::{Password, PasswordError, Passwords, WeakPassword},
    },
    model::{
        account::{Name, Rights, Role, Scope},
        operator_events::Actor,
        secret::{Secret, reveal_api_token, token_end},
    },
    store::{IfMissing, NewToken, NewUser, NoDatabase, Store, StoreError, open_named},
};

/// What every `user` command takes.
#[derive(Debug, Clone, Args)]
pub struct UserArgs {
    /// Where the relay keeps what it has.
    #[command(flatten)]
    pub database: DatabaseArgs,

    /// Print JSON instead of text
    #[arg(long, global = true)]
    pub json: bool,

    /// What to do.
    #[command(subcommand)]
    pub command: UserCommand,
}

/// What is done with a user of the operators' pages.
#[derive(Debug, Clone, Subcommand)]
pub enum UserCommand {
    /// Add a user; asks for the password
    Add {
        /// Name to log in with
        name: Name,
        /// What the user may do
        #[command(flatten)]
        rights: RightsArgs,
        /// Where the password comes from
        #[command(flatten)]
        password: PasswordArgs,
    },
    /// Set a user's password and end all sessions of that user
    Passwd {
        /// The name of the user
        name: Name,
        /// Where the password comes from
        #[command(flatten)]
        password: PasswordArgs,
    },
    /// Change the rights of a user and end all sessions of that user
    Set {
        /// The name of the user
        name: Name,
        /// The role
        #[arg(long, value_name = "ROLE")]
        role: Option<Role>,
        /// Limit the user to this site; may be repeated
        #[arg(long = "site", value_name = "SITE", conflicts_with = "all_sites")]
        sites: Option<Vec<SiteId>>,
        /// Give the user access to all sites
        #[arg(long)]
        all_sites: bool,
        /// Right to search for recordings and listen to them
        #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
        playback: Option<bool>,
    },
    /// List all users
    List,
    /// Remove a user and end all sessions of that user
    Remove {
        /// The name of the user
        name: Name,
    },
}

/// What a user or a token may do.
#[derive(Debug, Clone, Args)]
pub struct RightsArgs {
    /// The role
    #[arg(long, value_name = "ROLE", default_value = "viewer")]
    pub role: Role,
    /// Limit to this site; may be repeated [default: all sites]
    #[arg(long = "site", value_name = "SITE")]
    pub sites: Option<Vec<SiteId>>,
    /// Give the right to search for recordings and listen to them
    #[arg(long)]
    pub playback: bool,
}

/// Where a password comes from: never from the command line, which all users of the machine can read.
#[derive(Debug, Clone, Args)]
pub struct PasswordArgs {
    /// File with the password in its first line; - for standard input [default: ask for it]
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
}

/// What every `token` command takes.
#[derive(Debug, Clone, Args)]
pub struct TokenArgs {
    /// Where the relay keeps what it has.
    #[command(flatten)]
    pub database: DatabaseArgs,

    /// Print JSON instead of text
    #[arg(long, global = true)]
    pub json: bool,

    /// What to do.
    #[command(subcommand)]
    pub command: TokenCommand,
}

/// What is done with an API token.
#[derive(Debug, Clone, Subcommand)]
pub enum TokenCommand {
    /// Create an API token and print it; it cannot be shown again
    Add {
        /// Name of the token
        name: Name,
        /// What the token allows
        #[command(flatten)]
        rights: RightsArgs,
        /// How long it is valid, such as 30d or 12h; at most 365d
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "90d")]
        expires: std::time::Duration,
        /// User who owns the token: it has at most the rights of that user, and is removed with that user
        #[arg(long, value_name = "USER")]
        owner: Option<Name>,
    },
    /// List all API tokens
    List,
    /// Remove an API token; it stops working at once
    Remove {
        /// Name of the token
        name: Name,
    },
}

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
    /// How the process ends.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Database(error) => error.exit(),
            Self::Expires => Exit::Misconfigured,
            Self::Store(_)
            | Self::NoPassword { .. }
            | Self::Differ
            | Self::Weak(_)
            | Self::Hash(_)
            | Self::Output(_) => Exit::Failed,
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

/// Reads a new password: from the file in the arguments, else from standard input if it is not a terminal, else from
/// the terminal, which asks twice and does not show it.
fn read_password(args: PasswordArgs, name: &Name) -> Result<Password, AccountCommandError> {
    let failed = |from: &str| {
        let from = from.to_owned();
        move |source| AccountCommandError::NoPassword { from, source }
    };
    let text = match args.password_file {
        Some(path) if path != Path::new("-") => {
            let text =
                Zeroizing::new(fs::read_to_string(&path).map_err(failed(&path.display().to_string()))?);
            text.lines().next().unwrap_or_default().to_owned()
        }
        None if io::stdin().is_terminal() => {
            let ask = |prompt| rpassword::prompt_password(prompt).map_err(failed("the terminal"));
            let first = ask("Password: ")?;
            if *Zeroizing::new(ask("Repeat the password: ")?) != first {
                return Err(AccountCommandError::Differ);
            }
            first
        }
        _ => {
            let mut line = String::new();
            io::stdin().lock().read_line(&mut line).map_err(failed("standard input"))?;
            let line = Zeroizing::new(line);
            line.trim_end_matches(['\r', '\n']).to_owned()
        }
    };
    Ok(Password::new(text, name.as_str())?)
}

/// The result of one command. It has no `Debug`, since it may hold a secret that is shown only once.
#[derive(Serialize)]
#[serde(untagged)]
enum Report {
    Made {
        name: Name,
        token: String,
    },
    User {
        #[serde(skip)]
        done: &'static str,
        #[serde(flatten)]
        user: UserView,
    },
    Removed {
        name: Name,
        removed: bool,
    },
    Users(Vec<UserView>),
    Tokens(Vec<TokenView>),
}

impl Report {
    fn print(&self, json: bool, out: &mut dyn Write) -> Result<(), AccountCommandError> {
        if json {
            // This cannot fail: the value holds only texts, flags and lists of them.
            writeln!(out, "{}", serde_json::to_string_pretty(self).unwrap_or_default())?;
        } else {
            self.text(out)?;
        }
        Ok(out.flush()?)
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Made { name, token } => {
                writeln!(
                    out,
                    "Created the API token {name}. Copy it now, it cannot be shown again:\n\n{token}"
                )
            }
            Self::User { done, user } => {
                writeln!(out, "{}: {done}\n", user.name)?;
                user_line(user, out)
            }
            Self::Removed { name, .. } => writeln!(out, "Removed {name}."),
            Self::Users(users) if users.is_empty() => writeln!(out, "There are no users."),
            Self::Users(users) => users.iter().try_for_each(|user| user_line(user, out)),
            Self::Tokens(tokens) if tokens.is_empty() => writeln!(out, "There are no API tokens."),
            Self::Tokens(tokens) => tokens.iter().try_for_each(|token| token_line(token, out)),
        }
    }
}

fn user_line(user: &UserView, out: &mut dyn Write) -> io::Result<()> {
    let login = user.last_login.map_or_else(|| "never".to_owned(), |time| format!("{time:.0}"));
    writeln!(out, "{:<24} {}  last login {login}", user.name.as_str(), rights(&user.rights))
}

fn token_line(token: &TokenView, out: &mut dyn Write) -> io::Result<()> {
    let ends = token.expires.map_or_else(|| "never".to_owned(), |time| format!("{time:.0}"));
    let owner = token.owner.as_ref().map_or_else(|| "the command line".to_owned(), ToString::to_string);
    writeln!(out, "{:<24} {}  expires {ends}  owner {owner}", token.name.as_str(), rights(&token.rights))
}

fn rights(rights: &RightsView) -> String {
    let sites = match &rights.sites {
        None => "all sites".to_owned(),
        Some(sites) if sites.is_empty() => "no sites".to_owned(),
        Some(sites) => sites.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
    };
    let playback = if rights.playback { ", playback" } else { "" };
    format!("{:<8} {sites}{playback}", rights.role.as_str())
}
