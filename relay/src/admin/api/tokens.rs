//! API tokens: list, add, remove.

use std::{collections::BTreeSet, sync::Arc};

use audiovault_common::http_error::HttpError;
use audiovault_protocol::identity::site::SiteId;
use axum::{
    Extension, Json,
    extract::{Path, State},
};
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Failures, TokenView, schemas::SiteName, users::unknown_site_in_body};
use crate::{
    admin::{AdminState, SignedIn, errors, known_name},
    model::{
        account::{Name, Rights, Role, Scope},
        secret::{MAX_TOKEN_LIFE, Secret, TOKEN_LIFE, reveal_api_token},
    },
    store::NewToken,
};

/// An API token to add.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TokenToAdd {
    /// The name of the token; upper case is changed to lower case.
    #[schema(value_type = String, pattern = "^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")]
    name: Name,
    /// The role of the token.
    role: Role,
    /// The only sites that the token may see; null or absent for all sites. A site that does not exist is refused with
    /// status 422.
    #[schema(value_type = Option<Vec<SiteName>>)]
    sites: Option<BTreeSet<SiteId>>,
    /// Whether the token may search for recordings and listen to them.
    #[serde(default)]
    playback: bool,
    /// When the token expires: at most one year from now (any other time is refused with status 422); null or absent
    /// for ninety days from now. The token ends earlier if the user who owns it is removed.
    expires: Option<Timestamp>,
}

/// An API token that was just created.
#[derive(Serialize, ToSchema)]
struct MadeToken {
    /// The name of the token.
    #[schema(value_type = String)]
    name: Name,
    /// The token itself. It is shown only here; the relay does not store it.
    token: String,
}

pub(super) fn routes() -> OpenApiRouter<Arc<AdminState>> {
    OpenApiRouter::new().routes(routes!(list, add)).routes(routes!(remove))
}

/// List all API tokens
#[utoipa::path(get, path = "/tokens", tag = "tokens", responses((status = 200, body = [TokenView]), Failures))]
async fn list(
    Extension(who): Extension<SignedIn>,
    State(state): State<Arc<AdminState>>,
) -> Result<Json<Vec<TokenView>>, HttpError> {
    who.principal.manager()?;
    let tokens = state.auth.store().tokens().await?;
    Ok(Json(tokens.iter().map(TokenView::from).collect()))
}

/// Add an API token
#[utoipa::path(
    post, path = "/tokens", tag = "tokens", request_body = TokenToAdd,
    responses((status = 201, body = MadeToken), Failures)
)]
async fn add(
    Extension(who): Extension<SignedIn>,
    State(state): State<Arc<AdminState>>,
    Json(body): Json<TokenToAdd>,
) -> Result<(StatusCode, Json<MadeToken>), HttpError> {
    let actor = who.principal.manager()?;
    let now = Timestamp::now();
    let expires = body.expires.unwrap_or(now + TOKEN_LIFE);
    if expires <= now || expires > now + MAX_TOKEN_LIFE {
        return Err(errors::unprocessable(
            "expires must be in the future, at most one year from now; without it, the token is valid for 90 days",
        ));
    }
    let secret = Secret::mint();
    let rights = Rights { role: body.role, scope: Scope::of(body.sites), playback: body.playback };
    let owner = who.principal.owner_of_new_token();
    let new = NewToken { name: body.name, digest: secret.digest(), rights, expires, owner };
    state.auth.store().add_token(&actor, &new).await.map_err(unknown_site_in_body)?;
    tracing::info!(
        %actor,
        token = %new.name,
        rights = ?new.rights,
        code = "token.created",
        "an API token was created"
    );
    let made = MadeToken { name: new.name, token: reveal_api_token(&secret).to_string() };
    Ok((StatusCode::CREATED, Json(made)))
}

/// Remove an API token; it stops working at once
#[utoipa::path(
    delete, path = "/tokens/{name}", tag = "tokens", params(("name" = String, Path, pattern = "^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")),
    responses((status = 204), Failures)
)]
async fn remove(
    Extension(who): Extension<SignedIn>,
    State(state): State<Arc<AdminState>>,
    Path(name): Path<String>,
) -> Result<StatusCode, HttpError> {
    let actor = who.principal.manager()?;
    let name = known_name(&name)?;
    state.auth.store().remove_token(&actor, &name).await?;
    tracing::info!(%actor, token = %name, code = "token.removed", "an API token was removed");
    Ok(StatusCode::NO_CONTENT)
}
