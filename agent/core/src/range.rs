//! Byte ranges of one representation (RFC 9110, section 14). Pure.

/// The part of a representation that a `Range` header selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// Everything: there is no range, it is not understood, or there are several.
    Whole,
    /// From the first to the last byte, both included.
    Part {
        /// The first byte.
        first: u64,
        /// The last byte: at least `first`, and less than the size.
        last: u64,
    },
    /// The range selects nothing that exists.
    Unsatisfiable,
}

/// Reads the value of a `Range` header for a representation of `size` bytes.
///
/// A header is ignored if it is malformed, names another unit, or asks for several ranges, as section 14.2 allows.
/// Players ask for one range at a time, and the whole is a correct response to everything else.
pub fn select(header: &str, size: u64) -> Selection {
    let Some((unit, set)) = header.split_once('=') else { return Selection::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Selection::Whole;
    }
    let mut specs = set.split(',').map(trim).filter(|spec| !spec.is_empty());
    let (Some(spec), None) = (specs.next(), specs.next()) else { return Selection::Whole };
    let Some((first, last)) = spec.split_once('-') else { return Selection::Whole };
    match (first, last) {
        ("", suffix) => number(suffix).map_or(Selection::Whole, |len| select_suffix(len, size)),
        (first, "") => number(first).map_or(Selection::Whole, |first| select_between(first, u64::MAX, size)),
        (first, last) => match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => select_between(first, last, size),
            (_, _) => Selection::Whole,
        },
    }
}

fn select_between(first: u64, last: u64, size: u64) -> Selection {
    if first >= size {
        return Selection::Unsatisfiable;
    }
    Selection::Part { first, last: last.min(size - 1) }
}

fn select_suffix(len: u64, size: u64) -> Selection {
    match (len, size) {
        (0, _) => Selection::Unsatisfiable,
        // A suffix of an empty file is satisfiable, but Content-Range cannot express it.
        (_, 0) => Selection::Whole,
        (len, size) => Selection::Part { first: size.saturating_sub(len), last: size - 1 },
    }
}

fn trim(spec: &str) -> &str {
    spec.trim_matches([' ', '\t'])
}

/// Parses digits. A number too large for any file counts as the largest number.
fn number(digits: &str) -> Option<u64> {
    let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    all_digits.then(|| digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_select_what_the_rfc_says() {
        let part = |first, last| Selection::Part { first, last };
        for (header, expected) in [
            ("bytes=0-0", part(0, 0)),
            ("bytes=0-99", part(0, 99)),
            ("bytes=10-19", part(10, 19)),
            ("bytes=90-1000", part(90, 99)),
            ("bytes=10-", part(10, 99)),
            ("bytes=99-", part(99, 99)),
            ("bytes=-1", part(99, 99)),
            ("bytes=-100", part(0, 99)),
            ("bytes=-1000", part(0, 99)),
            ("Bytes = 5-6", part(5, 6)),
            ("bytes=, 5-6 ,", part(5, 6)),
            ("bytes=0-99999999999999999999999", part(0, 99)),
            ("bytes=100-", Selection::Unsatisfiable),
            ("bytes=99999999999999999999999-", Selection::Unsatisfiable),
            ("bytes=-0", Selection::Unsatisfiable),
            ("bytes=0-1,5-6", Selection::Whole),
            ("bytes=6-5", Selection::Whole),
            ("bytes=-", Selection::Whole),
            ("bytes=", Selection::Whole),
            ("bytes=a-b", Selection::Whole),
            ("bytes=+1-2", Selection::Whole),
            ("bytes=1 - 2", Selection::Whole),
            ("bytes 0-1", Selection::Whole),
            ("items=0-1", Selection::Whole),
            ("", Selection::Whole),
        ] {
            assert_eq!(select(header, 100), expected, "{header:?}");
        }
    }

    #[test]
    fn an_empty_file_has_no_range() {
        assert_eq!(select("bytes=0-", 0), Selection::Unsatisfiable);
        assert_eq!(select("bytes=-5", 0), Selection::Whole);
    }

    proptest! {
        #[test]
        fn a_part_always_lies_within_the_file(header in "(bytes=)?[0-9,-]{0,30}", size: u64) {
            if let Selection::Part { first, last } = select(&header, size) {
                prop_assert!(first <= last && last < size);
            }
        }

        #[test]
        fn arbitrary_text_never_panics(header in ".{0,60}", size: u64) {
            select(&header, size);
        }
    }
}
