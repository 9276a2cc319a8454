//! Converts rows to values. The values are checked because a file can be edited by hand.

use std::collections::HashMap;

use audiovault_protocol::identity::site::{Alias, KeyDigest};
use data_encoding::HEXLOWER;
use sqlx::{Row, any::AnyRow};

use super::{StoredKey, StoredSite};
use crate::store::{self, StoreError, corrupt, timestamp};

/// Builds sites from the rows of three queries, in the order of the first: (site, note, created, disabled),
/// (name, site) and (digest, site, created, revoked).
pub(super) fn sites(
    sites: &[AnyRow],
    names: &[AnyRow],
    keys: &[AnyRow],
) -> Result<Vec<StoredSite>, StoreError> {
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
pub(in crate::store) fn digest_text(digest: &KeyDigest) -> String {
    HEXLOWER.encode(digest.as_bytes())
}

/// Reads the text that [`digest_text`] wrote.
pub(in crate::store) fn digest(text: &str) -> Result<KeyDigest, StoreError> {
    HEXLOWER
        .decode(text.as_bytes())
        .ok()
        .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
        .map(KeyDigest::from_bytes)
        .ok_or_else(|| corrupt("key digest"))
}
