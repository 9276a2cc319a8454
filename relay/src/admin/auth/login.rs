//! Logins, sessions with their cookie, the set-up link of the first user, and the check of the credential in each
//! request.

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum_extra::extract::cookie::{Cookie, CookieJar, SameSite};
use jiff::Timestamp;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::{Credential, Password, PasswordError, Passwords, Principal, password::Verdict};
use crate::{
    limits::Limits,
    model::{
        account::{Name, PasswordHash},
        operator_events::{Action, Actor, ActorKind, Entry},
        secret::Secret,
    },
    net::client::Scheme,
    store::{SessionTimes, Store, StoreError},
};

/// A session ends when it has not been used for this long, unless another time is configured. NIST SP 800-63B, section
/// 2.2.3, asks for this half hour where personal data can be seen. The board requests changes every minute, so it
/// keeps its session alive.
pub const SESSION_IDLE: Duration = Duration::from_secs(30 * 60);
/// A session ends after this long, even if it is used all the time.
pub const SESSION_LIFE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Precision of the stored time of last use of a session or a token. A write at every request would cost more than the
/// request.
const SEEN_EVERY: Duration = Duration::from_secs(60);

/// A session that has just begun.
#[expect(missing_debug_implementations, reason = "it holds the secret of a session")]
pub struct NewSession {
    /// The secret that the browser keeps.
    pub secret: Secret,
    /// The user of the session.
    pub user: Name,
}

/// Logs users in, and finds the principal behind a credential.
#[derive(Debug)]
pub struct Auth {
    store: Store,
    passwords: Passwords,
    limits: Arc<Limits>,
    session_idle: Duration,
    /// Locked while the use of a credential is being stored.
    noting: Arc<Mutex<()>>,
}

impl Auth {
    /// Uses the users of this database, and these limits on login attempts.
    pub fn new(store: Store, limits: Arc<Limits>) -> Self {
        let passwords = Passwords::default();
        let noting = Arc::default();
        Self { store, passwords, limits, session_idle: SESSION_IDLE, noting }
    }

    /// The same with another idle time of sessions.
    #[must_use]
    pub fn with_session_idle(self, session_idle: Duration) -> Self {
        Self { session_idle, ..self }
    }

