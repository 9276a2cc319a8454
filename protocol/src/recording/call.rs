//! Call ids in a form that can be compared: in a search, in the name of a recording, or in the audit log.
//!
//! Letters are compared without regard to case, `_` equals `.`, and an id may have the name of a server before it.
//! Pure.

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Digits of the first part of Asterisk's unique id, which is in seconds since the Unix epoch: from 1973 until long
/// after this program's time.
const EPOCH_DIGITS: std::ops::RangeInclusive<usize> = 9..=11;
/// Digits of the second part of Asterisk's unique id.
const NUMBER_DIGITS: std::ops::RangeInclusive<usize> = 1..=10;
/// Characters of the parts of a UUID (RFC 9562, section 4), which are separated by hyphens.
const UUID_PARTS: [usize; 5] = [8, 4, 4, 4, 12];
const UUID_LEN: usize = 36;

/// A call id in a form in which two ids of one call are equal.
pub fn call_key(call_id: &str) -> String {
    call_id.trim().to_lowercase().replace('_', ".")
}

/// One byte of an id, or of a name that may contain one, in the form of [`call_key`].
pub fn fold(byte: u8) -> u8 {
    if byte == b'_' { b'.' } else { byte.to_ascii_lowercase() }
}

/// A call that is named by someone who wants to find all audit events about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedCall {
    key: String,
    /// Where the id without the server begins in the key.
    bare_at: usize,
}

impl NamedCall {
    /// The call with this id, with or without a server before it.
    pub fn new(call_id: &str) -> Self {
        let key = call_key(call_id);
        let bare_at = bare_at(&key);
        Self { key, bare_at }
    }

    /// The id as it was given, in the form in which ids are compared.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The id without the server.
    pub fn bare(&self) -> &str {
        self.key.get(self.bare_at..).unwrap_or(&self.key)
    }

    /// True if the id names a server.
    pub fn has_server(&self) -> bool {
        self.bare_at > 0
    }

    /// True if the other id may be of the same call: the ids without servers are equal and, if both have a server, so
    /// are the servers.
    pub fn is(&self, other: &Self) -> bool {
        let known = self.has_server() && other.has_server();
        self.bare() == other.bare() && (!known || self.key == other.key)
    }

    /// True if the id, without the server, is part of the name of a recording.
    pub fn stands_in(&self, name: &str) -> bool {
        stands_in(self.bare().as_bytes(), name.as_bytes())
    }

    /// True if an audit event is about this call: by the id that was searched for, or by the recording's name. An event
    /// about a call with that id on another server is not.
    pub fn is_subject_of(&self, call_id: Option<&str>, recording: Option<&str>) -> bool {
        let asked = call_id.map(Self::new);
        let elsewhere = |asked: &Self| asked.bare() == self.bare() && !self.is(asked);
        match &asked {
            Some(asked) if elsewhere(asked) => false,
            Some(asked) if self.is(asked) => true,
            Some(_) | None => recording.is_some_and(|name| self.stands_in(name)),
        }
    }
}

/// A name for a call in the program's log. It is the same in all lines of one run, because the key belongs to the run.
/// Six bytes are enough to distinguish a million calls, and reveal nothing to those who do not have the key.
pub fn log_name(run_key: &[u8], call_id: &str) -> String {
    // HMAC takes keys of any length (RFC 2104, section 2).
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(run_key) else { return String::new() };
    mac.update(call_key(call_id).as_bytes());
    format!("~{}", HEXLOWER.encode(&mac.finalize().into_bytes()[..6]))
}

/// True if an id (folded, see [`fold`]) is part of a file name, with no letter or digit directly before or after it.
/// `1629882000.1` is not in `1629882000.17` nor in `11629882000.1`.
pub fn stands_in(id: &[u8], name: &[u8]) -> bool {
    let Some(last) = name.len().checked_sub(id.len()) else { return false };
    let Some(&first) = id.first() else { return false };
    (0..=last).any(|at| {
        fold(name[at]) == first
            && name[at..].iter().zip(id).all(|(byte, wanted)| fold(*byte) == *wanted)
            && is_bounded(id, name, at)
    })
}

fn is_bounded(id: &[u8], name: &[u8], at: usize) -> bool {
    let edge = |outside: Option<&u8>, inside: Option<&u8>| {
        let part_of_token = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        !(part_of_token(outside) && part_of_token(inside))
    };
    let before = at.checked_sub(1).and_then(|before| name.get(before));
    edge(before, id.first()) && edge(name.get(at + id.len()), id.last())
}

