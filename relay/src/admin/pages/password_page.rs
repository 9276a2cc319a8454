//! The page on which users change their own password.

use std::sync::Arc;

use askama::Template;
use axum::{Form, extract::State, response::Response};
use axum_extra::extract::cookie::CookieJar;
use http::StatusCode;
use serde::Deserialize;

use super::{Shell, page, page_with, session_pages::entered, user_forms::new_password};
use crate::{
    admin::{
        AdminState, HttpError,
        auth::{LoginError, Password, PasswordError},
    },
    model::name::Name,
};

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

pub(super) async fn show(shell: Shell) -> Result<Response, HttpError> {
    user(&shell)?;
    Ok(page(&PasswordPage { shell, problem: None }))
}

pub(super) async fn change(
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
    let user = shell.user().filter(|user| user.is_user()).ok_or_else(HttpError::not_found)?;
    Ok(user.name.clone())
}
