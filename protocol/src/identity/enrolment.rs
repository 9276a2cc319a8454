//! Enrolment: a short code, which people read out over the phone, is exchanged for a site key (`PROTOCOL.md`,
//! section 10).

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::identity::site::{SiteId, SiteKey};

/// Where a code is exchanged, below the relay's public URL.
pub const ENROLMENT_PATH: &str = "/enroll";
/// How long a code is valid. Long enough to read it out and have it typed while both people are on the phone. To try
/// all 2⁶⁰ codes in that time, with ten attempts a minute from each address, takes a million times as many addresses as
/// IPv4 has.
pub const CODE_LIFETIME: Duration = Duration::from_secs(15 * 60);
/// Longest [`EnrolmentRequest`] in bytes: some forty, with room for blanks and for members of later versions.
pub const MAX_ENROLMENT_REQUEST_LEN: usize = 512;
/// Symbols of a code: 5 random bits each, 60 in all.
pub const CODE_LEN: usize = 12;

/// Symbols between two dashes.
const GROUP_LEN: usize = 4;
/// The 32 symbols of Crockford's base32 (<https://www.crockford.com/base32.html>): without I, L, O, which look like
/// digits, and without U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The text is not an enrolment code. The error never contains the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not an enrolment code: expected 12 letters and digits, such as 7K2M-QX4D-09RB")]
pub struct NotACode;

/// A code that can be exchanged once for a site key: 60 random bits, written `XXXX-XXXX-XXXX` in Crockford's base32.
///
/// Twelve symbols are not a whole number of bytes, so codecs for bytes do not fit. `Debug` does not show the code, and
/// it is wiped from memory on drop.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct EnrolmentCode([u8; CODE_LEN]);

impl EnrolmentCode {
    /// A code from the lowest 60 of these bits, which the caller drew at random.
    pub fn from_random(bits: u64) -> Self {
        let symbol = |place: usize| {
            // Five bits are below 32, the length of the alphabet.
            let value = bits >> (5 * place) & 31;
            ALPHABET[value as usize]
        };
        Self(std::array::from_fn(symbol))
    }

    /// Reads what a person typed: in either case, with blanks and dashes anywhere, I and L for 1, O for 0.
    ///
    /// # Errors
    /// [`NotACode`].
    pub fn parse(text: &str) -> Result<Self, NotACode> {
        let mut code = Self([0; CODE_LEN]);
        let mut places = code.0.iter_mut();
        for typed in text.chars().filter(|typed| !is_separator(*typed)) {
            *places.next().ok_or(NotACode)? = symbol(typed)?;
        }
        if places.next().is_some() { Err(NotACode) } else { Ok(code) }
    }

    /// The digest that a relay stores for the code.
    pub fn digest(&self) -> CodeDigest {
        CodeDigest(Sha256::digest(self.0).into())
    }
}

/// The code with its dashes, for the one moment at which it is shown or sent.
impl fmt::Display for EnrolmentCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, symbol) in self.0.iter().enumerate() {
            if place > 0 && place.is_multiple_of(GROUP_LEN) {
                f.write_str("-")?;
            }
            write!(f, "{}", char::from(*symbol))?;
        }
        Ok(())
    }
}

impl fmt::Debug for EnrolmentCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EnrolmentCode(…)")
    }
}

impl FromStr for EnrolmentCode {
    type Err = NotACode;

    fn from_str(text: &str) -> Result<Self, NotACode> {
        Self::parse(text)
    }
}

impl Serialize for EnrolmentCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EnrolmentCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        Self::parse(&text).map_err(de::Error::custom)
    }
}

/// SHA-256 of the twelve symbols of a code, in upper case and without dashes. It is stored in place of the code for a
/// quarter of an hour; after that, recovering the code from it opens nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CodeDigest([u8; 32]);

impl CodeDigest {
    /// The digest for storing.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for CodeDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CodeDigest(…)")
    }
}

/// The request of an agent to [`ENROLMENT_PATH`], as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EnrolmentRequest {
    /// The code as its user typed it.
    pub code: EnrolmentCode,
}

/// The relay's answer to a code that is right, as JSON. The relay keeps only a digest of the key, so it can never
/// answer twice.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EnrolmentAnswer {
    /// The site that the code was made for; the key contains its name too.
    pub site: SiteId,
    /// A new key of that site.
    #[serde(with = "key_text")]
    pub site_key: SiteKey,
}

/// A site key as text. This is not a general way to serialize keys: no other message may contain one.
mod key_text {
    use super::{Deserialize, Deserializer, Serializer, SiteKey, Zeroizing, de};

