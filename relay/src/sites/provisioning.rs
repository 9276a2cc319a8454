//! Makes sites and keys, in the same way for the command line, the pages and the API. Secrets are made here, shown
//! once and stored nowhere; the store has only their digests.

use std::{collections::BTreeSet, fmt};

use audiovault_protocol::identity::site::{Alias, SITE_SECRET_LEN, SiteId, SiteKey};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::{
    model::{operator_events::Actor, secret::Secret},
    net::public_url::PublicUrl,
    sites::queuemetrics,
    store::{NewSite, Store, StoreError},
};

/// A site that should be added.
#[derive(Debug, Clone)]
pub struct WantedSite {
    /// Name of the site.
    pub site: SiteId,
    /// The operator's note on the site.
    pub note: String,
    /// Other names under which QueueMetrics can search the site.
    pub aliases: BTreeSet<Alias>,
}

/// A site that was added, with the secrets and commands that are shown only once.
#[derive(Serialize, utoipa::ToSchema)]
pub struct AddedSite {
    /// Name of the site.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// The site key for the site's agent.
    pub site_key: String,
    /// A search token for the site's agent and its QueueMetrics. The relay does not store it.
    pub search_token: String,
    /// The address for searches in QueueMetrics.
    pub search_url: String,
    /// The command that starts the agent.
    pub agent_command: String,
    /// The block for QueueMetrics' `configuration.properties`.
    pub queuemetrics: String,
}

/// A site key that was added.
#[derive(Serialize, utoipa::ToSchema)]
pub struct AddedKey {
    /// The site key for the site's agent.
    pub site_key: String,
    /// The command that starts the agent.
    pub agent_command: String,
    /// Ids of keys that are no longer valid because of this one.
    pub dropped: Vec<String>,
}

// Does not show the secrets.
impl fmt::Debug for AddedSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddedSite").field("site", &self.site).finish_non_exhaustive()
    }
}

// Does not show the secrets.
impl fmt::Debug for AddedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddedKey").field("dropped", &self.dropped).finish_non_exhaustive()
    }
}

/// Adds a site with a key and a search token.
///
/// # Errors
/// As [`Store::add_sites`].
pub async fn add_site(
    store: &Store,
    actor: &Actor,
    url: &PublicUrl,
    wanted: WantedSite,
) -> Result<AddedSite, StoreError> {
    let added = add_sites(store, actor, url, vec![wanted.clone()]).await?.pop();
    added.ok_or(StoreError::UnknownSite(wanted.site))
}

/// Adds sites, all or none.
///
/// # Errors
/// As [`Store::add_sites`].
pub async fn add_sites(
    store: &Store,
    actor: &Actor,
    url: &PublicUrl,
    wanted: Vec<WantedSite>,
) -> Result<Vec<AddedSite>, StoreError> {
    let mut new = Vec::with_capacity(wanted.len());
    let mut added = Vec::with_capacity(wanted.len());
    for WantedSite { site, note, aliases } in wanted {
        let key = mint_key(site.clone());
        let token = Secret::mint().reveal();
        added.push(AddedSite {
            site_key: key.reveal(),
            search_url: url.search(&site),
            agent_command: queuemetrics::agent_command(url, &key, Some(&token)).to_string(),
            queuemetrics: queuemetrics::properties(url, &site, &token),
            search_token: token.to_string(),
            site: site.clone(),
        });
        new.push(NewSite { site, note, aliases, key: key.digest() });
    }
    store.add_sites(actor, &new).await?;
    Ok(added)
}

/// Gives a site a new key. The previous one stays valid until it is revoked or until the next rotation.
///
/// # Errors
/// As [`Store::rotate_key`].
pub async fn rotate_key(
    store: &Store,
    actor: &Actor,
    url: &PublicUrl,
    site: &SiteId,
) -> Result<AddedKey, StoreError> {
    let key = mint_key(site.clone());
    let dropped = store.rotate_key(actor, site, &key.digest()).await?;
    Ok(AddedKey {
        site_key: key.reveal(),
        agent_command: queuemetrics::agent_command(url, &key, None).to_string(),
        dropped: dropped.iter().map(|key| key.short()).collect(),
    })
}

fn mint_key(site: SiteId) -> SiteKey {
    let secret: Zeroizing<[u8; SITE_SECRET_LEN]> = Zeroizing::new(rand::random());
    SiteKey::from_secret(site, *secret)
}
