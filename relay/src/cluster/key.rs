//! The secret that the relays of a cluster share, with which they prove that a request comes from one of them.

use std::{fmt, str::FromStr};

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::Sha256;
use zeroize::Zeroizing;

/// Characters of the shortest secret: 128 bits in hexadecimal.
const MIN_LEN: usize = 32;
/// How far apart the clocks of two relays may be, in seconds.
pub(super) const MAX_SKEW: u64 = 60;
/// Keep these codes apart from each other, and from any other use of the secret.
const QUESTION: &[u8] = b"audiovault relay to relay, 2, question";
const ANSWER: &[u8] = b"audiovault relay to relay, 2, answer";
const BODY: &[u8] = b"audiovault relay to relay, 2, body of an answer";

/// The text is too short for a cluster key. The error does not repeat it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected 32 characters or more, such as `openssl rand -hex 32` prints")]
pub struct ShortKey;

/// Why a request is not accepted as one from a relay of this cluster, or not as one for this relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    /// Peer is no proof, or it was made with another key or for something else.
    #[error(
        "it is not signed with this cluster's key: give every relay the same AUDIOVAULT_RELAY_CLUSTER_KEY and the same release"
    )]
    Forged,
    /// The proof was made at another time.
    #[error("its signature is more than a minute old, or from the future: check the clocks of the relays")]
    OtherTime,
    /// It is for another run of a relay, which was reached at this address before.
    #[error("it is for another relay, or for this relay before its restart")]
    OtherRelay,
    /// The same request has come before.
    #[error("it is a replay of an earlier request")]
    Replayed,
}

/// What makes each request unique. The response is bound to it as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// When the request was sent, in seconds since the Unix epoch.
    pub time: u64,
    /// The run of the relay that sends the request.
    pub from: String,
    /// The number of the request among those of its sender.
    pub number: u64,
    /// The run of the relay that gets the request.
    pub to: String,
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
    /// The proof of a request: of its path and its body.
    pub fn prove(&self, stamp: &Stamp, path: &str, question: &[u8]) -> String {
        let Stamp { time, from, number, to } = stamp;
        let code = self.mac(QUESTION, stamp, &[path.as_bytes(), question]).finalize().into_bytes();
        format!("{time} {from} {number} {to} {}", HEXLOWER.encode(&code))
    }

    /// Checks the proof of a request and returns its stamp. The caller must check for which run it is and whether it
    /// has come before.
    ///
    /// # Errors
    /// [`Unproven::Forged`] and [`Unproven::OtherTime`].
    pub fn check(&self, path: &str, question: &[u8], proof: &str, now: u64) -> Result<Stamp, Unproven> {
        let words: Vec<&str> = proof.split(' ').collect();
        let [time, from, number, to, code] = words[..] else { return Err(Unproven::Forged) };
        let number_of = |text: &str| text.parse().map_err(|_| Unproven::Forged);
        let stamp = Stamp {
            time: number_of(time)?,
            from: from.to_owned(),
            number: number_of(number)?,
            to: to.to_owned(),
        };
        let code = HEXLOWER.decode(code.as_bytes()).map_err(|_| Unproven::Forged)?;
        let mac = self.mac(QUESTION, &stamp, &[path.as_bytes(), question]);
        mac.verify_slice(&code).map_err(|_| Unproven::Forged)?;
        if stamp.time.abs_diff(now) > MAX_SKEW { Err(Unproven::OtherTime) } else { Ok(stamp) }
    }

    /// Proves the head of a response, given in parts.
    pub fn prove_answer(&self, stamp: &Stamp, parts: &[&[u8]]) -> String {
        HEXLOWER.encode(&self.mac(ANSWER, stamp, parts).finalize().into_bytes())
    }

    /// Whether `proof` proves the head of a response.
    pub fn proves_answer(&self, stamp: &Stamp, parts: &[&[u8]], proof: &[u8]) -> bool {
        let code = HEXLOWER.decode(proof).unwrap_or_default();
        self.mac(ANSWER, stamp, parts).verify_slice(&code).is_ok()
    }

    /// Starts the proof of a response's body.
    pub fn body_proof(&self, stamp: &Stamp) -> BodyProof {
        BodyProof(Box::new(self.mac(BODY, stamp, &[])))
    }

    fn mac(&self, purpose: &[u8], stamp: &Stamp, parts: &[&[u8]]) -> Hmac<Sha256> {
        // HMAC takes keys of any length.
        #[expect(clippy::expect_used, reason = "new_from_slice of HMAC never fails")]
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.as_bytes()).expect("any length");
        let Stamp { time, from, number, to } = stamp;
        let stamp: [&[u8]; 5] =
            [purpose, &time.to_be_bytes(), from.as_bytes(), &number.to_be_bytes(), to.as_bytes()];
        for part in stamp.iter().chain(parts) {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac
    }
}

