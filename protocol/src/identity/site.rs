//! Names of sites and aliases, and the keys with which agents prove that they belong to a site.
//!
//! Every value is parsed once, where it comes in, and is trusted after that.

use std::{fmt, str::FromStr, sync::Arc};

use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Longest DNS label in bytes (RFC 1035, section 2.3.4).
pub const MAX_SITE_LEN: usize = 63;
/// Longest alias in bytes: the longest DNS name (RFC 1035, section 2.3.4), because FusionPBX uses domains as names of
/// its tenants.
pub const MAX_ALIAS_LEN: usize = 253;
/// Random bytes in a site key: as many as the digest that the relay stores.
pub const SITE_SECRET_LEN: usize = 32;

/// First path segments of the relay's own routes, present or likely in future; no site and no alias may be named like
/// one.
pub const RESERVED: &[&str] = &[
    "admin",
    "api",
    "assets",
    "audit",
    "enroll",
    "favicon.ico",
    "healthz",
    "login",
    "logout",
    "metrics",
    "new",
    "readyz",
    "recordings",
    "robots.txt",
    "search",
    "setup",
    "sites",
    "static",
    "status",
    "status.json",
    "tunnel",
    "users",
    "www",
];

/// Why a text is not the name of a site, or not a site key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SiteError {
    /// The name is empty or longer than [`MAX_SITE_LEN`] (a site) or [`MAX_ALIAS_LEN`] (an alias).
    #[error("a name must have 1 to {max} characters, this one has {len}")]
    Length {
        /// The given length, in bytes.
        len: usize,
        /// The longest allowed length, in bytes.
        max: usize,
    },
    /// The name holds a character that a DNS label may not hold.
    #[error("the site name {0:?} must be a DNS label: a to z, 0 to 9 and inner hyphens")]
    NotALabel(String),
    /// The alias holds a character outside `[A-Za-z0-9._-]`, or starts with one of `._-`.
    #[error(
        "the alias {0:?} must consist of letters, digits, dots, hyphens and underscores and start with a letter or digit"
    )]
    NotAnAlias(String),
    /// The name is one of [`RESERVED`].
    #[error("the name {0:?} is reserved for the relay's own pages")]
    Reserved(String),
    /// The text is not `avk_<site>_<secret>`.
    #[error("this is not a site key: expected avk_<site>_<52 letters and digits>")]
    NotAKey,
}

/// The name of one customer's installation: a DNS label (RFC 1035, section 2.3.1, with digits allowed first as in RFC
/// 1123, section 2.1), in lower case, and not one of [`RESERVED`]. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SiteId(Arc<str>);

impl SiteId {
    /// Parses a site name.
    ///
    /// # Errors
    /// [`SiteError`] if the text is not a lower-case DNS label or is reserved.
    pub fn parse(text: &str) -> Result<Self, SiteError> {
        check_length(text, MAX_SITE_LEN)?;
        let label = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !label || text.starts_with('-') || text.ends_with('-') {
            return Err(SiteError::NotALabel(text.to_owned()));
        }
        check_reserved(text)?;
        Ok(Self(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Another name under which QueueMetrics may address a site: one of its tenants.
///
/// Aliases and sites share one namespace, compared without regard to case.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Alias(Arc<str>);

impl Alias {
    /// Parses an alias. Upper case is folded to lower case.
    ///
    /// # Errors
    /// [`SiteError`] if the text cannot be the name of a tenant or is reserved.
    pub fn parse(text: &str) -> Result<Self, SiteError> {
        check_length(text, MAX_ALIAS_LEN)?;
        let allowed = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if !allowed || !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return Err(SiteError::NotAnAlias(text.to_owned()));
        }
        check_reserved(&text.to_ascii_lowercase())?;
        Ok(Self(text.to_ascii_lowercase().into()))
    }

    /// The alias as text, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check_length(text: &str, max: usize) -> Result<(), SiteError> {
    if text.is_empty() || text.len() > max {
        return Err(SiteError::Length { len: text.len(), max });
    }
    Ok(())
}

fn check_reserved(text: &str) -> Result<(), SiteError> {
    if RESERVED.contains(&text) {
        return Err(SiteError::Reserved(text.to_owned()));
    }
    Ok(())
}

macro_rules! name_traits {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = SiteError;

            fn from_str(text: &str) -> Result<Self, SiteError> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = SiteError;

            fn try_from(text: String) -> Result<Self, SiteError> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.as_str().to_owned()
            }
        }
    };
}

name_traits!(SiteId);
name_traits!(Alias);

