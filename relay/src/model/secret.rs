//! Secrets that this relay draws at random and gives out once: ids of sessions, API tokens, set-up links. The database
//! holds digests of them.

use std::time::Duration;

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// A day.
pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long an API token lives unless told otherwise.
pub const TOKEN_LIFE: Duration = Duration::from_secs(90 * DAY.as_secs());
/// How long one may live: who has forgotten a program is reminded within a year.
pub const MAX_TOKEN_LIFE: Duration = Duration::from_secs(365 * DAY.as_secs());

/// When an API token ends that lives this long from now; nothing for a life of no time, and for one beyond
/// [`MAX_TOKEN_LIFE`].
pub fn token_end(life: Duration) -> Option<Timestamp> {
    (!life.is_zero() && life <= MAX_TOKEN_LIFE).then(|| Timestamp::now() + life)
}

/// Random octets of a secret. A digest without salt or stretching protects secrets that nobody can guess.
const SECRET_LEN: usize = 32;
/// What an API token begins with, so that people and scanners of repositories know one when they see it.
pub const API_TOKEN_PREFIX: &str = "avt_";

/// A secret of 32 random octets. It has no `Debug`.
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "a secret must not be printed by accident")]
pub struct Secret(Zeroizing<[u8; SECRET_LEN]>);

/// SHA-256 of a secret: what the database keeps and looks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SecretDigest(String);

impl Secret {
    /// Draws a new one.
    pub fn mint() -> Self {
        Self(Zeroizing::new(rand::random()))
    }

    /// Reads what [`Secret::reveal`] wrote, in either case.
    pub fn parse(text: &str) -> Option<Self> {
        let octets = Zeroizing::new(BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).ok()?);
        Some(Self(Zeroizing::new(octets.as_slice().try_into().ok()?)))
    }

    /// The secret as 52 letters and digits.
    pub fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE32_NOPAD.encode(self.0.as_slice()).to_ascii_lowercase())
    }

    /// Its digest.
    pub fn digest(&self) -> SecretDigest {
        SecretDigest(HEXLOWER.encode(&Sha256::digest(self.0.as_slice())))
    }

    pub(crate) fn octets(&self) -> &[u8] {
        self.0.as_slice()
    }
}

impl SecretDigest {
    /// The digest in hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An API token as its holder presents it.
pub fn reveal_api_token(secret: &Secret) -> Zeroizing<String> {
    Zeroizing::new(format!("{API_TOKEN_PREFIX}{}", secret.reveal().as_str()))
}

/// Reads an API token.
pub fn parse_api_token(text: &str) -> Option<Secret> {
    Secret::parse(text.strip_prefix(API_TOKEN_PREFIX)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_survives_being_written_down() {
        let secret = Secret::mint();
        assert_eq!(Secret::parse(&secret.reveal()).unwrap().digest(), secret.digest());
        assert_ne!(Secret::mint().digest(), secret.digest());
        let token = reveal_api_token(&secret);
        assert_eq!(token.len(), API_TOKEN_PREFIX.len() + 52);
        assert_eq!(parse_api_token(&token).unwrap().digest(), secret.digest());
        assert!(parse_api_token(&secret.reveal()).is_none());
        assert!(
            Secret::parse("").is_none() && Secret::parse("short").is_none() && Secret::parse("ñ").is_none()
        );
    }
}
