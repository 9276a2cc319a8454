//! API tokens: list, add, remove.

use std::sync::Arc;

use askama::Template;
use audiovault_common::http_error::HttpError;
use axum::{
    Form,
    extract::{Path, State},
    response::Response,
};
use http::StatusCode;
use jiff::Timestamp;

use super::{
    Shell, done, page, page_with,
    user_pages::{RightsForm, field, problem},
};
use crate::{
    admin::{AdminState, known_name},
    model::{
        account::{Name, Role},
        secret::{DAY, Secret, TOKEN_LIFE, reveal_api_token, token_end},
    },
    store::{NewToken, StoredToken},
};

#[derive(Template)]
#[template(path = "tokens.html")]
struct TokensPage {
    shell: Shell,
    tokens: Vec<StoredToken>,
    name: String,
    days: String,
    form: RightsForm,
    problem: Option<String>,
    /// The secret of a token that was just made. It is shown only once.
    made: Option<String>,
}

impl TokensPage {
    fn is_over(&self, token: &StoredToken) -> bool {
        token.expires.is_some_and(|expires| expires <= Timestamp::now())
    }

    fn roles(&self) -> [Role; 3] {
        Role::ALL
    }
}

pub(super) async fn list(shell: Shell, State(state): State<Arc<AdminState>>) -> Result<Response, HttpError> {
    shell.principal()?.manager()?;
    let tokens = state.auth.store().tokens().await?;
    Ok(page(&empty(shell, tokens)))
}

pub(super) async fn add(
    shell: Shell,
    State(state): State<Arc<AdminState>>,
    Form(fields): Form<Vec<(String, String)>>,
) -> Result<Response, HttpError> {
    let actor = shell.principal()?.manager()?;
    let form = RightsForm::of(&fields);
    let name = field(&fields, "name");
    let days = field(&fields, "days");
    let secret = Secret::mint();
    let owner = shell.principal()?.owner_of_new_token();
    let refused = match new_token(&name, &days, &form, &secret, owner) {
        Ok(new) => match state.auth.store().add_token(&actor, &new).await {
            Ok(()) => {
                tracing::info!(
                    %actor,
                    token = %new.name,
                    rights = ?new.rights,
                    code = "token.created",
                    "an API token was created"
                );
                None
            }
            Err(error) => Some(problem(error)?),
        },
        Err(key) => Some(key),
    };
    let tokens = state.auth.store().tokens().await?;
    if let Some(key) = refused {
        let problem = Some(shell.t(key));
        let page = TokensPage { shell, tokens, name, days, form, problem, made: None };
        return Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page));
    }
    let made = Some(reveal_api_token(&secret).to_string());
    Ok(page(&TokensPage { made, ..empty(shell, tokens) }))
}

pub(super) async fn remove(
    shell: Shell,
    State(state): State<Arc<AdminState>>,
    Path(name): Path<String>,
) -> Result<Response, HttpError> {
    let actor = shell.principal()?.manager()?;
    let name = known_name(&name)?;
    state.auth.store().remove_token(&actor, &name).await?;
    tracing::info!(%actor, token = %name, code = "token.removed", "an API token was removed");
    Ok(done("/tokens", "token-removed"))
}

fn empty(shell: Shell, tokens: Vec<StoredToken>) -> TokensPage {
    let form = RightsForm { role: "viewer".to_owned(), scope: "all".to_owned(), ..RightsForm::default() };
    let days = (TOKEN_LIFE.as_secs() / DAY.as_secs()).to_string();
    TokensPage { shell, tokens, name: String::new(), days, form, problem: None, made: None }
}

fn new_token(
    name: &str,
    days: &str,
    form: &RightsForm,
    secret: &Secret,
    owner: Option<Name>,
) -> Result<NewToken, &'static str> {
    let name: Name = name.trim().parse().map_err(|_| "problem-name")?;
    let days: u32 = days.trim().parse().map_err(|_| "problem-days")?;
    let expires = token_end(DAY.saturating_mul(days)).ok_or("problem-days")?;
    Ok(NewToken { name, digest: secret.digest(), rights: form.rights()?, expires, owner })
}
