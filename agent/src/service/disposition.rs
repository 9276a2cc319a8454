//! `Content-Disposition` for names of every kind (RFC 6266, RFC 8187), and names for the audit.

use http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Everything but `attr-char` is encoded (RFC 8187, section 3.2.1).
const NOT_ATTR_CHAR: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// Shortest row of digits that may be a telephone number; extensions have three.
const MASKED_FROM: usize = 3;
/// Digits at the end of a row that stay, so that a person can still tell two recordings apart.
const SHOWN: usize = 2;

/// How a browser treats and names a recording. Characters that a quoted string cannot safely hold become `_` there;
/// the exact name then follows in the extended form.
pub fn content_disposition(name: &str, download: bool) -> HeaderValue {
    let kind = if download { "attachment" } else { "inline" };
    let safe = |c: char| c.is_ascii() && !c.is_ascii_control() && !matches!(c, '"' | '\\' | '/' | '%');
    let plain: String = name.chars().map(|c| if safe(c) { c } else { '_' }).collect();
    let value = if plain == name {
        format!("{kind}; filename=\"{plain}\"")
    } else {
        format!("{kind}; filename=\"{plain}\"; filename*=UTF-8''{}", utf8_percent_encode(name, NOT_ATTR_CHAR))
    };
    // Both forms are printable ASCII by construction.
    HeaderValue::try_from(value).unwrap_or_else(|_| HeaderValue::from_static("inline"))
}

/// A recording's name for the audit: of every row of three or more digits only the last two stay, whatever it
/// stands for; the extension stays whole. `out-34911223344-20240326.mp3` becomes `out-*********44-******26.mp3`.
pub fn mask(name: &str) -> String {
    let (stem, extension) = name.rfind('.').map_or((name, ""), |dot| name.split_at(dot));
    let mut masked = String::with_capacity(name.len());
    let mut rest = stem;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (digits, after) = rest.split_at(end);
        let hidden = if digits.len() >= MASKED_FROM { digits.len() - SHOWN } else { 0 };
        masked.extend(std::iter::repeat_n('*', hidden));
        masked.push_str(&digits[hidden..]);
        let next = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        masked.push_str(&after[..next]);
        rest = &after[next..];
    }
    masked + extension
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_quoted_and_exact() {
        let shown = |name, download| content_disposition(name, download).to_str().unwrap().to_owned();
        assert_eq!(shown("out-1.wav", false), "inline; filename=\"out-1.wav\"");
        assert_eq!(shown("a b.wav", true), "attachment; filename=\"a b.wav\"");
        assert_eq!(shown("año.wav", false), "inline; filename=\"a_o.wav\"; filename*=UTF-8''a%C3%B1o.wav");
        assert_eq!(
            shown("a\"b\\.wav", false),
            "inline; filename=\"a_b_.wav\"; filename*=UTF-8''a%22b%5C.wav"
        );
        assert_eq!(
            shown("a\r\nX: y", false),
            "inline; filename=\"a__X: y\"; filename*=UTF-8''a%0D%0AX%3A%20y"
        );
    }

    #[test]
    fn digits_are_masked_and_the_extension_is_kept() {
        assert_eq!(mask("out-34911223344-20240326.mp3"), "out-*********44-******26.mp3");
        assert_eq!(mask("in-12-100.wav49"), "in-12-*00.wav49");
        assert_eq!(
            (mask(""), mask("1234"), mask("ñ123ñ.x")),
            (String::new(), "**34".to_owned(), "ñ*23ñ.x".to_owned())
        );
    }

    proptest! {
        #[test]
        fn every_name_makes_a_header_and_keeps_its_secrets(name in any::<String>()) {
            prop_assert!(content_disposition(&name, true).to_str().unwrap().starts_with("attachment; filename=\""));
            let masked = mask(&name);
            prop_assert_eq!(masked.chars().count(), name.chars().count());
        }
    }
}
