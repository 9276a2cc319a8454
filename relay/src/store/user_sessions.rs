//! Sessions of users at the dashboard.

use jiff::Timestamp;
use sqlx::Row;

use super::{Store, StoreError, timestamp, users};
use crate::model::{
    account::{Name, Rights},
    operator_events::{Action, Actor, Entry},
    secret::SecretDigest,
};

/// When a session began and was last used.
#[derive(Debug, Clone, Copy)]
pub struct SessionTimes {
    /// When it began.
    pub created: Timestamp,
    /// When it was last used, to the minute.
    pub seen: Timestamp,
}

/// A session and the current rights of its user.
#[derive(Debug, Clone)]
pub struct StoredSession {
    /// The user of the session.
    pub user: Name,
    /// What the user may do.
    pub rights: Rights,
    /// When the session began and was last used.
    pub times: SessionTimes,
}

const SESSION: &str = "SELECT users.name, users.role, users.all_sites, users.playback, user_sessions.created_ms, \
     user_sessions.seen_ms FROM user_sessions JOIN users ON users.name = user_sessions.name \
     WHERE user_sessions.digest = $1";
const INSERT: &str = "INSERT INTO user_sessions (digest, name, created_ms, seen_ms) VALUES ($1, $2, $3, $3)";
const TOUCH: &str = "UPDATE user_sessions SET seen_ms = $2 WHERE digest = $1";
const DELETE: &str = "DELETE FROM user_sessions WHERE digest = $1";
const PRUNE: &str = "DELETE FROM user_sessions WHERE seen_ms < $1 OR created_ms < $2";
const LOGGED_IN: &str = "UPDATE users SET login_ms = $2 WHERE name = $1";

impl Store {
    /// Stores a new session of a user.
    ///
    /// # Errors
    /// [`StoreError::UnknownUser`] if the user was removed in the meantime.
    pub(crate) async fn add_session(
        &self,
        actor: &Actor,
        digest: &SecretDigest,
        user: &Name,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.locked(actor).await?;
        let now = now.as_millisecond();
        let known = sqlx::query(LOGGED_IN).bind(user.as_str()).bind(now).execute(&mut **tx).await?;
        if known.rows_affected() == 0 {
            return Err(StoreError::UnknownUser(user.clone()));
        }
        let query = sqlx::query(INSERT).bind(digest.as_str()).bind(user.as_str()).bind(now);
        query.execute(&mut **tx).await?;
        tx.commit(&[Entry::of(Action::LoggedIn, user.as_str())]).await
    }

    /// A session with the current rights of its user.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub(crate) async fn session(&self, digest: &SecretDigest) -> Result<Option<StoredSession>, StoreError> {
        let row = sqlx::query(SESSION).bind(digest.as_str()).fetch_optional(&self.pool).await?;
        let Some(row) = row else { return Ok(None) };
        let user = users::name(&row.try_get::<String, _>(0)?)?;
        let sites = sqlx::query(users::USER_SITES).bind(user.as_str()).fetch_all(&self.pool).await?;
        Ok(Some(StoredSession {
            rights: users::rights(&row, 1, users::sites_of(&sites)?)?,
            times: SessionTimes { created: timestamp(row.try_get(4)?)?, seen: timestamp(row.try_get(5)?)? },
            user,
        }))
    }

    /// Stores that a session was used.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub(crate) async fn touch_session(
        &self,
        digest: &SecretDigest,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let query = sqlx::query(TOUCH).bind(digest.as_str()).bind(now.as_millisecond());
        query.execute(&self.pool).await?;
        Ok(())
    }

    /// Ends a session.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub(crate) async fn remove_session(&self, digest: &SecretDigest) -> Result<(), StoreError> {
        sqlx::query(DELETE).bind(digest.as_str()).execute(&self.pool).await?;
        Ok(())
    }

    /// Deletes sessions that were last used, or began, before these times.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub(crate) async fn prune_sessions(
        &self,
        unused_since: Timestamp,
        begun_before: Timestamp,
    ) -> Result<(), StoreError> {
        let query =
            sqlx::query(PRUNE).bind(unused_since.as_millisecond()).bind(begun_before.as_millisecond());
        query.execute(&self.pool).await?;
        Ok(())
    }
}
