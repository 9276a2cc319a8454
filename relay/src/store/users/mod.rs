//! Users, and the set-up link that creates the first of them.

use std::collections::{BTreeMap, BTreeSet};

use audiovault_protocol::identity::site::SiteId;
use jiff::Timestamp;
use sqlx::{Any, Row, Transaction, any::AnyRow};

use super::{Store, StoreError, corrupt, site, timestamp};
use crate::model::{
    account::{Name, PasswordHash, Rights, Role, Scope},
    operator_events::{self, Action, Actor, Entry},
    secret::SecretDigest,
};

/// A user who will be added.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// The name to log in with.
    pub name: Name,
    /// What the user may do.
    pub rights: Rights,
    /// The hash of the password.
    pub password: PasswordHash,
}

/// A user in the database, without the password.
#[derive(Debug, Clone)]
pub struct StoredUser {
    /// The name to log in with.
    pub name: Name,
    /// What the user may do.
    pub rights: Rights,
    /// When the user was added.
    pub created: Timestamp,
    /// When the password was last set.
    pub password_set: Timestamp,
    /// When the user last logged in.
    pub last_login: Option<Timestamp>,
}

const USERS: &str =
    "SELECT name, role, all_sites, playback, created_ms, password_ms, login_ms FROM users ORDER BY name";
const USER: &str =
    "SELECT name, role, all_sites, playback, created_ms, password_ms, login_ms FROM users WHERE name = $1";
const TOKENS_OF: &str = "SELECT name FROM api_tokens WHERE owner = $1 ORDER BY name";
const HAS_USERS: &str = "SELECT COUNT(*) FROM users";
const PASSWORD: &str = "SELECT password FROM users WHERE name = $1";
const INSERT: &str = "INSERT INTO users (name, role, all_sites, playback, password, created_ms, password_ms) \
     VALUES ($1, $2, $3, $4, $5, $6, $6) ON CONFLICT (name) DO NOTHING";
const UPDATE: &str = "UPDATE users SET role = $2, all_sites = $3, playback = $4 WHERE name = $1";
const DELETE: &str = "DELETE FROM users WHERE name = $1";
const SET_PASSWORD: &str = "UPDATE users SET password = $2, password_ms = $3 WHERE name = $1";
const RENEW_HASH: &str = "UPDATE users SET password = $3 WHERE name = $1 AND password = $2";
const MANAGERS: &str = "SELECT COUNT(*) FROM users WHERE role = 'admin' AND all_sites = 1";
const ALL_USER_SITES: &str = "SELECT name, site FROM user_sites";
pub(super) const USER_SITES: &str = "SELECT site FROM user_sites WHERE name = $1";
const DELETE_USER_SITES: &str = "DELETE FROM user_sites WHERE name = $1";
const INSERT_USER_SITE: &str = "INSERT INTO user_sites (name, site) VALUES ($1, $2)";
const END_SESSIONS: &str = "DELETE FROM user_sessions WHERE name = $1";
const SET_LINK: &str = "INSERT INTO setup_link (id, digest, expires_ms) VALUES (1, $1, $2) \
     ON CONFLICT (id) DO UPDATE SET digest = excluded.digest, expires_ms = excluded.expires_ms";
const USE_LINK: &str = "DELETE FROM setup_link WHERE digest = $1 AND expires_ms > $2 \
     AND NOT EXISTS (SELECT 1 FROM users)";
const LINK_WORKS: &str = "SELECT COUNT(*) FROM setup_link WHERE digest = $1 AND expires_ms > $2 \
     AND NOT EXISTS (SELECT 1 FROM users)";
const SITE_EXISTS: &str = "SELECT COUNT(*) FROM sites WHERE site = $1";

