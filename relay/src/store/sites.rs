//! Sites, their names, and the digests of their keys. Values from rows are checked because a file can be edited by
//! hand.

use std::collections::{BTreeSet, HashMap};

use audiovault_protocol::identity::site::{Alias, KeyDigest, SiteId};
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use serde_json::{Value, json};
use sqlx::{Any, Row, Transaction, any::AnyRow};

use super::{GENERATION, Store, StoreError, corrupt, timestamp};
use crate::{
    model::operator_events::{Action, Actor, Entry},
    store,
};

/// The maximum number of valid keys of one site: the key in use, and the key that replaces it.
pub const MAX_VALID_KEYS: usize = 2;

/// A site that will be added.
#[derive(Debug, Clone)]
pub struct NewSite {
    /// The name of the site.
    pub site: SiteId,
    /// Free text for people.
    pub note: String,
    /// Further names that QueueMetrics may use for the site.
    pub aliases: BTreeSet<Alias>,
    /// Digest of the site's first key.
    pub key: KeyDigest,
}

impl NewSite {
    /// All names that QueueMetrics may use for the site.
    fn names(&self) -> impl Iterator<Item = &str> {
        [self.site.as_str()].into_iter().chain(self.aliases.iter().map(Alias::as_str))
    }
}

/// A site in the database.
#[derive(Debug, Clone)]
pub struct StoredSite {
    /// The name of the site.
    pub site: SiteId,
    /// Free text for people.
    pub note: String,
    /// When it was added.
    pub created: Timestamp,
    /// Since when the site is disabled. A disabled site is not served.
    pub disabled: Option<Timestamp>,
    /// Further names that QueueMetrics may use for the site.
    pub aliases: Vec<Alias>,
    /// The keys of the site, oldest first, revoked ones included.
    pub keys: Vec<StoredKey>,
}

impl StoredSite {
    /// The keys with which an agent may connect, oldest first; at most [`MAX_VALID_KEYS`].
    pub fn valid_keys(&self) -> impl DoubleEndedIterator<Item = &StoredKey> {
        self.keys.iter().filter(|key| key.revoked.is_none())
    }
}

/// A key in the database: its digest, never the secret.
#[derive(Debug, Clone)]
pub struct StoredKey {
    /// SHA-256 of the secret.
    pub digest: KeyDigest,
    /// When it was made.
    pub created: Timestamp,
    /// Since when it is no longer valid.
    pub revoked: Option<Timestamp>,
}

const SITES: &str = "SELECT site, note, created_ms, disabled_ms FROM sites ORDER BY site";
const SITE: &str = "SELECT site, note, created_ms, disabled_ms FROM sites WHERE site = $1";
const INSERT_SITE: &str = "INSERT INTO sites (site, note, created_ms) VALUES ($1, $2, $3)";
/// If a disabled site is disabled again, the time of the first disabling stays.
const DISABLE_SITE: &str = "UPDATE sites SET disabled_ms = COALESCE(disabled_ms, $2) WHERE site = $1";
const ENABLE_SITE: &str = "UPDATE sites SET disabled_ms = NULL WHERE site = $1";
const DELETE_SITE: &str = "DELETE FROM sites WHERE site = $1";

const NAMES: &str = "SELECT name, site FROM names ORDER BY name";
const NAMES_OF_SITE: &str = "SELECT name, site FROM names WHERE site = $1 ORDER BY name";
/// A name rests from its removal on. The site that had an alias may take it back, as long as it is still the
/// same site.
const RESTS: &str = "SELECT COUNT(*) FROM resting_names WHERE name = $1 AND removed_ms > $2 AND NOT (site = $3 AND name <> site \
     AND EXISTS (SELECT 1 FROM sites WHERE site = $3 AND created_ms <= removed_ms))";
const REST: &str = "INSERT INTO resting_names (name, site, removed_ms) SELECT name, site, $2 FROM names WHERE site = $1 \
     ON CONFLICT (name) DO UPDATE SET site = excluded.site, removed_ms = excluded.removed_ms";
const REST_ALIAS: &str = "INSERT INTO resting_names (name, site, removed_ms) VALUES ($1, $2, $3) \
     ON CONFLICT (name) DO UPDATE SET site = excluded.site, removed_ms = excluded.removed_ms";
