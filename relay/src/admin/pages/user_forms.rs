//! Shared code of the forms about users and tokens. Errors are text keys.

use std::{collections::BTreeSet, str::FromStr};

use audiovault_protocol::identity::site::SiteId;

use crate::{
    admin::auth::{Password, WeakPassword},
    model::rights::{Rights, Role, Scope},
    store::StoreError,
};

/// Checks a new password that was typed twice.
pub(super) fn new_password(name: &str, password: String, again: &str) -> Result<Password, &'static str> {
    if password != again {
        return Err("problem-passwords-differ");
    }
    Password::new(password, name).map_err(|error| match error {
        WeakPassword::Length => "problem-password-short",
        WeakPassword::Guessable => "problem-password-guessable",
    })
}

/// The fields of a form for rights. Browsers do not send a box that is not ticked.
#[derive(Debug, Clone, Default)]
pub(super) struct RightsForm {
    pub(super) role: String,
    pub(super) scope: String,
    pub(super) sites: String,
    pub(super) playback: bool,
}

impl RightsForm {
    /// Takes the fields from a submitted form.
    pub(super) fn of(pairs: &[(String, String)]) -> Self {
        let field = |name| field(pairs, name);
        Self {
            role: field("role"),
            scope: field("scope"),
            sites: field("sites"),
            playback: field("playback") == "yes",
        }
    }

    /// The fields for these rights.
    pub(super) fn from_rights(rights: &Rights) -> Self {
        let sites = rights.scope.sites();
        let names: Vec<&str> = sites.into_iter().flatten().map(SiteId::as_str).collect();
        Self {
            role: rights.role.as_str().to_owned(),
            scope: if sites.is_some() { "sites" } else { "all" }.to_owned(),
            sites: names.join(" "),
            playback: rights.playback,
        }
    }

    /// The rights that the fields describe.
    pub(super) fn rights(&self) -> Result<Rights, &'static str> {
        let role = Role::from_str(&self.role).map_err(|_| "problem-role")?;
        let scope = match self.scope.as_str() {
            "all" => Scope::All,
            "sites" => {
                let names = self.sites.split([',', ' ', '\t', '\r', '\n']).filter(|name| !name.is_empty());
                let sites: BTreeSet<SiteId> =
                    names.map(SiteId::parse).collect::<Result<_, _>>().map_err(|_| "problem-site-name")?;
                if sites.is_empty() {
                    return Err("problem-no-sites");
                }
                Scope::Sites(sites)
            }
            _ => return Err("problem-scope"),
        };
        Ok(Rights { role, scope, playback: self.playback })
    }
}

/// The value of a form field; empty if it was not sent.
pub(super) fn field(pairs: &[(String, String)], name: &str) -> String {
    pairs.iter().find(|(given, _)| given == name).map(|(_, value)| value.clone()).unwrap_or_default()
}

/// The text key for a store error that the user can correct in the form. Any other error is returned unchanged.
pub(super) fn problem(error: StoreError) -> Result<&'static str, StoreError> {
    match error {
        StoreError::UserExists(_) => Ok("problem-user-exists"),
        StoreError::TokenExists(_) => Ok("problem-token-exists"),
        StoreError::LastManager(_) => Ok("problem-last-manager"),
        StoreError::UnknownSite(_) => Ok("problem-unknown-site"),
        other @ (StoreError::NameTaken(_)
        | StoreError::UnknownAlias { .. }
        | StoreError::UnknownKey { .. }
        | StoreError::NoValidKey(_)
        | StoreError::NoRoomForKey(_)
        | StoreError::SiteDisabled(_)
        | StoreError::CodeRefused
        | StoreError::UnknownUser(_)
        | StoreError::SetupLinkEnded
        | StoreError::UnknownToken(_)
        | StoreError::LogInUse
        | StoreError::Moved(_)
        | StoreError::Corrupt { .. }
        | StoreError::Damaged(_)
        | StoreError::Database(_)) => Err(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(role: &str, scope: &str, sites: &str) -> Result<Rights, &'static str> {
        let form =
            RightsForm { role: role.into(), scope: scope.into(), sites: sites.into(), playback: false };
        form.rights()
    }

    #[test]
    fn no_sites_are_not_all_sites() {
        assert_eq!(form("viewer", "all", "").unwrap().scope, Scope::All);
        assert_eq!(form("viewer", "sites", " , "), Err("problem-no-sites"));
        assert_eq!(form("viewer", "", "acme"), Err("problem-scope"));
        assert_eq!(form("root", "all", ""), Err("problem-role"));
        assert_eq!(form("viewer", "sites", "acme, Not A Site"), Err("problem-site-name"));
        let limited = form("operator", "sites", "acme,umbrella\r\n").unwrap();
        assert_eq!(RightsForm::from_rights(&limited).rights().unwrap(), limited);
    }
}
