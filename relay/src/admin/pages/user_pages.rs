//! Users: list, add, change, remove.

use std::sync::Arc;

use askama::Template;
use axum::{
    Form,
    extract::{Path, State},
    response::{Redirect, Response},
};
use http::StatusCode;

use super::{
    Shell, done, page, page_with,
    user_forms::{RightsForm, field, new_password, problem},
};
use crate::{
    admin::{AdminState, HttpError, known_name},
    model::{name::Name, operator_events::Actor, rights::Role},
    store::{NewUser, StoredUser},
};

type Fields = Form<Vec<(String, String)>>;

#[derive(Template)]
#[template(path = "users.html")]
struct UsersPage {
    shell: Shell,
    users: Vec<StoredUser>,
    name: String,
    form: RightsForm,
    problem: Option<String>,
}

#[derive(Template)]
#[template(path = "user.html")]
struct UserPage {
    shell: Shell,
    user: StoredUser,
    form: RightsForm,
    problem: Option<String>,
}

impl UsersPage {
    fn roles(&self) -> [Role; 3] {
        Role::ALL
    }
}

impl UserPage {
    fn roles(&self) -> [Role; 3] {
        Role::ALL
    }

    /// Whether this is the page of the user who is logged in.
    fn is_own(&self) -> bool {
        self.shell.user().is_some_and(|user| user.is_user() && user.name == self.user.name)
    }
}

pub(super) async fn list(shell: Shell, State(state): State<Arc<AdminState>>) -> Result<Response, HttpError> {
    shell.principal()?.manager()?;
    let users = state.auth.store().users().await?;
    let form = RightsForm { role: "viewer".to_owned(), scope: "all".to_owned(), ..RightsForm::default() };
    Ok(page(&UsersPage { shell, users, name: String::new(), form, problem: None }))
}

pub(super) async fn add(
    shell: Shell,
    State(state): State<Arc<AdminState>>,
    Form(fields): Fields,
) -> Result<Response, HttpError> {
    let actor = shell.principal()?.manager()?;
    let form = RightsForm::of(&fields);
    let name = field(&fields, "name");
    match try_add(&state, &actor, &name, &form, &fields).await? {
        Ok(user) => {
            tracing::info!(%actor, %user, code = "user.added", "a user was added");
            Ok(done("/users", "user-added"))
        }
        Err(key) => {
            let users = state.auth.store().users().await?;
            let problem = Some(shell.t(key));
            let page = UsersPage { shell, users, name, form, problem };
            Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page))
        }
    }
}

async fn try_add(
    state: &AdminState,
    actor: &Actor,
    name: &str,
    form: &RightsForm,
    fields: &[(String, String)],
) -> Result<Result<Name, &'static str>, HttpError> {
    let checked = name.trim().parse::<Name>().map_err(|_| "problem-name").and_then(|name| {
        let password = new_password(name.as_str(), field(fields, "password"), &field(fields, "again"))?;
        Ok((name, form.rights()?, password))
    });
    let (name, rights, password) = match checked {
        Ok(all) => all,
        Err(key) => return Ok(Err(key)),
    };
    let password = state.auth.hash(password).await?;
    let new = NewUser { name: name.clone(), rights, password };
    Ok(match state.auth.store().add_user(actor, &new).await {
        Ok(()) => Ok(name),
        Err(error) => Err(problem(error)?),
    })
}

pub(super) async fn show(
    shell: Shell,
    State(state): State<Arc<AdminState>>,
    Path(name): Path<String>,
) -> Result<Response, HttpError> {
    shell.principal()?.manager()?;
    let user = state.auth.store().user(&known_name(&name)?).await?;
    let form = RightsForm::from_rights(&user.rights);
    Ok(page(&UserPage { shell, user, form, problem: None }))
}

pub(super) async fn change(
    shell: Shell,
    State(state): State<Arc<AdminState>>,
    Path(name): Path<String>,
    Form(fields): Fields,
) -> Result<Response, HttpError> {
    let actor = shell.principal()?.manager()?;
    let name = known_name(&name)?;
    let form = RightsForm::of(&fields);
    let rights = match form.rights() {
        Ok(rights) => rights,
        Err(key) => return refill(shell, &state, &name, form, key).await,
    };
    match state.auth.store().change_user(&actor, &name, &rights).await {
        Ok(()) => {
            tracing::info!(%actor, user = %name, ?rights, code = "user.changed", "a user was changed");
            Ok(done("/users", "user-changed"))
        }
        Err(error) => {
            let key = problem(error)?;
            refill(shell, &state, &name, form, key).await
        }
    }
}

pub(super) async fn set_password(
    shell: Shell,
    State(state): State<Arc<AdminState>>,
    Path(name): Path<String>,
    Form(fields): Fields,
) -> Result<Response, HttpError> {
    let actor = shell.principal()?.manager()?;
    let name = known_name(&name)?;
    let password = match new_password(name.as_str(), field(&fields, "password"), &field(&fields, "again")) {
        Ok(password) => state.auth.hash(password).await?,
        Err(key) => {
            let form = RightsForm::from_rights(&state.auth.store().user(&name).await?.rights);
            return refill(shell, &state, &name, form, key).await;
        }
    };
    state.auth.store().set_password(&actor, &name, &password).await?;
    tracing::info!(%actor, user = %name, code = "user.password_set", "the password of a user was set");
    Ok(done("/users", "password-set"))
}

pub(super) async fn remove(
    shell: Shell,
    State(state): State<Arc<AdminState>>,
    Path(name): Path<String>,
) -> Result<Response, HttpError> {
    let actor = shell.principal()?.manager()?;
    let name = known_name(&name)?;
    match state.auth.store().remove_user(&actor, &name).await {
        Ok(()) => {
            tracing::info!(%actor, user = %name, code = "user.removed", "a user was removed");
            Ok(done("/users", "user-removed"))
        }
        Err(error) => {
            let key = problem(error)?;
            let form = RightsForm::from_rights(&state.auth.store().user(&name).await?.rights);
            refill(shell, &state, &name, form, key).await
        }
    }
}

/// Redirects to the user's page. The browser gets here when the language is switched on a form that was refused.
pub(super) async fn back(Path(name): Path<String>) -> Result<Redirect, HttpError> {
    Ok(Redirect::to(&format!("/users/{}", known_name(&name)?)))
}

/// Shows the form again, with the problem.
async fn refill(
    shell: Shell,
    state: &AdminState,
    name: &Name,
    form: RightsForm,
    key: &'static str,
) -> Result<Response, HttpError> {
    let user = state.auth.store().user(name).await?;
    let problem = Some(shell.t(key));
    Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &UserPage { shell, user, form, problem }))
}
