//! The tenants that an agent has announced, stored compactly: thousands of strings cost ten times their bytes.

/// Names of tenants, in the order in which the agent announced them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantNames(Box<str>);

/// Separates the names, so no name may contain it.
const SEPARATOR: char = '\n';

impl TenantNames {
    /// Stores the names. Leaves out those that contain the separator.
    pub fn new(names: &[String]) -> Self {
        let kept: Vec<&str> =
            names.iter().map(String::as_str).filter(|name| !name.contains(SEPARATOR)).collect();
        Self(kept.join("\n").into())
    }

    /// The names.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.split(SEPARATOR).filter(|name| !name.is_empty())
    }

    /// Whether a tenant is among the names.
    pub fn contains(&self, tenant: &str) -> bool {
        self.iter().any(|name| name == tenant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_out_as_they_went_in() {
        let names = ["acme", "beta", "two\nlines", ""].map(str::to_owned);
        let tenants = TenantNames::new(&names);
        assert_eq!(tenants.iter().collect::<Vec<_>>(), ["acme", "beta"]);
        assert!(tenants.contains("beta") && !tenants.contains("bet") && !tenants.contains(""));
        assert_eq!(TenantNames::new(&[]).iter().count(), 0);
    }
}
