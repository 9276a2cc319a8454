//! The user or API token that sends the request.

use std::sync::Arc;

use axum::{Extension, Json};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Failures, RightsView};
use crate::{
    admin::{AdminState, SignedIn},
    model::account::Name,
};

/// The user or API token that sent the request, with its rights.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Me)]
struct Me {
    /// The name of the user or of the API token.
    #[schema(value_type = String)]
    name: Name,
    /// True for a user in a browser, false for an API token.
    user: bool,
    #[serde(flatten)]
    rights: RightsView,
}

pub(super) fn routes() -> OpenApiRouter<Arc<AdminState>> {
    OpenApiRouter::new().routes(routes!(show))
}

/// Show the name and the rights of the user or API token that asks
#[utoipa::path(get, path = "/me", tag = "me", responses((status = 200, body = Me), Failures))]
async fn show(Extension(signed_in): Extension<SignedIn>) -> Json<Me> {
    let principal = &signed_in.principal;
    Json(Me { name: principal.name.clone(), user: principal.is_user(), rights: (&principal.rights).into() })
}
