//! Login and logout.

use std::sync::Arc;

use askama::Template;
use axum::{
    Extension, Form,
    extract::{Query, State},
    response::{IntoResponse, Redirect, Response},
};
use axum_extra::extract::cookie::CookieJar;
use http::{HeaderValue, StatusCode, header};
use serde::Deserialize;

use super::{Shell, Visitor, page, page_with};
use crate::admin::{
    AdminState, HttpError,
    auth::{LoginError, NewSession, Password, PasswordError, SessionCookie},
};

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    shell: Shell,
    next: String,
    name: String,
    problem: Option<String>,
}

/// Where to go after the login.
#[derive(Debug, Deserialize)]
pub(super) struct Next {
    #[serde(default)]
    next: String,
}

#[derive(Deserialize)]
pub(super) struct LoginForm {
    name: String,
    password: String,
    #[serde(default)]
    next: String,
}

pub(super) async fn login_form(
    Extension(visitor): Extension<Visitor>,
    Query(Next { next }): Query<Next>,
) -> Response {
    page(&LoginPage { shell: Shell::public(visitor), next, name: String::new(), problem: None })
}

pub(super) async fn log_in(
    State(state): State<Arc<AdminState>>,
    Extension(visitor): Extension<Visitor>,
    jar: CookieJar,
    Form(form): Form<LoginForm>,
) -> Result<Response, HttpError> {
    let LoginForm { name, password, next } = form;
    let result = state.auth.log_in(&name, Password::claimed(password), visitor.address).await;
    let shell = Shell::public(visitor);
    let (status, key, wait) = match result {
        Ok(session) => {
            // The new session replaces any session that the browser had, so an attacker cannot have planted it.
            return Ok(entered(&shell, jar, &session, local(&next)));
        }
        Err(LoginError::Wrong) => (StatusCode::UNAUTHORIZED, "login-wrong", None),
        Err(LoginError::Throttled { wait }) => (StatusCode::TOO_MANY_REQUESTS, "login-throttled", Some(wait)),
        Err(LoginError::Password(PasswordError::Busy)) => {
            (StatusCode::SERVICE_UNAVAILABLE, "login-busy", Some(std::time::Duration::from_secs(1)))
        }
        Err(LoginError::Password(PasswordError::Failed)) => return Err(HttpError::internal()),
        Err(LoginError::Store(error)) => return Err(error.into()),
    };
    let problem = Some(shell.t(key));
    let mut response = page_with(status, &LoginPage { shell, next, name, problem });
    if let Some(wait) = wait {
        let seconds = wait.as_secs().saturating_add(1);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    Ok(response)
}

pub(super) async fn log_out(
    State(state): State<Arc<AdminState>>,
    shell: Shell,
    jar: CookieJar,
) -> Result<Response, HttpError> {
    if let Some(user) = shell.user() {
        state.auth.log_out(user).await?;
    }
    let cookie = SessionCookie::over(shell.visitor().scheme);
    Ok((jar.add(cookie.clear()), Redirect::to("/login")).into_response())
}

/// Sets the session cookie and redirects to a page.
pub(super) fn entered(shell: &Shell, jar: CookieJar, session: &NewSession, to: &str) -> Response {
    let cookie = SessionCookie::over(shell.visitor().scheme).set(&session.secret);
    (jar.add(cookie), Redirect::to(to)).into_response()
}

/// The requested path if it is on this host, otherwise `/`. Browsers read `//host` and `/\host` as another host, and
/// they ignore control characters.
fn local(next: &str) -> &str {
    let harmless = next.starts_with('/')
        && !next.starts_with("//")
        && next.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    if harmless { next } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::local;

    #[test]
    fn the_login_leads_nowhere_else() {
        for next in ["/", "/audit?site=acme&from=2026-11-01", "/sites/acme-madrid"] {
            assert_eq!(local(next), next);
        }
        for next in [
            "",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "/\t/evil.example",
            "javascript:x",
        ] {
            assert_eq!(local(next), "/", "{next:?}");
        }
    }
}
