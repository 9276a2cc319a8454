//! Users come, are known again, and go.

use std::{net::IpAddr, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::sync::Mutex;

use super::{Credential, LoginError, Password, PasswordError, Passwords, Principal, password::Verdict};
use crate::{
    limits::Limits,
    model::{
        name::Name,
        operator_events::{Action, Actor, ActorKind, Entry},
        password_hash::PasswordHash,
        secret::Secret,
    },
    store::{SessionTimes, Store, StoreError},
};

/// A session ends when it was not used for this long, unless configured otherwise: the half hour that NIST SP 800-63B,
/// section 2.2.3, asks for where personal data is seen. The board, which asks for news every minute, keeps its session.
pub const SESSION_IDLE: Duration = Duration::from_secs(30 * 60);
/// A session ends after this long, however much it is used.
pub const SESSION_LIFE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How exactly the last use of a session or a token is kept: writing it down at every request would cost more than the
/// request.
const SEEN_EVERY: Duration = Duration::from_secs(60);

/// A session that has just begun.
#[expect(missing_debug_implementations, reason = "it holds the secret of a session")]
pub struct NewSession {
    /// What the browser keeps.
    pub secret: Secret,
    /// Whose it is.
    pub user: Name,
}

/// Knows who may look.
#[derive(Debug)]
pub struct Auth {
    store: Store,
    passwords: Passwords,
    limits: Arc<Limits>,
    session_idle: Duration,
    /// Held while the use of a credential is noted.
    noting: Arc<Mutex<()>>,
}

impl Auth {
    /// With the users of this database, and the limits on attempts to log in.
    pub fn new(store: Store, limits: Arc<Limits>) -> Self {
        let (passwords, noting) = (Passwords::default(), Arc::default());
        Self { store, passwords, limits, session_idle: SESSION_IDLE, noting }
    }

    /// The same with another time after which a session that is not used ends.
    #[must_use]
    pub fn with_session_idle(self, session_idle: Duration) -> Self {
        Self { session_idle, ..self }
    }

    /// Checks a name and a password, and begins a session. Every attempt has its line in the log.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn log_in(
        &self,
        name: &str,
        password: Password,
        client: IpAddr,
    ) -> Result<NewSession, LoginError> {
        // A text that cannot be a name is not repeated in the log: it may be a password in the wrong field.
        let name: Option<Name> = name.trim().parse().ok();
        let shown = name.as_ref().map_or("-", Name::as_str).to_owned();
        let result = self.try_log_in(name, password, client).await;
        match &result {
            Ok(_) => tracing::info!(user = shown, %client, "login"),
            Err(error @ (LoginError::Wrong | LoginError::Throttled { .. })) => {
                tracing::warn!(user = shown, %client, %error, "login refused");
            }
            Err(error @ (LoginError::Password(_) | LoginError::Store(_))) => {
                tracing::error!(user = shown, %client, %error, "login failed");
            }
        }
        result
    }

    async fn try_log_in(
        &self,
        name: Option<Name>,
        password: Password,
        client: IpAddr,
    ) -> Result<NewSession, LoginError> {
        self.attempt(name.as_ref(), client).await?;
        let Some(name) = name else {
            self.passwords.verify(password, None).await?;
            return Err(LoginError::Wrong);
        };
        self.check(&name, password).await?;
        Ok(self.begin_session(name, client).await?)
    }

    /// Whether this is the user's password; counts as an attempt to log in.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn confirm(&self, name: &Name, password: Password, client: IpAddr) -> Result<(), LoginError> {
        self.attempt(Some(name), client).await?;
        self.check(name, password).await
    }

    /// Counts an attempt. One that is refused is an operators' event, once in a while.
    async fn attempt(&self, name: Option<&Name>, client: IpAddr) -> Result<(), LoginError> {
        let Err(wait) = self.limits.logins.attempt(name, client.into()) else { return Ok(()) };
        let actor = Actor::at(ActorKind::Unknown, name.map_or("-", Name::as_str), client);
        if let Err(error) = self.store.record(&actor, &Entry::new(Action::LockedOut)).await {
            tracing::error!(%error, cause = error.cause(), "a lockout is not on record");
        }
        Err(LoginError::Throttled { wait })
    }

    async fn check(&self, name: &Name, password: Password) -> Result<(), LoginError> {
        let kept = self.store.password_of(name).await?;
        match self.passwords.verify(password.clone(), kept.clone()).await? {
            Verdict::Wrong => Err(LoginError::Wrong),
            Verdict::Right => Ok(()),
            Verdict::RightButOutdated => {
                let renewed = self.passwords.hash(password).await?;
                if let Some(kept) = kept {
                    self.store.renew_hash(name, &kept, &renewed).await?;
                }
                Ok(())
            }
        }
    }

    /// Begins a session for a user who has proved who they are.
    ///
    /// # Errors
    /// [`StoreError`], also when the user was removed meanwhile.
    pub async fn begin_session(&self, user: Name, client: IpAddr) -> Result<NewSession, StoreError> {
        let now = Timestamp::now();
        self.store.prune_sessions(now - self.session_idle, now - SESSION_LIFE).await?;
        let secret = Secret::mint();
        let actor = Actor::at(ActorKind::User, user.as_str(), client);
        self.store.add_session(&actor, &secret.digest(), &user, now).await?;
        Ok(NewSession { secret, user })
    }

    /// Whoever holds a credential, with the rights of this moment; nobody if it has ended.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn principal(&self, via: Credential, address: IpAddr) -> Result<Option<Principal>, StoreError> {
        let now = Timestamp::now();
        let mut owner = None;
        let (name, rights, seen) = match &via {
            Credential::Token(digest) => {
                let Some(token) = self.store.valid_token(digest, now).await? else { return Ok(None) };
                owner = token.owner;
                (token.name, token.rights, token.last_used)
            }
            Credential::Session(digest) => {
                let Some(session) = self.store.session(digest).await? else { return Ok(None) };
                if is_over(&session.times, now, self.session_idle) {
                    return Ok(None);
                }
                (session.user, session.rights, Some(session.times.seen))
            }
        };
        if seen.is_none_or(|seen| now.duration_since(seen).unsigned_abs() > SEEN_EVERY) {
            self.note_use(via.clone(), now);
        }
        Ok(Some(Principal { name, rights, via, owner, address }))
    }

    /// Notes a use apart from its request: a database that is locked or full must not lock out whoever comes to see what
    /// is wrong with it. One note at a time, since each may wait for the lock with a connection in its hand; whom it
    /// misses, it finds at his next request.
    fn note_use(&self, via: Credential, now: Timestamp) {
        let Ok(turn) = Arc::clone(&self.noting).try_lock_owned() else { return };
        let store = self.store.clone();
        tokio::spawn(async move {
            let noted = match &via {
                Credential::Token(digest) => store.touch_token(digest, now).await,
                Credential::Session(digest) => store.touch_session(digest, now).await,
            };
            if let Err(error) = noted {
                // The journal says aloud that nothing can be written; this would say it at every request.
                tracing::debug!(%error, cause = error.cause(), "a use was not noted");
            }
            drop(turn);
        });
    }

    /// Ends the session of a principal; a token has none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn log_out(&self, principal: &Principal) -> Result<(), StoreError> {
        if let Credential::Session(digest) = &principal.via {
            self.store.remove_session(digest).await?;
            tracing::info!(user = %principal.name, "logout");
        }
        Ok(())
    }

    /// Hashes a password that is about to be kept.
    ///
    /// # Errors
    /// [`PasswordError`].
    pub async fn hash(&self, password: Password) -> Result<PasswordHash, PasswordError> {
        self.passwords.hash(password).await
    }

    /// Where users, sessions and tokens are kept.
    pub fn store(&self) -> &Store {
        &self.store
    }
}

fn is_over(times: &SessionTimes, now: Timestamp, idle: Duration) -> bool {
    times.seen < now - idle || times.created < now - SESSION_LIFE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_when_it_is_idle_or_old() {
        let now: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        let ago = |duration: Duration| now - duration;
        let second = Duration::from_secs(1);
        let over = |created, seen| is_over(&SessionTimes { created, seen }, now, SESSION_IDLE);
        assert!(!over(ago(SESSION_LIFE), ago(SESSION_IDLE)));
        assert!(over(ago(SESSION_LIFE), ago(SESSION_IDLE + second)));
        assert!(over(ago(SESSION_LIFE + second), now));
        assert!(!over(now, now));
    }
}
