//! `Content-Disposition` for names of every kind (RFC 6266, RFC 8187).

use http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

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

/// Says how a browser treats and names a recording. Characters that are not safe in a quoted string become `_` there;
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

/// Reads a header that [`content_disposition`] has written: the exact name, and whether the recording is to be
/// downloaded. The name is empty if the header has no name in such a form.
pub fn read_disposition(value: &HeaderValue) -> (String, bool) {
    let text = value.to_str().unwrap_or_default();
    let download = !text.starts_with("inline");
    let exact = text.split_once("filename*=UTF-8''").map(|(_, encoded)| {
        let encoded = encoded.split(';').next().unwrap_or_default();
        percent_decode_str(encoded.trim()).decode_utf8_lossy().into_owned()
    });
    let plain = || text.split_once("filename=\"")?.1.split('"').next().map(str::to_owned);
    (exact.or_else(plain).unwrap_or_default(), download)
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

    proptest! {
        #[test]
        fn every_name_makes_a_header(name in any::<String>()) {
            prop_assert!(content_disposition(&name, true).to_str().unwrap().starts_with("attachment; filename=\""));
        }

        #[test]
        fn every_name_is_read_as_it_was_written(name in any::<String>(), download in any::<bool>()) {
            prop_assert_eq!(read_disposition(&content_disposition(&name, download)), (name, download));
        }

        #[test]
        fn a_header_of_another_form_is_read_too(text in "[ -~]*") {
            read_disposition(&HeaderValue::try_from(text).unwrap());
        }
    }
}
