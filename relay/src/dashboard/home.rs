//! The page after the login: the sites that its reader may see.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, response::Response};

use super::{Shell, page};
use crate::{
    admin::{AdminState, Refused},
    board::Row,
};

#[derive(Template)]
#[template(path = "home.html")]
struct HomePage {
    shell: Shell,
    rows: Vec<Arc<Row>>,
}

pub(super) async fn show(shell: Shell, State(state): State<Arc<AdminState>>) -> Result<Response, Refused> {
    let reader = shell.user().ok_or_else(Refused::unauthorized)?;
    let picture = state.board.current();
    let rows = picture.rows.iter().filter(|row| reader.may_see(&row.view.site)).cloned().collect();
    Ok(page(&HomePage { shell, rows }))
}
