//! The audit.

use std::sync::Arc;

use audiovault_protocol::site::SiteId;
use axum::{
    Extension, Json,
    extract::{Path, Query, State},
    response::Response,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Failures, names::SiteName, paging::Limit};
use crate::{
    admin::{AdminState, Refused, SignedIn},
    model::audit::{AuditEvent, Kind, Outcome},
    store::{AuditFilter, Cursor},
};

/// Which events are asked for; what is left out does not narrow the answer.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// Of this site.
    #[param(value_type = Option<SiteName>, inline)]
    site: Option<SiteId>,
    /// Searches or deliveries.
    #[param(inline)]
    kind: Option<Kind>,
    /// That ended, or stand, like this.
    #[param(inline)]
    outcome: Option<Outcome>,
    /// Of this call; compared as ids are: `.` and `_` are equal, and so are upper and lower case.
    call_id: Option<String>,
    /// On behalf of this tenant.
    tenant: Option<String>,
    /// By this user of QueueMetrics.
    user: Option<String>,
    /// From this address or pseudonym.
    client: Option<String>,
    /// That began at this time or later.
    from: Option<Timestamp>,
    /// That began before this time.
    until: Option<Timestamp>,
    /// Older than this: the `next` of the answer before.
    #[param(value_type = Option<String>, pattern = "^[0-9]{1,13}-[0-9a-f]{16,24}$")]
    after: Option<Cursor>,
    /// Events in one answer, 100 unless said; CSV always has all of them.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// Events, the newest first.
#[derive(Debug, Serialize, ToSchema)]
struct Events {
    /// The events.
    events: Vec<AuditEvent>,
    /// What to send as `after` for those that are older; null where there are none.
    #[schema(value_type = Option<String>)]
    next: Option<Cursor>,
}

/// Why something is done.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Why {
    /// Why, for the operators' events.
    reason: Option<String>,
}

/// What an erasure has done.
#[derive(Debug, Serialize, ToSchema)]
struct Erased {
    /// How many events there were.
    erased: u64,
}

pub(super) fn routes() -> OpenApiRouter<Arc<AdminState>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(export)).routes(routes!(erase))
}

/// What was searched and delivered, the newest first
#[utoipa::path(
    get, path = "/audit", tag = "audit", responses((status = 200, body = Events), Failures)
)]
async fn list(
    Extension(who): Extension<SignedIn>,
    State(state): State<Arc<AdminState>>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Events>, Refused> {
    let limit = Limit::check(wanted.limit)?;
    let mut events = state.audit(&who.principal, wanted.into(), limit.to_read()).await?;
    let next = limit.cut(&mut events, Cursor::at);
    Ok(Json(Events { events, next }))
}

/// The same as CSV (RFC 4180), all of it
#[utoipa::path(
    get, path = "/audit.csv", tag = "audit",
    responses((status = 200, content_type = "text/csv", body = String), Failures)
)]
async fn export(
    Extension(who): Extension<SignedIn>,
    State(state): State<Arc<AdminState>>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Refused> {
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
) -> Result<Json<Erased>, Refused> {
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
