//! How a database is named.

use std::{fmt, path::PathBuf, str::FromStr};

use super::DatabaseUrlError;

/// Where the database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// One SQLite file on a local disk (write-ahead logging does not work over a network file system).
    Sqlite(PathBuf),
}

impl FromStr for DatabaseUrl {
    type Err = DatabaseUrlError;

    fn from_str(text: &str) -> Result<Self, DatabaseUrlError> {
        let (scheme, rest) = text.split_once(':').ok_or(DatabaseUrlError::NoScheme)?;
        if scheme != "sqlite" {
            return Err(DatabaseUrlError::Scheme(scheme.to_owned()));
        }
        let file = rest.strip_prefix("//").unwrap_or(rest);
        // A database in memory would be another one for each connection and for each process.
        if file.is_empty() || file == ":memory:" || file.contains('?') {
            return Err(DatabaseUrlError::NotAFile);
        }
        Ok(Self::Sqlite(PathBuf::from(file)))
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_named_by_scheme_and_file() {
        for (text, file) in [
            ("sqlite:relay.db", "relay.db"),
            ("sqlite:/var/lib/r.db", "/var/lib/r.db"),
            ("sqlite:///var/lib/r.db", "/var/lib/r.db"),
        ] {
            let url: DatabaseUrl = text.parse().unwrap();
            assert_eq!(url, DatabaseUrl::Sqlite(PathBuf::from(file)));
        }
        for bad in ["", "relay.db", "sqlite:", "sqlite::memory:", "sqlite:a?mode=ro", "postgres://h/d"] {
            assert!(bad.parse::<DatabaseUrl>().is_err(), "{bad:?} must be refused");
        }
    }
}
