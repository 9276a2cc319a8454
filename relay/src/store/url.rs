//! The address of a database.

use std::{env, fmt, net::IpAddr, path::PathBuf, str::FromStr};

use sqlx::postgres::PgConnectOptions;
use url::Url;
use zeroize::Zeroizing;

use super::DatabaseUrlError;

/// The address of a database. `Debug` and `Display` do not show passwords.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// One SQLite file on a local disk (write-ahead logging does not work over a network file system).
    Sqlite(PathBuf),
    /// A database of a PostgreSQL server, which several relays may share.
    Postgres(PostgresUrl),
}

/// `postgres://[USER[:PASSWORD]@]HOST[:PORT]/DATABASE[?OPTIONS]`, as libpq accepts it. Missing parts come from
/// `PGHOST`, `PGPORT`, `PGUSER`, `PGPASSWORD` and similar variables, and from the password file (`PGPASSFILE`).
/// A server on another machine must prove its identity by TLS (`sslmode=verify-full`), unless `sslmode` or
/// `PGSSLMODE` is set to another value.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl(Zeroizing<String>);

impl PostgresUrl {
    fn parse(text: &str) -> Result<Self, DatabaseUrlError> {
        let options: PgConnectOptions = text.parse().map_err(|_| DatabaseUrlError::NotAServer)?;
        if options.get_database().is_none_or(str::is_empty) {
            return Err(DatabaseUrlError::NotAServer);
        }
        let mut text = Zeroizing::new(text.to_owned());
        if !says_sslmode(&text) && !is_this_machine(&options) {
            let joint = if text.contains('?') { "&" } else { "?" };
            text.push_str(joint);
            text.push_str("sslmode=verify-full");
        }
        Ok(Self(text))
    }

    /// The whole address, including the defaults that were added. It may contain a password.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

/// True if the address or the environment sets how the connection is protected.
fn says_sslmode(text: &str) -> bool {
    let in_address = Url::parse(text)
        .is_ok_and(|url| url.query_pairs().any(|(name, _)| matches!(&*name, "sslmode" | "ssl-mode")));
    in_address || env::var_os("PGSSLMODE").is_some_and(|mode| !mode.is_empty())
}

/// True if the connection stays on this machine: a Unix socket or a loopback address.
fn is_this_machine(options: &PgConnectOptions) -> bool {
    let host = options.get_host();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    options.get_socket().is_some()
        || host.starts_with('/')
        || host == "localhost"
        || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.parse::<PgConnectOptions>() {
            Ok(options) => {
                let host = options.get_host();
                let port = options.get_port();
                let database = options.get_database().unwrap_or_default();
                write!(f, "postgres://{}@{host}:{port}/{database}", options.get_username())
            }
            Err(_) => f.write_str("postgres://…"),
        }
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for DatabaseUrl {
    type Err = DatabaseUrlError;

    fn from_str(text: &str) -> Result<Self, DatabaseUrlError> {
        let (scheme, rest) = text.split_once(':').ok_or(DatabaseUrlError::NoScheme)?;
        match scheme {
            "sqlite" => {
                let file = rest.strip_prefix("//").unwrap_or(rest);
                // A database in memory would be a different one for each connection and for each process.
                if file.is_empty() || file == ":memory:" || file.contains('?') {
                    return Err(DatabaseUrlError::NotAFile);
                }
                Ok(Self::Sqlite(PathBuf::from(file)))
            }
            "postgres" | "postgresql" => PostgresUrl::parse(text).map(Self::Postgres),
            other => Err(DatabaseUrlError::Scheme(other.to_owned())),
        }
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(url) => url.fmt(f),
        }
    }
}

/// A text from any source, without the passwords of the addresses in it. After `//`, everything between the
/// first colon and the last at sign is replaced by `…`.
pub(crate) fn without_passwords(text: &str) -> String {
    let mut told = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("://") {
        let (before, after) = rest.split_at(start + 3);
        told.push_str(before);
        let end = after.find(|c: char| c.is_whitespace() || c == '\'').unwrap_or(after.len());
        let (address, further) = after.split_at(end);
        match address.rsplit_once('@') {
            Some((user, host)) if user.contains(':') => {
                told.push_str(user.split(':').next().unwrap_or_default());
                told.push_str(":…@");
                told.push_str(host);
            }
            _ => told.push_str(address),
        }
        rest = further;
    }
    told + rest
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
        for bad in ["", "relay.db", "sqlite:", "sqlite::memory:", "sqlite:a?mode=ro", "mysql://h/d"] {
            assert!(bad.parse::<DatabaseUrl>().is_err(), "{bad:?} must be refused");
        }
    }

    #[test]
    fn a_database_is_named_by_a_server_and_its_password_is_never_shown() {
        for text in [
            "postgres://relay:s3cr3t@db.example.com/audiovault",
            "postgresql://relay:s3cr3t@db.example.com:5432/audiovault",
        ] {
            let url: DatabaseUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), "postgres://relay@db.example.com:5432/audiovault");
            assert!(!format!("{url:?}").contains("s3cr3t"), "{url:?}");
            let DatabaseUrl::Postgres(url) = url else { panic!("{text} is a server's") };
            assert_eq!(url.reveal(), format!("{text}?sslmode=verify-full"));
        }
        for bad in ["postgres:", "postgres://relay:s3cr3t@db:port/d", "postgres://db.example.com"] {
            let error = bad.parse::<DatabaseUrl>().unwrap_err().to_string();
            assert!(!error.contains("s3cr3t"), "{error}");
        }
    }

    #[test]
    fn a_server_on_another_machine_has_to_prove_who_it_is_unless_the_address_says_otherwise() {
        let revealed = |text: &str| match text.parse().unwrap() {
            DatabaseUrl::Postgres(url) => url.reveal().to_owned(),
            DatabaseUrl::Sqlite(_) => panic!("{text} is a server's"),
        };
        for (far, added) in [
            ("postgres://relay@db.example.com/a", "?sslmode=verify-full"),
            ("postgres://relay@10.0.0.5/a?sslrootcert=/ca.pem", "&sslmode=verify-full"),
            ("postgres://relay@[2001:db8::1]/a", "?sslmode=verify-full"),
            ("postgres://relay@localhost.example.com/a", "?sslmode=verify-full"),
        ] {
            assert_eq!(revealed(far), format!("{far}{added}"));
        }
        for same in [
            "postgres://relay@db.example.com/a?sslmode=disable",
            "postgres://relay@db.example.com/a?ssl-mode=require",
            "postgres://relay@localhost/a",
            "postgres://relay@127.8.8.8:5433/a",
            "postgres://relay@[::1]/a",
            "postgres://relay@%2Frun%2Fpostgresql/a",
            "postgres:///a?host=/run/postgresql",
        ] {
            assert_eq!(revealed(same), same);
        }
    }

    #[test]
    fn a_mistake_in_an_address_tells_no_password() {
        for (text, told) in [
            ("invalid value 'postgres://u:p@w@h/d' for", "invalid value 'postgres://u:…@h/d' for"),
            ("sqlite:relay.db", "sqlite:relay.db"),
            ("postgres://u@h/d https://a:b@c", "postgres://u@h/d https://a:…@c"),
            ("://", "://"),
        ] {
            assert_eq!(without_passwords(text), told);
        }
    }
}