impl Store {
    /// All users, by name.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn users(&self) -> Result<Vec<StoredUser>, StoreError> {
        let mut sites = sites_by_name(sqlx::query(ALL_USER_SITES).fetch_all(&self.pool).await?)?;
        let rows = sqlx::query(USERS).fetch_all(&self.pool).await?;
        rows.iter()
            .map(|row| {
                let name = row.try_get::<String, _>(0)?;
                stored_user(row, sites.remove(&name).unwrap_or_default())
            })
            .collect()
    }

    /// One user.
    ///
    /// # Errors
    /// [`StoreError::UnknownUser`].
    pub async fn user(&self, name: &Name) -> Result<StoredUser, StoreError> {
        let row = sqlx::query(USER).bind(name.as_str()).fetch_optional(&self.pool).await?;
        let row = row.ok_or_else(|| StoreError::UnknownUser(name.clone()))?;
        let sites = sqlx::query(USER_SITES).bind(name.as_str()).fetch_all(&self.pool).await?;
        stored_user(&row, sites_of(&sites)?)
    }

    /// True if there is at least one user.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn has_users(&self) -> Result<bool, StoreError> {
        let row = sqlx::query(HAS_USERS).fetch_one(&self.pool).await?;
        Ok(row.try_get::<i64, _>(0)? > 0)
    }

    /// The hash of a user's password, if the user exists.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn password_of(&self, name: &Name) -> Result<Option<PasswordHash>, StoreError> {
        let row = sqlx::query(PASSWORD).bind(name.as_str()).fetch_optional(&self.pool).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?.map(PasswordHash::stored))
    }

    /// Adds a user.
    ///
    /// # Errors
    /// [`StoreError::UserExists`]; [`StoreError::UnknownSite`] if the scope has sites that do not exist.
    pub async fn add_user(&self, actor: &Actor, new: &NewUser) -> Result<(), StoreError> {
        let mut change = self.locked(actor).await?;
        insert_user(&mut change, new).await?;
        change.commit(&[added(new)]).await
    }

    /// Adds the first user with the set-up link. The link cannot be used again.
    ///
    /// # Errors
    /// [`StoreError::SetupLinkEnded`].
    pub async fn add_first_user(
        &self,
        actor: &Actor,
        new: &NewUser,
        link: &SecretDigest,
    ) -> Result<(), StoreError> {
        let mut tx = self.locked(actor).await?;
        let now = Timestamp::now().as_millisecond();
        let used = sqlx::query(USE_LINK).bind(link.as_str()).bind(now).execute(&mut **tx).await?;
        if used.rows_affected() == 0 {
            return Err(StoreError::SetupLinkEnded);
        }
        insert_user(&mut tx, new).await?;
        tx.commit(&[added(new)]).await
    }

    /// Replaces the set-up link by a new one.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn set_setup_link(&self, link: &SecretDigest, expires: Timestamp) -> Result<(), StoreError> {
        let query = sqlx::query(SET_LINK).bind(link.as_str()).bind(expires.as_millisecond());
        query.execute(&self.pool).await?;
        Ok(())
    }

    /// True if the set-up link can still be used.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn setup_link_works(&self, link: &SecretDigest) -> Result<bool, StoreError> {
        let now = Timestamp::now().as_millisecond();
        let row = sqlx::query(LINK_WORKS).bind(link.as_str()).bind(now).fetch_one(&self.pool).await?;
        Ok(row.try_get::<i64, _>(0)? > 0)
    }

    /// Changes what a user may do, and ends their sessions.
    ///
    /// # Errors
    /// [`StoreError::UnknownUser`]; [`StoreError::UnknownSite`]; [`StoreError::LastManager`].
    pub async fn change_user(&self, actor: &Actor, name: &Name, rights: &Rights) -> Result<(), StoreError> {
        let mut tx = self.locked(actor).await?;
        let before = stored(&mut tx, name).await?.rights;
        let managers = managers(&mut tx).await?;
        let query = sqlx::query(UPDATE)
            .bind(name.as_str())
            .bind(rights.role.as_str())
            .bind(i64::from(rights.scope == Scope::All))
            .bind(i64::from(rights.playback));
        query.execute(&mut **tx).await?;
        sqlx::query(DELETE_USER_SITES).bind(name.as_str()).execute(&mut **tx).await?;
        insert_sites(&mut tx, INSERT_USER_SITE, name, &rights.scope).await?;
        sqlx::query(END_SESSIONS).bind(name.as_str()).execute(&mut **tx).await?;
        keep_a_manager(&mut tx, managers, name).await?;
        let entry = Entry::of(Action::UserChanged, name.as_str())
            .before(operator_events::rights(&before))
            .after(operator_events::rights(rights));
        tx.commit(&[entry]).await
    }

    /// Sets a user's password, and ends their sessions.
    ///
    /// # Errors
    /// [`StoreError::UnknownUser`].
    pub async fn set_password(
        &self,
        actor: &Actor,
        name: &Name,
        password: &PasswordHash,
    ) -> Result<(), StoreError> {
        let mut tx = self.locked(actor).await?;
        let now = Timestamp::now().as_millisecond();
        let query = sqlx::query(SET_PASSWORD).bind(name.as_str()).bind(password.as_str()).bind(now);
        if query.execute(&mut **tx).await?.rows_affected() == 0 {
            return Err(StoreError::UnknownUser(name.clone()));
        }
        sqlx::query(END_SESSIONS).bind(name.as_str()).execute(&mut **tx).await?;
        tx.commit(&[Entry::of(Action::PasswordSet, name.as_str())]).await
    }

    /// Stores another hash of the same password, unless the password was changed in the meantime.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub(crate) async fn renew_hash(
        &self,
        name: &Name,
        kept: &PasswordHash,
        renewed: &PasswordHash,
    ) -> Result<(), StoreError> {
        let query = sqlx::query(RENEW_HASH).bind(name.as_str()).bind(kept.as_str()).bind(renewed.as_str());
        query.execute(&self.pool).await?;
        Ok(())
    }

    /// Removes a user with all their sessions and API tokens.
    ///
    /// # Errors
    /// [`StoreError::UnknownUser`]; [`StoreError::LastManager`].
    pub async fn remove_user(&self, actor: &Actor, name: &Name) -> Result<(), StoreError> {
        let mut tx = self.locked(actor).await?;
        let before = stored(&mut tx, name).await?.rights;
        let managers = managers(&mut tx).await?;
        let tokens = sqlx::query(TOKENS_OF).bind(name.as_str()).fetch_all(&mut **tx).await?;
        sqlx::query(DELETE).bind(name.as_str()).execute(&mut **tx).await?;
        keep_a_manager(&mut tx, managers, name).await?;
        let mut entries =
            vec![Entry::of(Action::UserRemoved, name.as_str()).before(operator_events::rights(&before))];
        for token in tokens {
            entries.push(Entry::of(Action::TokenRemoved, token.try_get::<&str, _>(0)?));
        }
        tx.commit(&entries).await
    }
}

