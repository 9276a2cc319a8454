//! The `site` commands: their arguments, what they do, and their results as JSON for programs and as text for people.
//!
//! They change only the database, and a running relay picks the changes up from there.

mod table;

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use audiovault_common::process::Exit;
use audiovault_protocol::identity::site::{Alias, SiteId};
use clap::{Args, Subcommand};
use serde::{Serialize, Serializer};

pub use self::table::TableError;
use super::DatabaseArgs;
use crate::{
    model::operator_events::Actor,
    net::public_url::{PublicUrl, PublicUrlError},
    sites::{
        provisioning::{self, AddSitesError, AddedCode, AddedKey, AddedSite, WantedSite},
        queuemetrics,
    },
    store::{DEFAULT_NAME_REST, IfMissing, NoDatabase, Store, StoreError, StoredSite, open_named},
};

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

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum SiteCommandError {
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] NoDatabase),
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The relay's address that is stored in the database cannot be parsed.
    #[error("the database has no valid address of the relay: set --public-url")]
    PublicUrl(#[from] PublicUrlError),
    /// The file to import cannot be read.
    #[error("cannot read {}: check the path and its permissions", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file to import has an error.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The secrets of imported sites cannot be written to the file.
    #[error(
        "cannot write {}: the file must not exist yet, and its directory must be writable", path.display()
    )]
    Secrets {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The database failed while it added sites.
    #[error(
        "the database failed, and the sites may have been added: see `site list`; if they were, their secrets are in {}",
        secrets.display()
    )]
    MaybeAdded {
        /// The file with the secrets.
        secrets: PathBuf,
        /// The error of the database.
        source: StoreError,
    },
    /// The result cannot be printed. The change that it reports has been made.
    #[error("the change was made, but its result cannot be printed")]
    Output(#[from] io::Error),
}

impl SiteCommandError {
    /// How the process ends.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Database(error) => error.exit(),
            Self::Store(_)
            | Self::PublicUrl(_)
            | Self::Read { .. }
            | Self::Table(_)
            | Self::Secrets { .. }
            | Self::MaybeAdded { .. }
            | Self::Output(_) => Exit::Failed,
        }
    }
}

/// Runs one command. Prints its result to `out`, and warnings for people to `warnings`.
///
/// # Errors
/// [`SiteCommandError`]. Nothing has changed then, unless it is [`SiteCommandError::Output`] or, perhaps,
/// [`SiteCommandError::MaybeAdded`].
pub async fn run(
    args: SiteArgs,
    out: &mut (dyn Write + Send),
    warnings: &mut (dyn Write + Send),
) -> Result<(), SiteCommandError> {
    // Sites can be added before the relay has ever run. All other commands need an existing database.
    let adds = matches!(args.command, SiteCommand::Add { .. } | SiteCommand::Import { .. });
    let if_missing = IfMissing::when_adding(adds);
    let store = open_named(args.database.url.as_ref(), if_missing).await?;
    let store = store.with_name_rest(args.name_rest.unwrap_or(DEFAULT_NAME_REST));
    let report = Commands { store: store.clone(), actor: Actor::command_line(), warnings }
        .carry_out(args.command)
        .await;
    store.close().await;
    let report = report?;
    if args.json {
        writeln!(out, "{}", report.json())?;
    } else {
        report.text(out)?;
    }
    Ok(out.flush()?)
}

struct Commands<'a> {
    store: Store,
    actor: Actor,
    warnings: &'a mut (dyn Write + Send),
}

