//! Users: list, add, show, change, remove.

use std::{collections::BTreeSet, sync::Arc};

use audiovault_common::http_error::HttpError;
use audiovault_protocol::identity::site::SiteId;
use axum::{
    Extension, Json,
    extract::{Path, State},
};
use http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Failures, UserView, schemas::SiteName};
use crate::{
    admin::{AdminState, SignedIn, auth::Password, errors, known_name},
    model::account::{Name, Rights, Role, Scope},
    store::{NewUser, StoreError},
};

/// A user to add.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UserToAdd {
    /// The name to log in with; upper case is changed to lower case.
    #[schema(value_type = String, pattern = "^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")]
    name: Name,
    /// The password: at least 12 characters, and not easily guessed, or it is refused with status 422.
    #[schema(min_length = 12, max_length = 256)]
    password: String,
    /// The role of the user.
    role: Role,
    /// The only sites that the user may see; null or absent for all sites. A site that does not exist is refused with
    /// status 422.
    #[schema(value_type = Option<Vec<SiteName>>)]
    sites: Option<BTreeSet<SiteId>>,
    /// Whether the user may search for recordings and listen to them.
    #[serde(default)]
    playback: bool,
}

/// The new rights of a user.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RightsToGive {
    /// The role of the user.
    pub(super) role: Role,
    /// The only sites that the user may see; null or absent for all sites. A site that does not exist is refused with
    /// status 422.
    #[schema(value_type = Option<Vec<SiteName>>)]
    pub(super) sites: Option<BTreeSet<SiteId>>,
    /// Whether the user may search for recordings and listen to them.
    #[serde(default)]
    pub(super) playback: bool,
}

/// A new password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PasswordToSet {
    /// The password: at least 12 characters, and not easily guessed, or it is refused with status 422.
    #[schema(min_length = 12, max_length = 256)]
    password: String,
}

pub(super) fn routes() -> OpenApiRouter<Arc<AdminState>> {
    OpenApiRouter::new()
        .routes(routes!(list, add))
        .routes(routes!(show, change, remove))
        .routes(routes!(set_password))
}

type WhoAsks = Extension<SignedIn>;

/// List all users
#[utoipa::path(get, path = "/users", tag = "users", responses((status = 200, body = [UserView]), Failures))]
async fn list(
    Extension(who): WhoAsks,
    State(state): State<Arc<AdminState>>,
) -> Result<Json<Vec<UserView>>, HttpError> {
    who.principal.manager()?;
    let users = state.auth.store().users().await?;
    Ok(Json(users.iter().map(UserView::from).collect()))
}

/// Add a user
#[utoipa::path(
    post, path = "/users", tag = "users", request_body = UserToAdd,
    responses((status = 201, body = UserView), Failures)
)]
async fn add(
    Extension(who): WhoAsks,
    State(state): State<Arc<AdminState>>,
    Json(body): Json<UserToAdd>,
) -> Result<(StatusCode, Json<UserView>), HttpError> {
    let actor = who.principal.manager()?;
    let password = state.auth.hash(new_password(body.password, &body.name)?).await?;
    let rights = Rights { role: body.role, scope: Scope::of(body.sites), playback: body.playback };
    let new = NewUser { name: body.name, rights, password };
    state.auth.store().add_user(&actor, &new).await.map_err(unknown_site_in_body)?;
    tracing::info!(%actor, user = %new.name, rights = ?new.rights, code = "user.added", "a user was added");
    let user = state.auth.store().user(&new.name).await?;
    Ok((StatusCode::CREATED, Json((&user).into())))
}

/// Show one user
#[utoipa::path(
    get, path = "/users/{name}", tag = "users", params(("name" = String, Path, pattern = "^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")),
    responses((status = 200, body = UserView), Failures)
)]
async fn show(
    Extension(who): WhoAsks,
    State(state): State<Arc<AdminState>>,
    Path(name): Path<String>,
) -> Result<Json<UserView>, HttpError> {
    who.principal.manager()?;
    let user = state.auth.store().user(&known_name(&name)?).await?;
    Ok(Json((&user).into()))
}

/// Change the rights of a user; ends the user's sessions
#[utoipa::path(
    put, path = "/users/{name}", tag = "users", params(("name" = String, Path, pattern = "^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")), request_body = RightsToGive,
    responses((status = 200, body = UserView), Failures)
)]
async fn change(
    Extension(who): WhoAsks,
    State(state): State<Arc<AdminState>>,
    Path(name): Path<String>,
    Json(body): Json<RightsToGive>,
) -> Result<Json<UserView>, HttpError> {
    let actor = who.principal.manager()?;
    let name = known_name(&name)?;
    let rights = Rights { role: body.role, scope: Scope::of(body.sites), playback: body.playback };
    // An unknown user (404) is reported before an unknown site in the body (422).
    state.auth.store().user(&name).await?;
    state.auth.store().change_user(&actor, &name, &rights).await.map_err(unknown_site_in_body)?;
    tracing::info!(%actor, user = %name, ?rights, code = "user.changed", "a user was changed");
    let user = state.auth.store().user(&name).await?;
    Ok(Json((&user).into()))
}

/// Set a user's password; ends the user's sessions
#[utoipa::path(
    put, path = "/users/{name}/password", tag = "users", params(("name" = String, Path, pattern = "^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")),
    request_body = PasswordToSet, responses((status = 204), Failures)
)]
async fn set_password(
    Extension(who): WhoAsks,
    State(state): State<Arc<AdminState>>,
    Path(name): Path<String>,
    Json(body): Json<PasswordToSet>,
) -> Result<StatusCode, HttpError> {
    let actor = who.principal.manager()?;
    let name = known_name(&name)?;
    state.auth.store().user(&name).await?;
    let password = state.auth.hash(new_password(body.password, &name)?).await?;
    state.auth.store().set_password(&actor, &name, &password).await?;
    tracing::info!(%actor, user = %name, code = "user.password_set", "the password of a user was set");
    Ok(StatusCode::NO_CONTENT)
}

/// Remove a user; ends the user's sessions
#[utoipa::path(
    delete, path = "/users/{name}", tag = "users", params(("name" = String, Path, pattern = "^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")),
    responses((status = 204), Failures)
)]
async fn remove(
    Extension(who): WhoAsks,
    State(state): State<Arc<AdminState>>,
    Path(name): Path<String>,
) -> Result<StatusCode, HttpError> {
    let actor = who.principal.manager()?;
    let name = known_name(&name)?;
    state.auth.store().remove_user(&actor, &name).await?;
    tracing::info!(%actor, user = %name, code = "user.removed", "a user was removed");
    Ok(StatusCode::NO_CONTENT)
}

/// Converts a store error. A site that is named in the body and does not exist gives 422: 404 is about the address.
pub(super) fn unknown_site_in_body(error: StoreError) -> HttpError {
    if let StoreError::UnknownSite(_) = &error {
        return errors::unprocessable(error.to_string());
    }
    error.into()
}

fn new_password(text: String, name: &Name) -> Result<Password, HttpError> {
    Password::new(text, name.as_str()).map_err(|error| errors::unprocessable(error.to_string()))
}