/// Where the id without the server begins in a key.
fn bare_at(key: &str) -> usize {
    let after_hyphen = key.rfind('-').map_or(0, |hyphen| hyphen + 1);
    if is_asterisk(&key[after_hyphen..]) {
        return after_hyphen;
    }
    let Some(at) = key.len().checked_sub(UUID_LEN) else { return 0 };
    let parted = at == 0 || key.as_bytes().get(at - 1) == Some(&b'-');
    if parted && key.get(at..).is_some_and(is_uuid) { at } else { 0 }
}

fn is_asterisk(text: &str) -> bool {
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once('.').is_some_and(|(epoch, number)| {
        EPOCH_DIGITS.contains(&epoch.len())
            && NUMBER_DIGITS.contains(&number.len())
            && digits(epoch)
            && digits(number)
    })
}

fn is_uuid(text: &str) -> bool {
    let mut parts = text.split('-');
    let hexadecimal = |part: &str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
    UUID_PARTS.iter().all(|len| parts.next().is_some_and(|part| part.len() == *len && hexadecimal(part)))
        && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn servers_before_ids_are_separated_from_the_ids() {
        let cases = [
            ("1772705472.1", "1772705472.1"),
            ("pbx1-1772705472_1", "1772705472.1"),
            ("My.PBX-eu-1772705472.1", "1772705472.1"),
            ("fs1-3D5F2A52-2f4c-4f4e-8d59-1c2f6b8f8a11", "3d5f2a52-2f4c-4f4e-8d59-1c2f6b8f8a11"),
            ("3d5f2a52-2f4c-4f4e-8d59-1c2f6b8f8a11", "3d5f2a52-2f4c-4f4e-8d59-1c2f6b8f8a11"),
            ("x3d5f2a52-2f4c-4f4e-8d59-1c2f6b8f8a11", "x3d5f2a52-2f4c-4f4e-8d59-1c2f6b8f8a11"),
            ("202201131409043E81A", "202201131409043e81a"),
            ("call-400", "call-400"),
            ("", ""),
        ];
        for (id, bare) in cases {
            assert_eq!(NamedCall::new(id).bare(), bare, "{id}");
        }
    }

    #[test]
    fn a_call_is_the_same_with_and_without_its_server_and_not_on_another() {
        let is = |one: &str, other: &str| NamedCall::new(one).is(&NamedCall::new(other));
        assert!(is("1772705472.1", "pbx1-1772705472.1") && is("PBX1-1772705472_1", "1772705472.1"));
        assert!(is("pbx1-1772705472.1", "PBX1-1772705472_1"));
        assert!(!is("pbx1-1772705472.1", "pbx2-1772705472.1") && !is("1772705472.1", "1772705472.10"));
    }

    #[test]
    fn events_of_a_call_are_found_by_its_id_and_by_the_recording() {
        let found =
            |named: &str, id: Option<&str>, name: Option<&str>| NamedCall::new(named).is_subject_of(id, name);
        let name = Some("in-600-1772705472_1.wav");
        assert!(found("1772705472.1", Some("pbx1-1772705472.1"), None));
        // A search for another leg of the conversation has found the recording.
        assert!(found("pbx1-1772705472.1", Some("1772705400.9"), name));
        assert!(found("1772705472.1", None, name));
        assert!(!found("pbx1-1772705472.1", Some("pbx2-1772705472.1"), name), "another call");
        assert!(!found("1772705472.1", Some("1772705400.9"), Some("in-600-1772705472.17.wav")));
        assert!(!found("1772705472.1", None, None));
    }

    #[test]
    fn a_log_names_a_call_alike_in_one_run_alone() {
        let name = log_name(b"one run", "PBX1-1772705472_1");
        assert_eq!(name, log_name(b"one run", "pbx1-1772705472.1"));
        assert_ne!(name, log_name(b"another run", "pbx1-1772705472.1"));
        assert_eq!((name.len(), name.starts_with('~')), (13, true));
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic_and_every_id_is_itself(id in "\\PC{0,60}", other in "\\PC{0,60}") {
            let named = NamedCall::new(&id);
            prop_assert!(named.is(&named) && named.is(&NamedCall::new(named.bare())));
            named.is_subject_of(Some(&other), Some(&other));
        }
    }
}
