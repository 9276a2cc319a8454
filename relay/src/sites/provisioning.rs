//! Makes sites, keys and enrolment codes, in the same way for the command line, the pages and the API, and trades
//! codes for keys for the public listener. Secrets are made here, shown once and stored nowhere; the store has only
//! their digests.

use std::{collections::BTreeSet, fmt, io, net::IpAddr};

use audiovault_protocol::identity::{
    enrolment::{CODE_LIFETIME, EnrolmentCode},
    site::{Alias, KeyDigest, SITE_SECRET_LEN, SiteId, SiteKey},
};
use jiff::Timestamp;
use serde::Serialize;
use zeroize::Zeroizing;

use super::queuemetrics;
use crate::{
    model::{
        operator_events::{Actor, ActorKind},
        secret::Secret,
    },
    net::public_url::PublicUrl,
    store::{NewCode, NewSite, Store, StoreError, Trade},
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
    let site = wanted.site.clone();
    let PreparedSites { new, mut added } = prepare_sites(url, vec![wanted]);
    store.add_sites(actor, &new).await?;
    added.pop().ok_or(StoreError::UnknownSite(site))
}

/// Why sites were not added.
#[derive(Debug, thiserror::Error)]
pub enum AddSitesError {
    /// Their secrets cannot be kept.
    #[error("cannot keep the secrets of the sites")]
    Secrets(#[source] io::Error),
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Adds sites, all or none, after `keep` has stored their secrets: a key that is lost cannot be shown again. If the
/// sites are not added, the stored secrets are worthless.
///
/// # Errors
/// [`AddSitesError`]. Nothing has changed then.
pub async fn add_sites(
    store: &Store,
    actor: &Actor,
    url: &PublicUrl,
    wanted: Vec<WantedSite>,
    keep: impl FnOnce(&[AddedSite]) -> io::Result<()>,
) -> Result<Vec<AddedSite>, AddSitesError> {
    let PreparedSites { new, added } = prepare_sites(url, wanted);
    keep(&added).map_err(AddSitesError::Secrets)?;
    store.add_sites(actor, &new).await?;
    Ok(added)
}

/// Sites with new secrets: as the store keeps them, and as their operator gets them.
struct PreparedSites {
    new: Vec<NewSite>,
    added: Vec<AddedSite>,
}

fn prepare_sites(url: &PublicUrl, wanted: Vec<WantedSite>) -> PreparedSites {
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
    PreparedSites { new, added }
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

/// An enrolment code that was made.
#[derive(Serialize, utoipa::ToSchema)]
pub struct AddedCode {
    /// Name of the site.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// The code, for the person who installs the site's agent.
    pub code: String,
    /// When the code expires.
    pub expires: Timestamp,
    /// The command that installs the agent with this code.
    pub install_command: String,
}

// Does not show the code.
impl fmt::Debug for AddedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddedCode").field("site", &self.site).finish_non_exhaustive()
    }
}

/// Makes a code for a site. It replaces the site's unused codes.
///
/// # Errors
/// As [`Store::add_code`].
pub async fn add_code(
    store: &Store,
    actor: &Actor,
    url: &PublicUrl,
    site: &SiteId,
) -> Result<AddedCode, StoreError> {
    let code = EnrolmentCode::from_random(rand::random());
    let created = Timestamp::now();
    let expires = created + CODE_LIFETIME;
    // Only users and tokens have names here; the page itself says if a code was made on the command line.
    let created_by = actor.name.parse().ok().filter(|_| actor.kind != ActorKind::CommandLine);
    let new = NewCode { digest: code.digest(), created_by, created, expires };
    store.add_code(actor, site, &new).await?;
    let install_command = queuemetrics::agent_install(url, &code);
    Ok(AddedCode { site: site.clone(), code: code.to_string(), expires, install_command })
}

/// Uses up a code and returns a new key of its site.
///
/// # Errors
/// As [`Store::trade_code`].
pub async fn trade_code(store: &Store, code: &EnrolmentCode, from: IpAddr) -> Result<SiteKey, StoreError> {
    let secret: Zeroizing<[u8; SITE_SECRET_LEN]> = Zeroizing::new(rand::random());
    let key = KeyDigest::of_secret(&secret);
    let trade = Trade { digest: code.digest(), key, from, now: Timestamp::now() };
    let site = store.trade_code(&Actor::at(ActorKind::Agent, "enrolment", from), &trade).await?;
    Ok(SiteKey::from_secret(site, *secret))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fresh::{Fresh, operator};

    #[tokio::test]
    async fn sites_whose_secrets_cannot_be_kept_are_not_added() {
        let fresh = Fresh::new().await;
        let store = fresh.open().await;
        let url: PublicUrl = "https://relay.example.com".parse().unwrap();
        let wanted = |name| WantedSite {
            site: SiteId::parse(name).unwrap(),
            note: String::new(),
            aliases: BTreeSet::new(),
        };
        let full = |_: &[AddedSite]| Err(io::Error::from(io::ErrorKind::StorageFull));
        let refused = add_sites(&store, &operator(), &url, vec![wanted("acme"), wanted("beta")], full).await;
        assert!(matches!(refused, Err(AddSitesError::Secrets(_))));
        assert!(store.list().await.unwrap().is_empty(), "such a site would have a key that is lost");

        let mut kept = Vec::new();
        let keep = |added: &[AddedSite]| {
            kept.extend(added.iter().map(|site| site.site_key.to_string()));
            Ok(())
        };
        let added = add_sites(&store, &operator(), &url, vec![wanted("acme")], keep).await.unwrap();
        assert_eq!(kept, [added[0].site_key.to_string()]);
        assert_eq!(store.list().await.unwrap().len(), 1);
    }
}
