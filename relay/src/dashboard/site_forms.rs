//! What operators do with a site: add it, change its keys and names, disable, enable and remove it.

use std::{collections::BTreeSet, sync::Arc};

use askama::Template;
use audiovault_protocol::site::{Alias, SiteId};
use axum::{
    Form,
    extract::{Path, State},
    response::Response,
};
use http::StatusCode;

use super::{Shell, done, page, page_with, user_forms::field};
use crate::{
    admin::{AdminState, Refused, VisibleSite},
    auth::{Name, Permission},
    provisioning::{self, AddedKey, AddedSite, WantedSite},
    store::StoreError,
};

type Fields = Form<Vec<(String, String)>>;

#[derive(Template)]
#[template(path = "site_new.html")]
struct NewSitePage {
    shell: Shell,
    site: String,
    note: String,
    aliases: String,
    problem: Option<String>,
}

#[derive(Template)]
#[template(path = "site_added.html")]
struct AddedSitePage {
    shell: Shell,
    added: AddedSite,
}

#[derive(Template)]
#[template(path = "key_added.html")]
struct AddedKeyPage {
    shell: Shell,
    site: SiteId,
    key: AddedKey,
}

pub(super) async fn new(shell: Shell) -> Result<Response, Refused> {
    require(&shell, Permission::AddSites)?;
    let (site, note, aliases) = Default::default();
    Ok(page(&NewSitePage { shell, site, note, aliases, problem: None }))
}

pub(super) async fn add(
    shell: Shell,
    State(state): State<Arc<AdminState>>,
    Form(fields): Fields,
) -> Result<Response, Refused> {
    let actor = require(&shell, Permission::AddSites)?;
    let (site, note, aliases) = (field(&fields, "site"), field(&fields, "note"), field(&fields, "aliases"));
    let added = match wanted(&site, &note, &aliases) {
        Ok(wanted) => add_site(&state, wanted).await?,
        Err(problem) => Err(problem),
    };
    match added {
        Ok(added) => {
            tracing::info!(%actor, site = %added.site, "a site is added");
            Ok(page(&AddedSitePage { shell, added }))
        }
        Err(problem) => {
            let page = NewSitePage { shell, site, note, aliases, problem: Some(problem) };
            Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page))
        }
    }
}

fn wanted(site: &str, note: &str, aliases: &str) -> Result<WantedSite, String> {
    let site = SiteId::parse(site.trim()).map_err(|error| error.to_string())?;
    let aliases = aliases.split([' ', ',', '\t', '\r', '\n']).filter(|alias| !alias.is_empty());
    let aliases = aliases.map(Alias::parse).collect::<Result<BTreeSet<_>, _>>();
    Ok(WantedSite {
        site,
        note: note.trim().to_owned(),
        aliases: aliases.map_err(|error| error.to_string())?,
    })
}

/// Adds a site; a name that is taken is the asker's to change.
async fn add_site(state: &AdminState, wanted: WantedSite) -> Result<Result<AddedSite, String>, Refused> {
    let url = &state.public.public_url;
    match provisioning::add_site(state.auth.store(), url, wanted).await {
        Ok(added) => {
            state.directory.refresher().refresh().await;
            Ok(Ok(added))
        }
        Err(error @ StoreError::NameTaken { .. }) => Ok(Err(error.to_string())),
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn rotate_key(
    shell: Shell,
    State(state): State<Arc<AdminState>>,
    VisibleSite(site): VisibleSite,
) -> Result<Response, Refused> {
    let actor = require(&shell, Permission::ChangeSites)?;
    let url = &state.public.public_url;
    let key = provisioning::rotate_key(state.auth.store(), url, &site).await?;
    state.directory.refresher().refresh().await;
    tracing::info!(%actor, %site, "a key is added");
    Ok(page(&AddedKeyPage { shell, site, key }))
}

pub(super) async fn revoke_key(
    shell: Shell,
    State(state): State<Arc<AdminState>>,
    VisibleSite(site): VisibleSite,
    Path((_, key)): Path<(String, String)>,
) -> Result<Response, Refused> {
    let actor = require(&shell, Permission::ChangeSites)?;
    state.auth.store().revoke_key(&site, Some(&key)).await?;
    Ok(changed(&state, &actor, &site, "key-revoked").await)
}

pub(super) async fn add_alias(
    shell: Shell,
    State(state): State<Arc<AdminState>>,
    VisibleSite(site): VisibleSite,
    Form(fields): Fields,
) -> Result<Response, Refused> {
    let actor = require(&shell, Permission::ChangeSites)?;
    let alias = Alias::parse(field(&fields, "alias").trim());
    let alias = alias.map_err(|error| Refused::unprocessable(error.to_string()))?;
    state.auth.store().add_alias(&site, &alias).await?;
    Ok(changed(&state, &actor, &site, "alias-added").await)
}

pub(super) async fn remove_alias(
    shell: Shell,
    State(state): State<Arc<AdminState>>,
    VisibleSite(site): VisibleSite,
    Path((_, alias)): Path<(String, String)>,
) -> Result<Response, Refused> {
    let actor = require(&shell, Permission::ChangeSites)?;
    let alias = Alias::parse(&alias).map_err(|_| Refused::not_found())?;
    state.auth.store().remove_alias(&site, &alias).await?;
    Ok(changed(&state, &actor, &site, "alias-removed").await)
}

pub(super) async fn disable(
    shell: Shell,
    State(state): State<Arc<AdminState>>,
    VisibleSite(site): VisibleSite,
) -> Result<Response, Refused> {
    let actor = require(&shell, Permission::ChangeSites)?;
    state.auth.store().set_disabled(&site, true).await?;
    Ok(changed(&state, &actor, &site, "site-disabled").await)
}

pub(super) async fn enable(
    shell: Shell,
    State(state): State<Arc<AdminState>>,
    VisibleSite(site): VisibleSite,
) -> Result<Response, Refused> {
    let actor = require(&shell, Permission::ChangeSites)?;
    state.auth.store().set_disabled(&site, false).await?;
    Ok(changed(&state, &actor, &site, "site-enabled").await)
}

pub(super) async fn remove(
    shell: Shell,
    State(state): State<Arc<AdminState>>,
    VisibleSite(site): VisibleSite,
) -> Result<Response, Refused> {
    let actor = require(&shell, Permission::AddSites)?;
    state.auth.store().remove(&site).await?;
    state.directory.refresher().refresh().await;
    tracing::info!(%actor, %site, "a site is removed");
    Ok(done("/", "site-removed"))
}

async fn changed(state: &AdminState, actor: &Name, site: &SiteId, what: &'static str) -> Response {
    state.directory.refresher().refresh().await;
    tracing::info!(%actor, %site, what, "a site is changed");
    done(&format!("/sites/{site}"), what)
}

fn require(shell: &Shell, permission: Permission) -> Result<Name, Refused> {
    let user = shell.user().ok_or_else(Refused::unauthorized)?;
    user.require(permission)?;
    Ok(user.name.clone())
}
