//! The rules of the deny list: call ids and globs, one per line. They are compared without regard to case, and to how
//! accents are written. Pure.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use icu_casemap::CaseMapper;
use icu_normalizer::{ComposingNormalizer, DecomposingNormalizer};

use crate::call_id::{CallId, CallIdRules};

/// The most rules in a file: every recording that a search finds is compared with all of them.
const MAX_RULES: usize = 10_000;
/// The most globs among them: this many of the worst kind still fit into the matcher's 10 MB.
const MAX_GLOBS: usize = 1_000;

/// Why a text cannot be used as rules. The message does not repeat lines, because they may contain telephone numbers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// A line is neither a call id nor a glob.
    #[error("line {0} is neither a call id nor a glob")]
    Neither(usize),
    /// A glob is malformed.
    #[error("the glob in line {0} is malformed: {1}")]
    Glob(usize, String),
    /// There are too many rules or globs.
    #[error("there are more than {MAX_RULES} rules or {MAX_GLOBS} globs")]
    TooMany,
    /// All globs together are too large for the matcher.
    #[error("there are too many globs, or too long ones: {0}")]
    Together(String),
}

impl RulesError {
    /// What to do about it, if this error knows.
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Neither(_) => Some("to deny all recordings with a text in their names, write *TEXT*"),
            Self::TooMany => Some("use globs for whole directories, so that fewer are needed"),
            Self::Glob(..) | Self::Together(_) => None,
        }
    }
}

/// The rules of a deny list.
#[derive(Debug, Default)]
pub struct DenyRules {
    calls: Vec<CallId>,
    /// Globs that are compared with the path below the root.
    relative: GlobSet,
    /// Globs that are compared with the absolute path.
    absolute: GlobSet,
}

impl DenyRules {
    /// Parses rules: one call id or one glob per line. Empty lines and lines that begin with `#` are ignored.
    ///
    /// A glob that begins with `/` is compared with the absolute path. Any other glob with `/` is compared with the
    /// path below the root, and one without `/` with the name of the file and of every directory above it. A glob
    /// that matches a directory denies everything in it. `*` and `?` stop at `/`, `**` does not. Letters match
    /// without regard to case and to how their accents are written.
    ///
    /// # Errors
    /// [`RulesError`] for the first line that is wrong.
    pub fn parse(text: &str, call_ids: &CallIdRules) -> Result<Self, RulesError> {
        let mut calls = Vec::new();
        let mut relative = GlobSetBuilder::new();
        let mut absolute = GlobSetBuilder::new();
        // Windows may save the file with a byte order mark before the first line.
        let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim).enumerate();
        let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let mut globs = 0;
        for (index, line) in lines {
            let number = index + 1;
            if globs >= MAX_GLOBS || globs + calls.len() >= MAX_RULES {
                return Err(RulesError::TooMany);
            }
            // A `--call-id` that accepts nearly every text must not accept globs as ids.
            if !line.contains(['/', '*', '?', '[', '{']) {
                calls.push(call_ids.parse(line).map_err(|_| RulesError::Neither(number))?);
                continue;
            }
            let set = if line.starts_with('/') { &mut absolute } else { &mut relative };
            globs += 1;
            add(set, line).map_err(|error| RulesError::Glob(number, error.kind().to_string()))?;
        }
        let built = |set: &GlobSetBuilder| {
            set.build().map_err(|error| RulesError::Together(error.kind().to_string()))
        };
        Ok(Self { calls, relative: built(&relative)?, absolute: built(&absolute)? })
    }

    /// Whether the recording at `path` below `root` is denied.
    pub fn deny(&self, root: &Path, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default().as_bytes();
        self.calls.iter().any(|call| call.stands_in(name))
            || matches(&self.relative, path)
            || (!self.absolute.is_empty() && matches(&self.absolute, &root.join(path)))
    }

    /// Whether a call is denied by its id.
    pub fn deny_call(&self, call_id: &str) -> bool {
        self.calls.iter().any(|call| call.stands_in(call_id.as_bytes()))
    }

    /// How many rules there are.
    pub fn count(&self) -> usize {
        self.calls.len() + (self.relative.len() + self.absolute.len()) / 2
    }
}

