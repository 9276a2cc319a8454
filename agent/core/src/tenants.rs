//! The tenants file of AudioVault: JSON `[{"tenant", "secret", "note"}]`. Pure.

use std::collections::HashSet;

use serde::Deserialize;

use crate::secret::Secret;

/// The secret of the last entry in the published template of the file; it is public.
pub const PUBLIC_SECRET: &str = "N0b0dyKn0ws";
/// The fewest characters of a tenant's secret. A few characters that a person might type by chance are not a secret.
pub const MIN_SECRET_LEN: usize = 8;

/// Why the file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TenantsError {
    /// The file is not JSON of the right shape.
    #[error(r#"the tenants file must be JSON such as [{{"tenant": "a", "secret": "…", "note": ""}}] (line {line})"#)]
    Malformed {
        /// The line at which reading stopped.
        line: usize,
    },
    /// A tenant has no name.
    #[error("the tenants file has an entry without a tenant name (entry {0})")]
    Nameless(usize),
    /// A tenant occurs twice.
    #[error("the tenants file has the tenant {0:?} twice")]
    Twice(String),
}

impl TenantsError {
    /// What the admin should know to correct it, if this error knows.
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Malformed { .. } | Self::Nameless(_) => None,
            Self::Twice(_) => Some("upper and lower case letters count as the same"),
        }
    }
}

/// One tenant with a usable secret.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// Its name, as directories spell it.
    pub name: String,
    /// The token with which its recordings, and only they, are searched.
    pub secret: Secret,
}

/// The tenants of a file, and warnings about those that are left out.
#[derive(Debug, Clone, Default)]
pub struct Tenants {
    /// Tenants that can search.
    pub usable: Vec<Tenant>,
    /// A warning for each tenant that cannot search.
    pub warnings: Vec<String>,
}

#[derive(Deserialize)]
struct Entry {
    tenant: String,
    #[serde(default)]
    secret: Secret,
}

impl Tenants {
    /// Parses the content of the file. Entries whose secret is empty, short or public are left out.
    ///
    /// # Errors
    /// [`TenantsError`].
    pub fn parse(text: &[u8]) -> Result<Self, TenantsError> {
        // serde's own message might quote a secret; the line number is enough to find the mistake.
        let entries: Vec<Entry> =
            serde_json::from_slice(text).map_err(|error| TenantsError::Malformed { line: error.line() })?;
        let mut tenants = Self::default();
        let mut names = HashSet::new();
        for (at, entry) in entries.into_iter().enumerate() {
            let name = entry.tenant.trim().to_owned();
            let secret = entry.secret.reveal().trim();
            if name.is_empty() {
                return Err(TenantsError::Nameless(at + 1));
            }
            if let Some(reason) = unusable(secret) {
                tenants.warnings.push(format!("the tenant {name:?} cannot search: {reason}"));
                continue;
            }
            if !names.insert(name.to_lowercase()) {
                return Err(TenantsError::Twice(name));
            }
            tenants.usable.push(Tenant { name, secret: Secret::new(secret) });
        }
        Ok(tenants)
    }
}

fn unusable(secret: &str) -> Option<String> {
    if secret.is_empty() {
        Some("its secret is empty".to_owned())
    } else if secret == PUBLIC_SECRET {
        Some("its secret is the example of AudioVault's template, which is public".to_owned())
    } else if secret.chars().count() < MIN_SECRET_LEN {
        Some(format!("its secret has fewer than {MIN_SECRET_LEN} characters"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_template_leaves_its_dummy_out() {
        let tenants = Tenants::parse(
            br#"[{"tenant":"acme","secret":"s3cret-of-acme","note":"x"},
                 {"tenant":"dummy","secret":"N0b0dyKn0ws","note":""},
                 {"tenant":"short","secret":"abc"}, {"tenant":"none"}]"#,
        )
        .unwrap();
        assert_eq!(tenants.usable.len(), 1);
        assert_eq!(tenants.usable[0].name, "acme");
        assert_eq!(tenants.warnings.len(), 3);
        assert!(
            tenants.warnings.iter().all(|warning| !warning.contains("N0b0dy") && !warning.contains("abc"))
        );
    }

    #[test]
    fn mistakes_are_named_without_telling_secrets() {
        let malformed = Tenants::parse(b"[{\"tenant\":\"a\",\n\"secret\": hunter22}]").unwrap_err();
        assert!(malformed.to_string().contains("line 2") && !malformed.to_string().contains("hunter"));
        let twice = br#"[{"tenant":"a","secret":"12345678"},{"tenant":"A","secret":"abcdefgh"}]"#;
        assert!(matches!(Tenants::parse(twice), Err(TenantsError::Twice(_))));
        let nameless = br#"[{"tenant":" ","secret":"12345678"}]"#;
        assert!(matches!(Tenants::parse(nameless), Err(TenantsError::Nameless(1))));
    }
}
