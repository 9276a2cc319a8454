//! Signed links: download addresses that only the agent can make and that expire.
//!
//! The token of a link is URL-safe base64 (RFC 4648, section 5, unpadded) of
//! `version(1) key id(8) expiry(8) check(4) nonce(12) sealed(…) tag(16)`. Version, key id and expiry are not encrypted,
//! so that the relay can refuse an expired link without asking the site, and can pick an agent that holds the key. The
//! target of the link is sealed with AES-256-GCM (RFC 5116, section 5.2), with the clear part and the site as
//! associated data: names of recordings contain telephone numbers, and addresses end up in browser histories.
//!
//! The four bytes of check are an unkeyed digest of site and clear part. They secure nothing. With them a relay can
//! distinguish a damaged or misdirected link from an expired one, so that each kind of fault always gets the same
//! response.
//!
//! Pure: the caller brings the time, the nonce and the secret.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{http::parameters::MAX_VALUE_LEN, identity::site::SiteId};

/// Length in bytes of a link secret, and of every key derived from it.
pub const LINK_SECRET_LEN: usize = 32;
/// Length in bytes of the nonce that the caller draws for each link.
pub const LINK_NONCE_LEN: usize = NONCE_LEN;
/// Longest path that a link may carry, in bytes: `PATH_MAX` of Linux.
pub const MAX_PATH_LEN: usize = 4096;
/// Longest token in characters: a path; a call id, a tenant and a user of [`MAX_VALUE_LEN`] bytes
/// each; their lengths, header, nonce and tag; in base64 (4 characters for 3 bytes).
pub const MAX_TOKEN_LEN: usize =
    (HEADER_LEN + CHECK_LEN + NONCE_LEN + 16 + 4 * 2 + MAX_PATH_LEN + 3 * 1024 + 16) * 4 / 3 + 4;

/// Longest life of a link in seconds: a link that opens for months is no longer a link but a publication. An agent
/// refuses a configuration with a longer one.
pub const MAX_LINK_LIFE: u64 = 31 * 24 * 3600;
/// How far an agent's clock may be ahead of a relay's, in seconds: a day covers a clock that was set in another time
/// zone.
const MAX_CLOCK_LEAD: u64 = 24 * 3600;

const VERSION: u8 = 1;
const HEADER_LEN: usize = 1 + 8 + 8;
const CHECK_LEN: usize = 4;
const TAG_LEN: usize = 16;

/// The secret from which all keys of an agent's links are derived: drawn at random for each run, or read from a file
/// that the agents of a site share.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct LinkSecret([u8; LINK_SECRET_LEN]);

impl LinkSecret {
    /// A secret from bytes that the caller drew at random.
    pub fn from_bytes(bytes: [u8; LINK_SECRET_LEN]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for LinkSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkSecret(…)")
    }
}

/// Identifies a link secret without revealing it: eight bytes, in text 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LinkKeyId([u8; 8]);

impl fmt::Display for LinkKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for LinkKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for LinkKeyId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let bytes = HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or("a link key id is 16 lower-case hexadecimal digits")
    }
}

impl From<LinkKeyId> for String {
    fn from(id: LinkKeyId) -> Self {
        id.to_string()
    }
}

/// A keyed fingerprint of a value that must not travel itself: a root's pattern, or a search token.
pub type Fingerprint = [u8; 8];

/// What a link opens, and for whom it was made. It travels encrypted.
#[derive(Clone, PartialEq, Eq)]
pub struct LinkTarget {
    /// Fingerprint of the storage root's pattern (not its position: a reload may reorder roots).
    pub root: Fingerprint,
    /// Fingerprint of the token with which the search was made: when the token is withdrawn, its links no longer work.
    pub search_token: Fingerprint,
    /// Path below the directory that the root opens; file names are bytes, not text.
    pub path: Vec<u8>,
    /// The call that was searched for, for the audit log.
    pub call_id: String,
    /// The tenant for which the search was made; empty if there is none.
    pub tenant: String,
    /// The QueueMetrics user who searched, for the audit log; empty if there is none.
    pub user: String,
}

