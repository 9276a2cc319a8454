//! Writes requests to agents and deliveries to the audit log. A request that this relay refuses by itself reaches no
//! agent and delivers nothing. It is written to the log and not to the audit log, so that nothing can fill the audit
//! log without a site.

use std::sync::{Arc, atomic::Ordering};

use audiovault_common::http_error::HttpError;
use audiovault_common::observed_body::{BodyObserver, ObservedBody};
use audiovault_protocol::{
    http::{
        context::Audit,
        headers,
        parameters::{Field, Parameters},
    },
    identity::site::SiteId,
    link::{Answered, BodyError},
};
use http::{Method, Response, StatusCode};

use super::{PublicState, body::PublicBody, context::RequestContext, resume::ResumableBody};
use crate::{
    audit::journal::{Delivery, DeliveryEnd},
    model::audit::{AuditEvent, Kind, Outcome},
    store::Record,
    tunnel::registry::SiteCounters,
};

/// The event of a search that begins, with the fields of the request: an agent that refuses it need not repeat them.
pub(super) fn search(site: &SiteId, context: &RequestContext, parameters: &Parameters) -> AuditEvent {
    let mut event = event(Kind::Search, site, context);
    let value = |field| parameters.value(field).map(str::to_owned);
    event.describe(&Audit {
        call_id: value(Field::CallId),
        tenant: value(Field::Tenant),
        user: value(Field::User),
        ..Audit::default()
    });
    event
}

/// The event of a delivery that begins.
pub(super) fn delivery(site: &SiteId, context: &RequestContext) -> AuditEvent {
    event(Kind::Delivery, site, context)
}

/// Writes a search with the status of its response to the audit log.
pub(super) fn answered(state: &PublicState, mut event: AuditEvent, status: StatusCode) {
    event.close(status.as_u16(), outcome(status));
    record(state, event);
}

/// Writes an event that has ended. With status 401, 403 or 429, the client has shown neither a correct token nor a
/// link that opens: it is unauthenticated.
fn record(state: &PublicState, event: AuditEvent) {
    match event.status {
        401 | 403 | 429 => state.journal.record_unauthenticated(event),
        _ => state.journal.record(Record::Audit(Box::new(event))),
    }
}

/// Writes a delivery to the audit log, and follows it if the response has a body with the recording.
pub(super) fn handed_over(
    state: &PublicState,
    mut event: AuditEvent,
    context: &RequestContext,
    method: &Method,
    answered: Answered<ResumableBody>,
) -> Response<PublicBody> {
    let (head, body) = answered.response.into_parts();
    if let Some(audit) = &answered.audit {
        event.describe(audit);
        // The agent masks names too, but this relay does not rely on it.
        event.recording = event.recording.map(|name| state.recorded_names.of(&name));
    }
    let carries = *method == Method::GET && matches!(head.status.as_u16(), 200 | 206);
    let counters = state.registry.counters(&event.site);
    let mut progress = DeliveryProgress { site: event.site.to_string(), counters, delivery: None };
    let mut remaining = None;
    if carries {
        let meter = Arc::clone(&context.connection.meter);
        (event.range_start, event.size) = headers::extent(&head.headers);
        event.status = head.status.as_u16();
        remaining = headers::content_length(&head.headers);
        progress.delivery = Some(state.journal.deliver(event, Some(meter)));
    } else {
        event.close(head.status.as_u16(), outcome(head.status));
        record(state, event);
    }
    Response::from_parts(head, PublicBody::of_delivery(ObservedBody::new(body, progress, remaining)))
}

/// Writes a delivery that the agent did not make.
pub(super) fn refused(state: &PublicState, mut event: AuditEvent, error: &HttpError) {
    event.close(error.status().as_u16(), Outcome::Refused);
    record(state, event);
}

fn event(kind: Kind, site: &SiteId, context: &RequestContext) -> AuditEvent {
    AuditEvent::new(kind, context.id.clone(), site.clone(), &context.client)
}

fn outcome(status: StatusCode) -> Outcome {
    if status.is_client_error() || status.is_server_error() { Outcome::Refused } else { Outcome::Complete }
}

/// Counts the bytes of a delivery, and reports to the audit log how it ends.
#[derive(Debug)]
pub(super) struct DeliveryProgress {
    /// The site, for the log.
    site: String,
    /// Where the bytes are counted.
    counters: Arc<SiteCounters>,
    /// The delivery in the audit log; `None` if the response is not a recording.
    delivery: Option<Delivery>,
}

impl DeliveryProgress {
    fn ended(&self, end: DeliveryEnd) {
        if let Some(delivery) = &self.delivery {
            delivery.ended(end);
        }
    }
}

impl BodyObserver<BodyError> for DeliveryProgress {
    fn passed(&mut self, bytes: u64) {
        let Some(delivery) = &self.delivery else { return };
        self.counters.bytes_delivered.fetch_add(bytes, Ordering::Relaxed);
        delivery.handed_over(bytes);
    }

    fn completed(&mut self) {
        self.ended(DeliveryEnd::Complete);
    }

    fn failed(&mut self, error: &BodyError) {
        tracing::warn!(
            site = self.site,
            %error,
            code = "download.cut",
            "a response body was cut"
        );
        self.ended(DeliveryEnd::Cut);
    }
}
