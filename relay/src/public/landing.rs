//! The page for people who open the relay's address in a browser.

use std::sync::Arc;

use audiovault_protocol::about::Purpose;
use axum::{body::Body, extract::State, response::Response};
use http::HeaderMap;

use super::PublicState;
use crate::model::ABOUT;

pub(super) async fn show(State(state): State<Arc<PublicState>>, asked: HeaderMap) -> Response {
    ABOUT.landing(Purpose::Relay, state.shown_version, &asked).map(Body::from)
}