impl Commands<'_> {
    async fn carry_out(mut self, command: SiteCommand) -> Result<Report, SiteCommandError> {
        let store = self.store.clone();
        let actor = self.actor.clone();
        match command {
            SiteCommand::Add { site, note, aliases, public_url } => {
                let wanted = WantedSite { site, note, aliases: aliases.into_iter().collect() };
                self.add(wanted, public_url).await
            }
            SiteCommand::Import { file, secrets, public_url } => {
                self.import(&file, secrets, public_url).await
            }
            SiteCommand::Export => Ok(Report::Exported(store.list().await?)),
            SiteCommand::List => {
                let sites = store.list().await?;
                Ok(Report::List(sites.iter().map(SiteReport::of).collect()))
            }
            SiteCommand::Show { site } => self.shown("", &site).await,
            SiteCommand::RotateKey { site, public_url } => self.rotate_key(site, public_url).await,
            SiteCommand::Enroll { site, public_url } => {
                let url = self.public_url(public_url).await?;
                Ok(Report::Code(provisioning::add_code(&store, &actor, &url, &site).await?))
            }
            SiteCommand::RevokeKey { site, key } => {
                let revoked = store.revoke_key(&actor, &site, key.as_deref()).await?.short();
                let site = SiteReport::of(&store.show(&site).await?);
                Ok(Report::Revoked { revoked, site })
            }
            SiteCommand::Disable { site } => {
                store.set_disabled(&actor, &site, true).await?;
                self.shown("disabled, its agents and searches are refused", &site).await
            }
            SiteCommand::Enable { site } => {
                store.set_disabled(&actor, &site, false).await?;
                self.shown("enabled", &site).await
            }
            SiteCommand::Remove { site } => {
                store.remove(&actor, &site).await?;
                Ok(Report::Removed { site, removed: true })
            }
            SiteCommand::Alias(AliasCommand::Add { site, alias }) => {
                store.add_alias(&actor, &site, &alias).await?;
                self.shown("alias added", &site).await
            }
            SiteCommand::Alias(AliasCommand::Remove { site, alias }) => {
                store.remove_alias(&actor, &site, &alias).await?;
                self.shown("alias removed", &site).await
            }
        }
    }

    async fn shown(&self, done: &'static str, site: &SiteId) -> Result<Report, SiteCommandError> {
        let site = SiteReport::of(&self.store.show(site).await?);
        Ok(Report::Site { done, site })
    }

    async fn add(
        &mut self,
        wanted: WantedSite,
        public_url: Option<PublicUrl>,
    ) -> Result<Report, SiteCommandError> {
        let url = self.public_url(public_url).await?;
        Ok(Report::Added(provisioning::add_site(&self.store, &self.actor, &url, wanted).await?))
    }

    async fn rotate_key(
        &mut self,
        site: SiteId,
        public_url: Option<PublicUrl>,
    ) -> Result<Report, SiteCommandError> {
        let url = self.public_url(public_url).await?;
        let key = provisioning::rotate_key(&self.store, &self.actor, &url, &site).await?;
        Ok(Report::Rotated { key, site: SiteReport::of(&self.store.show(&site).await?) })
    }

    /// Imports sites. The secrets are on disk before the sites are added: a key that is lost cannot be shown again.
    async fn import(
        &mut self,
        file: &Path,
        secrets: PathBuf,
        public_url: Option<PublicUrl>,
    ) -> Result<Report, SiteCommandError> {
        let url = self.public_url(public_url).await?;
        let unreadable = |source| SiteCommandError::Read { path: file.to_owned(), source };
        let wanted = table::read(File::open(file).map_err(unreadable)?)?;
        let unwritable = |source| SiteCommandError::Secrets { path: secrets.clone(), source };
        let out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&secrets);
        let out = out.map_err(unwritable)?;
        let keep = |added: &[AddedSite]| {
            table::write_secrets(added, &out)?;
            out.sync_all()
        };
        match provisioning::add_sites(&self.store, &self.actor, &url, wanted, keep).await {
            Ok(added) => Ok(Report::Imported { imported: added.len(), secrets }),
            // The database may have added the sites before the connection was lost.
            Err(AddSitesError::Store(source @ StoreError::Database(_))) => {
                Err(SiteCommandError::MaybeAdded { secrets, source })
            }
            Err(error) => {
                // Its secrets belong to no site, so it does no harm if it cannot be removed.
                let _ = std::fs::remove_file(&secrets);
                Err(match error {
                    AddSitesError::Secrets(source) => unwritable(source),
                    AddSitesError::Store(error) => error.into(),
                })
            }
        }
    }

    /// The address in the arguments, else the one with which the relay was last started. If there is neither, prints a
    /// warning and uses a placeholder, so that the site is added anyway: its secrets are shown only once, but an
    /// address is easy to fill in later.
    async fn public_url(&mut self, given: Option<PublicUrl>) -> Result<PublicUrl, SiteCommandError> {
        if let Some(url) = given {
            return Ok(url);
        }
        if let Some(text) = self.store.public_url().await? {
            return Ok(text.parse()?);
        }
        writeln!(
            self.warnings,
            "warning: the address of the relay is not known yet: replace {} by it, or set --public-url",
            queuemetrics::UNKNOWN_RELAY
        )?;
        Ok(queuemetrics::UNKNOWN_RELAY.parse()?)
    }
}

/// The result of one command. It has no `Debug`, since it may hold secrets that are shown only once.
#[derive(Serialize)]
#[serde(untagged)]
enum Report {
    Added(AddedSite),
    Rotated {
        #[serde(flatten)]
        key: AddedKey,
        #[serde(flatten)]
        site: SiteReport,
    },
    Code(AddedCode),
    Imported {
        imported: usize,
        /// The file with the keys and search tokens.
        secrets: PathBuf,
    },
    #[serde(serialize_with = "reports")]
    Exported(Vec<StoredSite>),
    Revoked {
        /// Id of the key that is no longer valid.
        revoked: String,
        #[serde(flatten)]
        site: SiteReport,
    },
    Removed {
        site: SiteId,
        removed: bool,
    },
    Site {
        #[serde(skip)]
        done: &'static str,
        #[serde(flatten)]
        site: SiteReport,
    },
    List(Vec<SiteReport>),
}

fn reports<S: Serializer>(sites: &[StoredSite], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(sites.iter().map(SiteReport::of))
}

/// A site without its secrets.
#[derive(Serialize)]
struct SiteReport {
    site: SiteId,
    note: String,
    created: String,
    disabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled_since: Option<String>,
    aliases: Vec<String>,
    keys: Vec<KeyReport>,
}

