//! What users and API tokens may do, and where.

use std::{collections::BTreeSet, fmt, str::FromStr};

use audiovault_protocol::identity::site::SiteId;
use serde::{Deserialize, Serialize};

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
        assert!(!operator.allow(Permission::MintKeys), "an agent of their own would hear everything");
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
