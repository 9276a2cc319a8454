//! Sites: list, add, show, change, remove.

use std::{collections::BTreeSet, sync::Arc};

use audiovault_common::http_error::HttpError;
use audiovault_protocol::identity::site::{Alias, SiteId};
use axum::{
    Extension, Json,
    extract::{Path, State},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Failures,
    schemas::{AliasName, SiteName},
};
use crate::{
    admin::{AdminState, SignedIn, SiteChange, VisibleSite, pages::site_detail},
    monitoring::{
        board::{SiteView, Totals},
        site_detail::SiteDetail,
    },
    sites::provisioning::{AddedCode, AddedKey, AddedSite, WantedSite},
};

/// All sites that the token may see.
#[derive(Serialize, ToSchema)]
struct Sites {
    /// Version of the relay.
    relay_version: &'static str,
    /// Number of sites in each state.
    totals: Totals,
    /// The sites, in the order of their names.
    sites: Vec<SiteView>,
}

/// A site to add.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SiteToAdd {
    /// The name of the site: a DNS label.
    #[schema(value_type = SiteName)]
    site: SiteId,
    /// A note for the operators, in free text.
    #[serde(default)]
    note: String,
    /// Other names by which QueueMetrics can address the site.
    #[serde(default)]
    #[schema(value_type = Vec<AliasName>)]
    aliases: BTreeSet<Alias>,
}

pub(super) fn routes() -> OpenApiRouter<Arc<AdminState>> {
    OpenApiRouter::new()
        .routes(routes!(list, add))
        .routes(routes!(show, remove))
        .routes(routes!(rotate_key))
        .routes(routes!(revoke_key))
        .routes(routes!(enrol))
        .routes(routes!(add_alias, remove_alias))
        .routes(routes!(disable))
        .routes(routes!(enable))
}

/// List all sites that the token may see
#[utoipa::path(get, path = "/sites", tag = "sites", responses((status = 200, body = Sites), Failures))]
async fn list(Extension(who): Extension<SignedIn>, State(state): State<Arc<AdminState>>) -> Json<Sites> {
    let snapshot = state.board.up_to_date().await;
    let visible = snapshot.rows.iter().filter(|row| who.principal.may_see(&row.view.site));
    let sites: Vec<_> = visible.map(|row| row.view.clone()).collect();
    let totals = Totals::of(sites.iter());
    Json(Sites { relay_version: env!("CARGO_PKG_VERSION"), totals, sites })
}

/// Add a site; only this response shows its key and its search token
#[utoipa::path(
    post, path = "/sites", tag = "sites", request_body = SiteToAdd,
    responses((status = 201, body = AddedSite), Failures)
)]
async fn add(
    Extension(who): Extension<SignedIn>,
    State(state): State<Arc<AdminState>>,
    Json(body): Json<SiteToAdd>,
) -> Result<(StatusCode, Json<AddedSite>), HttpError> {
    let SiteToAdd { site, note, aliases } = body;
    let added = state.add_site(&who.principal, WantedSite { site, note, aliases }).await?;
    Ok((StatusCode::CREATED, Json(added)))
}

/// Show one site in full detail
#[utoipa::path(
    get, path = "/sites/{site}", tag = "sites", params(("site" = inline(SiteName), Path)),
    responses((status = 200, body = SiteDetail), Failures)
)]
async fn show(
    State(state): State<Arc<AdminState>>,
    VisibleSite(site): VisibleSite,
) -> Result<Json<SiteDetail>, HttpError> {
    Ok(Json(site_detail(&state, &site).await?))
}

/// Remove a site with its aliases, keys and history
#[utoipa::path(
    delete, path = "/sites/{site}", tag = "sites", params(("site" = inline(SiteName), Path)),
    responses((status = 204), Failures)
)]
async fn remove(
    Extension(who): Extension<SignedIn>,
    State(state): State<Arc<AdminState>>,
    VisibleSite(site): VisibleSite,
) -> Result<StatusCode, HttpError> {
    change(&state, &who, &site, SiteChange::Remove).await
}