    /// Checks a name and a password, and begins a session. Logs every attempt.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn log_in(
        &self,
        name: &str,
        password: Password,
        client: IpAddr,
    ) -> Result<NewSession, LoginError> {
        // Text that cannot be a name is not logged: it may be a password in the wrong field.
        let name: Option<Name> = name.trim().parse().ok();
        let shown = name.as_ref().map_or("-", Name::as_str).to_owned();
        let result = self.try_log_in(name, password, client).await;
        match &result {
            Ok(_) => tracing::info!(user = shown, %client, code = "login.accepted", "login"),
            Err(error @ (LoginError::Wrong | LoginError::Throttled { .. })) => {
                tracing::warn!(user = shown, %client, %error, code = "login.refused", "login refused");
            }
            Err(error @ (LoginError::Password(_) | LoginError::Store(_))) => {
                tracing::error!(user = shown, %client, %error, code = "login.failed", "login failed");
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

    /// Checks that this is the user's password. Counts as a login attempt.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn confirm(&self, name: &Name, password: Password, client: IpAddr) -> Result<(), LoginError> {
        self.attempt(Some(name), client).await?;
        self.check(name, password).await
    }

    /// Counts a login attempt. A throttled attempt is stored as an operators' event, unless the same one was stored
    /// shortly before.
    async fn attempt(&self, name: Option<&Name>, client: IpAddr) -> Result<(), LoginError> {
        let Err(wait) = self.limits.logins.attempt(name, client.into()) else { return Ok(()) };
        let actor = Actor::at(ActorKind::Unknown, name.map_or("-", Name::as_str), client);
        if let Err(error) = self.store.record(&actor, &Entry::new(Action::LockedOut)).await {
            tracing::error!(
                %error,
                cause = error.cause(),
                code = "login.lockout_not_stored",
                "cannot store a lockout as an operators' event"
            );
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

    /// Begins a session for a user who has just proved who they are, by password or set-up link.
    ///
    /// # Errors
    /// [`StoreError`], also if the user has been removed in the meantime.
    pub async fn begin_session(&self, user: Name, client: IpAddr) -> Result<NewSession, StoreError> {
        let now = Timestamp::now();
        self.store.prune_sessions(now - self.session_idle, now - SESSION_LIFE).await?;
        let secret = Secret::mint();
        let actor = Actor::at(ActorKind::User, user.as_str(), client);
        self.store.add_session(&actor, &secret.digest(), &user, now).await?;
        Ok(NewSession { secret, user })
    }

    /// The holder of a credential, with the rights that are in the database now; `None` if the credential has ended.
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

    /// Stores the time of last use in a task of its own, not in the request: if the database is locked or full, an
    /// operator must still be able to log in and see why. Only one such write runs at a time, since each may hold a
    /// connection while it waits for the lock. A use that is skipped is stored at the next request.
    fn note_use(&self, via: Credential, now: Timestamp) {
        let Ok(turn) = Arc::clone(&self.noting).try_lock_owned() else { return };
        let store = self.store.clone();
        tokio::spawn(async move {
            let noted = match &via {
                Credential::Token(digest) => store.touch_token(digest, now).await,
                Credential::Session(digest) => store.touch_session(digest, now).await,
            };
            if let Err(error) = noted {
                // The audit log already reports loudly that the database cannot be written. Here it would be reported
                // at every request.
                tracing::debug!(%error, cause = error.cause(), "cannot store the time of last use");
            }
            drop(turn);
        });
    }

    /// Ends the session of a principal. A principal with an API token has no session.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn log_out(&self, principal: &Principal) -> Result<(), StoreError> {
        if let Credential::Session(digest) = &principal.via {
            self.store.remove_session(digest).await?;
            tracing::info!(user = %principal.name, code = "login.ended", "logout");
        }
        Ok(())
    }

    /// Hashes a password that will be stored.
    ///
    /// # Errors
    /// [`PasswordError`].
    pub async fn hash(&self, password: Password) -> Result<PasswordHash, PasswordError> {
        self.passwords.hash(password).await
    }

    /// The store of users, sessions and tokens.
    pub fn store(&self) -> &Store {
        &self.store
    }
}

fn is_over(times: &SessionTimes, now: Timestamp, idle: Duration) -> bool {
    times.seen < now - idle || times.created < now - SESSION_LIFE
}

/// Why a login failed.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The user does not exist, or the password is wrong. Both get the same text.
    #[error("the user name or the password is wrong")]
    Wrong,
    /// Too many attempts.
    #[error("too many attempts: wait a moment and try again")]
    Throttled {
        /// How long to wait.
        wait: Duration,
    },
    /// The password could not be compared.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How long the link may be used: enough time for an operator who has just started the relay to read its log.
pub const SETUP_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// If there is no user, makes a new link, which replaces an earlier one. `admin_url` is the address of the admin
/// listener, without a slash at its end.
///
/// # Errors
/// [`StoreError`].
pub async fn offer_setup(store: &Store, admin_url: &str) -> Result<Option<Zeroizing<String>>, StoreError> {
    if store.has_users().await? {
        return Ok(None);
    }
    let secret = Secret::mint();
    store.set_setup_link(&secret.digest(), Timestamp::now() + SETUP_LIFE).await?;
    Ok(Some(Zeroizing::new(format!("{admin_url}/setup/{}", secret.reveal().as_str()))))
}

/// Name of the cookie over TLS. Because of the prefix, browsers refuse the cookie unless it is `Secure`, belongs to
/// this host alone and is valid for all its paths (RFC 6265bis, section 4.1.3.2), so no neighbouring host can set one.
const SECURE_COOKIE: &str = "__Host-audiovault";
/// Name of the cookie over plain HTTP, where browsers would refuse the prefix.
const PLAIN_COOKIE: &str = "audiovault";

/// The session cookie in the form that one scheme allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionCookie {
    secure: bool,
}

impl SessionCookie {
    /// The cookie for clients that use this scheme.
    pub fn over(scheme: Scheme) -> Self {
        Self { secure: scheme == Scheme::Https }
    }

    /// The name of the cookie.
    pub fn name(self) -> &'static str {
        if self.secure { SECURE_COOKIE } else { PLAIN_COOKIE }
    }

    /// The session in a request's cookies, if there is one.
    pub fn read(self, jar: &CookieJar) -> Option<Secret> {
        Secret::parse(jar.get(self.name())?.value())
    }

    /// A cookie that gives a session to the browser until the browser is closed. When the session ends is stored in
    /// the relay's database, not in the cookie.
    pub fn set(self, session: &Secret) -> Cookie<'static> {
        self.with_value(session.reveal().to_string())
    }

    /// A cookie that removes the session from the browser.
    pub fn clear(self) -> Cookie<'static> {
        let mut cookie = self.with_value(String::new());
        cookie.make_removal();
        cookie
    }

    fn with_value(self, value: String) -> Cookie<'static> {
        Cookie::build((self.name(), value))
            .http_only(true)
            .same_site(SameSite::Strict)
            .secure(self.secure)
            .path("/")
            .build()
    }
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

    #[test]
    fn the_cookie_has_every_protection_that_its_scheme_allows() {
        let session = Secret::mint();
        let secret = session.reveal();
        let over_tls = SessionCookie::over(Scheme::Https).set(&session).to_string();
        let expected =
            format!("__Host-audiovault={}; HttpOnly; SameSite=Strict; Secure; Path=/", secret.as_str());
        assert_eq!(over_tls, expected);
        let plain = SessionCookie::over(Scheme::Http).set(&session).to_string();
        assert_eq!(plain, format!("audiovault={}; HttpOnly; SameSite=Strict; Path=/", secret.as_str()));
        let cleared = SessionCookie::over(Scheme::Https).clear().to_string();
        assert!(cleared.contains("Max-Age=0") && cleared.contains("Secure"), "{cleared}");
    }

    #[test]
    fn a_cookie_of_the_other_scheme_is_not_read() {
        let session = Secret::mint();
        let jar = CookieJar::new().add(SessionCookie::over(Scheme::Http).set(&session));
        assert!(SessionCookie::over(Scheme::Http).read(&jar).is_some());
        assert!(SessionCookie::over(Scheme::Https).read(&jar).is_none());
    }
}
