//! The API for programs, `/api/v1`, described by `/api/openapi.json`.
//!
//! Each file has a `routes()` of its own, an [`OpenApiRouter`] that [`routes`] merges. Its paths are relative to
//! `/api/v1`. All of them are behind the login check. Errors are [`HttpError`](audiovault_common::http_error::HttpError) and are sent as problem
//! details, and so are the errors of axum's own extractors. A body with an unknown field is rejected. A value that
//! needs a check has a type of its own. Fields have the same names as in the command line's `--json`.

mod audit;
mod events;
mod me;
mod operator_events;
mod problems;
mod schemas;
mod sites;
mod tokens;
mod users;

use std::sync::Arc;

use axum::{Json, Router, routing::get};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        OpenApi as Document,
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};
use utoipa_axum::router::OpenApiRouter;

pub use self::{
    problems::{Failures, ProblemBody},
    schemas::{RightsView, TokenView, UserView},
};
use crate::admin::AdminState;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "AudioVault relay",
        description = "All functions of the dashboard, for programs. Send an API token as \
                       `Authorization: Bearer avt_…`; `audiovault-relay token add` creates one."
    ),
    components(schemas(ProblemBody)),
    security(("token" = [])),
    modifiers(&TokenScheme)
)]
struct ApiDocument;

struct TokenScheme;

impl Modify for TokenScheme {
    fn modify(&self, document: &mut Document) {
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    }
}

/// The routes of the API and of its description.
pub fn routes() -> Router<Arc<AdminState>> {
    let parts = OpenApiRouter::new()
        .merge(me::routes())
        .merge(users::routes())
        .merge(tokens::routes())
        .merge(sites::routes())
        .merge(audit::routes())
        .merge(operator_events::routes())
        .merge(events::routes());
    let (router, document) =
        OpenApiRouter::with_openapi(ApiDocument::openapi()).nest("/api/v1", parts).split_for_parts();
    router.route("/api/openapi.json", get(async move || Json(document)))
}
