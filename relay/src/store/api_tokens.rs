//! API tokens, with which programs authenticate.

use jiff::Timestamp;
use sqlx::{Row, any::AnyRow};

use super::{Store, StoreError, timestamp, users};
use crate::model::{
    account::{Name, Rights, Scope},
    operator_events::{self, Action, Actor, Entry},
    secret::SecretDigest,
};

/// An API token that will be added.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// The name of the token.
    pub name: Name,
    /// Digest of the token's secret.
    pub digest: SecretDigest,
    /// What the token allows.
    pub rights: Rights,
    /// When the token expires.
    pub expires: Timestamp,
    /// The user who owns the token. `None` if it was made on the command line.
    pub owner: Option<Name>,
}

/// An API token in the database: its digest, never the secret.
#[derive(Debug, Clone)]
pub struct StoredToken {
    /// The name of the token.
    pub name: Name,
    /// What the token allows.
    pub rights: Rights,
    /// When the token was made.
    pub created: Timestamp,
    /// When the token expires.
    pub expires: Option<Timestamp>,
    /// When the token was last used, to the minute.
    pub last_used: Option<Timestamp>,
    /// The user who owns the token. `None` if it was made on the command line.
    pub owner: Option<Name>,
}

/// An API token that a client has presented, and that is valid.
#[derive(Debug, Clone)]
pub(crate) struct ValidToken {
    /// The name of the token.
    pub(crate) name: Name,
    /// What the token allows now: no more than its owner may do.
    pub(crate) rights: Rights,
    /// The user who owns the token.
    pub(crate) owner: Option<Name>,
    /// When the token was last used, to the minute.
    pub(crate) last_used: Option<Timestamp>,
}

const TOKENS: &str = "SELECT name, role, all_sites, playback, created_ms, expires_ms, used_ms, owner FROM api_tokens ORDER BY name";
const ALL_TOKEN_SITES: &str = "SELECT name, site FROM api_token_sites";
const TOKEN_SITES: &str = "SELECT site FROM api_token_sites WHERE name = $1";
const TOKEN: &str = "SELECT name, role, all_sites, playback, used_ms, owner FROM api_tokens \
     WHERE digest = $1 AND expires_ms > $2";
const INSERT: &str = "INSERT INTO api_tokens (name, digest, role, all_sites, playback, created_ms, expires_ms, owner) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (name) DO NOTHING";
const INSERT_TOKEN_SITE: &str = "INSERT INTO api_token_sites (name, site) VALUES ($1, $2)";
const DELETE: &str = "DELETE FROM api_tokens WHERE name = $1";
const USED: &str = "UPDATE api_tokens SET used_ms = $2 WHERE digest = $1";

impl Store {
    /// All API tokens, by name, including expired ones.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn tokens(&self) -> Result<Vec<StoredToken>, StoreError> {
        let sites = sqlx::query(ALL_TOKEN_SITES).fetch_all(&self.pool).await?;
        let mut sites = users::sites_by_name(sites)?;
        let rows = sqlx::query(TOKENS).fetch_all(&self.pool).await?;
        let time = |row: &AnyRow, column: usize| -> Result<Option<Timestamp>, StoreError> {
            row.try_get::<Option<i64>, _>(column)?.map(timestamp).transpose()
        };
        let token = |row: &AnyRow| {
            let name = row.try_get::<String, _>(0)?;
            Ok(StoredToken {
                name: users::name(&name)?,
                rights: users::rights(row, 1, sites.remove(&name).unwrap_or_default())?,
                created: timestamp(row.try_get(4)?)?,
                expires: time(row, 5)?,
                last_used: time(row, 6)?,
                owner: owner(row, 7)?,
            })
        };
        rows.iter().map(token).collect()
    }

    /// Adds an API token.
    ///
    /// # Errors
    /// [`StoreError::TokenExists`]; [`StoreError::UnknownUser`] if the owner does not exist;
    /// [`StoreError::UnknownSite`] if the scope has sites that do not exist.
    pub async fn add_token(&self, actor: &Actor, new: &NewToken) -> Result<(), StoreError> {
        let mut tx = self.locked(actor).await?;
        if let Some(owner) = &new.owner {
            users::stored(&mut tx, owner).await?;
        }
        let query = sqlx::query(INSERT)
            .bind(new.name.as_str())
            .bind(new.digest.as_str())
            .bind(new.rights.role.as_str())
            .bind(i64::from(new.rights.scope == Scope::All))
            .bind(i64::from(new.rights.playback))
            .bind(Timestamp::now().as_millisecond())
            .bind(new.expires.as_millisecond())
            .bind(new.owner.as_ref().map(Name::as_str));
        if query.execute(&mut **tx).await?.rows_affected() == 0 {
            return Err(StoreError::TokenExists(new.name.clone()));
        }
        users::insert_sites(&mut tx, INSERT_TOKEN_SITE, &new.name, &new.rights.scope).await?;
        let mut after = operator_events::rights(&new.rights);
        after["expires"] = serde_json::json!(new.expires);
        after["owner"] = serde_json::json!(new.owner);
        tx.commit(&[Entry::of(Action::TokenAdded, new.name.as_str()).after(after)]).await
    }

    /// Removes an API token. It is invalid at once.
    ///
    /// # Errors
    /// [`StoreError::UnknownToken`].
    pub async fn remove_token(&self, actor: &Actor, name: &Name) -> Result<(), StoreError> {
        let mut tx = self.locked(actor).await?;
        let done = sqlx::query(DELETE).bind(name.as_str()).execute(&mut **tx).await?;
        if done.rows_affected() == 0 {
            return Err(StoreError::UnknownToken(name.clone()));
        }
        tx.commit(&[Entry::of(Action::TokenRemoved, name.as_str())]).await
    }

    /// The token with this digest, if it is valid now.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub(crate) async fn valid_token(
        &self,
        digest: &SecretDigest,
        now: Timestamp,
    ) -> Result<Option<ValidToken>, StoreError> {
        let query = sqlx::query(TOKEN).bind(digest.as_str()).bind(now.as_millisecond());
        let Some(row) = query.fetch_optional(&self.pool).await? else { return Ok(None) };
        let name = users::name(&row.try_get::<String, _>(0)?)?;
        let sites = sqlx::query(TOKEN_SITES).bind(name.as_str()).fetch_all(&self.pool).await?;
        let last_used = row.try_get::<Option<i64>, _>(4)?.map(timestamp).transpose()?;
        let mut rights = users::rights(&row, 1, users::sites_of(&sites)?)?;
        let owner = owner(&row, 5)?;
        if let Some(owner) = &owner {
            rights = match self.user(owner).await {
                Ok(user) => rights.within(&user.rights),
                // The owner was removed after the token was read, and the token with them.
                Err(StoreError::UnknownUser(_)) => return Ok(None),
                Err(error) => return Err(error),
            };
        }
        Ok(Some(ValidToken { name, rights, owner, last_used }))
    }

    /// Stores that an API token was used.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub(crate) async fn touch_token(&self, digest: &SecretDigest, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query(USED).bind(digest.as_str()).bind(now.as_millisecond()).execute(&self.pool).await?;
        Ok(())
    }
}

fn owner(row: &AnyRow, column: usize) -> Result<Option<Name>, StoreError> {
    row.try_get::<Option<String>, _>(column)?.map(|name| users::name(&name)).transpose()
}