const PRUNE_RESTING: &str = "DELETE FROM resting_names WHERE removed_ms <= $1";
const OWNER_OF_NAME: &str = "SELECT site FROM names WHERE name = $1";
const INSERT_NAME: &str = "INSERT INTO names (name, site) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
/// Never deletes the name of the site itself.
const DELETE_ALIAS: &str = "DELETE FROM names WHERE name = $1 AND site = $2 AND name <> site";

const KEYS: &str = "SELECT digest, site, created_ms, revoked_ms FROM site_keys ORDER BY site, seq";
const KEYS_OF_SITE: &str =
    "SELECT digest, site, created_ms, revoked_ms FROM site_keys WHERE site = $1 ORDER BY seq";
const INSERT_KEY: &str = "INSERT INTO site_keys (digest, site, seq, created_ms) \
     VALUES ($1, $2, (SELECT COALESCE(MAX(seq), 0) + 1 FROM site_keys WHERE site = $2), $3)";
const REVOKE_KEY: &str =
    "UPDATE site_keys SET revoked_ms = $3 WHERE site = $1 AND digest = $2 AND revoked_ms IS NULL";

/// All sites at one generation.
#[derive(Debug)]
pub struct LoadedSites {
    /// The generation of the sites.
    pub generation: i64,
    /// The sites, with their names and keys.
    pub sites: Vec<StoredSite>,
}

impl Store {
    /// Adds a site with its aliases and its first key.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`] if the site or one of the aliases is a name in use.
    pub async fn add_site(&self, actor: &Actor, new: &NewSite) -> Result<(), StoreError> {
        self.add_sites(actor, std::slice::from_ref(new)).await
    }

    /// Adds sites with their aliases and their first keys, all or none.
    ///
    /// # Errors
    /// As [`Store::add_site`].
    pub async fn add_sites(&self, actor: &Actor, new: &[NewSite]) -> Result<(), StoreError> {
        let mut change = self.change(actor).await?;
        for site in new {
            for name in site.names() {
                self.refuse_resting(&mut change, name, &site.site).await?;
            }
            insert_site(&mut change, site).await?;
        }
        change.commit(&new.iter().map(added).collect::<Vec<_>>()).await
    }

    /// All sites, in the order of their names.
    ///
    /// # Errors
    /// [`StoreError::Database`] if the database fails, and [`StoreError::Corrupt`] if a row cannot be read.
    pub async fn list(&self) -> Result<Vec<StoredSite>, StoreError> {
        let mut tx = self.snapshot().await?;
        let sites = sqlx::query(SITES).fetch_all(&mut *tx).await?;
        let names = sqlx::query(NAMES).fetch_all(&mut *tx).await?;
        let keys = sqlx::query(KEYS).fetch_all(&mut *tx).await?;
        from_rows(&sites, &names, &keys)
    }

    /// One site.
    ///
    /// # Errors
    /// [`StoreError::UnknownSite`].
    pub async fn show(&self, site: &SiteId) -> Result<StoredSite, StoreError> {
        let mut tx = self.snapshot().await?;
        stored(&mut tx, site).await
    }

    /// Adds a key. The previous key stays valid until it is revoked, or until the next rotation revokes it.
    /// Returns the keys that are revoked now.
    ///
    /// # Errors
    /// [`StoreError::UnknownSite`].
    pub async fn rotate_key(
        &self,
        actor: &Actor,
        site: &SiteId,
        key: &KeyDigest,
    ) -> Result<Vec<KeyDigest>, StoreError> {
        let mut tx = self.change(actor).await?;
        let now = Timestamp::now().as_millisecond();
        let stored = stored(&mut tx, site).await?;
        // One of the valid keys is the new one. Of the others, only the newest stays.
        let dropped: Vec<KeyDigest> =
            stored.valid_keys().rev().skip(MAX_VALID_KEYS - 1).map(|key| key.digest).collect();
        for old in &dropped {
            revoke(&mut tx, site, old, now).await?;
        }
        insert_key(&mut tx, site, key, now).await?;
        let valid = stored
            .valid_keys()
            .map(|key| key.digest)
            .filter(|key| !dropped.iter().any(|old| old.matches(key)));
        let entry = Entry::of_site(Action::KeyAdded, site)
            .before(keys(stored.valid_keys().map(|key| key.digest)))
            .after(keys(valid.chain([*key])));
        tx.commit(&[entry]).await?;
        Ok(dropped)
    }

