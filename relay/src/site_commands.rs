//! What the `site` commands do. They work on the database alone; a relay that runs on it follows by itself.

mod report;

use std::{
    collections::BTreeSet,
    io::{self, Write},
};

use audiovault_protocol::site::{Alias, SITE_SECRET_LEN, SiteId, SiteKey};
use data_encoding::BASE32_NOPAD;
use zeroize::Zeroizing;

use self::report::{Report, SiteReport};
use crate::{
    cli::{AliasCommand, SiteArgs, SiteCommand},
    config::{PublicUrl, PublicUrlError},
    queuemetrics,
    store::{self, IfMissing, NewSite, OpenError, Store, StoreError},
};

/// Random octets of a search token: out of reach of guessing, and still short enough for a properties file.
const SEARCH_TOKEN_LEN: usize = 32;

/// Why a command has changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum SiteCommandError {
    /// Nobody said which database.
    #[error("--database is required: give the flag or AUDIOVAULT_RELAY_DATABASE")]
    NoDatabase,
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The address of the relay that the database remembers is none.
    #[error("the database remembers no usable address of the relay: give --public-url")]
    PublicUrl(#[from] PublicUrlError),
    /// The result cannot be written; what it tells of has happened.
    #[error("the result cannot be printed: check what the change has done")]
    Output(#[from] io::Error),
}

impl SiteCommandError {
    /// What the process exits with: 2 for a mistake on the command line, otherwise 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NoDatabase => 2,
            Self::Open(_) | Self::Store(_) | Self::PublicUrl(_) | Self::Output(_) => 1,
        }
    }
}

/// Carries out one command and prints its result, with warnings for people apart from it.
///
/// # Errors
/// [`SiteCommandError`]; nothing has changed then, unless it is [`SiteCommandError::Output`].
pub async fn run(
    args: SiteArgs,
    out: &mut (dyn Write + Send),
    warnings: &mut (dyn Write + Send),
) -> Result<(), SiteCommandError> {
    let url = args.database.ok_or(SiteCommandError::NoDatabase)?;
    // A site may be added before the relay has ever run; every other command needs something to work on.
    let adds = matches!(args.command, SiteCommand::Add { .. });
    let if_missing = if adds { IfMissing::Create } else { IfMissing::Refuse };
    let store = store::open(&url, if_missing).await?;
    let report = Commands { store: store.clone(), warnings }.carry_out(args.command).await;
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
    warnings: &'a mut (dyn Write + Send),
}

impl Commands<'_> {
    async fn carry_out(mut self, command: SiteCommand) -> Result<Report, SiteCommandError> {
        let store = self.store.clone();
        match command {
            SiteCommand::Add { site, note, aliases, public_url } => {
                self.add(site, note, aliases, public_url).await
            }
            SiteCommand::List => {
                let sites = store.list().await?;
                Ok(Report::List(sites.iter().map(SiteReport::of).collect()))
            }
            SiteCommand::Show { site } => self.shown("", &site).await,
            SiteCommand::RotateKey { site, public_url } => self.rotate_key(site, public_url).await,
            SiteCommand::RevokeKey { site, key } => {
                let revoked = store.revoke_key(&site, key.as_deref()).await?.short();
                let site = SiteReport::of(&store.show(&site).await?);
                Ok(Report::Revoked { revoked, site })
            }
            SiteCommand::Disable { site } => {
                store.set_disabled(&site, true).await?;
                self.shown("disabled: its agents and searches are refused from now on", &site).await
            }
            SiteCommand::Enable { site } => {
                store.set_disabled(&site, false).await?;
                self.shown("enabled", &site).await
            }
            SiteCommand::Remove { site } => {
                store.remove(&site).await?;
                Ok(Report::Removed { site, removed: true })
            }
            SiteCommand::Alias(AliasCommand::Add { site, alias }) => {
                store.add_alias(&site, &alias).await?;
                self.shown("the alias is added", &site).await
            }
            SiteCommand::Alias(AliasCommand::Remove { site, alias }) => {
                store.remove_alias(&site, &alias).await?;
                self.shown("the alias is removed", &site).await
            }
        }
    }

    async fn shown(&self, done: &'static str, site: &SiteId) -> Result<Report, SiteCommandError> {
        let site = SiteReport::of(&self.store.show(site).await?);
        Ok(Report::Site { done, site })
    }

    async fn add(
        &mut self,
        site: SiteId,
        note: String,
        aliases: Vec<Alias>,
        public_url: Option<PublicUrl>,
    ) -> Result<Report, SiteCommandError> {
        let key = mint_key(site.clone());
        let token = mint_search_token();
        let aliases = aliases.into_iter().collect::<BTreeSet<_>>();
        let new = NewSite { site: site.clone(), note, aliases, key: key.digest() };
        let url = self.public_url(public_url).await?;
        self.store.add_site(&new).await?;
        Ok(Report::Added {
            site_key: key.reveal(),
            search_url: url.search(&site),
            agent_command: queuemetrics::agent_command(&url, &key, Some(&token)).to_string(),
            queuemetrics: queuemetrics::properties(&url, &site, &token),
            search_token: token.to_string(),
            site,
        })
    }

    async fn rotate_key(
        &mut self,
        site: SiteId,
        public_url: Option<PublicUrl>,
    ) -> Result<Report, SiteCommandError> {
        let key = mint_key(site.clone());
        let url = self.public_url(public_url).await?;
        let dropped = self.store.rotate_key(&site, &key.digest()).await?;
        Ok(Report::Rotated {
            site_key: key.reveal(),
            agent_command: queuemetrics::agent_command(&url, &key, None).to_string(),
            dropped: dropped.iter().map(|key| key.short()).collect(),
            site: SiteReport::of(&self.store.show(&site).await?),
        })
    }

    /// What was given, otherwise what the relay was last started with. Without either the site is added all the
    /// same: its secrets are what cannot be had twice, an address is easily filled in.
    async fn public_url(&mut self, given: Option<PublicUrl>) -> Result<PublicUrl, SiteCommandError> {
        if let Some(url) = given {
            return Ok(url);
        }
        if let Some(text) = self.store.public_url().await? {
            return Ok(text.parse()?);
        }
        writeln!(
            self.warnings,
            "warning: the address of the relay is not known yet: put it in place of {}, or give --public-url",
            queuemetrics::UNKNOWN_RELAY
        )?;
        Ok(queuemetrics::UNKNOWN_RELAY.parse()?)
    }
}

fn mint_key(site: SiteId) -> SiteKey {
    let secret: Zeroizing<[u8; SITE_SECRET_LEN]> = Zeroizing::new(rand::random());
    SiteKey::from_secret(site, *secret)
}

fn mint_search_token() -> Zeroizing<String> {
    let octets: Zeroizing<[u8; SEARCH_TOKEN_LEN]> = Zeroizing::new(rand::random());
    Zeroizing::new(BASE32_NOPAD.encode(octets.as_slice()).to_ascii_lowercase())
}

#[cfg(test)]
mod tests;
