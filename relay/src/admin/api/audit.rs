//! The audit log: list, export as CSV, erase a call.

use std::sync::Arc;

use audiovault_common::http_error::HttpError;
use audiovault_protocol::identity::site::SiteId;
use axum::{
    Extension, Json,
    extract::{Path, Query, State},
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
    model::audit::{AuditEvent, Kind, Outcome},
    store::{AuditFilter, Cursor},
};

/// Which events to return. A parameter that is absent does not narrow the result.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// Events of this site.
    #[param(value_type = Option<SiteName>, inline)]
    site: Option<SiteId>,
    /// Events of this kind.
    #[param(inline)]
    kind: Option<Kind>,
    /// Events that ended like this, or deliveries that have not ended.
    #[param(inline)]
    outcome: Option<Outcome>,
    /// Events of this call. Call ids are compared without regard to case, and `.` equals `_`.
    call_id: Option<String>,
    /// Events on behalf of this tenant.
    tenant: Option<String>,
    /// Events of this user of QueueMetrics.
    user: Option<String>,
    /// Events from this IP address or pseudonym.
    client: Option<String>,
    /// Events that began at this time or later.
    from: Option<Timestamp>,
    /// Events that began before this time.
    until: Option<Timestamp>,
    /// Events older than this: the value of `next` in the previous response.
    #[param(value_type = Option<String>, pattern = "^[0-9]{1,13}-[0-9a-f]{16,24}$")]
    after: Option<Cursor>,
    /// Number of events in one response, 100 by default. The CSV export ignores it and has all events.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// Events of the audit log, newest first.
#[derive(Debug, Serialize, ToSchema)]
struct Events {
    /// The events.
    events: Vec<AuditEvent>,
    /// Send this as `after` to get the older events; null if there are none.
    #[schema(value_type = Option<String>)]
    next: Option<Cursor>,
}

/// The reason for a change.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Why {
    /// The reason, for the operators' events.
    reason: Option<String>,
}

/// The result of an erasure.
#[derive(Debug, Serialize, ToSchema)]
struct Erased {
    /// Number of erased events.
    erased: u64,
}

pub(super) fn routes() -> OpenApiRouter<Arc<AdminState>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(export)).routes(routes!(erase))
}

/// List the searches and deliveries, newest first
#[utoipa::path(
    get, path = "/audit", tag = "audit", responses((status = 200, body = Events), Failures)
)]
async fn list(
    Extension(who): Extension<SignedIn>,
    State(state): State<Arc<AdminState>>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Events>, HttpError> {
    let limit = Limit::check(wanted.limit)?;
    let mut events = state.audit(&who.principal, wanted.into(), limit.to_read()).await?;
    let next = limit.cut(&mut events, Cursor::at);
    Ok(Json(Events { events, next }))
}

/// Export the searches and deliveries as CSV (RFC 4180), without a limit on their number
#[utoipa::path(
    get, path = "/audit.csv", tag = "audit",
    responses((status = 200, content_type = "text/csv", body = String), Failures)
)]
async fn export(
    Extension(who): Extension<SignedIn>,
    State(state): State<Arc<AdminState>>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, HttpError> {
    Ok(state.audit_csv(&who.principal, wanted.into()).await?)
}

/// Erase every event of a call from the database, its write-ahead log and later backups
#[utoipa::path(
    delete, path = "/audit/calls/{call_id}", tag = "audit", params(("call_id" = String, Path, pattern = "\\S")),
    responses((status = 200, body = Erased), Failures)
)]
async fn erase(
    Extension(who): Extension<SignedIn>,
    State(state): State<Arc<AdminState>>,
    Path(call_id): Path<String>,
    Query(Why { reason }): Query<Why>,
) -> Result<Json<Erased>, HttpError> {
    let reason = reason.unwrap_or_default();
    Ok(Json(Erased { erased: state.erase_call(&who.principal, &call_id, &reason).await? }))
}

impl From<Wanted> for AuditFilter {
    fn from(wanted: Wanted) -> Self {
        Self {
            within: None,
            site: wanted.site,
            kind: wanted.kind,
            outcome: wanted.outcome,
            call_id: wanted.call_id,
            tenant: wanted.tenant,
            user: wanted.user,
            client: wanted.client,
            from: wanted.from,
            until: wanted.until,
            after: wanted.after,
        }
    }
}
