//! The media types of recordings, by file extension.
//!
//! An agent names one of these types, and a relay passes on no others: what a browser does with a file depends on its
//! type and on the extension of its name.

/// Extensions in lower case with their media types. The first extension of a type is added to a name that has none of
/// them.
///
/// Raw G.711 has no registered type for files; `audio/basic` is G.711 µ-law at 8 kHz (RFC 2046, section 4.3).
pub const RECORDINGS: &[(&str, &str)] = &[
    ("wav", "audio/wav"),
    ("wav49", "audio/wav"),
    ("mp3", "audio/mpeg"),
    ("ogg", "audio/ogg"),
    ("oga", "audio/ogg"),
    ("opus", "audio/ogg"),
    ("webm", "audio/webm"),
    ("m4a", "audio/mp4"),
    ("mp4", "audio/mp4"),
    ("aac", "audio/aac"),
    ("flac", "audio/flac"),
    ("gsm", "audio/x-gsm"),
    ("ulaw", "audio/basic"),
    ("ul", "audio/basic"),
    ("pcmu", "audio/basic"),
    ("au", "audio/basic"),
    ("alaw", "audio/x-alaw-basic"),
    ("al", "audio/x-alaw-basic"),
    ("pcma", "audio/x-alaw-basic"),
    ("g722", "audio/G722"),
    ("g729", "audio/G729"),
    ("sln", "audio/x-sln"),
    ("sln16", "audio/x-sln"),
];

/// Extensions that the admin of an agent may add to its own, with the types that agents name for them.
const MORE: &[(&str, &str)] = &[
    ("spx", "audio/x-spx"),
    ("amr", "audio/x-amr"),
    ("awb", "audio/x-awb"),
    ("wma", "audio/x-wma"),
    ("aif", "audio/x-aif"),
    ("aiff", "audio/x-aiff"),
    ("mka", "audio/x-mka"),
    ("vox", "audio/x-vox"),
    ("voc", "audio/x-voc"),
    ("ra", "audio/x-ra"),
    ("caf", "audio/x-caf"),
    ("g723", "audio/x-g723"),
    ("g726", "audio/x-g726"),
    ("ilbc", "audio/x-ilbc"),
    ("lpc10", "audio/x-lpc10"),
    ("siren7", "audio/x-siren7"),
    ("siren14", "audio/x-siren14"),
    ("sln8", "audio/x-sln8"),
    ("sln12", "audio/x-sln12"),
    ("sln24", "audio/x-sln24"),
    ("sln32", "audio/x-sln32"),
    ("sln44", "audio/x-sln44"),
    ("sln48", "audio/x-sln48"),
    ("sln96", "audio/x-sln96"),
    ("sln192", "audio/x-sln192"),
];

/// The media type of a recording of an unknown format: bytes that no program opens by itself (RFC 2046, section 4.5.1).
pub const UNKNOWN: &str = "application/octet-stream";
/// The extension for [`UNKNOWN`].
const UNKNOWN_EXTENSION: &str = "bin";
/// The longest name that is passed on, in bytes: the longest file name on Linux.
const MAX_NAME_LEN: usize = 255;
/// The name of a recording that has none.
const NO_NAME: &str = "recording";

/// The media type for an extension in lower case, such as `audio/mpeg` for `mp3`. For an extension that is in no list,
/// `audio/x-` and the extension.
pub fn content_type(extension: &str) -> String {
    let known = all().find(|(known, _)| *known == extension);
    known.map_or_else(|| format!("audio/x-{extension}"), |(_, media)| media.to_owned())
}

/// The type as it is written in the list, for a type that an agent names in any case; `None` for types that are not
/// listed.
pub fn listed(media_type: &str) -> Option<&'static str> {
    all().map(|(_, media)| media).find(|media| media.eq_ignore_ascii_case(media_type))
}