/// Reads role, all_sites and playback from three neighbouring columns.
pub(super) fn rights(row: &AnyRow, first: usize, sites: BTreeSet<SiteId>) -> Result<Rights, StoreError> {
    let role: Role = row.try_get::<String, _>(first)?.parse().map_err(|_| corrupt("role"))?;
    let all = row.try_get::<i64, _>(first + 1)? != 0;
    let playback = row.try_get::<i64, _>(first + 2)? != 0;
    Ok(Rights { role, scope: if all { Scope::All } else { Scope::Sites(sites) }, playback })
}

pub(super) fn sites_of(rows: &[AnyRow]) -> Result<BTreeSet<SiteId>, StoreError> {
    rows.iter().map(|row| site(&row.try_get::<String, _>(0)?)).collect()
}

/// The sites of each user or API token, from rows of its name and a site.
pub(super) fn sites_by_name(rows: Vec<AnyRow>) -> Result<BTreeMap<String, BTreeSet<SiteId>>, StoreError> {
    let mut sites: BTreeMap<String, BTreeSet<SiteId>> = BTreeMap::new();
    for row in rows {
        sites.entry(row.try_get(0)?).or_default().insert(site(&row.try_get::<String, _>(1)?)?);
    }
    Ok(sites)
}

/// Inserts the sites of a scope.
pub(super) async fn insert_sites(
    tx: &mut Transaction<'static, Any>,
    insert: &'static str,
    name: &Name,
    scope: &Scope,
) -> Result<(), StoreError> {
    for site in scope.sites().into_iter().flatten() {
        let known = sqlx::query(SITE_EXISTS).bind(site.as_str()).fetch_one(&mut **tx).await?;
        if known.try_get::<i64, _>(0)? == 0 {
            return Err(StoreError::UnknownSite(site.clone()));
        }
        sqlx::query(insert).bind(name.as_str()).bind(site.as_str()).execute(&mut **tx).await?;
    }
    Ok(())
}

/// A user as the transaction sees them.
pub(super) async fn stored(
    tx: &mut Transaction<'static, Any>,
    name: &Name,
) -> Result<StoredUser, StoreError> {
    let row = sqlx::query(USER).bind(name.as_str()).fetch_optional(&mut **tx).await?;
    let row = row.ok_or_else(|| StoreError::UnknownUser(name.clone()))?;
    let sites = sqlx::query(USER_SITES).bind(name.as_str()).fetch_all(&mut **tx).await?;
    stored_user(&row, sites_of(&sites)?)
}

fn added(new: &NewUser) -> Entry {
    Entry::of(Action::UserAdded, new.name.as_str()).after(operator_events::rights(&new.rights))
}

async fn insert_user(tx: &mut Transaction<'static, Any>, new: &NewUser) -> Result<(), StoreError> {
    let query = sqlx::query(INSERT)
        .bind(new.name.as_str())
        .bind(new.rights.role.as_str())
        .bind(i64::from(new.rights.scope == Scope::All))
        .bind(i64::from(new.rights.playback))
        .bind(new.password.as_str())
        .bind(Timestamp::now().as_millisecond());
    if query.execute(&mut **tx).await?.rows_affected() == 0 {
        return Err(StoreError::UserExists(new.name.clone()));
    }
    insert_sites(tx, INSERT_USER_SITE, &new.name, &new.rights.scope).await
}

async fn managers(tx: &mut Transaction<'static, Any>) -> Result<i64, StoreError> {
    Ok(sqlx::query(MANAGERS).fetch_one(&mut **tx).await?.try_get(0)?)
}

/// Refuses a change after which no user could manage users any more.
async fn keep_a_manager(
    tx: &mut Transaction<'static, Any>,
    before: i64,
    name: &Name,
) -> Result<(), StoreError> {
    if before > 0 && managers(tx).await? == 0 {
        return Err(StoreError::LastManager(name.clone()));
    }
    Ok(())
}

fn stored_user(row: &AnyRow, sites: BTreeSet<SiteId>) -> Result<StoredUser, StoreError> {
    Ok(StoredUser {
        name: name(&row.try_get::<String, _>(0)?)?,
        rights: rights(row, 1, sites)?,
        created: timestamp(row.try_get(4)?)?,
        password_set: timestamp(row.try_get(5)?)?,
        last_login: row.try_get::<Option<i64>, _>(6)?.map(timestamp).transpose()?,
    })
}

pub(super) fn name(text: &str) -> Result<Name, StoreError> {
    text.parse().map_err(|_| corrupt("name"))
}

#[cfg(test)]
mod tests;
