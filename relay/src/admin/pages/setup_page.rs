//! The page that makes the first user. Its link is in the relay's log while there is no user.

use std::sync::Arc;

use askama::Template;
use axum::{
    Extension, Form,
    extract::{Path, State},
    response::Response,
};
use axum_extra::extract::cookie::CookieJar;
use http::StatusCode;
use serde::Deserialize;

use super::{Shell, Visitor, page, page_with, session_pages::entered, user_forms::new_password};
use crate::{
    admin::{AdminState, HttpError},
    model::{
        name::Name,
        operator_events::{Actor, ActorKind},
        rights::Rights,
        secret::{Secret, SecretDigest},
    },
    store::NewUser,
};

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

pub(super) async fn show(
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
    let link = Secret::parse(link).ok_or_else(HttpError::not_found)?.digest();
    if state.auth.store().setup_link_works(&link).await? { Ok(link) } else { Err(HttpError::not_found()) }
}
