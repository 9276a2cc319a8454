//! Passwords: what they must be, and how they are kept.

use std::{fmt, sync::Arc};

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHasher, PasswordVerifier, phc},
};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::PasswordError;

/// Shortest password in characters. NIST SP 800-63B, section 3.1.1.2, asks for 15 where a password is all there is and
/// for 8 at the very least; logins here are throttled as well.
pub const MIN_PASSWORD_CHARS: usize = 12;
/// Longest password in characters: longer than any that is typed or generated, short enough to be hashed as it is.
const MAX_PASSWORD_CHARS: usize = 256;

/// Memory of one hash in KiB, passes over it, and lanes: OWASP's first choice for argon2id (Password Storage Cheat
/// Sheet).
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Hashes computed at a time: two cores and 38 MiB at most, whatever knocks at the door.
const AT_A_TIME: usize = 2;
/// Logins that may be computed or wait: at some 30 ms each the last one waits for half a second.
const MAX_WAITING: usize = 32;

/// What an unknown user's password is compared with, so that the answer takes as long as for a known one. It has the
/// parameters above and no password that anybody knows.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$YXVkaW92YXVsdG5vYm9keQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Why a password will not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a password has {MIN_PASSWORD_CHARS} to {MAX_PASSWORD_CHARS} characters")]
pub struct WeakPassword;

/// A password as somebody typed it.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

/// What is kept of a password: a hash with its parameters (PHC string format).
#[derive(Clone)]
pub struct PasswordHash(String);

/// How a password compares with what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Wrong,
    Right,
    /// Right, but kept with parameters of the past.
    RightButOutdated,
}

/// Computes hashes, a few at a time, away from the threads that answer requests.
#[derive(Debug, Clone)]
pub struct Passwords {
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Password {
    /// A password that somebody claims to have, whatever it looks like.
    pub fn claimed(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// A password that is about to be set.
    ///
    /// # Errors
    /// [`WeakPassword`].
    pub fn new(text: String) -> Result<Self, WeakPassword> {
        let password = Self::claimed(text);
        let length = password.0.chars().count();
        if (MIN_PASSWORD_CHARS..=MAX_PASSWORD_CHARS).contains(&length) {
            Ok(password)
        } else {
            Err(WeakPassword)
        }
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

impl PasswordHash {
    /// A hash that was kept.
    pub fn stored(text: String) -> Self {
        Self(text)
    }

    /// The hash with its parameters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Passwords {
    fn default() -> Self {
        Self { running: Arc::new(Semaphore::new(AT_A_TIME)), waiting: Arc::new(Semaphore::new(MAX_WAITING)) }
    }
}

impl Passwords {
    /// Hashes a password with a salt of its own.
    ///
    /// # Errors
    /// [`PasswordError`].
    pub async fn hash(&self, password: Password) -> Result<PasswordHash, PasswordError> {
        self.compute(move || {
            let hash = hasher()?.hash_password(password.0.as_bytes());
            Ok(PasswordHash(hash.map_err(|_| PasswordError::Failed)?.to_string()))
        })
        .await
    }

    /// Compares a password with what is kept, or, in the same time, with nothing.
    pub(super) async fn verify(
        &self,
        password: Password,
        kept: Option<PasswordHash>,
    ) -> Result<Verdict, PasswordError> {
        self.compute(move || judge(&password, kept.as_ref())).await
    }

    async fn compute<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T, PasswordError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let _waiting = self.waiting.try_acquire().map_err(|_| PasswordError::Busy)?;
        let running = Arc::clone(&self.running).acquire_owned().await.map_err(|_| PasswordError::Failed)?;
        let job = move || {
            let result = job();
            // The place is free when the work is done, not when whoever asked has lost patience.
            drop(running);
            result
        };
        tokio::task::spawn_blocking(job).await.map_err(|_| PasswordError::Failed)?
    }
}

fn hasher() -> Result<Argon2<'static>, PasswordError> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|_| PasswordError::Failed)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn judge(password: &Password, kept: Option<&PasswordHash>) -> Result<Verdict, PasswordError> {
    let text = kept.map_or(NOBODY, PasswordHash::as_str);
    let parsed = phc::PasswordHash::new(text).map_err(|_| PasswordError::Failed)?;
    let hasher = hasher()?;
    // Verification takes the parameters from the hash.
    let right = password.0.chars().count() <= MAX_PASSWORD_CHARS
        && PasswordVerifier::<phc::PasswordHash>::verify_password(&hasher, password.0.as_bytes(), &parsed)
            .is_ok();
    if !right || kept.is_none() {
        return Ok(Verdict::Wrong);
    }
    let current = phc::PasswordHash::new(NOBODY).map_err(|_| PasswordError::Failed)?;
    let outdated = parsed.algorithm != current.algorithm
        || parsed.version != current.version
        || parsed.params != current.params;
    Ok(if outdated { Verdict::RightButOutdated } else { Verdict::Right })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Password {
        Password::claimed(text.to_owned())
    }

    #[tokio::test]
    async fn a_password_is_known_again_and_another_is_not() {
        let passwords = Passwords::default();
        let kept = passwords.hash(password("correct horse battery")).await.unwrap();
        assert!(kept.as_str().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", kept.as_str());
        let judged = |text| passwords.verify(password(text), Some(kept.clone()));
        assert_eq!(judged("correct horse battery").await.unwrap(), Verdict::Right);
        assert_eq!(judged("correct horse batterz").await.unwrap(), Verdict::Wrong);
        assert_eq!(passwords.verify(password("anything"), None).await.unwrap(), Verdict::Wrong);
        assert!(!format!("{kept:?} {:?}", password("hunter")).contains("hunter"));
    }

    #[tokio::test]
    async fn a_hash_with_old_parameters_is_known_to_be_outdated() {
        let weak =
            Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(8 * 1024, 1, 1, None).unwrap());
        let kept = PasswordHash::stored(weak.hash_password(b"a long password").unwrap().to_string());
        let verdict = Passwords::default().verify(password("a long password"), Some(kept)).await.unwrap();
        assert_eq!(verdict, Verdict::RightButOutdated);
    }

    #[tokio::test]
    async fn nobody_can_make_logins_queue_up_without_end() {
        let passwords = Passwords::default();
        let attempts: Vec<_> = (0..3 * MAX_WAITING)
            .map(|_| {
                tokio::spawn({
                    let passwords = passwords.clone();
                    async move { passwords.verify(password("wrong"), None).await }
                })
            })
            .collect();
        let mut busy = 0;
        for attempt in attempts {
            busy += usize::from(matches!(attempt.await.unwrap(), Err(PasswordError::Busy)));
        }
        assert!(busy > 0 && busy <= 2 * MAX_WAITING, "{busy}");
    }

    #[test]
    fn short_passwords_are_refused_by_characters_not_octets() {
        assert!(Password::new("ñandúñandú".to_owned()).is_err());
        assert!(Password::new("ñandúñandúñu".to_owned()).is_ok());
        assert!(Password::new("ñ".repeat(MAX_PASSWORD_CHARS + 1)).is_err());
    }
}