fn matches(globs: &GlobSet, path: &Path) -> bool {
    !globs.is_empty() && globs.is_match(OsStr::from_bytes(&fold_path(path.as_os_str().as_bytes())))
}

/// Adds a pattern for what matches the glob, and one for everything below that.
fn add(set: &mut GlobSetBuilder, line: &str) -> Result<(), globset::Error> {
    let glob = line.trim_end_matches('/');
    let glob = fold_glob(glob.strip_prefix("./").unwrap_or(glob));
    let anywhere = if line.contains('/') { String::new() } else { "**/".to_owned() };
    for tail in ["", "/**"] {
        let whole = format!("{anywhere}{glob}{tail}");
        set.add(GlobBuilder::new(&whole).literal_separator(true).case_insensitive(true).build()?);
    }
    Ok(())
}

/// Folds a path (Unicode, section 3.13, canonical caseless matching), and composes it, so that a letter with its
/// accent is one character. Bytes that are not UTF-8 stay as they are.
fn fold_path(bytes: &[u8]) -> Vec<u8> {
    if bytes.is_ascii() {
        return bytes.to_ascii_lowercase();
    }
    let mut folded = Vec::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        folded.extend_from_slice(fold(chunk.valid()).as_bytes());
        folded.extend_from_slice(chunk.invalid());
    }
    folded
}

/// Folds a glob in the same way, except its character classes: `[Z-a]` is a range, but `[z-a]` would be empty.
fn fold_glob(glob: &str) -> String {
    let mut folded = String::with_capacity(glob.len());
    let mut rest = glob;
    while let Some(start) = class_start(rest) {
        let end = class_end(&rest[start..]).map_or(rest.len(), |len| start + len);
        folded.push_str(&fold(&rest[..start]));
        folded.push_str(&rest[start..end]);
        rest = &rest[end..];
    }
    folded + &fold(rest)
}

