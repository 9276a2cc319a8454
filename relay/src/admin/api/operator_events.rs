//! The operators' events: list and export as CSV.

use std::sync::Arc;

use audiovault_common::http_error::HttpError;
use audiovault_protocol::identity::site::SiteId;
use axum::{
    Extension, Json,
    extract::{Query, State},
    response::Response,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Failures,
    schemas::{Limit, SiteName},
};
use crate::{
    admin::{AdminState, SignedIn},
    model::operator_events::{Action, OperatorEvent},
    store::{Cursor, OperatorFilter},
};

/// Which events to return. A parameter that is absent does not narrow the result.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct EventFilter {
    /// Events about this site.
    #[param(value_type = Option<SiteName>, inline)]
    site: Option<SiteId>,
    /// Events with this action.
    #[param(inline)]
    action: Option<Action>,
    /// Events by this user, API token or user of the operating system, or by a token that this user owns.
    actor: Option<String>,
    /// Events at this time or later.
    from: Option<Timestamp>,
    /// Events before this time.
    until: Option<Timestamp>,
    /// Events older than this: the value of `next` in the previous response.
    #[param(value_type = Option<String>, pattern = "^[0-9]{1,13}-[0-9a-f]{16,24}$")]
    after: Option<Cursor>,
    /// Number of events in one response, 100 by default. The CSV export ignores it and has all events.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// Operators' events, newest first.
#[derive(Debug, Serialize, ToSchema)]
struct OperatorEvents {
    /// The events.
    events: Vec<OperatorEvent>,
    /// Send this as `after` to get the older events; null if there are none.
    #[schema(value_type = Option<String>)]
    next: Option<Cursor>,
}

pub(super) fn routes() -> OpenApiRouter<Arc<AdminState>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(export))
}

/// List who changed what and who read the audit log, newest first; events are deleted only after their retention time
#[utoipa::path(
    get, path = "/operator-events", tag = "audit",
    responses((status = 200, body = OperatorEvents), Failures)
)]
async fn list(
    Extension(who): Extension<SignedIn>,
    State(state): State<Arc<AdminState>>,
    Query(filter): Query<EventFilter>,
) -> Result<Json<OperatorEvents>, HttpError> {
    let limit = Limit::check(filter.limit)?;
    let mut events = state.operator_events(&who.principal, filter.into(), limit.to_read()).await?;
    let next = limit.cut(&mut events, Cursor::at_event);
    Ok(Json(OperatorEvents { events, next }))
}

/// Export the operators' events as CSV (RFC 4180), without a limit on their number
#[utoipa::path(
    get, path = "/operator-events.csv", tag = "audit",
    responses((status = 200, content_type = "text/csv", body = String), Failures)
)]
async fn export(
    Extension(who): Extension<SignedIn>,
    State(state): State<Arc<AdminState>>,
    Query(filter): Query<EventFilter>,
) -> Result<Response, HttpError> {
    Ok(state.operator_events_csv(&who.principal, filter.into()).await?)
}

impl From<EventFilter> for OperatorFilter {
    fn from(filter: EventFilter) -> Self {
        Self {
            within: None,
            site: filter.site,
            action: filter.action,
            one_of: Vec::new(),
            actor: filter.actor,
            from: filter.from,
            until: filter.until,
            after: filter.after,
        }
    }
}