    /// Revokes the valid key whose [`KeyDigest::short`] is given, or the oldest valid one if none is given.
    /// Returns the key.
    ///
    /// # Errors
    /// [`StoreError::UnknownSite`], [`StoreError::UnknownKey`], [`StoreError::NoValidKey`].
    pub async fn revoke_key(
        &self,
        actor: &Actor,
        site: &SiteId,
        short: Option<&str>,
    ) -> Result<KeyDigest, StoreError> {
        let mut tx = self.change(actor).await?;
        let stored = stored(&mut tx, site).await?;
        let found = match short {
            Some(short) => stored.valid_keys().find(|key| key.digest.short() == short),
            None => stored.valid_keys().next(),
        };
        let Some(key) = found.map(|key| key.digest) else {
            return Err(match short {
                Some(short) => StoreError::UnknownKey { site: site.clone(), id: short.to_owned() },
                None => StoreError::NoValidKey(site.clone()),
            });
        };
        revoke(&mut tx, site, &key, Timestamp::now().as_millisecond()).await?;
        let left = stored.valid_keys().map(|key| key.digest).filter(|valid| !valid.matches(&key));
        let entry = Entry::of_site(Action::KeyRevoked, site)
            .before(keys(stored.valid_keys().map(|key| key.digest)))
            .after(keys(left));
        tx.commit(&[entry]).await?;
        Ok(key)
    }

    /// Disables or enables a site. Doing so twice is not an error.
    ///
    /// # Errors
    /// [`StoreError::UnknownSite`].
    pub async fn set_disabled(&self, actor: &Actor, site: &SiteId, disabled: bool) -> Result<(), StoreError> {
        let mut tx = self.change(actor).await?;
        let before = stored(&mut tx, site).await?.disabled.is_some();
        let query = if disabled {
            sqlx::query(DISABLE_SITE).bind(site.as_str()).bind(Timestamp::now().as_millisecond())
        } else {
            sqlx::query(ENABLE_SITE).bind(site.as_str())
        };
        query.execute(&mut **tx).await?;
        let action = if disabled { Action::SiteDisabled } else { Action::SiteEnabled };
        let entry = Entry::of_site(action, site)
            .before(json!({ "disabled": before }))
            .after(json!({ "disabled": disabled }));
        tx.commit(&[entry]).await
    }

    /// Removes a site with its aliases and keys.
    ///
    /// # Errors
    /// [`StoreError::UnknownSite`].
    pub async fn remove(&self, actor: &Actor, site: &SiteId) -> Result<(), StoreError> {
        let mut tx = self.change(actor).await?;
        let before = stored(&mut tx, site).await?;
        let now = Timestamp::now().as_millisecond();
        sqlx::query(REST).bind(site.as_str()).bind(now).execute(&mut **tx).await?;
        sqlx::query(DELETE_SITE).bind(site.as_str()).execute(&mut **tx).await?;
        let entry = Entry::of_site(Action::SiteRemoved, site).before(json!({
            "note": before.note, "aliases": before.aliases, "created": before.created,
            "disabled": before.disabled.is_some(),
            "valid_keys": before.valid_keys().map(|key| key.digest.short()).collect::<Vec<_>>(),
        }));
        tx.commit(&[entry]).await
    }

    /// Adds an alias. An alias that the site already has is not an error.
    ///
    /// # Errors
    /// [`StoreError::UnknownSite`], [`StoreError::NameTaken`].
    pub async fn add_alias(&self, actor: &Actor, site: &SiteId, alias: &Alias) -> Result<(), StoreError> {
        let mut tx = self.change(actor).await?;
        stored(&mut tx, site).await?;
        self.refuse_resting(&mut tx, alias.as_str(), site).await?;
        if !insert_name(&mut tx, alias.as_str(), site).await? {
            let owner = owner(&mut tx, alias.as_str()).await?.unwrap_or_default();
            let already_its_alias = owner == site.as_str() && alias.as_str() != site.as_str();
            return if already_its_alias { Ok(()) } else { Err(taken(alias.as_str())) };
        }
        tx.commit(&[Entry::of_site(Action::AliasAdded, site).after(json!({ "alias": alias }))]).await
    }

