//! The arguments of `user`.

use std::path::PathBuf;

use audiovault_protocol::identity::site::SiteId;
use clap::{Args, Subcommand};

use super::DatabaseArgs;
use crate::model::{name::Name, rights::Role};

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

/// What somebody may do.
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

/// Where a password comes from: never from the command line, which everybody on the machine can read.
#[derive(Debug, Clone, Args)]
pub struct PasswordArgs {
    /// File with the password in its first line; - for standard input [default: ask for it]
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
}