/// The name under which a recording of `media_type` is delivered: at most 255 bytes long, with an extension of that
/// type, and without control characters, marks that change the direction of text, and directory separators.
///
/// A name with another extension gets one of the type added: `Setup.exe` of `audio/wav` becomes `Setup.exe.wav`. The
/// name of a type that is not listed ends in `.bin`.
pub fn safe_name(name: &str, media_type: &str) -> String {
    let listed = listed(media_type);
    let mut safe: String = name.chars().map(|c| if is_harmful(c) { '_' } else { c }).collect();
    if safe.trim_matches(['.', ' ']).is_empty() {
        NO_NAME.clone_into(&mut safe);
    }
    let extensions = || all().filter(|(_, media)| Some(*media) == listed).map(|(extension, _)| extension);
    let fits = safe.rsplit_once('.').is_some_and(|(stem, own)| {
        !stem.is_empty() && extensions().any(|extension| extension.eq_ignore_ascii_case(own))
    });
    if fits && safe.len() <= MAX_NAME_LEN {
        return safe;
    }
    let extension = extensions().next().unwrap_or(UNKNOWN_EXTENSION);
    let longest = MAX_NAME_LEN - extension.len() - 1;
    let end = (0..=longest.min(safe.len())).rev().find(|end| safe.is_char_boundary(*end)).unwrap_or_default();
    safe.truncate(end);
    format!("{safe}.{extension}")
}

/// A text in which characters that mislead a reader, or a program that reads line by line, are replaced; `None` if it
/// has no such characters.
pub fn cleaned(text: &str) -> Option<String> {
    let misleads = |c: char| is_invisible(c);
    text.contains(misleads).then(|| text.replace(misleads, "_"))
}

fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    RECORDINGS.iter().chain(MORE).copied()
}

fn is_harmful(c: char) -> bool {
    matches!(c, '/' | '\\') || is_invisible(c)
}

/// True for control characters, for separators of lines and paragraphs, and for marks, embeddings, overrides and
/// isolates of text direction, with which `exe.vaw` can look like `wav.exe` (Unicode Standard Annex 9, section 2).
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn types_go_by_the_extension() {
        assert_eq!(content_type("mp3"), "audio/mpeg");
        assert_eq!(content_type("spx"), "audio/x-spx");
        assert_eq!(content_type("xyz"), "audio/x-xyz");
        assert_eq!(listed("AUDIO/MPEG"), Some("audio/mpeg"));
        assert_eq!(listed("audio/x-msdownload"), None);
        for (extension, media) in all() {
            assert!(media.starts_with("audio/"), "{media}");
            assert_eq!(content_type(extension), media);
        }
    }

    #[test]
    fn a_name_has_an_extension_of_its_type() {
        assert_eq!(safe_name("out-1.WAV49", "audio/wav"), "out-1.WAV49");
        assert_eq!(safe_name("Setup.exe", "audio/wav"), "Setup.exe.wav");
        assert_eq!(safe_name("Setup.exe", "audio/x-msdownload"), "Setup.exe.bin");
        assert_eq!(safe_name("a.wav", "audio/mpeg"), "a.wav.mp3");
        assert_eq!(safe_name("..", "audio/ogg"), "recording.ogg");
        assert_eq!(safe_name(".wav", "audio/wav"), ".wav.wav");
        assert_eq!(safe_name("../a\r\n\u{202e}.wav", "audio/wav"), ".._a___.wav");
        assert_eq!(safe_name(&"ñ".repeat(200), "audio/mpeg"), "ñ".repeat(125) + ".mp3");
    }

    proptest! {
        #[test]
        fn every_name_becomes_one_that_stays_as_it_is(name in any::<String>(), n in 0..RECORDINGS.len()) {
            let media = RECORDINGS[n].1;
            let safe = safe_name(&name, media);
            prop_assert!(safe.len() <= MAX_NAME_LEN && !safe.contains(is_harmful));
            prop_assert_eq!(safe_name(&safe, media), safe);
        }
    }
}
