//! The forms for sites: add a site, change its keys and aliases, disable, enable and remove it.

use std::{collections::BTreeSet, sync::Arc};

use askama::Template;
use audiovault_protocol::identity::site::{Alias, SiteId};
use axum::{
    Form,
    extract::{Path, State},
    response::Response,
};
use http::StatusCode;

use super::{Shell, done, page, page_with, user_forms::field};
use crate::{
    admin::{AdminState, HttpError, SiteChange, VisibleSite},
    model::rights::Permission,
    sites::{
        enrolment::AddedCode,
        provisioning::{AddedKey, AddedSite, WantedSite},
    },
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

#[derive(Template)]
#[template(path = "enrolment_code.html")]
struct EnrolmentCodePage {
    shell: Shell,
    added: AddedCode,
}

pub(super) async fn new(shell: Shell) -> Result<Response, HttpError> {
    shell.principal()?.require(Permission::AddSites)?;
    shell.principal()?.require(Permission::MintKeys)?;
    let (site, note, aliases) = Default::default();
    Ok(page(&NewSitePage { shell, site, note, aliases, problem: None }))
}

pub(super) async fn add(
    shell: Shell,
    State(state): State<Arc<AdminState>>,
    Form(fields): Fields,
) -> Result<Response, HttpError> {
    let who = shell.principal()?;
    // The rights are checked first, so that the response shows nothing about names to a user who may not add sites.
    who.require(Permission::AddSites)?;
    who.require(Permission::MintKeys)?;
    let site = field(&fields, "site");
    let note = field(&fields, "note");
    let aliases = field(&fields, "aliases");
    let added = match wanted(&site, &note, &aliases) {
        Ok(wanted) => state.add_site(who, wanted).await,
        Err(problem) => Err(HttpError::unprocessable(problem)),
    };
    match added {
        Ok(added) => Ok(page(&AddedSitePage { shell, added })),
        // The user can correct both errors in the form.
        Err(refused)
            if matches!(refused.status(), StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY) =>
        {
            let problem = Some(refused.detail().to_owned());
            let page = NewSitePage { shell, site, note, aliases, problem };
            Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page))
        }
        Err(refused) => Err(refused),
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

pub(super) async fn rotate_key(
    shell: Shell,
    State(state): State<Arc<AdminState>>,
    VisibleSite(site): VisibleSite,
) -> Result<Response, HttpError> {
    let key = state.rotate_key(shell.principal()?, &site).await?;
    Ok(page(&AddedKeyPage { shell, site, key }))
}

pub(super) async fn enrol(
    shell: Shell,
    State(state): State<Arc<AdminState>>,
    VisibleSite(site): VisibleSite,
) -> Result<Response, HttpError> {
    let added = state.add_code(shell.principal()?, &site).await?;
    Ok(page(&EnrolmentCodePage { shell, added }))
}

pub(super) async fn revoke_key(
    shell: Shell,
    State(state): State<Arc<AdminState>>,
    VisibleSite(site): VisibleSite,
    Path((_, key)): Path<(String, String)>,
) -> Result<Response, HttpError> {
    state.change_site(shell.principal()?, &site, SiteChange::RevokeKey(&key)).await?;
    Ok(back(&site, "key-revoked"))
}

pub(super) async fn add_alias(
    shell: Shell,
    State(state): State<Arc<AdminState>>,
    VisibleSite(site): VisibleSite,
    Form(fields): Fields,
) -> Result<Response, HttpError> {
    let alias = field(&fields, "alias");
    state.change_site(shell.principal()?, &site, SiteChange::AddAlias(alias.trim())).await?;
    Ok(back(&site, "alias-added"))
}

pub(super) async fn remove_alias(
    shell: Shell,
    State(state): State<Arc<AdminState>>,
    VisibleSite(site): VisibleSite,
    Path((_, alias)): Path<(String, String)>,
) -> Result<Response, HttpError> {
    state.change_site(shell.principal()?, &site, SiteChange::RemoveAlias(&alias)).await?;
    Ok(back(&site, "alias-removed"))
}

pub(super) async fn disable(
    shell: Shell,
    State(state): State<Arc<AdminState>>,
    VisibleSite(site): VisibleSite,
) -> Result<Response, HttpError> {
    state.change_site(shell.principal()?, &site, SiteChange::Disable).await?;
    Ok(back(&site, "site-disabled"))
}

pub(super) async fn enable(
    shell: Shell,
    State(state): State<Arc<AdminState>>,
    VisibleSite(site): VisibleSite,
) -> Result<Response, HttpError> {
    state.change_site(shell.principal()?, &site, SiteChange::Enable).await?;
    Ok(back(&site, "site-enabled"))
}

pub(super) async fn remove(
    shell: Shell,
    State(state): State<Arc<AdminState>>,
    VisibleSite(site): VisibleSite,
) -> Result<Response, HttpError> {
    state.change_site(shell.principal()?, &site, SiteChange::Remove).await?;
    Ok(done("/", "site-removed"))
}

/// Redirects to the page of the site, which shows what was done.
fn back(site: &SiteId, what: &str) -> Response {
    done(&format!("/sites/{site}"), what)
}
