//! Secrets that this relay draws at random and shows once: session ids, API tokens and set-up links. The
//! database has only their digests.

use std::time::Duration;

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// A day.
pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long an API token is valid by default.
pub const TOKEN_LIFE: Duration = Duration::from_secs(90 * DAY.as_secs());
/// The longest time for which an API token may be valid: an operator who has forgotten a program is reminded of
/// it within a year.
pub const MAX_TOKEN_LIFE: Duration = Duration::from_secs(365 * DAY.as_secs());

/// The expiry time of an API token that is valid for `life` from now. `None` if `life` is zero or longer than
/// [`MAX_TOKEN_LIFE`].
pub fn token_end(life: Duration) -> Option<Timestamp> {
    (!life.is_zero() && life <= MAX_TOKEN_LIFE).then(|| Timestamp::now() + life)
}

/// Random bytes of a secret. A digest without salt or stretching protects a secret that cannot be guessed.
const SECRET_LEN: usize = 32;
/// The prefix of an API token, so that people and repository scanners recognise one when they see it.
pub const API_TOKEN_PREFIX: &str = "avt_";

/// A secret of 32 random bytes. It has no `Debug`.
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "a secret must not be printed by accident")]
pub struct Secret(Zeroizing<[u8; SECRET_LEN]>);

/// SHA-256 of a secret: the database stores this and finds the secret by it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SecretDigest(String);

impl Secret {
    /// Draws a new secret.
    pub fn mint() -> Self {
        Self(Zeroizing::new(rand::random()))
    }

    /// Reads the text that [`Secret::reveal`] wrote, in upper or lower case.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).ok()?);
        Some(Self(Zeroizing::new(bytes.as_slice().try_into().ok()?)))
    }

    /// The secret as 52 letters and digits.
    pub fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE32_NOPAD.encode(self.0.as_slice()).to_ascii_lowercase())
    }

    /// The digest of the secret.
    pub fn digest(&self) -> SecretDigest {
        SecretDigest(HEXLOWER.encode(&Sha256::digest(self.0.as_slice())))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_slice()
    }
}

impl SecretDigest {
    /// The digest in hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An API token as its owner presents it.
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
