//! The sites of this relay as one immutable snapshot in memory.
//!
//! Every public request and every tunnel is checked against the current snapshot, without touching the database.
//! [`DirectoryWatch`] replaces the snapshot when the database has changed.

mod watch;

use std::collections::HashMap;

use audiovault_protocol::identity::site::{Alias, KeyDigest, SiteId, SiteKey};
use jiff::Timestamp;

pub use self::watch::{DirectoryWatch, Refresher, Unreadable};
use crate::store::LoadedSites;

/// Why an agent may not connect for a site, or may no longer stay connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefused {
    /// The site does not exist, or the key is not, or no longer, one of its keys. Both give the same error, so that a
    /// client without a key cannot find out which sites exist.
    #[error("the site key is not valid: rotate the key of the site and give the agent the new one")]
    Unknown,
    /// The key is correct, but the operator has disabled the site.
    #[error("the site is disabled: ask the operator of the relay to enable it")]
    Disabled,
}

/// What the relay knows about one site.
#[derive(Debug, Clone)]
pub struct SiteRecord {
    /// The operator's note on the site.
    pub note: String,
    /// When the site was added.
    pub created: Timestamp,
    /// Since when the operator has disabled the site: its tunnels are refused and none of its recordings is served.
    pub disabled: Option<Timestamp>,
    /// The aliases of the site, in alphabetical order.
    pub aliases: Vec<Alias>,
    /// Digests of the keys with which an agent may connect now.
    valid_keys: Vec<KeyDigest>,
}

/// An immutable snapshot of all sites at one generation of the store.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    generation: i64,
    sites: HashMap<SiteId, SiteRecord>,
    /// The sites by their names and aliases, in lower case.
    names: HashMap<String, SiteId>,
}

impl Directory {
    /// A snapshot of these sites.
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

    /// The generation of the store that this snapshot shows.
    pub fn generation(&self) -> i64 {
        self.generation
    }

    /// The site with this name or alias, ignoring case. Disabled sites are found too.
    pub fn find(&self, name: &str) -> Option<SiteId> {
        self.names.get(&name.to_ascii_lowercase()).cloned()
    }

    /// What is known about a site.
    pub fn site(&self, site: &SiteId) -> Option<&SiteRecord> {
        self.sites.get(site)
    }

    /// Every site, in no particular order.
    pub fn sites(&self) -> impl ExactSizeIterator<Item = (&SiteId, &SiteRecord)> {
        self.sites.iter()
    }

    /// Checks the key that an agent presents, in a time that does not depend on how much of it is correct. Returns the
    /// digest, with which a live tunnel is checked later: see [`Directory::standing`].
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
        // Every key is compared, even after a match, so that the time does not depend on the position.
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
