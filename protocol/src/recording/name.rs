//! File names of recordings as the audit log shows them: the names contain telephone numbers.

use std::str::FromStr;

/// Shortest run of digits that may be a telephone number; internal extensions have three.
const MASKED_FROM: usize = 3;
/// Digits at the end of a run that stay visible, so that a person can still distinguish two recordings.
const SHOWN: usize = 2;

/// How the audit log shows names of recordings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RecordedNames {
    /// With the digits of telephone numbers masked.
    #[default]
    Masked,
    /// Unchanged. Agent and relay must both be configured for this.
    Full,
}

/// A text that is not a value of [`RecordedNames`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected masked or full")]
pub struct UnknownNames;

impl FromStr for RecordedNames {
    type Err = UnknownNames;

    fn from_str(text: &str) -> Result<Self, UnknownNames> {
        match text.trim() {
            "masked" => Ok(Self::Masked),
            "full" => Ok(Self::Full),
            _ => Err(UnknownNames),
        }
    }
}

impl RecordedNames {
    /// A recording's file name as it may be written to the audit log.
    pub fn of(self, name: &str) -> String {
        match self {
            Self::Masked => mask(name),
            Self::Full => name.to_owned(),
        }
    }
}

/// Masks a file name: of every run of three or more digits only the last two stay, regardless of its meaning. The
/// extension is not masked. `out-34911223344-20240326.mp3` becomes `out-*********44-******26.mp3`. Masking a masked
/// name does not change it.
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
    fn telephone_numbers_are_masked_and_extensions_stay() {
        assert_eq!(mask("out-34911223344-20240326.mp3"), "out-*********44-******26.mp3");
        assert_eq!(mask("in-12-100.wav49"), "in-12-*00.wav49");
        assert_eq!(
            (mask(""), mask("1234"), mask("ñ123ñ.x")),
            (String::new(), "**34".to_owned(), "ñ*23ñ.x".to_owned())
        );
        assert_eq!("full".parse::<RecordedNames>().unwrap().of("1234.wav"), "1234.wav");
        assert_eq!("some".parse::<RecordedNames>(), Err(UnknownNames));
    }

    proptest! {
        #[test]
        fn a_masked_name_has_the_same_length_and_stays_as_it_is(name in any::<String>()) {
            let masked = mask(&name);
            prop_assert_eq!(masked.chars().count(), name.chars().count());
            prop_assert_eq!(mask(&masked), masked);
        }
    }
}