    /// Removes an alias.
    ///
    /// # Errors
    /// [`StoreError::UnknownSite`], [`StoreError::UnknownAlias`].
    pub async fn remove_alias(&self, actor: &Actor, site: &SiteId, alias: &Alias) -> Result<(), StoreError> {
        let mut tx = self.change(actor).await?;
        stored(&mut tx, site).await?;
        let done =
            sqlx::query(DELETE_ALIAS).bind(alias.as_str()).bind(site.as_str()).execute(&mut **tx).await?;
        if done.rows_affected() == 0 {
            return Err(StoreError::UnknownAlias { site: site.clone(), alias: alias.clone() });
        }
        let now = Timestamp::now().as_millisecond();
        let rest = sqlx::query(REST_ALIAS).bind(alias.as_str()).bind(site.as_str()).bind(now);
        rest.execute(&mut **tx).await?;
        tx.commit(&[Entry::of_site(Action::AliasRemoved, site).before(json!({ "alias": alias }))]).await
    }

    /// Refuses a name that belonged to another site recently, or to another customer's site of the same name. A
    /// QueueMetrics that still searches under it would send that customer's token to the new site.
    async fn refuse_resting(
        &self,
        tx: &mut Transaction<'static, Any>,
        name: &str,
        site: &SiteId,
    ) -> Result<(), StoreError> {
        let since =
            Timestamp::now().as_millisecond() - i64::try_from(self.name_rest.as_millis()).unwrap_or(i64::MAX);
        let query = sqlx::query(RESTS).bind(name).bind(since).bind(site.as_str());
        let resting: i64 = query.fetch_one(&mut **tx).await?.try_get(0)?;
        if resting > 0 { Err(taken(name)) } else { Ok(()) }
    }

    /// Deletes names that have rested for long enough.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub(crate) async fn prune_resting_names(&self, now: Timestamp) -> Result<(), StoreError> {
        let since = now.as_millisecond() - i64::try_from(self.name_rest.as_millis()).unwrap_or(i64::MAX);
        sqlx::query(PRUNE_RESTING).bind(since).execute(&self.pool).await?;
        Ok(())
    }

    /// All sites, and their generation.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn load(&self) -> Result<LoadedSites, StoreError> {
        // One transaction reads from one snapshot, so the generation belongs to exactly these rows.
        let mut tx = self.snapshot().await?;
        let generation: i64 = sqlx::query(GENERATION).fetch_one(&mut *tx).await?.try_get(0)?;
        let sites = sqlx::query(SITES).fetch_all(&mut *tx).await?;
        let names = sqlx::query(NAMES).fetch_all(&mut *tx).await?;
        let keys = sqlx::query(KEYS).fetch_all(&mut *tx).await?;
        Ok(LoadedSites { generation, sites: from_rows(&sites, &names, &keys)? })
    }
}

async fn insert_site(tx: &mut Transaction<'static, Any>, new: &NewSite) -> Result<(), StoreError> {
    let now = Timestamp::now().as_millisecond();
    // Check the name first: an alias of another site is not in the table of sites.
    if owner(tx, new.site.as_str()).await?.is_some() {
        return Err(taken(new.site.as_str()));
    }
    sqlx::query(INSERT_SITE).bind(new.site.as_str()).bind(&new.note).bind(now).execute(&mut **tx).await?;
    insert_name(tx, new.site.as_str(), &new.site).await?;
    for alias in &new.aliases {
        if !insert_name(tx, alias.as_str(), &new.site).await? {
            return Err(taken(alias.as_str()));
        }
    }
    insert_key(tx, &new.site, &new.key, now).await
}