    pub(crate) fn serialize<S: Serializer>(key: &SiteKey, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(key.reveal()))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SiteKey, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        SiteKey::parse(&text).map_err(de::Error::custom)
    }
}

/// True for blanks, and for every dash that a word processor may put in place of a hyphen.
fn is_separator(typed: char) -> bool {
    typed.is_whitespace() || typed == '-' || ('\u{2010}'..='\u{2015}').contains(&typed)
}

fn symbol(typed: char) -> Result<u8, NotACode> {
    let symbol = match typed.to_ascii_uppercase() {
        'I' | 'L' => '1',
        'O' => '0',
        other => other,
    };
    u8::try_from(symbol).ok().filter(|symbol| ALPHABET.contains(symbol)).ok_or(NotACode)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn code(text: &str) -> EnrolmentCode {
        EnrolmentCode::parse(text).unwrap()
    }

    #[test]
    fn a_code_is_read_however_it_was_typed() {
        let meant = code("7K2M-Q14D-09RB");
        for typed in
            ["7k2mq14d09rb", " 7K2M Q14D 09RB\n", "7k2m-qi4d-o9rb", "7K-2MQL4D–O9rb", "7K2M‐Ql4D—09RB"]
        {
            assert_eq!(code(typed), meant, "{typed}");
        }
        for bad in
            ["", "-", "7K2M-Q14D-09R", "7K2M-Q14D-09RBB", "UUUU-UUUU-UUUU", "7K2M_Q14D_09RB", "ñañañañañaña"]
        {
            assert_eq!(EnrolmentCode::parse(bad), Err(NotACode), "{bad:?} must be refused");
        }
    }

    #[test]
    fn every_bit_of_sixty_counts() {
        let none = EnrolmentCode::from_random(0);
        assert_eq!(none.to_string(), "0000-0000-0000");
        assert_eq!(EnrolmentCode::from_random(u64::MAX).to_string(), "ZZZZ-ZZZZ-ZZZZ");
        for bit in 0..60 {
            assert_ne!(EnrolmentCode::from_random(1 << bit), none, "{bit}");
        }
        assert_eq!(EnrolmentCode::from_random(1 << 60), none);
    }

    #[test]
    fn what_crosses_the_wire_is_json_with_two_names() {
        let request: EnrolmentRequest =
            serde_json::from_str(r#"{"code": "7k2m q14d 09rb", "more": 1}"#).unwrap();
        assert_eq!(serde_json::to_string(&request).unwrap(), r#"{"code":"7K2M-Q14D-09RB"}"#);
        assert!(serde_json::to_vec(&request).unwrap().len() < MAX_ENROLMENT_REQUEST_LEN);
        let site = SiteId::parse("acme-madrid").unwrap();
        let key = SiteKey::from_secret(site.clone(), [7; 32]);
        let answer = EnrolmentAnswer { site, site_key: key.clone() };
        let text = serde_json::to_string(&answer).unwrap();
        assert_eq!(text, format!(r#"{{"site":"acme-madrid","site_key":"{}"}}"#, key.reveal()));
        let back: EnrolmentAnswer = serde_json::from_str(&text).unwrap();
        assert!(back.site_key.digest().matches(&key.digest()));
        assert!(
            serde_json::from_str::<EnrolmentAnswer>(r#"{"site":"acme","site_key":"avk_acme_x"}"#).is_err()
        );
    }

    #[test]
    fn neither_debug_nor_an_error_shows_a_code() {
        let request = EnrolmentRequest { code: code("7K2M-Q14D-09RB") };
        let text = format!("{request:?} {:?}", request.code.digest());
        assert!(!text.contains("7K2M") && !text.contains("09RB"), "{text}");
        let error = serde_json::from_str::<EnrolmentRequest>(r#"{"code": "7K2M-Q14D-09"}"#).unwrap_err();
        assert!(!error.to_string().contains("Q14D"), "{error}");
    }

    proptest! {
        #[test]
        fn a_code_survives_being_written_down(bits in any::<u64>(), lower in any::<bool>(), blanks in 0_usize..15) {
            let meant = EnrolmentCode::from_random(bits);
            let mut typed = meant.to_string();
            typed.insert(blanks.min(typed.len()), ' ');
            let typed = if lower { typed.to_lowercase() } else { typed };
            let read = EnrolmentCode::parse(&typed).unwrap();
            prop_assert!(read == meant && read.digest() == meant.digest());
        }

        #[test]
        fn each_code_that_is_accepted_has_one_way_of_writing_it(typed in "[0-9A-Za-z \\-]{0,20}|.{0,20}") {
            if let Ok(read) = EnrolmentCode::parse(&typed) {
                prop_assert_eq!(EnrolmentCode::parse(&read.to_string()).unwrap(), read);
            }
        }
    }
}