#[derive(Serialize)]
struct KeyReport {
    id: String,
    created: String,
    valid: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked: Option<String>,
}

impl SiteReport {
    fn of(stored: &StoredSite) -> Self {
        let keys = stored.keys.iter().map(|key| KeyReport {
            id: key.digest.short(),
            created: key.created.to_string(),
            valid: key.revoked.is_none(),
            revoked: key.revoked.map(|time| time.to_string()),
        });
        Self {
            site: stored.site.clone(),
            note: stored.note.clone(),
            created: stored.created.to_string(),
            disabled: stored.disabled.is_some(),
            disabled_since: stored.disabled.map(|time| time.to_string()),
            aliases: stored.aliases.iter().map(ToString::to_string).collect(),
            keys: keys.collect(),
        }
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "site      {}", self.site)?;
        if !self.note.is_empty() {
            writeln!(out, "note      {}", self.note)?;
        }
        writeln!(out, "created   {}", self.created)?;
        if let Some(since) = &self.disabled_since {
            writeln!(out, "disabled  {since}")?;
        }
        if !self.aliases.is_empty() {
            writeln!(out, "aliases   {}", self.aliases.join(" "))?;
        }
        for key in &self.keys {
            let state = match &key.revoked {
                Some(time) => format!("revoked {time}"),
                None => "valid".to_owned(),
            };
            writeln!(out, "key       {}  created {}  {state}", key.id, key.created)?;
        }
        if !self.keys.iter().any(|key| key.valid) {
            writeln!(out, "no key is valid: rotate the key, so that agents can connect")?;
        }
        Ok(())
    }

    fn line(&self, out: &mut dyn Write) -> io::Result<()> {
        let state = if self.disabled { "disabled" } else { "enabled" };
        let names = if self.aliases.is_empty() {
            String::new()
        } else {
            format!("  also {}", self.aliases.join(" "))
        };
        let note = if self.note.is_empty() { String::new() } else { format!("  ({})", self.note) };
        writeln!(out, "{:<24} {state:<8}{names}{note}", self.site.as_str())
    }
}

impl Report {
    fn json(&self) -> String {
        // This cannot fail: the value holds only texts, flags and lists of them.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Added(AddedSite {
                site,
                site_key,
                search_token,
                search_url,
                agent_command,
                queuemetrics,
            }) => {
                writeln!(out, "Added the site {site}. Copy its secrets now, they cannot be shown again:\n")?;
                writeln!(out, "site key      {site_key}")?;
                writeln!(out, "search token  {search_token}")?;
                writeln!(out, "search URL    {search_url}\n")?;
                writeln!(out, "On the machine with the recordings, run as root:\n\n{agent_command}\n")?;
                writeln!(
                    out,
                    "In QueueMetrics, add to configuration.properties:\n\n{}",
                    queuemetrics.trim_end()
                )
            }
            Self::Imported { imported, secrets } => {
                writeln!(
                    out,
                    "Added {imported} sites. Their keys and search tokens are in {}.",
                    secrets.display()
                )?;
                writeln!(out, "The relay cannot show them again: hand them out, then delete the file.")
            }
            Self::Exported(sites) => table::write(sites, out),
            Self::Rotated { key: AddedKey { site_key, agent_command, dropped }, site } => {
                writeln!(out, "Created a new site key. Copy it now, it cannot be shown again:\n")?;
                writeln!(out, "site key      {site_key}\n")?;
                writeln!(out, "On the machine with the recordings, run as root:\n\n{agent_command}\n")?;
                for id in dropped {
                    writeln!(out, "The key {id} is no longer valid.")?;
                }
                writeln!(
                    out,
                    "The previous key stays valid until it is revoked or the key is rotated again.\n"
                )?;
                site.text(out)
            }
            Self::Code(added) => write_code(added, out),
            Self::Revoked { revoked, site } => {
                writeln!(out, "Revoked the key {revoked}.\n")?;
                site.text(out)
            }
            Self::Removed { site, .. } => writeln!(out, "Removed the site {site}."),
            Self::Site { done, site } => {
                if !done.is_empty() {
                    writeln!(out, "{}: {done}\n", site.site)?;
                }
                site.text(out)
            }
            Self::List(sites) if sites.is_empty() => writeln!(out, "There are no sites."),
            Self::List(sites) => sites.iter().try_for_each(|site| site.line(out)),
        }
    }
}

fn write_code(added: &AddedCode, out: &mut dyn Write) -> io::Result<()> {
    let AddedCode { site, code, expires, install_command } = added;
    writeln!(
        out,
        "Created an enrolment code for the site {site}. It works once, and cannot be shown again:\n"
    )?;
    writeln!(out, "code         {code}")?;
    writeln!(out, "valid until  {expires:.0}\n")?;
    writeln!(out, "On the machine with the recordings, run as root:\n\n{install_command}\n")?;
    writeln!(
        out,
        "The agent trades it for a new site key. Earlier codes of this site that were not used no longer work."
    )
}

#[cfg(test)]
mod tests;