/// The proof of a body, computed while the body passes.
#[derive(Clone)]
pub struct BodyProof(Box<Hmac<Sha256>>);

impl fmt::Debug for BodyProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BodyProof(…)")
    }
}

impl BodyProof {
    /// Adds data that has passed.
    pub fn passed(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    /// The proof of all data that has passed.
    pub fn to_text(&self) -> String {
        HEXLOWER.encode(&Hmac::clone(&self.0).finalize().into_bytes())
    }

    /// Whether `proof` proves all data that has passed.
    pub fn is(&self, proof: &[u8]) -> bool {
        let code = HEXLOWER.decode(proof).unwrap_or_default();
        Hmac::clone(&self.0).verify_slice(&code).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: &str) -> ClusterKey {
        byte.repeat(MIN_LEN).parse().unwrap()
    }

    const NOW: u64 = 1_800_000_000;

    fn stamp() -> Stamp {
        Stamp { time: NOW, from: "a1".to_owned(), number: 7, to: "b2".to_owned() }
    }

    #[test]
    fn only_the_same_key_proves_the_same_question_at_the_same_time() {
        let check = |by: &str, path: &str, question: &[u8], proof: &str, now: u64| {
            key(by).check(path, question, proof, now)
        };
        let proof = key("a").prove(&stamp(), "/call", b"frame");
        assert_eq!(check("a", "/call", b"frame", &proof, NOW + MAX_SKEW), Ok(stamp()));
        assert_eq!(check("a", "/call", b"frame", &proof, NOW + MAX_SKEW + 1), Err(Unproven::OtherTime));
        assert_eq!(check("a", "/call", b"frame", &proof, NOW - MAX_SKEW - 1), Err(Unproven::OtherTime));
        assert_eq!(check("b", "/call", b"frame", &proof, NOW), Err(Unproven::Forged));
        for (true_word, other) in
            [("1800000000", "1800000001"), (" a1 ", " a2 "), (" 7 ", " 8 "), (" b2 ", " b3 ")]
        {
            let changed = proof.replacen(true_word, other, 1);
            assert_eq!(check("a", "/call", b"frame", &changed, NOW), Err(Unproven::Forged), "{changed}");
        }
        // Moving bytes from one part to the next makes another request.
        for (path, question) in [("/cal", &b"lframe"[..]), ("/callframe", b"")] {
            assert_eq!(check("a", path, question, &proof, NOW), Err(Unproven::Forged));
        }
        for nonsense in ["", " ", "1800000000", "1 a 1 b zz", "x a 1 b 00", "1 a 1 b 00 c"] {
            assert_eq!(check("a", "/call", b"frame", nonsense, NOW), Err(Unproven::Forged), "{nonsense:?}");
        }
    }

    #[test]
    fn an_answer_is_proved_for_its_own_question_alone() {
        let key = key("a");
        let other = Stamp { number: 8, ..stamp() };
        let proof = key.prove_answer(&stamp(), &[b"200", b"head"]);
        assert!(key.proves_answer(&stamp(), &[b"200", b"head"], proof.as_bytes()));
        assert!(!key.proves_answer(&stamp(), &[b"404", b"head"], proof.as_bytes()));
        assert!(!key.proves_answer(&other, &[b"200", b"head"], proof.as_bytes()));
        assert!(!key.proves_answer(&stamp(), &[b"200", b"head"], b"no code"));

        let mut sent = key.body_proof(&stamp());
        sent.passed(b"one");
        sent.passed(b"two");
        let mut received = key.body_proof(&stamp());
        received.passed(b"onetw");
        assert!(!received.is(sent.to_text().as_bytes()), "it is cut");
        received.passed(b"o");
        assert!(received.is(sent.to_text().as_bytes()));
        assert!(!key.body_proof(&other).is(key.body_proof(&stamp()).to_text().as_bytes()));
    }

    #[test]
    fn a_short_secret_is_refused_and_a_key_is_not_shown() {
        assert_eq!("s3cr3t".parse::<ClusterKey>().unwrap_err(), ShortKey);
        assert!("é".repeat(MIN_LEN).parse::<ClusterKey>().is_ok());
        assert_eq!(format!("{:?}", key("s")), "ClusterKey(…)");
    }
}
