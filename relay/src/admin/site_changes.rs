//! Changes of sites by operators. The pages and the API both use this module, so a change needs the same right in
//! both, is visible at once and is logged.

use audiovault_common::http_error::HttpError;
use audiovault_protocol::identity::site::{Alias, SiteId};

use super::{AdminState, errors};
use crate::{
    admin::auth::Principal,
    model::account::Permission,
    sites::provisioning::{self, AddedCode, AddedKey, AddedSite, WantedSite},
    store::StoreError,
};

/// A change of a site that has no result. Text from addresses and forms is checked only after the right to make the
/// change.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SiteChange<'a> {
    /// Revoke the key with this id.
    RevokeKey(&'a str),
    /// Add an alias.
    AddAlias(&'a str),
    /// Remove an alias.
    RemoveAlias(&'a str),
    /// Disable the site: refuse its agents and searches.
    Disable,
    /// Enable the site again.
    Enable,
    /// Remove the site with all that belongs to it.
    Remove,
}

impl SiteChange<'_> {
    fn permission(self) -> Permission {
        match self {
            Self::Remove => Permission::AddSites,
            Self::RevokeKey(_) | Self::AddAlias(_) | Self::RemoveAlias(_) | Self::Disable | Self::Enable => {
                Permission::ChangeSites
            }
        }
    }

    fn done(self) -> &'static str {
        match self {
            Self::RevokeKey(_) => "key revoked",
            Self::AddAlias(_) => "alias added",
            Self::RemoveAlias(_) => "alias removed",
            Self::Disable => "disabled",
            Self::Enable => "enabled",
            Self::Remove => "removed",
        }
    }
}

impl AdminState {
    /// Changes a site that the principal may see.
    pub(crate) async fn change_site(
        &self,
        who: &Principal,
        site: &SiteId,
        change: SiteChange<'_>,
    ) -> Result<(), HttpError> {
        who.require(change.permission())?;
        let store = self.auth.store();
        let actor = who.actor();
        match change {
            SiteChange::RevokeKey(key) => store.revoke_key(&actor, site, Some(key)).await.map(drop)?,
            SiteChange::AddAlias(alias) => {
                let alias = Alias::parse(alias).map_err(|error| errors::unprocessable(error.to_string()))?;
                // The same error as for a name that is taken, so that the response does not show which names are
                // taken.
                if !may_have(who, site, &alias) {
                    return Err(StoreError::NameTaken(alias.to_string()).into());
                }
                store.add_alias(&actor, site, &alias).await?;
            }
            SiteChange::RemoveAlias(alias) => {
                let alias = Alias::parse(alias).map_err(|_| errors::not_found())?;
                store.remove_alias(&actor, site, &alias).await?;
            }
            SiteChange::Disable => store.set_disabled(&actor, site, true).await?,
            SiteChange::Enable => store.set_disabled(&actor, site, false).await?,
            SiteChange::Remove => store.remove(&actor, site).await?,
        }
        self.site_changed(who, site, change.done()).await;
        Ok(())
    }

    /// Adds a site with a key and a search token. If the name is taken, the error is a conflict.
    pub(crate) async fn add_site(&self, who: &Principal, wanted: WantedSite) -> Result<AddedSite, HttpError> {
        who.require(Permission::AddSites)?;
        who.require(Permission::MintKeys)?;
        let url = &self.public.public_url;
        let added = provisioning::add_site(self.auth.store(), &who.actor(), url, wanted).await?;
        self.site_changed(who, &added.site, "added").await;
        Ok(added)
    }

    /// Gives a site a new key.
    pub(crate) async fn rotate_key(&self, who: &Principal, site: &SiteId) -> Result<AddedKey, HttpError> {
        who.require(Permission::MintKeys)?;
        let url = &self.public.public_url;
        let key = provisioning::rotate_key(self.auth.store(), &who.actor(), url, site).await?;
        self.site_changed(who, site, "key rotated").await;
        Ok(key)
    }

    /// Makes an enrolment code for a site.
    pub(crate) async fn add_code(&self, who: &Principal, site: &SiteId) -> Result<AddedCode, HttpError> {
        who.require(Permission::MintKeys)?;
        let url = &self.public.public_url;
        let code = provisioning::add_code(self.auth.store(), &who.actor(), url, site).await?;
        self.site_changed(who, site, "enrolment code made").await;
        Ok(code)
    }

    /// Applies the change before the response is sent, and logs it.
    async fn site_changed(&self, who: &Principal, site: &SiteId, what: &'static str) {
        // Without this refresh the change would be visible only a second later.
        let _ = self.directory.refresher().refresh().await;
        tracing::info!(actor = %who.name, %site, what, code = "site.changed", "a site was changed");
    }
}

/// Whether the principal may add this alias to the site. Without the right to add sites, only aliases that begin with
/// the site's name and a dot are allowed: no site's name has a dot, so such an alias cannot be the name of another
/// customer's site.
fn may_have(who: &Principal, site: &SiteId, alias: &Alias) -> bool {
    let own = alias.as_str().strip_prefix(site.as_str()).is_some_and(|rest| rest.starts_with('.'));
    own || who.may(Permission::AddSites)
}
