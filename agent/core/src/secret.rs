//! Secrets: texts that must not be shown. Pure.

use std::fmt;

use serde::Deserialize;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Longest file with one secret in bytes. A secret is one line; a larger file is the wrong file.
pub const MAX_SECRET_FILE: usize = 4096;

/// The content of a file is not a secret. The message does not repeat the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a secret is one line of text of at most {MAX_SECRET_FILE} bytes and nothing else")]
pub struct NotOneLine;

/// A text that must not be shown: wiped on drop, absent from `Debug`.
#[derive(Clone, Default, PartialEq, Eq, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Parses the content of a file that holds one line; white space around the text is ignored.
    ///
    /// # Errors
    /// [`NotOneLine`] if the content has no text or several lines, or is longer than [`MAX_SECRET_FILE`].
    pub fn parse(content: &str) -> Result<Self, NotOneLine> {
        let text = content.trim();
        if text.is_empty() || content.len() > MAX_SECRET_FILE || text.contains(char::is_control) {
            return Err(NotOneLine);
        }
        Ok(Self::new(text))
    }

    /// The text, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_one_line_of_text() {
        assert_eq!(Secret::parse("  hunter22 \n").unwrap().reveal(), "hunter22");
        let longest = "x".repeat(MAX_SECRET_FILE);
        assert_eq!(Secret::parse(&longest).unwrap().reveal(), longest);
        for bad in ["", "\n", "a\nb\n", "a\0b", &format!("{longest}\n")] {
            assert_eq!(Secret::parse(bad), Err(NotOneLine));
        }
    }

    #[test]
    fn debug_never_shows_a_secret() {
        assert_eq!(format!("{:?}", Secret::new("hunter22")), "Secret(…)");
    }
}
