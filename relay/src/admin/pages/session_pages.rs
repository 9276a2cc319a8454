//! Login and logout, the page on which users change their own password, and the page that makes the first user. Its
//! link is in the relay's log while there is no user.

use std::sync::Arc;

use askama::Template;
use audiovault_common::http_error::HttpError;
use axum::{
    Extension, Form,
    extract::{Path, Query, State},
    response::{IntoResponse, Redirect, Response},
};
use axum_extra::extract::cookie::CookieJar;
use http::{HeaderValue, StatusCode, header};
use serde::Deserialize;

use super::{Shell, Visitor, page, page_with, user_pages::new_password};
use crate::{
    admin::{
        AdminState,
        auth::{LoginError, NewSession, Password, PasswordError, SessionCookie},
        errors,
    },
    model::{
        account::{Name, Rights},
        operator_events::{Actor, ActorKind},
        secret::{Secret, SecretDigest},
    },
    store::NewUser,
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
        Err(LoginError::Password(PasswordError::Failed)) => return Err(errors::internal()),
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
fn entered(shell: &Shell, jar: CookieJar, session: &NewSession, to: &str) -> Response {
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

#[derive(Template)]
#[template(path = "setup.html")]
struct SetupPage {
    shell: Shell,
    name: String,
    problem: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct SetupForm {
    name: String,
    password: String,
    again: String,
}

pub(super) async fn show_setup(
    State(state): State<Arc<AdminState>>,
    Extension(visitor): Extension<Visitor>,
    Path(link): Path<String>,
) -> Result<Response, HttpError> {
    working(&state, &link).await?;
    Ok(page(&SetupPage { shell: Shell::public(visitor), name: "admin".to_owned(), problem: None }))
}

pub(super) async fn set_up(
    State(state): State<Arc<AdminState>>,
    Extension(visitor): Extension<Visitor>,
    jar: CookieJar,
    Path(link): Path<String>,
    Form(form): Form<SetupForm>,
) -> Result<Response, HttpError> {
    let link = working(&state, &link).await?;
    let shell = Shell::public(visitor);
    let SetupForm { name, password, again } = form;
    let checked = name.trim().parse::<Name>().map_err(|_| "problem-name");
    let checked = checked.and_then(|name| {
        let password = new_password(name.as_str(), password, &again)?;
        Ok((name, password))
    });
    let (user, password) = match checked {
        Ok(both) => both,
        Err(key) => {
            let problem = Some(shell.t(key));
            return Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &SetupPage { shell, name, problem }));
        }
    };
    let password = state.auth.hash(password).await?;
    let new = NewUser { name: user.clone(), rights: Rights::everything(), password };
    let actor = Actor::at(ActorKind::SetupLink, user.as_str(), shell.visitor().address);
    state.auth.store().add_first_user(&actor, &new, &link).await?;
    tracing::info!(
        %user,
        client = %shell.visitor().address,
        code = "user.first_created",
        "the first user was created with the set-up link"
    );
    let session = state.auth.begin_session(user, shell.visitor().address).await?;
    Ok(entered(&shell, jar, &session, "/"))
}

/// The digest of the link, if the link is valid.
async fn working(state: &AdminState, link: &str) -> Result<SecretDigest, HttpError> {
    let link = Secret::parse(link).ok_or_else(errors::not_found)?.digest();
    if state.auth.store().setup_link_works(&link).await? { Ok(link) } else { Err(errors::not_found()) }
}

#[derive(Template)]
#[template(path = "password.html")]
struct PasswordPage {
    shell: Shell,
    problem: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct PasswordForm {
    current: String,
    password: String,
    again: String,
}

pub(super) async fn show_password(shell: Shell) -> Result<Response, HttpError> {
    user(&shell)?;
    Ok(page(&PasswordPage { shell, problem: None }))
}

pub(super) async fn change_password(
    shell: Shell,
    State(state): State<Arc<AdminState>>,
    jar: CookieJar,
    Form(form): Form<PasswordForm>,
) -> Result<Response, HttpError> {
    let user = user(&shell)?;
    let actor = shell.principal()?.actor();
    let refused = |shell: Shell, status: StatusCode, key: &str| {
        let problem = Some(shell.t(key));
        page_with(status, &PasswordPage { shell, problem })
    };
    let password = match new_password(user.as_str(), form.password, &form.again) {
        Ok(password) => password,
        Err(key) => return Ok(refused(shell, StatusCode::UNPROCESSABLE_ENTITY, key)),
    };
    let current = Password::claimed(form.current);
    match state.auth.confirm(&user, current, shell.visitor().address).await {
        Ok(()) => {}
        Err(LoginError::Wrong) => {
            return Ok(refused(shell, StatusCode::UNPROCESSABLE_ENTITY, "problem-current-password"));
        }
        Err(LoginError::Throttled { .. } | LoginError::Password(PasswordError::Busy)) => {
            return Ok(refused(shell, StatusCode::TOO_MANY_REQUESTS, "login-throttled"));
        }
        Err(LoginError::Password(error @ PasswordError::Failed)) => return Err(error.into()),
        Err(LoginError::Store(error)) => return Err(error.into()),
    }
    let password = state.auth.hash(password).await?;
    state.auth.store().set_password(&actor, &user, &password).await?;
    tracing::info!(%user, code = "user.password_changed", "a user changed their password");
    // The change of the password has ended all sessions of the user. This browser gets a new one.
    let session = state.auth.begin_session(user, shell.visitor().address).await?;
    Ok(entered(&shell, jar, &session, "/?done=own-password-set"))
}

/// The user who is logged in. An API token has no password.
fn user(shell: &Shell) -> Result<Name, HttpError> {
    let user = shell.user().filter(|user| user.is_user()).ok_or_else(errors::not_found)?;
    Ok(user.name.clone())
}

#[cfg(test)]
mod tests {
    use super::local;

    #[test]
    fn the_login_leads_only_to_pages_of_this_relay() {
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
