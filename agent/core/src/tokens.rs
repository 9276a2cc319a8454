//! The tokens of a file name under which the index finds calls: parts that are long enough to distinguish one call
//! from most others. Pure.
//!
//! If an id occurs in a name at token boundaries (see [`CallId::stands_in`]), all parts of the id are whole parts of
//! the name. So the index stores a name under each of its long parts, and looks a call up under the longest part of
//! its id.
//!
//! [`CallId::stands_in`]: crate::call_id::CallId::stands_in

use crate::call_id::CallIdRules;

/// A shorter part occurs in too many names: the shortest time of a call has 9 digits, a date has 8.
const LEAST: usize = 9;
/// The most digits that the time of an Asterisk id has.
const LONGEST_TIME: usize = 11;
/// Length of the last group of a UUID.
const LAST_OF_UUID: usize = 12;
/// The fewest characters that a Yeastar id has. A number of this length is not a telephone number (15 digits, with a
/// prefix 17).
const SHORTEST_YEASTAR: usize = 18;

/// Which parts are tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Numbers without a counter after them are tokens too, because the admin accepts ids of another form.
    pub numbers: bool,
}

impl Rules {
    /// The rules that fit the rules for call ids.
    pub fn for_ids(ids: &CallIdRules) -> Self {
        Self { numbers: ids.has_custom() }
    }
}

/// The tokens of a name, in lower case.
pub fn tokens(name: &[u8], rules: Rules) -> Vec<Vec<u8>> {
    let mut found: Vec<Vec<u8>> = Vec::new();
    let mut at = 0;
    while let Some((before, rest)) = name.split_at_checked(at).filter(|(_, rest)| !rest.is_empty()) {
        let len = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
        let (part, behind) = rest.split_at(len);
        if len >= LEAST && (!is_number(part) || rules.numbers || is_of_a_call(before, part, behind)) {
            let token = part.to_ascii_lowercase();
            if !found.contains(&token) {
                found.push(token);
            }
        }
        at += len.max(1);
    }
    found
}

/// The token under which an id is looked up, or `None` if it has no token.
pub fn key(needle: &[u8], rules: Rules) -> Option<Vec<u8>> {
    tokens(needle, rules).into_iter().max_by_key(Vec::len)
}

fn is_number(part: &[u8]) -> bool {
    part.iter().all(u8::is_ascii_digit)
}

/// Whether a number is in the position of a call id's number. Otherwise it is a telephone number, or a date and time.
fn is_of_a_call(before: &[u8], number: &[u8], behind: &[u8]) -> bool {
    match number.len() {
        LEAST..=LONGEST_TIME => matches!(behind, [b'.' | b'_', digit, ..] if digit.is_ascii_digit()),
        LAST_OF_UUID => {
            matches!(before, [.., b'-', a, b, c, d, b'-'] if [a, b, c, d].iter().all(|byte| byte.is_ascii_hexdigit()))
        }
        len => len >= SHORTEST_YEASTAR,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const USUAL: Rules = Rules { numbers: false };

    fn texts(name: &str) -> Vec<String> {
        tokens(name.as_bytes(), USUAL).into_iter().map(|token| String::from_utf8(token).unwrap()).collect()
    }

    #[test]
    fn names_of_every_known_pbx_are_filed_under_their_calls() {
        for (name, token) in [
            ("q-400-34911223344-20240326-101502-1711444502.17.wav", "1711444502"),
            ("20240326101502-1711444502_17-100-200-Inbound.wav", "1711444502"),
            ("mikopbx-1711444502.17_Ab3Xy.webm", "1711444502"),
            ("3D5F2A52-2f4c-4f4e-8d59-1c2f6B8f8a11.mp3", "1c2f6b8f8a11"),
            ("20220113-202201131409043E81A.wav", "202201131409043e81a"),
        ] {
            assert!(texts(name).contains(&token.to_owned()), "{name}: {:?}", texts(name));
        }
        for numbers in
            ["out-34911223344-100-20240326.wav", "20240326101502-0034911223344.wav", "004934911223-x.wav"]
        {
            assert_eq!(texts(numbers), [""; 0], "a telephone number is no call");
        }
        assert_eq!(texts("3d5f2a52-2f4c-4f4e-8d59-123456789012.mp3"), ["123456789012"]);
        assert_eq!(texts("1711444502.17-1711444502.18.wav"), ["1711444502"]);
    }

    #[test]
    fn ids_of_other_forms_are_found_by_their_longest_part_if_that_is_long() {
        let rules = CallIdRules::with_custom("CALL[0-9]+|[0-9]{10}").unwrap();
        let key = |id: &str, numbers| key(rules.parse(id).unwrap().needle(), Rules { numbers });
        assert_eq!(key("CALL000123", false), Some(b"call000123".to_vec()));
        assert_eq!(key("CALL01", false), None);
        assert_eq!((key("1234567890", false), key("1234567890", true)), (None, Some(b"1234567890".to_vec())));
    }

    proptest! {
        #[test]
        fn every_id_in_a_name_is_filed_under_its_key(
            lead in "[a-z0-9._-]{0,12}",
            tail in "[a-z0-9._é-]{0,12}",
            id in prop_oneof![
                "[0-9]{9,11}[._][0-9]{1,6}",
                "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
                "(19|20)[0-9]{12}[0-9A-F]{4,6}",
                "[a-z0-9.-]{3,20}",
            ],
            numbers: bool,
        ) {
            let call = CallIdRules::with_custom(".+").unwrap().parse(&id).unwrap();
            let name = format!("{lead}{id}{tail}");
            let rules = Rules { numbers };
            if call.stands_in(name.as_bytes()) && let Some(key) = key(call.needle(), rules) {
                prop_assert!(tokens(name.as_bytes(), rules).contains(&key), "{} in {}", id, name);
            }
        }

        #[test]
        fn arbitrary_names_never_panic(name in prop::collection::vec(any::<u8>(), 0..300)) {
            tokens(&name, USUAL);
        }
    }
}
