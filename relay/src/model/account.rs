//! Users and API tokens: their names, the stored form of a password, and what they may do, and where.

use std::{collections::BTreeSet, fmt, str::FromStr};

use audiovault_protocol::identity::site::SiteId;
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

/// The stored form of a password: a hash with its parameters (PHC string format).
#[derive(Clone)]
pub struct PasswordHash(String);

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

impl PasswordHash {
    /// A hash from the database.
    pub fn stored(text: String) -> Self {
        Self(text)
    }

    /// The hash with its parameters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The role of a user or an API token. Each role may do what the roles before it may do.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    clap::ValueEnum,
    utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Looks at sites and at the audit log
    Viewer,
    /// Changes sites as well
    Operator,
    /// Manages users and tokens and erases calls from the audit log as well
    Admin,
}

/// The text is not the name of a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected admin, operator or viewer")]
pub struct UnknownRole;

impl Role {
    /// All roles, the one with the fewest rights first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// The name in the database, in the API and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(UnknownRole)
    }
}

/// The sites that a user or an API token sees. All other sites are hidden from them, as if they did not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Every site, and the relay itself.
    All,
    /// These sites alone. An empty set means no site.
    Sites(BTreeSet<SiteId>),
}

impl Scope {
    /// The scope of a list of sites. `None` means all sites.
    pub fn of(sites: Option<BTreeSet<SiteId>>) -> Self {
        sites.map_or(Self::All, Self::Sites)
    }

    /// True if the site is within the scope.
    pub fn holds(&self, site: &SiteId) -> bool {
        match self {
            Self::All => true,
            Self::Sites(sites) => sites.contains(site),
        }
    }

    /// The sites, or `None` if the scope is all sites.
    pub fn sites(&self) -> Option<&BTreeSet<SiteId>> {
        match self {
            Self::All => None,
            Self::Sites(sites) => Some(sites),
        }
    }
}

/// What a user or an API token may do, other than look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// Change the sites within the scope: keys, aliases, disabling.
    ChangeSites,
    /// Add and import sites. Only for those who see all sites.
    AddSites,
    /// Make site keys and enrolment codes. Only for those with the right to listen, since an agent with a key
    /// receives search tokens and links.
    MintKeys,
    /// Search for calls of the sites within the scope, and listen to the recordings.
    Play,
    /// Manage users and API tokens. Only for those who see all sites, since no user may give more rights than
    /// they have.
    ManageUsers,
    /// Erase a call from the audit log, at all sites.
    EraseAudit,
}

/// A role, the sites to which it applies, and the right to listen, which is separate from the role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    /// What may be done.
    pub role: Role,
    /// At which sites.
    pub scope: Scope,
    /// True if recordings may be searched for and listened to.
    pub playback: bool,
}

impl Rights {
    /// All rights, at all sites.
    pub fn everything() -> Self {
        Self { role: Role::Admin, scope: Scope::All, playback: true }
    }

    /// The rights that both include. A token can do no more than its owner can.
    #[must_use]
    pub fn within(self, others: &Self) -> Self {
        let scope = match (self.scope, &others.scope) {
            (Scope::All, others) => others.clone(),
            (scope @ Scope::Sites(_), Scope::All) => scope,
            (Scope::Sites(own), Scope::Sites(others)) => {
                Scope::Sites(own.intersection(others).cloned().collect())
            }
        };
        Self { role: self.role.min(others.role), scope, playback: self.playback && others.playback }
    }

    /// True if these rights include the permission. If it is about one site, that site must be within the scope
    /// too.
    pub fn allow(&self, permission: Permission) -> bool {
        let everywhere = self.scope == Scope::All;
        match permission {
            Permission::ChangeSites => self.role >= Role::Operator,
            Permission::MintKeys => self.role >= Role::Operator && self.playback,
            Permission::AddSites => self.role >= Role::Operator && everywhere,
            Permission::Play => self.playback,
            Permission::ManageUsers | Permission::EraseAudit => self.role == Role::Admin && everywhere,
        }
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

    fn rights(role: Role, sites: Option<&[&str]>) -> Rights {
        let parse = |site: &&str| SiteId::parse(site).unwrap();
        let sites = sites.map(|sites| sites.iter().map(parse).collect());
        Rights { role, scope: Scope::of(sites), playback: false }
    }

    #[test]
    fn a_role_that_is_limited_to_sites_has_no_power_over_the_relay() {
        let limited = rights(Role::Admin, Some(&["acme"]));
        assert!(limited.allow(Permission::ChangeSites));
        for permission in [Permission::AddSites, Permission::ManageUsers, Permission::EraseAudit] {
            assert!(!limited.allow(permission), "{permission:?}");
            assert!(rights(Role::Admin, None).allow(permission), "{permission:?}");
            assert!(!rights(Role::Viewer, None).allow(permission), "{permission:?}");
        }
        assert!(!rights(Role::Operator, None).allow(Permission::ManageUsers));
        assert!(rights(Role::Operator, None).allow(Permission::AddSites));
    }

    #[test]
    fn a_key_is_as_good_as_listening() {
        let operator = rights(Role::Operator, Some(&["acme"]));
        assert!(!operator.allow(Permission::MintKeys), "an agent of their own would get every request");
        assert!(Rights { playback: true, ..operator }.allow(Permission::MintKeys));
        assert!(!Rights { playback: true, ..rights(Role::Viewer, None) }.allow(Permission::MintKeys));
    }

    #[test]
    fn listening_is_a_right_of_its_own() {
        assert!(!rights(Role::Admin, None).allow(Permission::Play));
        assert!(Rights { playback: true, ..rights(Role::Viewer, None) }.allow(Permission::Play));
    }

    #[test]
    fn a_token_can_do_no_more_than_its_owner() {
        let of = |role, sites, playback| Rights { playback, ..rights(role, sites) };
        let owner = of(Role::Operator, Some(&["acme", "globex"][..]), false);
        assert_eq!(of(Role::Admin, None, true).within(&owner), owner);
        let narrow = of(Role::Viewer, Some(&["acme", "initech"][..]), false);
        assert_eq!(narrow.clone().within(&owner), of(Role::Viewer, Some(&["acme"][..]), false));
        assert_eq!(narrow.clone().within(&Rights::everything()), narrow);
    }

    #[test]
    fn a_list_without_sites_is_not_all_of_them() {
        let nothing = rights(Role::Viewer, Some(&[]));
        assert!(!nothing.scope.holds(&SiteId::parse("acme").unwrap()));
        assert_eq!("root".parse::<Role>(), Err(UnknownRole));
        assert_eq!("operator".parse::<Role>(), Ok(Role::Operator));
    }
}
