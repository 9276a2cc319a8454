//! Users: list, add, change, remove; and what their forms share with those of tokens, whose errors are text keys.

use std::{collections::BTreeSet, str::FromStr, sync::Arc};

use askama::Template;
use audiovault_common::http_error::HttpError;
use audiovault_protocol::identity::site::SiteId;
use axum::{
    Form,
    extract::{Path, State},
    response::{Redirect, Response},
};
use http::StatusCode;

use super::{Shell, done, page, page_with};
use crate::{
    admin::{
        AdminState,
        auth::{Password, WeakPassword},
        known_name,
    },
    model::{
        account::{Name, Rights, Role, Scope},
        operator_events::Actor,
    },
    store::{NewUser, StoreError, StoredUser},
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

/// Checks a new password that was typed twice.
pub(super) fn new_password(name: &str, password: String, again: &str) -> Result<Password, &'static str> {
    if password != again {
        return Err("problem-passwords-differ");
    }
    Password::new(password, name).map_err(|error| match error {
        WeakPassword::Length => "problem-password-short",
        WeakPassword::Guessable => "problem-password-guessable",
    })
}

/// The fields of a form for rights. Browsers do not send a box that is not ticked.
#[derive(Debug, Clone, Default)]
pub(super) struct RightsForm {
    pub(super) role: String,
    pub(super) scope: String,
    pub(super) sites: String,
    pub(super) playback: bool,
}

impl RightsForm {
    /// Takes the fields from a submitted form.
    pub(super) fn of(pairs: &[(String, String)]) -> Self {
        let field = |name| field(pairs, name);
        Self {
            role: field("role"),
            scope: field("scope"),
            sites: field("sites"),
            playback: field("playback") == "yes",
        }
    }

    /// The fields for these rights.
    fn from_rights(rights: &Rights) -> Self {
        let sites = rights.scope.sites();
        let names: Vec<&str> = sites.into_iter().flatten().map(SiteId::as_str).collect();
        Self {
            role: rights.role.as_str().to_owned(),
            scope: if sites.is_some() { "sites" } else { "all" }.to_owned(),
            sites: names.join(" "),
            playback: rights.playback,
        }
    }

    /// The rights that the fields describe.
    pub(super) fn rights(&self) -> Result<Rights, &'static str> {
        let role = Role::from_str(&self.role).map_err(|_| "problem-role")?;
        let scope = match self.scope.as_str() {
            "all" => Scope::All,
            "sites" => {
                let names = self.sites.split([',', ' ', '\t', '\r', '\n']).filter(|name| !name.is_empty());
                let sites: BTreeSet<SiteId> =
                    names.map(SiteId::parse).collect::<Result<_, _>>().map_err(|_| "problem-site-name")?;
                if sites.is_empty() {
                    return Err("problem-no-sites");
                }
                Scope::Sites(sites)
            }
            _ => return Err("problem-scope"),
        };
        Ok(Rights { role, scope, playback: self.playback })
    }
}

/// The value of a form field; empty if it was not sent.
pub(super) fn field(pairs: &[(String, String)], name: &str) -> String {
    pairs.iter().find(|(given, _)| given == name).map(|(_, value)| value.clone()).unwrap_or_default()
}

/// The text key for a store error that the user can correct in the form. Any other error is returned unchanged.
pub(super) fn problem(error: StoreError) -> Result<&'static str, StoreError> {
    match error {
        StoreError::UserExists(_) => Ok("problem-user-exists"),
        StoreError::TokenExists(_) => Ok("problem-token-exists"),
        StoreError::LastManager(_) => Ok("problem-last-manager"),
        StoreError::UnknownSite(_) => Ok("problem-unknown-site"),
        other @ (StoreError::NameTaken(_)
        | StoreError::UnknownAlias { .. }
        | StoreError::UnknownKey { .. }
        | StoreError::NoValidKey(_)
        | StoreError::NoRoomForKey(_)
        | StoreError::SiteDisabled(_)
        | StoreError::CodeRefused
        | StoreError::UnknownUser(_)
        | StoreError::SetupLinkEnded
        | StoreError::UnknownToken(_)
        | StoreError::LogInUse
        | StoreError::Moved(_)
        | StoreError::Corrupt { .. }
        | StoreError::Damaged(_)
        | StoreError::Database(_)) => Err(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(role: &str, scope: &str, sites: &str) -> Result<Rights, &'static str> {
        let form =
            RightsForm { role: role.into(), scope: scope.into(), sites: sites.into(), playback: false };
        form.rights()
    }

    #[test]
    fn no_sites_are_not_all_sites() {
        assert_eq!(form("viewer", "all", "").unwrap().scope, Scope::All);
        assert_eq!(form("viewer", "sites", " , "), Err("problem-no-sites"));
        assert_eq!(form("viewer", "", "acme"), Err("problem-scope"));
        assert_eq!(form("root", "all", ""), Err("problem-role"));
        assert_eq!(form("viewer", "sites", "acme, Not A Site"), Err("problem-site-name"));
        let limited = form("operator", "sites", "acme,umbrella\r\n").unwrap();
        assert_eq!(RightsForm::from_rights(&limited).rights().unwrap(), limited);
    }
}
