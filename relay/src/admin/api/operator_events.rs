//! The operators' events.

use std::sync::Arc;

use audiovault_protocol::site::SiteId;
use axum::{
    Extension, Json,
    extract::{Query, State},
    response::Response,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Failures, names::SiteName, paging::Limit};
use crate::{
    admin::{AdminState, Refused, SignedIn},
    model::operator_events::{Action, OperatorEvent},
    store::{Cursor, OperatorFilter},
};

/// Which events are asked for; what is left out does not narrow the answer.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct EventFilter {
    /// That concern this site.
    #[param(value_type = Option<SiteName>, inline)]
    site: Option<SiteId>,
    /// With this action.
    #[param(inline)]
    action: Option<Action>,
    /// By this user, API token or user of the operating system, or by a token that this user owns.
    actor: Option<String>,
    /// At this time or later.
    from: Option<Timestamp>,
    /// Before this time.
    until: Option<Timestamp>,
    /// Older than this: the `next` of the answer before.
    #[param(value_type = Option<String>, pattern = "^[0-9]{1,13}-[0-9a-f]{16,24}$")]
    after: Option<Cursor>,
    /// Events in one answer, 100 unless said; CSV always has all of them.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// Operators' events, the newest first.
#[derive(Debug, Serialize, ToSchema)]
struct OperatorEvents {
    /// The events.
    events: Vec<OperatorEvent>,
    /// What to send as `after` for those that are older; null where there are none.
    #[schema(value_type = Option<String>)]
    next: Option<Cursor>,
}

pub(super) fn routes() -> OpenApiRouter<Arc<AdminState>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(export))
}

/// Who changed what, and who read the audit, the newest first; nothing deletes an event but its retention time
#[utoipa::path(
    get, path = "/operator-events", tag = "audit",
    responses((status = 200, body = OperatorEvents), Failures)
)]
async fn list(
    Extension(who): Extension<SignedIn>,
    State(state): State<Arc<AdminState>>,
    Query(filter): Query<EventFilter>,
) -> Result<Json<OperatorEvents>, Refused> {
    let limit = Limit::check(filter.limit)?;
    let mut events = state.operator_events(&who.principal, filter.into(), limit.to_read()).await?;
    let next = limit.cut(&mut events, Cursor::at_event);
    Ok(Json(OperatorEvents { events, next }))
}

/// The same as CSV (RFC 4180), all of it
#[utoipa::path(
    get, path = "/operator-events.csv", tag = "audit",
    responses((status = 200, content_type = "text/csv", body = String), Failures)
)]
async fn export(
    Extension(who): Extension<SignedIn>,
    State(state): State<Arc<AdminState>>,
    Query(filter): Query<EventFilter>,
) -> Result<Response, Refused> {
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
