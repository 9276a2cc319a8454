//! Turns every error into a page for browsers or problem details for programs, also the errors of the framework's
//! handlers and extractors.

use audiovault_protocol::http::{context::RequestId, problem::Problem};
use axum::{
    body::{Body, to_bytes},
    extract::Request,
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header};

use super::{HttpError, SignedIn};
use crate::admin::pages::{ErrorPage, Shell, Visitor, page_with};

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
        let shell = Shell::for_anybody(visitor, signed_in);
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
pub(super) fn is_for_programs(path: &str) -> bool {
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

impl HttpError {
    /// The response to a client that has to log in first: browsers are redirected to the login, programs get 401.
    pub(super) fn to_log_in(visitor: &Visitor, safe: bool) -> Response {
        if is_for_programs(visitor.uri.path()) {
            return Self::unauthorized().into_response();
        }
        let here = visitor.uri.path_and_query().map_or("/", |here| here.as_str());
        let to = if !safe || here == "/" {
            "/login".to_owned()
        } else {
            let next =
                url::form_urlencoded::Serializer::new(String::new()).append_pair("next", here).finish();
            format!("/login?{next}")
        };
        axum::response::Redirect::to(&to).into_response()
    }
}
