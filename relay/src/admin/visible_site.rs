//! The site in the address of a request, if the principal may see it.

use std::{collections::HashMap, sync::Arc};

use audiovault_protocol::identity::site::SiteId;
use axum::extract::{FromRequestParts, Path};
use http::request::Parts;

use super::{AdminState, HttpError, SignedIn};

/// The `{site}` of a route. The 404 is the same for a site that does not exist, a site outside of the principal's
/// scope, and text that cannot be a site's name.
#[derive(Debug, Clone)]
pub struct VisibleSite(pub SiteId);

impl FromRequestParts<Arc<AdminState>> for VisibleSite {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<AdminState>) -> Result<Self, HttpError> {
        let signed_in = parts.extensions.get::<SignedIn>().cloned().ok_or_else(HttpError::unauthorized)?;
        let path = Path::<HashMap<String, String>>::from_request_parts(parts, state).await;
        let Path(path) = path.map_err(|_| HttpError::not_found())?;
        let site =
            path.get("site").and_then(|text| SiteId::parse(text).ok()).ok_or_else(HttpError::not_found)?;
        if !signed_in.principal.may_see(&site) {
            return Err(HttpError::not_found());
        }
        // Another process may just have added the site, so an unknown site is looked up once more after a refresh.
        if state.directory.current().site(&site).is_none() {
            let _ = state.directory.refresher().refresh().await;
        }
        if state.directory.current().site(&site).is_none() {
            return Err(HttpError::not_found());
        }
        Ok(Self(site))
    }
}
