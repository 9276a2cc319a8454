//! The sites of this relay as one immutable picture in memory.
//!
//! Every public request and every tunnel is judged against the current picture, without touching the database;
//! [`DirectoryWatch`] puts a new one in its place when the database has changed.

mod watch;

use std::collections::HashMap;

use audiovault_protocol::site::{Alias, KeyDigest, SiteId, SiteKey};
use jiff::Timestamp;

pub use self::watch::{DirectoryWatch, Refresher, Unreadable};
use crate::store::LoadedSites;

/// Why an agent may not speak for a site (any longer).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefused {
    /// There is no such site, or the key is not, or no longer, one of its keys. One answer for both: who holds no
    /// key learns nothing about which sites exist.
    #[error("the site key is not valid: rotate the key of the site and give the agent the new one")]
    Unknown,
    /// The key is right, but the operator has disabled the site.
    #[error("the site is disabled: ask the operator of the relay to enable it")]
    Disabled,
}

/// What the relay knows of one site.
#[derive(Debug, Clone)]
pub struct SiteRecord {
    /// Free text for people.
    pub note: String,
    /// When it was added.
    pub created: Timestamp,
    /// Since when the operator has it disabled: its tunnels are refused and nothing of it is served.
    pub disabled: Option<Timestamp>,
    /// Its aliases, in alphabetical order.
    pub aliases: Vec<Alias>,
    /// Digests of the keys by which an agent may connect now.
    valid_keys: Vec<KeyDigest>,
}

/// An immutable picture of all sites at one generation of the store.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    generation: i64,
    sites: HashMap<SiteId, SiteRecord>,
    /// Sites and aliases, in lower case.
    names: HashMap<String, SiteId>,
}

impl Directory {
    /// A picture of these sites.
    pub fn new(loaded: LoadedSites) -> Self {
        let LoadedSites { generation, sites: stored } = loaded;
        let mut names = HashMap::new();
        let mut sites = HashMap::with_capacity(stored.len());
        for site in stored {
            let valid_keys = site.valid_keys().map(|key| key.digest).collect();
            names.insert(site.site.as_str().to_owned(), site.site.clone());
            for alias in &site.aliases {
                names.insert(alias.as_str().to_owned(), site.site.clone());
            }
            let record = SiteRecord {
                note: site.note,
                created: site.created,
                disabled: site.disabled,
                aliases: site.aliases,
                valid_keys,
            };
            sites.insert(site.site, record);
        }
        Self { generation, sites, names }
    }

    /// The generation of the store that this is a picture of.
    pub fn generation(&self) -> i64 {
        self.generation
    }

    /// The site that answers to a name: its own or an alias, without regard to case. Disabled sites are found too.
    pub fn find(&self, name: &str) -> Option<SiteId> {
        self.names.get(&name.to_ascii_lowercase()).cloned()
    }

    /// What is known of a site.
    pub fn site(&self, site: &SiteId) -> Option<&SiteRecord> {
        self.sites.get(site)
    }

    /// Every site, in no particular order.
    pub fn sites(&self) -> impl ExactSizeIterator<Item = (&SiteId, &SiteRecord)> {
        self.sites.iter()
    }

    /// Judges the key that an agent presents, in a time that does not depend on how much of it is right. The
    /// digest is what a live tunnel is judged by later, with [`Directory::standing`].
    ///
    /// # Errors
    /// [`KeyRefused`].
    pub fn verify_key(&self, key: &SiteKey) -> Result<KeyDigest, KeyRefused> {
        let digest = key.digest();
        self.standing(key.site(), &digest)?;
        Ok(digest)
    }

    /// Whether a tunnel that was opened with this key may stay.
    ///
    /// # Errors
    /// [`KeyRefused`].
    pub fn standing(&self, site: &SiteId, key: &KeyDigest) -> Result<(), KeyRefused> {
        let record = self.sites.get(site).ok_or(KeyRefused::Unknown)?;
        // Every key is compared, also after a match.
        let known = record.valid_keys.iter().fold(false, |known, valid| known | valid.matches(key));
        match (known, record.disabled.is_some()) {
            (false, _) => Err(KeyRefused::Unknown),
            (true, true) => Err(KeyRefused::Disabled),
            (true, false) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
