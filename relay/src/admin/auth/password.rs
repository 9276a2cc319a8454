//! Passwords: the rules for new ones, and how they are hashed and compared.

use std::{
    fmt,
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    thread,
    time::Duration,
};

use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::phc::{self, Output, ParamsString, Salt},
};
use subtle::ConstantTimeEq;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use crate::model::account::PasswordHash;

/// Shortest password, in characters. NIST SP 800-63B, section 3.1.1.2, asks for 15 if the password is the only factor,
/// and for 8 in any case. Logins here are throttled as well.
pub const MIN_PASSWORD_CHARS: usize = 12;
/// Longest password, in characters: longer than any that is typed or generated, and short enough to be hashed
/// directly.
const MAX_PASSWORD_CHARS: usize = 256;

/// Memory of one hash in KiB, number of passes, and number of lanes: the first choice of OWASP for argon2id (Password
/// Storage Cheat Sheet).
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// How many hashes may wait for the one thread that computes them. At about 30 ms each, the last one waits for one
/// second.
const MAX_WAITING: usize = 32;
/// How long the thread keeps its memory after the last hash. A burst of logins allocates once, and an idle relay holds
/// no such memory.
const KEEP_MEMORY: Duration = Duration::from_secs(5);
/// Number of blocks that the thread reserves. The kernel assigns no page to a block that is not written. glibc's
/// threshold for a separate mapping (mallopt(3), M_MMAP_THRESHOLD) grows with the sizes that are freed, up to 32 MiB:
/// a smaller allocation could stay in a heap after it is freed. 33 MiB always go back to the kernel.
const RESERVED_BLOCKS: usize = 33 * 1024;

/// The hash that is compared if the user is unknown, so that the response takes as long as for a known user. It has
/// the parameters above, and its password is unknown.
const UNKNOWN_USER: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$YXVkaW92YXVsdG5vYm9keQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// The words that an attacker tries first for an account here, besides the account's own name.
const OWN_WORDS: [&str; 3] = ["audiovault", "queuemetrics", "relay"];

/// Why a new password is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WeakPassword {
    /// It is too short or too long.
    #[error("a password must have {MIN_PASSWORD_CHARS} to {MAX_PASSWORD_CHARS} characters")]
    Length,
    /// It is among the first hundred million that a program guesses.
    #[error(
        "this password is easily guessed: use a few random words, without names, dates or keyboard patterns"
    )]
    Guessable,
}

/// A password as the user typed it.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

/// The result of a comparison with the stored hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Wrong,
    Right,
    /// The password is right, but its hash was made with older parameters.
    RightButOutdated,
}

/// Computes hashes one after the other on a thread of its own. The thread uses the same memory for all of them, so
/// they need 19 MiB however many logins arrive. The thread ends when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Passwords {
    jobs: SyncSender<Job>,
}

type Job = Box<dyn FnOnce(&mut Vec<Block>) + Send>;

impl Password {
    /// A password from a login form. It is not checked against the rules for new passwords.
    pub fn claimed(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// A new password for the user of this name.
    ///
    /// # Errors
    /// [`WeakPassword`].
    pub fn new(text: String, name: &str) -> Result<Self, WeakPassword> {
        let password = Self::claimed(text);
        let length = password.0.chars().count();
        if !(MIN_PASSWORD_CHARS..=MAX_PASSWORD_CHARS).contains(&length) {
            return Err(WeakPassword::Length);
        }
        let [first, second, third] = OWN_WORDS;
        // Score three of four means more than 10^8 guesses. If the hash is stolen, each guess costs 19 MiB and 30 ms.
        if zxcvbn::zxcvbn(&password.0, &[name, first, second, third]).score() < zxcvbn::Score::Three {
            return Err(WeakPassword::Guessable);
        }
        Ok(password)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

impl Default for Passwords {
    fn default() -> Self {
        let (jobs, waiting) = sync_channel(MAX_WAITING);
        // Without the thread there is no receiver, and every hash fails with an error that says so.
        if let Err(error) = thread::Builder::new().name("passwords".to_owned()).spawn(move || work(&waiting))
        {
            tracing::error!(
                %error,
                code = "login.no_thread",
                "cannot start a thread for passwords: check the limit of threads"
            );
        }
        Self { jobs }
    }
}

impl Passwords {
    /// Hashes a password with a new salt.
    ///
    /// # Errors
    /// [`PasswordError`].
    pub async fn hash(&self, password: Password) -> Result<PasswordHash, PasswordError> {
        self.compute(move |memory| hash(&password, memory)).await
    }

    /// Compares a password with the stored hash. Without one, takes the same time and returns [`Verdict::Wrong`].
    pub(super) async fn verify(
        &self,
        password: Password,
        kept: Option<PasswordHash>,
    ) -> Result<Verdict, PasswordError> {
        self.compute(move |memory| check(&password, kept.as_ref(), memory)).await
    }

    async fn compute<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Vec<Block>) -> Result<T, PasswordError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let (answer, computed) = oneshot::channel();
        let job: Job = Box::new(move |memory| {
            // If the client has disconnected, nothing is computed for it.
            if !answer.is_closed() {
                let _ = answer.send(job(memory));
            }
        });
        self.jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => PasswordError::Busy,
            TrySendError::Disconnected(_) => PasswordError::Failed,
        })?;
        computed.await.map_err(|_| PasswordError::Failed)?
    }
}