/// The secret with which an agent proves that it belongs to a site: `avk_<site>_<base32 of 32 random bytes>` (RFC 4648,
/// section 6, in lower case without padding).
///
/// The secret never appears in `Debug`, and is wiped from memory on drop.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SiteKey {
    #[zeroize(skip)]
    site: SiteId,
    secret: [u8; SITE_SECRET_LEN],
}

impl SiteKey {
    /// A key for a site, from bytes that the caller drew at random.
    pub fn from_secret(site: SiteId, secret: [u8; SITE_SECRET_LEN]) -> Self {
        Self { site, secret }
    }

    /// Parses the text form.
    ///
    /// # Errors
    /// [`SiteError::NotAKey`] if the text has another form; the text itself is never part of the error.
    pub fn parse(text: &str) -> Result<Self, SiteError> {
        let rest = text.trim().strip_prefix("avk_").ok_or(SiteError::NotAKey)?;
        let (site, secret) = rest.rsplit_once('_').ok_or(SiteError::NotAKey)?;
        let site = SiteId::parse(site).map_err(|_| SiteError::NotAKey)?;
        let mut bytes =
            BASE32_NOPAD.decode(secret.to_ascii_uppercase().as_bytes()).map_err(|_| SiteError::NotAKey)?;
        let secret = <[u8; SITE_SECRET_LEN]>::try_from(bytes.as_slice()).map_err(|_| SiteError::NotAKey);
        bytes.zeroize();
        Ok(Self { site, secret: secret? })
    }

    /// The site that this key is for.
    pub fn site(&self) -> &SiteId {
        &self.site
    }

    /// The text form, including the secret, for the one moment at which it is shown or sent.
    pub fn reveal(&self) -> String {
        format!("avk_{}_{}", self.site, BASE32_NOPAD.encode(&self.secret).to_ascii_lowercase())
    }

    /// The digest that a relay stores for the key.
    pub fn digest(&self) -> KeyDigest {
        KeyDigest::of_secret(&self.secret)
    }
}

impl fmt::Debug for SiteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SiteKey({}, …)", self.site)
    }
}

/// SHA-256 of the secret part of a site key. A plain digest is enough: the secret has 256 random bits.
#[derive(Clone, Copy)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// The digest of the secret part of a key, whose site may not be known yet.
    pub fn of_secret(secret: &[u8; SITE_SECRET_LEN]) -> Self {
        Self(Sha256::digest(secret).into())
    }

    /// A digest that was stored.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The digest, to be stored.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Compares in constant time.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// Eight hexadecimal digits with which people distinguish the keys of a site.
    pub fn short(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.0[..4])
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyDigest({}…)", self.short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_is_a_lower_case_dns_label() {
        for good in ["a", "acme-madrid", "4you", &"x".repeat(63)] {
            assert_eq!(SiteId::parse(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "-a",
            "a-",
            "Acme",
            "a.b",
            "a_b",
            "ñ",
            "a b",
            &"x".repeat(64),
            "search",
            "tunnel",
            "api",
            "enroll",
        ] {
            assert!(SiteId::parse(bad).is_err(), "{bad:?} must be refused");
        }
    }

    #[test]
    fn an_alias_is_a_tenant_name_without_regard_to_case() {
        assert_eq!(Alias::parse("Shop.Example.COM").unwrap().as_str(), "shop.example.com");
        for bad in ["", "..", ".hidden", "a/b", "SEARCH", "a\0b"] {
            assert!(Alias::parse(bad).is_err(), "{bad:?} must be refused");
        }
    }

    #[test]
    fn a_key_survives_its_text_form_and_only_that() {
        let key = SiteKey::from_secret(SiteId::parse("acme-madrid").unwrap(), [7; 32]);
        let text = key.reveal();
        let back = SiteKey::parse(&format!(" {text}\n")).unwrap();
        assert_eq!(back.site(), key.site());
        assert!(back.digest().matches(&key.digest()));
        for bad in ["", "avk_", "avk_acme", &text[1..], &text[..text.len() - 1], "avk_Acme_aaaa"] {
            assert_eq!(SiteKey::parse(bad).unwrap_err(), SiteError::NotAKey);
        }
    }

    #[test]
    fn debug_never_shows_a_secret() {
        let key = SiteKey::from_secret(SiteId::parse("acme").unwrap(), [7; 32]);
        let secret = key.reveal().rsplit_once('_').unwrap().1.to_owned();
        assert!(!format!("{key:?} {:?}", key.digest()).contains(&secret));
    }
}
