//! The `site` commands; they change only the database, and a running relay picks the changes up from there.

mod report;
mod table;

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use audiovault_protocol::identity::site::SiteId;

use self::report::{Report, SiteReport};
pub use self::table::TableError;
use crate::{
    cli::{AliasCommand, SiteArgs, SiteCommand},
    model::operator_events::Actor,
    net::public_url::{PublicUrl, PublicUrlError},
    sites::{
        enrolment,
        provisioning::{self, WantedSite},
        queuemetrics,
    },
    store::{DEFAULT_NAME_REST, IfMissing, NoDatabase, Store, StoreError, open_named},
};

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
    /// The result cannot be printed. The change that it reports has been made.
    #[error("the change was made, but its result cannot be printed")]
    Output(#[from] io::Error),
}

impl SiteCommandError {
    /// The exit code of the process: 2 for a mistake on the command line, otherwise 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Database(error) => error.exit_code(),
            Self::Store(_)
            | Self::PublicUrl(_)
            | Self::Read { .. }
            | Self::Table(_)
            | Self::Secrets { .. }
            | Self::Output(_) => 1,
        }
    }
}

/// Runs one command. Prints its result to `out`, and warnings for people to `warnings`.
///
/// # Errors
/// [`SiteCommandError`]. Nothing has changed then, unless it is [`SiteCommandError::Output`], or
/// [`SiteCommandError::Secrets`] after the sites were added.
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
                Ok(Report::Code(enrolment::add_code(&store, &actor, &url, &site).await?))
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

    /// Imports sites. The file of secrets is made before the sites, since keys that cannot be written to it would be
    /// lost.
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
        let added = match provisioning::add_sites(&self.store, &self.actor, &url, wanted).await {
            Ok(added) => added,
            Err(error) => {
                // The file is empty, so it does no harm if it cannot be removed.
                let _ = std::fs::remove_file(&secrets);
                return Err(error.into());
            }
        };
        table::write_secrets(&added, &out).and_then(|()| out.sync_all()).map_err(unwritable)?;
        Ok(Report::Imported { imported: added.len(), secrets })
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

#[cfg(test)]
mod tests;
