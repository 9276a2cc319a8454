//! Names of users and of API tokens.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The longest name in bytes: the user name of an e-mail address fits (RFC 5321, section 4.5.3.1.1), and a line
/// of the log does not get too long.
const MAX_NAME_LEN: usize = 64;

/// The text is not a valid name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a name has 1 to {MAX_NAME_LEN} letters a to z, digits, dots, hyphens, underscores or @, and starts with a letter or digit"
)]
pub struct NameError;

/// The name of a user or of an API token: ASCII without blanks, in lower case, so that no two names look alike
/// and no name can forge a line of the log.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// The name as text, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let allowed = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-@".contains(&b));
        let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if !allowed || !starts || text.len() > MAX_NAME_LEN {
            return Err(NameError);
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_do_not_depend_on_case() {
        assert_eq!("Maria.Lopez@example.com".parse::<Name>().unwrap().as_str(), "maria.lopez@example.com");
        for wrong in ["", "-a", ".", "a b", "a\nb", "ñ", &"a".repeat(65)] {
            assert_eq!(wrong.parse::<Name>(), Err(NameError), "{wrong:?}");
        }
    }
}