impl LinkTarget {
    /// The encoding inside the seal: two fingerprints of 8 bytes, then path, call id, tenant and user, each after its
    /// length in two bytes (big endian).
    fn encode(&self) -> Result<Vec<u8>, LinkError> {
        let texts = [&self.call_id, &self.tenant, &self.user].map(String::as_bytes);
        let fields = [self.path.as_slice(), texts[0], texts[1], texts[2]];
        let limits = [MAX_PATH_LEN, MAX_VALUE_LEN, MAX_VALUE_LEN, MAX_VALUE_LEN];
        let mut bytes = Vec::with_capacity(16 + fields.iter().map(|field| field.len() + 2).sum::<usize>());
        bytes.extend_from_slice(&self.root);
        bytes.extend_from_slice(&self.search_token);
        for (field, limit) in fields.iter().zip(limits) {
            let len = u16::try_from(field.len()).ok().filter(|_| field.len() <= limit);
            bytes.extend_from_slice(&len.ok_or(LinkError::TooLong)?.to_be_bytes());
            bytes.extend_from_slice(field);
        }
        Ok(bytes)
    }

    fn decode(mut bytes: &[u8]) -> Option<Self> {
        let root = bytes.split_off(..8)?.try_into().ok()?;
        let search_token = bytes.split_off(..8)?.try_into().ok()?;
        let mut field = || {
            let len = u16::from_be_bytes(bytes.split_off(..2)?.try_into().ok()?);
            bytes.split_off(..usize::from(len))
        };
        let path = field()?.to_vec();
        let mut text = || String::from_utf8(field()?.to_vec()).ok();
        let call_id = text()?;
        let tenant = text()?;
        let user = text()?;
        bytes.is_empty().then_some(Self { root, search_token, path, call_id, tenant, user })
    }
}

impl fmt::Debug for LinkTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkTarget(…)")
    }
}

/// Why a link does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Altered, cut, invented, or made for another site: the same answer for every kind of forgery.
    #[error("this link was altered or is not for this site")]
    Forged,
    /// The link has expired.
    #[error("this link has expired; search again for a new one")]
    Expired,
    /// The link was made with a secret that this agent does not hold, such as the secret of a run that has ended.
    #[error("this link was made by an earlier run; search again for a new one")]
    OtherKey,
    /// The target does not fit into a link; see [`MAX_PATH_LEN`].
    #[error("the recording's path or call id is too long for a link")]
    TooLong,
}

/// The part of a link that is not encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkHeader {
    /// The secret that sealed the rest.
    pub key_id: LinkKeyId,
    /// The first second, since the Unix epoch, at which the link no longer opens.
    pub expires: u64,
}

impl LinkHeader {
    /// Reads the clear part of a token.
    ///
    /// # Errors
    /// [`LinkError::Forged`] unless the token is complete and its clear part was made for `site`.
    pub fn read(site: &SiteId, token: &str) -> Result<Self, LinkError> {
        Ok(split(site, &decode(token)?)?.0)
    }

    /// True if the link has expired at `now` (seconds since the Unix epoch).
    pub fn is_expired(&self, now: u64) -> bool {
        now >= self.expires
    }

    /// True if the link expires later than any that an agent makes at `now` (seconds since the Unix epoch), so that it
    /// must be forged.
    pub fn is_implausible(&self, now: u64) -> bool {
        self.expires > now.saturating_add(MAX_LINK_LIFE + MAX_CLOCK_LEAD)
    }

    fn encode(self, site: &SiteId) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_LEN + CHECK_LEN);
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.key_id.0);
        bytes.extend_from_slice(&self.expires.to_be_bytes());
        bytes.extend_from_slice(&check(site, &bytes));
        bytes
    }
}

/// Makes and opens the links of one secret.
pub struct LinkSigner {
    key_id: LinkKeyId,
    sealing: LessSafeKey,
    fingerprints: Hmac<Sha256>,
}

impl LinkSigner {
    /// Derives one key per purpose from the secret (HMAC-SHA-256, RFC 2104).
    pub fn new(secret: &LinkSecret) -> Self {
        let key_id = derive(secret, b"audiovault link key id v1");
        let mut sealing = derive(secret, b"audiovault link sealing v1");
        let mut fingerprints = derive(secret, b"audiovault link fingerprints v1");
        // AES-256 takes exactly the 32 bytes that SHA-256 gives.
        #[expect(clippy::expect_used, reason = "the key has the one length that the algorithm accepts")]
        let unbound = UnboundKey::new(&AES_256_GCM, &sealing).expect("a 32-byte key");
        let mut id = [0; 8];
        id.copy_from_slice(&key_id[..8]);
        let signer = Self {
            key_id: LinkKeyId(id),
            sealing: LessSafeKey::new(unbound),
            fingerprints: keyed(&fingerprints),
        };
        sealing.zeroize();
        fingerprints.zeroize();
        signer
    }

