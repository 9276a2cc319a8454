//! The operators' pages. The relay renders them as HTML, and they can be read without JavaScript.
//!
//! # How a page is made
//!
//! A handler takes a [`Shell`], which exists only for a user who is logged in, and responds with [`page`]:
//!
//! ```ignore
//! #[derive(Template)]
//! #[template(path = "things.html")]         // relay/templates/things.html
//! struct ThingsPage {
//!     shell: Shell,
//!     things: Vec<Thing>,
//! }
//!
//! async fn things(shell: Shell, State(state): State<Arc<AdminState>>) -> Result<Response, HttpError> {
//!     shell.principal()?.require(Permission::ChangeSites)?;    // 403
//!     let things = state.auth.store().things().await?;         // 503, and the cause is logged
//!     Ok(page(&ThingsPage { shell, things }))
//! }
//! ```
//!
//! The template begins with `{% extends "base.html" %}` and fills `title`, `content` and, for scripts of its own,
//! `scripts`. Its route is added in [`routes`]; all routes that are merged there need a login. A handler gets the site
//! in the address as [`crate::admin::VisibleSite`], which responds with 404 for a site outside of the principal's
//! scope. Errors are [`HttpError`](audiovault_common::http_error::HttpError): a page for browsers, problem details under `/api/`.
//!
//! - Texts are in `relay/locales/*.ftl`. A template inserts one with `{{ shell.t("site-add") }}`, or with an argument:
//!   `{{ shell.t1("site-added", "site", site) }}`. A test checks that languages, templates and code have the same keys.
//! - Times are `{{ shell.time(timestamp)|safe }}`; `time.js` converts them to the browser's time zone. Numbers are
//!   `shell.number(n)`, durations `shell.duration(seconds)`, sizes `shell.size(bytes)`.
//! - Every form that posts has `<input type="hidden" name="csrf" value="{{ shell.csrf() }}">`. Scripts send the same
//!   token as `X-CSRF-Token`. The login check refuses other requests that change something.
//! - After a change, respond with [`done`]. The next page then shows what was done.
//! - A file in `relay/assets` that is listed in `assets.rs` is served as `{{ shell.asset("name") }}`. Pages load
//!   no files from other hosts and have no inline scripts or styles: their content security policy forbids both.

mod assets;
mod audit_page;
mod board_page;
mod language;
mod operator_events_page;
mod session_pages;
mod shell;
mod site_pages;
mod token_page;
mod user_pages;

use std::sync::Arc;

use askama::Template;
use axum::{
    Router,
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use http::StatusCode;

pub(crate) use self::site_pages::gather as site_detail;
pub use self::{
    language::Language,
    shell::{ErrorPage, Shell, Theme, Visitor, preferences},
};
use crate::admin::AdminState;

/// The pages that need a login.
pub fn routes() -> Router<Arc<AdminState>> {
    Router::new()
        .route("/", get(board_page::show))
        .route("/sites/new", get(site_pages::new).post(site_pages::add))
        .route("/sites/{site}", get(site_pages::show))
        .route("/sites/{site}/keys", post(site_pages::rotate_key))
        .route("/sites/{site}/keys/{key}/revoke", post(site_pages::revoke_key))
        .route("/sites/{site}/enrolment", post(site_pages::enrol))
        .route("/sites/{site}/aliases", post(site_pages::add_alias))
        .route("/sites/{site}/aliases/{alias}/remove", post(site_pages::remove_alias))
        .route("/sites/{site}/disable", post(site_pages::disable))
        .route("/sites/{site}/enable", post(site_pages::enable))
        .route("/sites/{site}/remove", post(site_pages::remove))
        .route("/audit", get(audit_page::show))
        .route("/audit.csv", get(audit_page::export))
        .route("/audit/erase", post(audit_page::erase))
        .route("/operator-events", get(operator_events_page::show))
        .route("/operator-events.csv", get(operator_events_page::export))
        .route("/logout", post(session_pages::log_out))
        .route("/password", get(session_pages::show_password).post(session_pages::change_password))
        .route("/users", get(user_pages::list).post(user_pages::add))
        .route("/users/{name}", get(user_pages::show).post(user_pages::change))
        .route("/users/{name}/password", get(user_pages::back).post(user_pages::set_password))
        .route("/users/{name}/remove", get(user_pages::back).post(user_pages::remove))
        .route("/tokens", get(token_page::list).post(token_page::add))
        .route("/tokens/{name}/remove", post(token_page::remove))
}

/// The pages that need no login.
pub fn public_routes() -> Router<Arc<AdminState>> {
    Router::new()
        .route("/login", get(session_pages::login_form).post(session_pages::log_in))
        .route("/setup/{link}", get(session_pages::show_setup).post(session_pages::set_up))
        .route("/assets/{name}", get(assets::serve))
}

/// A response with a page, status 200.
pub fn page(template: &impl Template) -> Response {
    page_with(StatusCode::OK, template)
}

/// A response with a page and this status, such as 422 for a form with a wrong field.
pub fn page_with(status: StatusCode, template: &impl Template) -> Response {
    match template.render() {
        Ok(text) => (status, Html(text)).into_response(),
        Err(error) => {
            tracing::error!(%error, code = "page.failed", "cannot render a page");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// The response to a change: redirects to a page, which then shows the text `done-<what>`.
pub fn done(path: &str, what: &str) -> Response {
    Redirect::to(&format!("{path}?done={what}")).into_response()
}
