//! The arguments of `site`.

use std::path::PathBuf;

use audiovault_protocol::identity::site::{Alias, SiteId};
use clap::{Args, Subcommand};

use super::DatabaseArgs;
use crate::net::public_url::PublicUrl;

/// What every `site` command takes.
#[derive(Debug, Clone, Args)]
pub struct SiteArgs {
    /// Where the relay keeps what it has.
    #[command(flatten)]
    pub database: DatabaseArgs,

    /// Print JSON instead of text
    #[arg(long, global = true)]
    pub json: bool,

    /// How long the names of removed sites and aliases cannot be reused [default: 90days]
    #[arg(
        long,
        global = true,
        value_name = "TIME",
        env = "AUDIOVAULT_RELAY_NAME_REST",
        value_parser = humantime::parse_duration
    )]
    pub name_rest: Option<std::time::Duration>,

    /// What to do.
    #[command(subcommand)]
    pub command: SiteCommand,
}

/// What is done with a site.
#[derive(Debug, Clone, Subcommand)]
pub enum SiteCommand {
    /// Add a site and print its site key, its search token and the settings for agent and QueueMetrics; the secrets
    /// cannot be shown again
    Add {
        /// Name of the site: a DNS label such as acme-madrid
        site: SiteId,
        /// Free text, for operators
        #[arg(long, value_name = "TEXT", default_value = "")]
        note: String,
        /// Another name that QueueMetrics uses for the site, such as a tenant; may be repeated
        #[arg(long = "alias", value_name = "TENANT")]
        aliases: Vec<Alias>,
        /// The address of the relay [default: what the relay was last started with]
        #[arg(long, value_name = "URL", env = "AUDIOVAULT_RELAY_PUBLIC_URL")]
        public_url: Option<PublicUrl>,
    },
    /// Add the sites of a CSV file with the columns site, note and aliases; if one cannot be added, none is
    Import {
        /// The file
        file: PathBuf,
        /// File to write the keys and search tokens of the sites to; it must not exist yet
        #[arg(long, value_name = "FILE")]
        secrets: PathBuf,
        /// The address of the relay [default: what the relay was last started with]
        #[arg(long, value_name = "URL", env = "AUDIOVAULT_RELAY_PUBLIC_URL")]
        public_url: Option<PublicUrl>,
    },
    /// Print all sites as CSV
    Export,
    /// List all sites
    List,
    /// Show one site with its aliases and the ids of its keys
    Show {
        /// The name of the site
        site: SiteId,
    },
    /// Create a new site key; the previous one stays valid until it is revoked or the key is rotated again
    RotateKey {
        /// The name of the site
        site: SiteId,
        /// The address of the relay [default: what the relay was last started with]
        #[arg(long, value_name = "URL", env = "AUDIOVAULT_RELAY_PUBLIC_URL")]
        public_url: Option<PublicUrl>,
    },
    /// Create a short code that the site's agent trades for a new site key during installation; it works once, within
    /// 15 minutes
    #[command(after_help = "Example:\n  \
        audiovault-relay site enroll acme-madrid --database sqlite:relay.db\n\n\
        A new code replaces one that was not used yet. At the site, run as root:\n  \
        audiovault-agent install --relay wss://relay.example.com --enroll 7K2M-QX4D-09RB")]
    Enroll {
        /// The name of the site
        site: SiteId,
        /// The address of the relay [default: what the relay was last started with]
        #[arg(long, value_name = "URL", env = "AUDIOVAULT_RELAY_PUBLIC_URL")]
        public_url: Option<PublicUrl>,
    },
    /// Revoke the older of two keys, or the only one, and close the tunnels that use it
    RevokeKey {
        /// The name of the site
        site: SiteId,
        /// Revoke the key with this id instead; site show prints the ids
        #[arg(long, value_name = "ID")]
        key: Option<String>,
    },
    /// Close the site's tunnels, and refuse its agents and searches until it is enabled again
    Disable {
        /// The name of the site
        site: SiteId,
    },
    /// Enable a disabled site
    Enable {
        /// The name of the site
        site: SiteId,
    },
    /// Remove a site with its aliases and keys, and close its tunnels
    Remove {
        /// The name of the site
        site: SiteId,
    },
    /// Add or remove aliases of a site
    #[command(subcommand)]
    Alias(AliasCommand),
}

/// What is done with a further name of a site.
#[derive(Debug, Clone, Subcommand)]
pub enum AliasCommand {
    /// Add an alias to a site
    Add {
        /// The name of the site
        site: SiteId,
        /// The further name
        alias: Alias,
    },
    /// Remove an alias from a site
    Remove {
        /// The name of the site
        site: SiteId,
        /// The further name
        alias: Alias,
    },
}