/// Create a new key; the previous one stays valid until it is revoked or another key is created
#[utoipa::path(
    post, path = "/sites/{site}/keys", tag = "sites", params(("site" = inline(SiteName), Path)),
    responses((status = 201, body = AddedKey), Failures)
)]
async fn rotate_key(
    Extension(who): Extension<SignedIn>,
    State(state): State<Arc<AdminState>>,
    VisibleSite(site): VisibleSite,
) -> Result<(StatusCode, Json<AddedKey>), HttpError> {
    Ok((StatusCode::CREATED, Json(state.rotate_key(&who.principal, &site).await?)))
}

/// Revoke a key; tunnels that use it are closed
#[utoipa::path(
    delete, path = "/sites/{site}/keys/{key}", tag = "sites",
    params(("site" = inline(SiteName), Path), ("key" = String, Path)), responses((status = 204), Failures)
)]
async fn revoke_key(
    Extension(who): Extension<SignedIn>,
    State(state): State<Arc<AdminState>>,
    VisibleSite(site): VisibleSite,
    path: Path<(String, String)>,
) -> Result<StatusCode, HttpError> {
    change(&state, &who, &site, SiteChange::RevokeKey(&path.0.1)).await
}

/// Create an enrolment code, which can be traded once for a new key; it replaces codes that were not used
#[utoipa::path(
    post, path = "/sites/{site}/enrolment", tag = "sites", params(("site" = inline(SiteName), Path)),
    responses((status = 201, body = AddedCode), Failures)
)]
async fn enrol(
    Extension(who): Extension<SignedIn>,
    State(state): State<Arc<AdminState>>,
    VisibleSite(site): VisibleSite,
) -> Result<(StatusCode, Json<AddedCode>), HttpError> {
    Ok((StatusCode::CREATED, Json(state.add_code(&who.principal, &site).await?)))
}

/// Add an alias to the site
#[utoipa::path(
    put, path = "/sites/{site}/aliases/{alias}", tag = "sites",
    params(("site" = inline(SiteName), Path), ("alias" = inline(AliasName), Path)), responses((status = 204), Failures)
)]
async fn add_alias(
    Extension(who): Extension<SignedIn>,
    State(state): State<Arc<AdminState>>,
    VisibleSite(site): VisibleSite,
    path: Path<(String, String)>,
) -> Result<StatusCode, HttpError> {
    change(&state, &who, &site, SiteChange::AddAlias(&path.0.1)).await
}

/// Remove an alias of the site
#[utoipa::path(
    delete, path = "/sites/{site}/aliases/{alias}", tag = "sites",
    params(("site" = inline(SiteName), Path), ("alias" = inline(AliasName), Path)), responses((status = 204), Failures)
)]
async fn remove_alias(
    Extension(who): Extension<SignedIn>,
    State(state): State<Arc<AdminState>>,
    VisibleSite(site): VisibleSite,
    path: Path<(String, String)>,
) -> Result<StatusCode, HttpError> {
    change(&state, &who, &site, SiteChange::RemoveAlias(&path.0.1)).await
}

/// Disable the site: its agents and searches are refused until it is enabled again
#[utoipa::path(
    post, path = "/sites/{site}/disable", tag = "sites", params(("site" = inline(SiteName), Path)),
    responses((status = 204), Failures)
)]
async fn disable(
    Extension(who): Extension<SignedIn>,
    State(state): State<Arc<AdminState>>,
    VisibleSite(site): VisibleSite,
) -> Result<StatusCode, HttpError> {
    change(&state, &who, &site, SiteChange::Disable).await
}

/// Enable a disabled site again
#[utoipa::path(
    post, path = "/sites/{site}/enable", tag = "sites", params(("site" = inline(SiteName), Path)),
    responses((status = 204), Failures)
)]
async fn enable(
    Extension(who): Extension<SignedIn>,
    State(state): State<Arc<AdminState>>,
    VisibleSite(site): VisibleSite,
) -> Result<StatusCode, HttpError> {
    change(&state, &who, &site, SiteChange::Enable).await
}

async fn change(
    state: &AdminState,
    who: &SignedIn,
    site: &SiteId,
    change: SiteChange<'_>,
) -> Result<StatusCode, HttpError> {
    state.change_site(&who.principal, site, change).await?;
    Ok(StatusCode::NO_CONTENT)
}
