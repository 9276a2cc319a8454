//! Case folding for the deny list: compares texts without regard to case, and to how accents are written.

use icu_casemap::CaseMapper;
use icu_normalizer::{ComposingNormalizer, DecomposingNormalizer};

/// Folds a path (Unicode, section 3.13, canonical caseless matching), and composes it, so that a letter with its
/// accent is one character. Bytes that are not UTF-8 stay as they are.
pub(super) fn path(bytes: &[u8]) -> Vec<u8> {
    if bytes.is_ascii() {
        return bytes.to_ascii_lowercase();
    }
    let mut folded = Vec::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        folded.extend_from_slice(text(chunk.valid()).as_bytes());
        folded.extend_from_slice(chunk.invalid());
    }
    folded
}

/// Folds a glob in the same way, except its character classes: `[Z-a]` is a range, but `[z-a]` would be empty.
pub(super) fn glob(glob: &str) -> String {
    let mut folded = String::with_capacity(glob.len());
    let mut rest = glob;
    while let Some(start) = class_start(rest) {
        let end = class_end(&rest[start..]).map_or(rest.len(), |len| start + len);
        folded.push_str(&text(&rest[..start]));
        folded.push_str(&rest[start..end]);
        rest = &rest[end..];
    }
    folded + &text(rest)
}

fn text(text: &str) -> String {
    let decomposed = DecomposingNormalizer::new_nfd();
    let folded = CaseMapper::new().fold_string(&decomposed.normalize(text)).into_owned();
    ComposingNormalizer::new_nfc().normalize(&folded).into_owned()
}

/// The position at which the first character class begins.
fn class_start(glob: &str) -> Option<usize> {
    let mut escaped = false;
    glob.char_indices().find_map(|(at, c)| {
        let begins = c == '[' && !escaped;
        escaped = c == '\\' && !escaped;
        begins.then_some(at)
    })
}

/// Length of the character class at the start of this text. A `]` directly after the opening belongs to the class.
fn class_end(class: &str) -> Option<usize> {
    let inside = class.strip_prefix('[')?;
    let inside = inside.strip_prefix(['!', '^']).unwrap_or(inside);
    let first = inside.chars().next()?.len_utf8();
    let end = inside[first..].find(']')?;
    Some(class.len() - inside.len() + first + end + 1)
}