/// A site with its names and keys, as the transaction sees it.
pub(super) async fn stored(
    tx: &mut Transaction<'static, Any>,
    site: &SiteId,
) -> Result<StoredSite, StoreError> {
    let row: Option<AnyRow> = sqlx::query(SITE).bind(site.as_str()).fetch_optional(&mut **tx).await?;
    let row = row.ok_or_else(|| StoreError::UnknownSite(site.clone()))?;
    let names = sqlx::query(NAMES_OF_SITE).bind(site.as_str()).fetch_all(&mut **tx).await?;
    let keys = sqlx::query(KEYS_OF_SITE).bind(site.as_str()).fetch_all(&mut **tx).await?;
    from_rows(&[row], &names, &keys)?.pop().ok_or_else(|| StoreError::UnknownSite(site.clone()))
}

async fn owner(tx: &mut Transaction<'static, Any>, name: &str) -> Result<Option<String>, StoreError> {
    let row = sqlx::query(OWNER_OF_NAME).bind(name).fetch_optional(&mut **tx).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// Adds a name. Returns false if it was not free.
async fn insert_name(
    tx: &mut Transaction<'static, Any>,
    name: &str,
    site: &SiteId,
) -> Result<bool, StoreError> {
    let done = sqlx::query(INSERT_NAME).bind(name).bind(site.as_str()).execute(&mut **tx).await?;
    Ok(done.rows_affected() == 1)
}

/// Adds a key to a site. Check before that there is room for it.
pub(super) async fn insert_key(
    tx: &mut Transaction<'static, Any>,
    site: &SiteId,
    key: &KeyDigest,
    now_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query(INSERT_KEY)
        .bind(digest_text(key))
        .bind(site.as_str())
        .bind(now_ms)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn revoke(
    tx: &mut Transaction<'static, Any>,
    site: &SiteId,
    key: &KeyDigest,
    now_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query(REVOKE_KEY)
        .bind(site.as_str())
        .bind(digest_text(key))
        .bind(now_ms)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

fn added(new: &NewSite) -> Entry {
    Entry::of_site(Action::SiteAdded, &new.site).after(json!({
        "note": new.note, "aliases": new.aliases, "valid_keys": [new.key.short()],
    }))
}

/// The valid keys of a site, by the ids that the pages show.
pub(super) fn keys(valid: impl Iterator<Item = KeyDigest>) -> Value {
    json!({ "valid_keys": valid.map(|key| key.short()).collect::<Vec<_>>() })
}

fn taken(name: &str) -> StoreError {
    StoreError::NameTaken(name.to_owned())
}

/// Builds sites from the rows of three queries, in the order of the first: (site, note, created, disabled),
/// (name, site) and (digest, site, created, revoked).
fn from_rows(sites: &[AnyRow], names: &[AnyRow], keys: &[AnyRow]) -> Result<Vec<StoredSite>, StoreError> {
    let mut aliases: HashMap<String, Vec<Alias>> = HashMap::new();
    for row in names {
        let (name, site): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        if name != site {
            let alias = Alias::parse(&name).map_err(|_| corrupt("name"))?;
            aliases.entry(site).or_default().push(alias);
        }
    }
    let mut keys_of: HashMap<String, Vec<StoredKey>> = HashMap::new();
    for row in keys {
        let key = StoredKey {
            digest: digest(&row.try_get::<String, _>(0)?)?,
            created: timestamp(row.try_get(2)?)?,
            revoked: row.try_get::<Option<i64>, _>(3)?.map(timestamp).transpose()?,
        };
        keys_of.entry(row.try_get(1)?).or_default().push(key);
    }
    sites
        .iter()
        .map(|row| {
            let site: String = row.try_get(0)?;
            Ok(StoredSite {
                note: row.try_get(1)?,
                created: timestamp(row.try_get(2)?)?,
                disabled: row.try_get::<Option<i64>, _>(3)?.map(timestamp).transpose()?,
                aliases: aliases.remove(&site).unwrap_or_default(),
                keys: keys_of.remove(&site).unwrap_or_default(),
                site: store::site(&site)?,
            })
        })
        .collect()
}

/// A digest in the form that the database stores.
pub(super) fn digest_text(digest: &KeyDigest) -> String {
    HEXLOWER.encode(digest.as_bytes())
}

/// Reads the text that [`digest_text`] wrote.
pub(super) fn digest(text: &str) -> Result<KeyDigest, StoreError> {
    HEXLOWER
        .decode(text.as_bytes())
        .ok()
        .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
        .map(KeyDigest::from_bytes)
        .ok_or_else(|| corrupt("key digest"))
}
