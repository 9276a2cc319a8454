//! The secret that the relays of a cluster share, by which each knows that a request comes from one of them.

use std::{fmt, str::FromStr};

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::Sha256;
use zeroize::Zeroizing;

/// Characters of the shortest secret: 128 bits in hexadecimal.
const MIN_LEN: usize = 32;
/// How far the clocks of two relays may be apart, in seconds. What is heard on the way may be said again within this time;
/// whoever hears it has the recording anyway.
const MAX_SKEW: u64 = 60;
/// Keeps these codes apart from whatever else the secret may be used for.
const PURPOSE: &[u8] = b"audiovault relay to relay, 1";

/// Why a text is no cluster key. It is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected 32 characters or more, such as `openssl rand -hex 32` prints")]
pub struct ShortKey;

/// Why a request is not believed to come from a relay of this cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    /// There is no proof, or it was made with another key or for something else.
    #[error(
        "it is not signed with this cluster's key: give every relay the same AUDIOVAULT_RELAY_CLUSTER_KEY"
    )]
    Forged,
    /// The proof is of another time.
    #[error("it was signed more than a minute ago or ahead: set the clocks of the relays")]
    OtherTime,
}

/// The shared secret.
#[derive(Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct ClusterKey(Zeroizing<String>);

impl FromStr for ClusterKey {
    type Err = ShortKey;

    fn from_str(text: &str) -> Result<Self, ShortKey> {
        let text = text.trim();
        if text.chars().count() < MIN_LEN {
            return Err(ShortKey);
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }
}

impl TryFrom<String> for ClusterKey {
    type Error = ShortKey;

    fn try_from(text: String) -> Result<Self, ShortKey> {
        Zeroizing::new(text).parse()
    }
}

impl fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterKey(…)")
    }
}

impl ClusterKey {
    /// Proves parts of a request at a time, in seconds since the Unix epoch.
    pub fn prove(&self, parts: &[&[u8]], now: u64) -> String {
        format!("{now} {}", HEXLOWER.encode(&self.mac(parts, now).finalize().into_bytes()))
    }

    /// Holds parts of a request against their proof.
    ///
    /// # Errors
    /// [`Unproven`].
    pub fn check(&self, parts: &[&[u8]], proof: &str, now: u64) -> Result<(), Unproven> {
        let (time, code) = proof.split_once(' ').ok_or(Unproven::Forged)?;
        let time: u64 = time.parse().map_err(|_| Unproven::Forged)?;
        let code = HEXLOWER.decode(code.as_bytes()).map_err(|_| Unproven::Forged)?;
        self.mac(parts, time).verify_slice(&code).map_err(|_| Unproven::Forged)?;
        if time.abs_diff(now) > MAX_SKEW { Err(Unproven::OtherTime) } else { Ok(()) }
    }

    fn mac(&self, parts: &[&[u8]], time: u64) -> Hmac<Sha256> {
        // HMAC takes keys of any length.
        #[expect(clippy::expect_used, reason = "new_from_slice of HMAC never fails")]
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.as_bytes()).expect("any length");
        for part in [PURPOSE, &time.to_be_bytes()].iter().chain(parts) {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(octet: &str) -> ClusterKey {
        octet.repeat(MIN_LEN).parse().unwrap()
    }

    #[test]
    fn only_the_same_key_proves_the_same_parts_at_the_same_time() {
        let (now, parts) = (1_800_000_000, [&b"acme"[..], b"frame"]);
        let proof = key("a").prove(&parts, now);
        assert_eq!(key("a").check(&parts, &proof, now + MAX_SKEW), Ok(()));
        assert_eq!(key("a").check(&parts, &proof, now + MAX_SKEW + 1), Err(Unproven::OtherTime));
        assert_eq!(key("a").check(&parts, &proof, now - MAX_SKEW - 1), Err(Unproven::OtherTime));
        assert_eq!(key("b").check(&parts, &proof, now), Err(Unproven::Forged));
        let shifted = proof.replacen("1800000000", "1800000001", 1);
        assert_eq!(key("a").check(&parts, &shifted, now), Err(Unproven::Forged));
        // What is moved from one part to the next is another request.
        for other in [[&b"acm"[..], b"eframe"], [b"acmeframe", b""]] {
            assert_eq!(key("a").check(&other, &proof, now), Err(Unproven::Forged));
        }
        for nonsense in ["", " ", "1800000000", "1800000000 zz", "x 00"] {
            assert_eq!(key("a").check(&parts, nonsense, now), Err(Unproven::Forged), "{nonsense:?}");
        }
    }

    #[test]
    fn a_short_secret_is_refused_and_none_is_shown() {
        assert_eq!("s3cr3t".parse::<ClusterKey>().unwrap_err(), ShortKey);
        assert!("é".repeat(MIN_LEN).parse::<ClusterKey>().is_ok());
        assert_eq!(format!("{:?}", key("s")), "ClusterKey(…)");
    }
}