    /// The id of the secret, sent in HELLO.
    pub fn key_id(&self) -> LinkKeyId {
        self.key_id
    }

    /// A fingerprint of `what`, which reveals nothing without the secret.
    pub fn fingerprint(&self, what: &[u8]) -> Fingerprint {
        let mut mac = self.fingerprints.clone();
        mac.update(what);
        let mut print = Fingerprint::default();
        print.copy_from_slice(&mac.finalize().into_bytes()[..8]);
        print
    }

    /// Makes the token of a link that opens until `expires` (seconds since the Unix epoch). The nonce must be new
    /// random bytes each time.
    ///
    /// # Errors
    /// [`LinkError::TooLong`] if the target does not fit.
    pub fn mint(
        &self,
        site: &SiteId,
        target: &LinkTarget,
        expires: u64,
        nonce: [u8; LINK_NONCE_LEN],
    ) -> Result<String, LinkError> {
        let header = LinkHeader { key_id: self.key_id, expires };
        let mut token = header.encode(site);
        let mut sealed = target.encode()?;
        self.sealing
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(associated_data(site, &token)),
                &mut sealed,
            )
            .map_err(|_| LinkError::TooLong)?;
        token.extend_from_slice(&nonce);
        token.extend_from_slice(&sealed);
        Ok(BASE64URL_NOPAD.encode(&token))
    }

    /// Opens a token at `now` (seconds since the Unix epoch).
    ///
    /// # Errors
    /// [`LinkError`]. A forgery is reported before expiry only if it shows without opening the seal.
    pub fn open(&self, site: &SiteId, token: &str, now: u64) -> Result<LinkTarget, LinkError> {
        let bytes = decode(token)?;
        let (header, sealed) = split(site, &bytes)?;
        if header.is_expired(now) {
            return Err(LinkError::Expired);
        }
        if header.key_id != self.key_id {
            return Err(LinkError::OtherKey);
        }
        let (nonce, sealed) = sealed.split_at(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| LinkError::Forged)?;
        let aad = Aad::from(associated_data(site, &bytes[..HEADER_LEN + CHECK_LEN]));
        let mut sealed = sealed.to_vec();
        let plain = self.sealing.open_in_place(nonce, aad, &mut sealed).map_err(|_| LinkError::Forged)?;
        LinkTarget::decode(plain).ok_or(LinkError::Forged)
    }
}

impl fmt::Debug for LinkSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinkSigner({})", self.key_id)
    }
}

fn keyed(key: &[u8; LINK_SECRET_LEN]) -> Hmac<Sha256> {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of every length (RFC 2104, section 2)")]
    Hmac::new_from_slice(key).expect("a key of any length")
}

fn derive(secret: &LinkSecret, purpose: &[u8]) -> [u8; LINK_SECRET_LEN] {
    let mut mac = keyed(&secret.0);
    mac.update(purpose);
    mac.finalize().into_bytes().into()
}

fn check(site: &SiteId, header: &[u8]) -> [u8; CHECK_LEN] {
    let mut digest = Sha256::new();
    digest.update(associated_data(site, header));
    let mut check = [0; CHECK_LEN];
    check.copy_from_slice(&digest.finalize()[..CHECK_LEN]);
    check
}

fn associated_data(site: &SiteId, clear: &[u8]) -> Vec<u8> {
    // The site has at most 63 bytes and comes last, so no two pairs have the same encoding.
    [clear, site.as_str().as_bytes()].concat()
}

fn decode(token: &str) -> Result<Vec<u8>, LinkError> {
    if token.len() > MAX_TOKEN_LEN {
        return Err(LinkError::Forged);
    }
    BASE64URL_NOPAD.decode(token.as_bytes()).map_err(|_| LinkError::Forged)
}

