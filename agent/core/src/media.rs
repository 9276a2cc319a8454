//! Which files are recordings, by their extension.

use std::{
    ffi::{OsStr, OsString},
    path::Path,
};

use audiovault_protocol::recording::media::RECORDINGS;

/// Longest extension in bytes; a longer one is part of the name.
const MAX_EXTENSION_LEN: usize = 10;

/// The extensions of recordings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extensions(Vec<String>);

/// A text that is not a file extension.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a file extension: write 1 to {MAX_EXTENSION_LEN} letters and digits, such as webm")]
pub struct ExtensionError(String);

impl Default for Extensions {
    /// The extensions that have a media type of their own: [`RECORDINGS`].
    fn default() -> Self {
        Self(RECORDINGS.iter().map(|(extension, _)| (*extension).to_owned()).collect())
    }
}

impl Extensions {
    /// Accepts these extensions only. A leading dot and the case are ignored.
    ///
    /// # Errors
    /// [`ExtensionError`] for the first one that is not valid.
    pub fn only<'a>(extensions: impl IntoIterator<Item = &'a str>) -> Result<Self, ExtensionError> {
        let checked = extensions.into_iter().map(|given| {
            let extension = given.trim().trim_start_matches('.').to_ascii_lowercase();
            is_extension(extension.as_bytes())
                .then_some(extension)
                .ok_or_else(|| ExtensionError(given.to_owned()))
        });
        checked.collect::<Result<_, _>>().map(Self)
    }

    /// The extension of a recording's file name, in lower case; `None` for other files.
    pub fn of(&self, name: &[u8]) -> Option<&str> {
        let (stem, extension) = split_name(name)?;
        let known = self.0.iter().find(|known| known.as_bytes().eq_ignore_ascii_case(extension));
        known.filter(|_| !stem.is_empty()).map(String::as_str)
    }
}

/// The parts of a name before and after its last dot.
pub fn split_name(name: &[u8]) -> Option<(&[u8], &[u8])> {
    let dot = name.iter().rposition(|byte| *byte == b'.')?;
    Some((&name[..dot], &name[dot + 1..]))
}

/// The file name with which a decoded recording is delivered: the same name, as a WAV file.
pub fn decoded_name(name: &OsStr) -> OsString {
    Path::new(name).with_extension("wav").into_os_string()
}

/// How well browsers play a format; lower is better. MP3 and plain WAV play everywhere, the others follow in this
/// order. A decoded recording plays everywhere too, but was coded for a telephone and takes more of the site's uplink
/// than the formats before it. Other formats do not play.
pub fn playability(extension: &str, plain_wav: bool, decoded: bool) -> u8 {
    match extension {
        "mp3" => 0,
        "wav" if plain_wav => 1,
        "m4a" | "mp4" | "aac" => 2,
        "webm" | "ogg" | "oga" | "opus" => 3,
        "flac" => 4,
        _ if decoded => 5,
        _ => 9,
    }
}

fn is_extension(extension: &[u8]) -> bool {
    (1..=MAX_EXTENSION_LEN).contains(&extension.len()) && extension.iter().all(u8::is_ascii_alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recordings_are_known_by_extension_in_any_case() {
        let known = Extensions::default();
        assert_eq!(known.of(b"a-1711444502.17.WAV"), Some("wav"));
        assert_eq!(known.of(b"\xff.webm"), Some("webm"));
        for other in [&b"a.txt"[..], b"wav", b".wav", b"a.", b"a.wav.tmp", b""] {
            assert_eq!(known.of(other), None, "{other:?}");
        }
    }

    #[test]
    fn the_operator_may_choose_extensions() {
        let chosen = Extensions::only([".Spx", "wav"]).unwrap();
        assert_eq!((chosen.of(b"a.SPX"), chosen.of(b"a.mp3")), (Some("spx"), None));
        for bad in ["", ".", "a/b", "../x", "seventeen-letters"] {
            assert!(Extensions::only([bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_extension_of_the_list_is_one() {
        for (extension, _) in RECORDINGS {
            assert!(is_extension(extension.as_bytes()), "{extension}");
        }
    }
}