fn fold(text: &str) -> String {
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

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use proptest::prelude::*;

    use super::*;

    fn rules(text: &str) -> DenyRules {
        DenyRules::parse(text, &CallIdRules::default()).unwrap()
    }

    fn denied(rule: &str, path: &str) -> bool {
        rules(rule).deny(Path::new("/rec/monitor"), Path::new(path))
    }

    #[test]
    fn a_call_id_denies_what_a_search_for_it_would_find() {
        for path in ["in-1711444502.17.wav", "2024/03/26/x_1711444502_17_y.WAV", "pbx1-1711444502.17-in.wav"]
        {
            assert!(denied("1711444502.17", path), "{path}");
        }
        for path in ["in-1711444502.1.wav", "in-1711444502.170.wav", "1711444502.17/other.wav"] {
            assert!(!denied("1711444502.17", path), "{path}");
        }
        let rules = rules("pbx1-1711444502.17\n3D5F2A52-2f4c-4f4e-8d59-1c2f6b8f8a11");
        assert!(rules.deny_call("1711444502_17") && rules.deny_call("pbx2-1711444502.17"));
        assert!(rules.deny_call("3d5f2a52-2F4C-4f4e-8d59-1c2f6b8f8a11") && !rules.deny_call("1711444502.1"));
        assert_eq!(rules.count(), 2);
    }

    #[test]
    fn a_glob_denies_by_name_by_path_and_by_directory() {
        for (rule, path) in [
            ("*34911223344*", "2024/03/26/in-34911223344-1.wav"),
            ("*.WAV", "a/b.wav"),
            ("private*", "2024/Private calls/26/in.wav"),
            ("2024/03/*/in-?.wav", "2024/03/26/in-1.wav"),
            ("2024/03/", "2024/03/26/in-1.wav"),
            ("2024/03", "2024/03/26/in-1.wav"),
            ("./2024/**", "2024/03/26/in-1.wav"),
            ("**/boss/**", "2024/boss/in-1.wav"),
            ("{2023,2024}/[0-9]*", "2024/03/in-1.wav"),
            ("/rec/monitor/2024", "2024/03/in-1.wav"),
            ("/rec/*/2024/03/in-1.wav", "2024/03/in-1.wav"),
            ("/rec/", "2024/03/in-1.wav"),
            ("/**/in-1.wav", "2024/03/in-1.wav"),
        ] {
            assert!(denied(rule, path), "{rule} {path}");
        }
        for (rule, path) in [
            ("2024/*.wav", "2024/03/in-1.wav"),
            ("03/*", "2024/03/in-1.wav"),
            ("in-?.wav", "in-11.wav"),
            ("/2024/03", "2024/03/in-1.wav"),
            ("/rec/mon/*", "2024/03/in-1.wav"),
            ("# *", "a.wav"),
            ("\n  \n", "a.wav"),
        ] {
            assert!(!denied(rule, path), "{rule} {path}");
        }
        let bytes = Path::new(OsStr::from_bytes(b"a/\xff-1711444502.17\xfe.wav"));
        assert!(
            rules("*\n").deny(Path::new("/rec"), bytes) && rules("1711444502.17").deny(Path::new("/"), bytes)
        );
    }

    #[test]
    fn letters_of_all_scripts_match_in_any_case_and_however_their_accents_are_written() {
        let decomposed = "pen\u{303}a";
        for (rule, path) in [
            ("peña/", "PEÑA/in-1.wav"),
            ("PEÑA/", "peña/in-1.wav"),
            ("peña/", "pen\u{303}a/in-1.wav"),
            ("*PEN\u{303}A*", "2024/in-Peña-1.wav"),
            ("/rec/Monitor/peña", decomposed),
            ("*straße*", "2024/in-STRASSE-1.wav"),
            ("*μάιος*", "2024/in-ΜΆΙΟΣ-1.wav"),
            ("*дом*", "ДОМ.wav"),
            ("Ñ[0-9][A-C]*", "ñ1b.wav"),
            ("[Z-a]ñ*", "aÑ.wav"),
            ("[]x]ñ\\[Ü*", "]Ñ[ü.wav"),
        ] {
            assert!(denied(rule, path), "{rule} {path}");
        }
        for (rule, path) in [("pena/", "peña/in-1.wav"), ("[!a]ñ*", "añ.wav"), ("peña/", "peñas/in-1.wav")]
        {
            assert!(!denied(rule, path), "{rule} {path}");
        }
        let mixed = Path::new(OsStr::from_bytes(b"\xffPE\xc3\x91A.wav"));
        assert!(rules("*peña*").deny(Path::new("/rec"), mixed));
    }

    #[test]
    fn what_would_deny_nothing_is_a_mistake_and_is_named() {
        let error = |text: &str| DenyRules::parse(text, &CallIdRules::default()).unwrap_err();
        for text in
            ["# calls\n\n34911223344", "1711444502.17\n\n recording.wav", "#\n#\n1711444502.17x # why"]
        {
            assert_eq!(error(text), RulesError::Neither(3), "{text:?}");
        }
        assert!(matches!(error("*\n[a"), RulesError::Glob(2, _)));
        assert!(matches!(error("{a,b"), RulesError::Glob(1, _)));
        assert!(!error("34911223344").to_string().contains("349"));
        assert_eq!(error(&"1711444502.17\n".repeat(MAX_RULES + 1)), RulesError::TooMany);
        let custom = CallIdRules::with_custom(".+").unwrap();
        assert!(DenyRules::parse("*.wav", &custom).unwrap().deny(Path::new("/"), Path::new("a.wav")));
        assert_eq!(rules("\u{feff}1711444502.17").count(), 1);
    }

    #[test]
    fn as_many_rules_as_are_allowed_can_be_used_together() {
        let text: String = (0..MAX_GLOBS).map(|n| format!("*-{n}-*/in-*[0-9]?{n}.wav\n")).collect();
        assert!(rules(&text).deny(Path::new("/"), Path::new("x-17-y/in-a0b17.wav")));
    }

    proptest! {
        #[test]
        fn no_line_panics(text in any::<String>(), globs in "[a-c/*?{}\\[\\]!,\\\\.-]{0,30}", path in "[a-c/.-]{0,20}") {
            for text in [text, globs] {
                if let Ok(rules) = DenyRules::parse(&text, &CallIdRules::default()) {
                    rules.deny(Path::new("/rec"), Path::new(&path));
                    rules.deny_call(&path);
                }
            }
        }
    }
}
