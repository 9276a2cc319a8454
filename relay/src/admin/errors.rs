//! Errors for operators, also those of the framework's handlers and extractors: a page for browsers, problem details
//! for programs.

use std::{borrow::Cow, time::Duration};

use audiovault_common::http_error::HttpError;
use audiovault_protocol::http::problem::Problem;
use axum::{
    body::{Body, to_bytes},
    extract::Request,
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::{
    SignedIn,
    auth::{PasswordError, Principal},
    pages::{ErrorPage, Shell, Visitor, page_with},
    record::RequestId,
};
use crate::{
    model::{
        account::{Name, Permission},
        operator_events::Actor,
    },
    store::StoreError,
};

/// The address does not exist, or this principal may not see what is there.
pub(crate) fn not_found() -> HttpError {
    HttpError::new(StatusCode::NOT_FOUND, "there is nothing at this address")
}

/// The request has no valid credential. Such a response names an authentication scheme (RFC 9110, section 15.5.2).
pub(crate) fn unauthorized() -> HttpError {
    HttpError::new(
        StatusCode::UNAUTHORIZED,
        "log in, or send a valid API token as Authorization: Bearer; `audiovault-relay token add` creates one",
    )
    .with(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
}

/// The credential is valid, but the role does not allow this.
pub(crate) fn forbidden() -> HttpError {
    HttpError::new(StatusCode::FORBIDDEN, "your role does not allow this; ask an admin of this relay")
}

/// The request has a value that is not accepted.
pub(crate) fn unprocessable(detail: impl Into<Cow<'static, str>>) -> HttpError {
    HttpError::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
}

/// This relay is to blame; its log says why.
pub(crate) fn internal() -> HttpError {
    HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error of the relay; see its log")
}

impl From<StoreError> for HttpError {
    fn from(error: StoreError) -> Self {
        let status = match &error {
            StoreError::UnknownSite(_)
            | StoreError::UnknownAlias { .. }
            | StoreError::UnknownKey { .. }
            | StoreError::UnknownUser(_)
            | StoreError::UnknownToken(_)
            | StoreError::CodeRefused
            | StoreError::SetupLinkEnded => StatusCode::NOT_FOUND,
            StoreError::NameTaken(_)
            | StoreError::NoValidKey(_)
            | StoreError::NoRoomForKey(_)
            | StoreError::SiteDisabled(_)
            | StoreError::UserExists(_)
            | StoreError::LastManager(_)
            | StoreError::TokenExists(_) => StatusCode::CONFLICT,
            StoreError::LogInUse => StatusCode::SERVICE_UNAVAILABLE,
            StoreError::Moved(_)
            | StoreError::Corrupt { .. }
            | StoreError::Damaged(_)
            | StoreError::Database(_) => {
                tracing::error!(
                    %error,
                    cause = error.cause(),
                    code = "operator_request.failed",
                    "an operator's request failed"
                );
                return Self::new(StatusCode::SERVICE_UNAVAILABLE, "the database does not answer; try again")
                    .retry_after(Duration::from_secs(5));
            }
        };
        Self::new(status, error.to_string())
    }
}

impl From<PasswordError> for HttpError {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Busy => Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
                .retry_after(Duration::from_secs(1)),
            PasswordError::Failed => {
                tracing::error!(%error, code = "login.hash_failed", "cannot hash a password");
                internal()
            }
        }
    }
}

impl Principal {
    /// Checks that the principal's role allows this.
    ///
    /// # Errors
    /// 403 if it may not.
    pub fn require(&self, permission: Permission) -> Result<(), HttpError> {
        if self.may(permission) { Ok(()) } else { Err(forbidden()) }
    }

    /// Checks that the principal may manage users and API tokens. Returns it as the actor of a change.
    ///
    /// # Errors
    /// 403 if it may not.
    pub(crate) fn manager(&self) -> Result<Actor, HttpError> {
        self.require(Permission::ManageUsers)?;
        Ok(self.actor())
    }
}

/// Parses the name of a user or token in an address. Text that cannot be a name gives 404, like an unknown name.
pub(crate) fn known_name(text: &str) -> Result<Name, HttpError> {
    text.parse().map_err(|_| not_found())
}

/// Longest explanation of the framework that is passed on, in bytes. They are single sentences.
const MAX_EXPLANATION: usize = 2048;

pub(super) async fn present(request: Request, next: Next) -> Response {
    let visitor = request.extensions().get::<Visitor>().cloned();
    let id = request.extensions().get::<RequestId>().map_or_else(String::new, |id| id.0.clone());
    let response = next.run(request).await;
    let status = response.status();
    let failed = status.is_client_error() || status.is_server_error();
    let (Some(visitor), true) = (visitor, failed) else { return response };
    let (mut parts, body) = response.into_parts();
    let refused = match parts.extensions.remove::<HttpError>() {
        Some(refused) => refused,
        // The response is a page that explains the error itself, such as a form with a wrong field.
        None if is_presentable(&parts.headers) => return Response::from_parts(parts, body),
        None => HttpError::new(status, explanation(status, body).await),
    };
    let mut rendered = if is_for_programs(visitor.uri.path()) {
        let problem = Problem::new(refused.status(), refused.detail()).for_request(&id);
        problem.into_response().map(Body::from)
    } else {
        let signed_in = parts.extensions.get::<SignedIn>().cloned();
        let language = visitor.language;
        let detail = match refused.status() {
            StatusCode::NOT_FOUND => language.text("error-not-found-detail", &[]),
            StatusCode::FORBIDDEN => language.text("error-forbidden-detail", &[]),
            status if status.is_server_error() => language.text("error-internal-detail", &[]),
            _ => refused.detail().to_owned(),
        };
        let shell = Shell::with_or_without_login(visitor, signed_in);
        page_with(refused.status(), &ErrorPage { shell, status: refused.status(), detail, request_id: id })
    };
    for name in [header::ALLOW, header::RETRY_AFTER, header::WWW_AUTHENTICATE, header::SET_COOKIE] {
        if let Some(value) = parts.headers.remove(&name) {
            rendered.headers_mut().insert(name, value);
        }
    }
    *rendered.extensions_mut() = parts.extensions;
    rendered
}

/// Whether programs read the errors at this path.
fn is_for_programs(path: &str) -> bool {
    path == "/api" || path.starts_with("/api/") || path == "/metrics"
}

fn is_presentable(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    ["text/html", "application/json", "application/problem+json"].iter().any(|known| kind.starts_with(known))
}

async fn explanation(status: StatusCode, body: Body) -> String {
    let text = to_bytes(body, MAX_EXPLANATION).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text).trim().replace('\n', " ");
    if !text.is_empty() && !status.is_server_error() {
        return text;
    }
    match status {
        StatusCode::METHOD_NOT_ALLOWED => "this address does not accept that method".to_owned(),
        StatusCode::PAYLOAD_TOO_LARGE => "the request is too large".to_owned(),
        _ => status.canonical_reason().unwrap_or("the request failed").to_lowercase(),
    }
}

/// The response to a client that has to log in first: browsers are redirected to the login, programs get 401.
pub(super) fn to_log_in(visitor: &Visitor, safe: bool) -> Response {
    if is_for_programs(visitor.uri.path()) {
        return unauthorized().into_response();
    }
    let here = visitor.uri.path_and_query().map_or("/", |here| here.as_str());
    let to = if !safe || here == "/" {
        "/login".to_owned()
    } else {
        let next = url::form_urlencoded::Serializer::new(String::new()).append_pair("next", here).finish();
        format!("/login?{next}")
    };
    axum::response::Redirect::to(&to).into_response()
}