fn split<'a>(site: &SiteId, bytes: &'a [u8]) -> Result<(LinkHeader, &'a [u8]), LinkError> {
    if bytes.len() < HEADER_LEN + CHECK_LEN + NONCE_LEN + TAG_LEN || bytes[0] != VERSION {
        return Err(LinkError::Forged);
    }
    let (clear, sealed) = bytes.split_at(HEADER_LEN + CHECK_LEN);
    let (header, stated) = clear.split_at(HEADER_LEN);
    if check(site, header) != stated {
        return Err(LinkError::Forged);
    }
    let mut key_id = [0; 8];
    let mut expires = [0; 8];
    key_id.copy_from_slice(&header[1..9]);
    expires.copy_from_slice(&header[9..17]);
    let header = LinkHeader { key_id: LinkKeyId(key_id), expires: u64::from_be_bytes(expires) };
    Ok((header, sealed))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn site(name: &str) -> SiteId {
        SiteId::parse(name).unwrap()
    }

    fn signer(seed: u8) -> LinkSigner {
        LinkSigner::new(&LinkSecret::from_bytes([seed; LINK_SECRET_LEN]))
    }

    fn target() -> LinkTarget {
        LinkTarget {
            root: [1; 8],
            search_token: [2; 8],
            path: b"2024/03/26/out-\xff-100-1711444502.17.wav".to_vec(),
            call_id: "1711444502.17".to_owned(),
            tenant: "acme".to_owned(),
            user: "robin".to_owned(),
        }
    }

    #[test]
    fn a_link_opens_what_it_was_made_for_until_it_expires() {
        let token = signer(1).mint(&site("acme"), &target(), 1000, [9; 12]).unwrap();
        assert_eq!(signer(1).open(&site("acme"), &token, 999).unwrap(), target());
        assert_eq!(signer(1).open(&site("acme"), &token, 1000).unwrap_err(), LinkError::Expired);
        let header = LinkHeader::read(&site("acme"), &token).unwrap();
        assert_eq!((header.key_id, header.expires), (signer(1).key_id(), 1000));
    }

    #[test]
    fn no_agent_makes_a_link_that_ends_in_a_year() {
        let header = |expires| LinkHeader { key_id: signer(1).key_id(), expires };
        let now = 1_711_444_000;
        assert!(!header(now + MAX_LINK_LIFE).is_implausible(now));
        assert!(!header(now + MAX_LINK_LIFE + MAX_CLOCK_LEAD).is_implausible(now));
        assert!(header(now + MAX_LINK_LIFE + MAX_CLOCK_LEAD + 1).is_implausible(now));
        assert!(header(u64::MAX).is_implausible(now) && !header(u64::MAX).is_implausible(u64::MAX));
    }

    #[test]
    fn every_changed_character_is_a_forgery() {
        let token = signer(1).mint(&site("acme"), &target(), 1000, [9; 12]).unwrap();
        for at in 0..token.len() {
            let mut forged = token.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            assert_eq!(signer(1).open(&site("acme"), &forged, 0).unwrap_err(), LinkError::Forged, "at {at}");
        }
        for cut in 0..token.len() {
            assert_eq!(signer(1).open(&site("acme"), &token[..cut], 0).unwrap_err(), LinkError::Forged);
        }
    }

    #[test]
    fn another_site_and_another_key_are_different_errors() {
        let token = signer(1).mint(&site("acme"), &target(), 1000, [9; 12]).unwrap();
        assert_eq!(signer(1).open(&site("other"), &token, 0).unwrap_err(), LinkError::Forged);
        assert_eq!(signer(2).open(&site("acme"), &token, 0).unwrap_err(), LinkError::OtherKey);
    }

    #[test]
    fn nothing_personal_stands_in_the_clear() {
        let token = signer(1).mint(&site("acme"), &target(), 1000, [9; 12]).unwrap();
        let bytes = BASE64URL_NOPAD.decode(token.as_bytes()).unwrap();
        let shown = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
        assert!(!shown(b"17114") && !shown(b"out-") && !shown(b"acme"));
        assert!(!format!("{:?}{:?}", target(), signer(1)).contains("17114"));
    }

    #[test]
    fn the_longest_target_fits_and_one_byte_more_does_not() {
        let mut long = target();
        long.path = vec![b'a'; MAX_PATH_LEN];
        long.call_id = "1".repeat(1024);
        long.tenant = "t".repeat(1024);
        long.user = "u".repeat(1024);
        let token = signer(1).mint(&site("acme"), &long, 1000, [9; 12]).unwrap();
        assert!(token.len() <= MAX_TOKEN_LEN);
        assert_eq!(signer(1).open(&site("acme"), &token, 0).unwrap(), long);
        long.path.push(b'a');
        assert_eq!(signer(1).mint(&site("acme"), &long, 1000, [9; 12]).unwrap_err(), LinkError::TooLong);
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_opens_and_never_panics(text in ".{0,200}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(signer(1).open(&site("acme"), &text, 0).is_err());
            prop_assert!(signer(1).open(&site("acme"), &BASE64URL_NOPAD.encode(&bytes), 0).is_err());
        }
    }
}
