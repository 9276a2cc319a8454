//! The login check in front of everything that is not public, and the check that a principal may see the site in the
//! address.

use std::{collections::HashMap, sync::Arc};

use audiovault_common::http_error::HttpError;
use audiovault_protocol::identity::site::SiteId;
use axum::{
    body::{Body, to_bytes},
    extract::{FromRequestParts, Path, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use axum_extra::extract::cookie::CookieJar;
use http::{HeaderMap, HeaderName, StatusCode, header, request::Parts};

use super::{
    AdminState, MAX_BODY,
    auth::{Credential, Principal, SessionCookie, csrf_token, is_csrf_token, is_same_origin},
    errors,
    pages::Visitor,
};
use crate::model::secret::{Secret, parse_api_token};

/// Header in which scripts send the token that forms send in the field `csrf`.
const X_CSRF_TOKEN: HeaderName = HeaderName::from_static("x-csrf-token");
const FORM: &str = "application/x-www-form-urlencoded";

/// The user or API token that is logged in. Every request behind the login check has it as an extension.
#[derive(Debug, Clone)]
pub struct SignedIn {
    /// The user or API token.
    pub principal: Principal,
    /// The token for the forms of this session; empty for an API token.
    pub csrf: String,
}

/// The credential that a request presents.
enum Presented {
    Session(Secret),
    Token(Secret),
    Nothing,
}

/// Refuses requests without a valid credential, and requests that another web site made a browser send.
pub(super) async fn guard(State(state): State<Arc<AdminState>>, request: Request, next: Next) -> Response {
    let Some(visitor) = request.extensions().get::<Visitor>().cloned() else {
        return errors::internal().into_response();
    };
    match admit(&state, &visitor, request).await {
        Ok(Some((signed_in, mut request))) => {
            request.extensions_mut().insert(signed_in.clone());
            let mut response = next.run(request).await;
            // Errors are rendered and requests are logged outside of this layer, so the response needs it too.
            response.extensions_mut().insert(signed_in);
            response
        }
        Ok(None) => errors::unauthorized().into_response(),
        Err(response) => response,
    }
}

async fn admit(
    state: &AdminState,
    visitor: &Visitor,
    request: Request,
) -> Result<Option<(SignedIn, Request)>, Response> {
    let safe = request.method().is_safe();
    let presented = presented(request.headers(), visitor);
    let via = match &presented {
        Presented::Session(secret) => Credential::Session(secret.digest()),
        Presented::Token(secret) => Credential::Token(secret.digest()),
        Presented::Nothing => return Err(errors::to_log_in(visitor, safe)),
    };
    let principal = state
        .auth
        .principal(via, visitor.address)
        .await
        .map_err(|error| HttpError::from(error).into_response())?;
    let Some(principal) = principal else { return Err(errors::to_log_in(visitor, safe)) };
    let Presented::Session(secret) = presented else {
        return Ok(Some((SignedIn { principal, csrf: String::new() }, request)));
    };
    let request = if safe { request } else { from_own_page(request, &secret).await? };
    Ok(Some((SignedIn { principal, csrf: csrf_token(&secret) }, request)))
}

/// A bearer token has precedence over a cookie. Other schemes of `Authorization` belong to a proxy and are ignored.
fn presented(headers: &HeaderMap, visitor: &Visitor) -> Presented {
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if let Some((scheme, token)) = authorization.and_then(|value| value.split_once(' '))
        && scheme.eq_ignore_ascii_case("bearer")
    {
        return parse_api_token(token.trim()).map_or(Presented::Nothing, Presented::Token);
    }
    let session = SessionCookie::over(visitor.scheme).read(&CookieJar::from_headers(headers));
    session.map_or(Presented::Nothing, Presented::Session)
}

/// Checks the origin and the form token of a request that changes something.
async fn from_own_page(request: Request, session: &Secret) -> Result<Request, Response> {
    if !is_same_origin(request.uri(), request.headers()) {
        return Err(foreign());
    }
    if let Some(token) = request.headers().get(X_CSRF_TOKEN) {
        let right = token.to_str().is_ok_and(|token| is_csrf_token(session, token));
        return if right { Ok(request) } else { Err(foreign()) };
    }
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let is_form = kind.is_some_and(|kind| kind.split(';').next().unwrap_or_default().trim() == FORM);
    if !is_form {
        return Err(foreign());
    }
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        return Err(HttpError::new(StatusCode::PAYLOAD_TOO_LARGE, "the form is too large").into_response());
    };
    let token = url::form_urlencoded::parse(&body).find(|(name, _)| name == "csrf");
    let right = token.is_some_and(|(_, token)| is_csrf_token(session, &token));
    if !right {
        return Err(foreign());
    }
    Ok(Request::from_parts(parts, Body::from(body)))
}

/// Refuses requests that change something and come from another web site. It protects the pages before the login, where
/// there is no session and so no form token.
pub(super) async fn own_pages_only(request: Request, next: Next) -> Response {
    if request.method().is_safe() || is_same_origin(request.uri(), request.headers()) {
        return next.run(request).await;
    }
    foreign()
}

fn foreign() -> Response {
    let detail = "this request was not sent by a page of this session; load the page again";
    HttpError::new(StatusCode::FORBIDDEN, detail).into_response()
}

/// The `{site}` of a route. The 404 is the same for a site that does not exist, a site outside of the principal's
/// scope, and text that cannot be a site's name.
#[derive(Debug, Clone)]
pub struct VisibleSite(pub SiteId);

impl FromRequestParts<Arc<AdminState>> for VisibleSite {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<AdminState>) -> Result<Self, HttpError> {
        let signed_in = parts.extensions.get::<SignedIn>().cloned().ok_or_else(errors::unauthorized)?;
        let path = Path::<HashMap<String, String>>::from_request_parts(parts, state).await;
        let Path(path) = path.map_err(|_| errors::not_found())?;
        let site =
            path.get("site").and_then(|text| SiteId::parse(text).ok()).ok_or_else(errors::not_found)?;
        if !signed_in.principal.may_see(&site) {
            return Err(errors::not_found());
        }
        // Another process may just have added the site, so an unknown site is looked up once more after a refresh.
        if state.directory.current().site(&site).is_none() {
            let _ = state.directory.refresher().refresh().await;
        }
        if state.directory.current().site(&site).is_none() {
            return Err(errors::not_found());
        }
        Ok(Self(site))
    }
}
