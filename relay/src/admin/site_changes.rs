//! What operators do to sites. The pages and the API come here, so that a change takes the same right, is seen at once
//! and has its line in the log, whichever way it was made.

use audiovault_protocol::site::{Alias, SiteId};

use super::{AdminState, Refused};
use crate::{
    admin::auth::Principal,
    model::rights::Permission,
    sites::{
        enrolment::{self, AddedCode},
        provisioning::{self, AddedKey, AddedSite, WantedSite},
    },
    store::StoreError,
};

/// A change of a site that answers nothing. What comes from addresses and forms is judged after the right to change.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SiteChange<'a> {
    /// Revoke the key of this id.
    RevokeKey(&'a str),
    /// Let the site answer to another name.
    AddAlias(&'a str),
    /// Take a further name away.
    RemoveAlias(&'a str),
    /// Refuse its agents and searches.
    Disable,
    /// Serve it again.
    Enable,
    /// Remove it with all that belongs to it.
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
    /// Changes a site that the principal sees.
    pub(crate) async fn change_site(
        &self,
        who: &Principal,
        site: &SiteId,
        change: SiteChange<'_>,
    ) -> Result<(), Refused> {
        who.require(change.permission())?;
        let (store, actor) = (self.auth.store(), who.actor());
        match change {
            SiteChange::RevokeKey(key) => store.revoke_key(&actor, site, Some(key)).await.map(drop)?,
            SiteChange::AddAlias(alias) => {
                let alias = Alias::parse(alias).map_err(|error| Refused::unprocessable(error.to_string()))?;
                // The same answer as for a name that is taken: a refusal must not tell which names are.
                if !may_have(who, site, &alias) {
                    return Err(StoreError::NameTaken(alias.to_string()).into());
                }
                store.add_alias(&actor, site, &alias).await?;
            }
            SiteChange::RemoveAlias(alias) => {
                let alias = Alias::parse(alias).map_err(|_| Refused::not_found())?;
                store.remove_alias(&actor, site, &alias).await?;
            }
            SiteChange::Disable => store.set_disabled(&actor, site, true).await?,
            SiteChange::Enable => store.set_disabled(&actor, site, false).await?,
            SiteChange::Remove => store.remove(&actor, site).await?,
        }
        self.site_changed(who, site, change.done()).await;
        Ok(())
    }

    /// Adds a site with a key and a search token. A name that is taken is a conflict.
    pub(crate) async fn add_site(&self, who: &Principal, wanted: WantedSite) -> Result<AddedSite, Refused> {
        who.require(Permission::AddSites)?;
        who.require(Permission::MintKeys)?;
        let url = &self.public.public_url;
        let added = provisioning::add_site(self.auth.store(), &who.actor(), url, wanted).await?;
        self.site_changed(who, &added.site, "added").await;
        Ok(added)
    }

    /// Gives a site a new key.
    pub(crate) async fn rotate_key(&self, who: &Principal, site: &SiteId) -> Result<AddedKey, Refused> {
        who.require(Permission::MintKeys)?;
        let url = &self.public.public_url;
        let key = provisioning::rotate_key(self.auth.store(), &who.actor(), url, site).await?;
        self.site_changed(who, site, "key rotated").await;
        Ok(key)
    }

    /// Makes an enrolment code for a site.
    pub(crate) async fn add_code(&self, who: &Principal, site: &SiteId) -> Result<AddedCode, Refused> {
        who.require(Permission::MintKeys)?;
        let url = &self.public.public_url;
        let code = enrolment::add_code(self.auth.store(), &who.actor(), url, site).await?;
        self.site_changed(who, site, "enrolment code made").await;
        Ok(code)
    }

    /// What has changed takes effect before it is answered.
    async fn site_changed(&self, who: &Principal, site: &SiteId, what: &'static str) {
        // Whoever made the change sees it a second later otherwise.
        let _ = self.directory.refresher().refresh().await;
        tracing::info!(actor = %who.name, %site, what, "a site is changed");
    }
}

/// Whether somebody may let a site answer to a name. Those who may not add sites have the names that begin with that of the
/// site and a dot: no site's name has a dot, so they can be no other customer's.
fn may_have(who: &Principal, site: &SiteId, alias: &Alias) -> bool {
    let own = alias.as_str().strip_prefix(site.as_str()).is_some_and(|rest| rest.starts_with('.'));
    own || who.may(Permission::AddSites)
}