/// The thread's main loop. The first hash allocates the memory, which is kept while others follow and then freed.
fn work(jobs: &Receiver<Job>) {
    let mut memory = Vec::new();
    loop {
        match jobs.recv_timeout(KEEP_MEMORY) {
            Ok(job) => job(&mut memory),
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                memory = Vec::new();
                let Ok(job) = jobs.recv() else { return };
                job(&mut memory);
            }
        }
    }
}

/// Computes a hash in the given memory.
fn compute(
    argon2: &Argon2<'_>,
    password: &Password,
    salt: &Salt,
    memory: &mut Vec<Block>,
) -> Result<Output, PasswordError> {
    let blocks = argon2.params().block_count();
    if memory.len() < blocks {
        memory.reserve_exact(RESERVED_BLOCKS.max(blocks) - memory.len());
        memory.resize(blocks, Block::new());
    }
    let mut output = [0; Params::DEFAULT_OUTPUT_LEN];
    let computed = argon2.hash_password_into_with_memory(
        password.0.as_bytes(),
        salt,
        &mut output,
        memory.as_mut_slice(),
    );
    computed.map_err(|_| PasswordError::Failed)?;
    Output::new(&output).map_err(|_| PasswordError::Failed)
}

fn hash(password: &Password, memory: &mut Vec<Block>) -> Result<PasswordHash, PasswordError> {
    let failed = |_| PasswordError::Failed;
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(failed)?;
    let salt = Salt::generate();
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
    let output = compute(&argon2, password, &salt, memory)?;
    let hash = phc::PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(&params).map_err(|_| PasswordError::Failed)?,
        salt: Some(salt),
        hash: Some(output),
    };
    Ok(PasswordHash::stored(hash.to_string()))
}

fn check(
    password: &Password,
    kept: Option<&PasswordHash>,
    memory: &mut Vec<Block>,
) -> Result<Verdict, PasswordError> {
    let text = kept.map_or(UNKNOWN_USER, PasswordHash::as_str);
    let parsed = phc::PasswordHash::new(text).map_err(|_| PasswordError::Failed)?;
    let (Some(salt), Some(expected)) = (&parsed.salt, &parsed.hash) else {
        return Err(PasswordError::Failed);
    };
    // These are the parameters of the stored hash, which may be older than the ones above.
    let algorithm = Algorithm::try_from(parsed.algorithm.as_str()).map_err(|_| PasswordError::Failed)?;
    let version = parsed.version.unwrap_or(Version::V0x13.into());
    let version = Version::try_from(version).map_err(|_| PasswordError::Failed)?;
    let params = Params::try_from(&parsed).map_err(|_| PasswordError::Failed)?;
    let right = password.0.chars().count() <= MAX_PASSWORD_CHARS
        && bool::from(
            compute(&Argon2::new(algorithm, version, params), password, salt, memory)?
                .as_bytes()
                .ct_eq(expected.as_bytes()),
        );
    if !right || kept.is_none() {
        return Ok(Verdict::Wrong);
    }
    let current = phc::PasswordHash::new(UNKNOWN_USER).map_err(|_| PasswordError::Failed)?;
    let outdated = parsed.algorithm != current.algorithm
        || parsed.version != current.version
        || parsed.params != current.params;
    Ok(if outdated { Verdict::RightButOutdated } else { Verdict::Right })
}

/// Why a password could not be hashed or compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Too many hashes are waiting.
    #[error("too many logins at the same time: try again in a moment")]
    Busy,
    /// The stored hash cannot be parsed, or the computation failed.
    #[error("cannot check the password: set a new one")]
    Failed,
}

#[cfg(test)]
mod tests {
    use argon2::password_hash::PasswordHasher;

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
    async fn the_queue_of_logins_is_bounded() {
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

    #[tokio::test]
    async fn what_is_hashed_in_memory_that_was_used_before_is_what_the_crate_computes() {
        let passwords = Passwords::default();
        passwords.hash(password("something else before")).await.unwrap();
        let params = Params::new(MEMORY_KIB, PASSES, LANES, None).unwrap();
        let theirs =
            Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password(b"a long password");
        let kept = PasswordHash::stored(theirs.unwrap().to_string());
        let verdict = passwords.verify(password("a long password"), Some(kept)).await.unwrap();
        assert_eq!(verdict, Verdict::Right);
    }

    #[test]
    fn short_passwords_are_refused_by_characters_not_bytes() {
        let refused = |text: &str| Password::new(text.to_owned(), "maria").err();
        assert_eq!(refused("ñandú cebú"), Some(WeakPassword::Length));
        assert_eq!(refused("ñandú cebú ñu"), None);
        assert_eq!(refused(&"ñ".repeat(MAX_PASSWORD_CHARS + 1)), Some(WeakPassword::Length));
    }

    #[test]
    fn common_passwords_are_refused_however_long() {
        for text in [
            "password1234",
            "qwertyuiop123",
            "aaaaaaaaaaaaaaaa",
            "mariamaria12",
            "audiovault123",
            "123456789012",
        ] {
            let refused = Password::new(text.to_owned(), "maria").err();
            assert_eq!(refused, Some(WeakPassword::Guessable), "{text}");
        }
        assert!(Password::new("correct horse battery staple".to_owned(), "maria").is_ok());
    }
}
