//! One running search or delivery, which becomes a line in the audit log when it is over.

use std::time::Instant;

use audiovault_common::observed_body::{BodyObserver, ObservedBody};
use audiovault_protocol::{
    http::{
        context::{Audit, Client, Lifeline, RequestId},
        headers,
    },
    link::Revocation,
};
use axum::{body::Body, extract::Request, response::Response};
use http::Method;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{
    Recorder,
    event::{Event, Kind, Outcome, bounded},
    queue::Asker,
};

/// Set on the response when the client has shown an accepted token or a valid link. All other clients are
/// unauthenticated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known;

/// Set on responses from which the deny list removed something.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Denied;

/// An event that is not over. Dropping it ends it and queues its line for the writer.
#[derive(Debug)]
pub(crate) struct Entry {
    event: Option<Event>,
    recorder: Recorder,
    began: Instant,
    asker: Asker,
    lifeline: Option<Lifeline>,
    revocation: Option<Revocation>,
    /// The outcome, once it is certain.
    outcome: Option<Outcome>,
    _open: TaskTrackerToken,
}

impl Entry {
    pub(super) fn begin(recorder: Recorder, kind: Kind, request: &Request, open: TaskTrackerToken) -> Self {
        let extensions = request.extensions();
        let id = extensions.get::<RequestId>().map_or("", |id| &id.0);
        let client = extensions.get::<Client>().cloned().unwrap_or_default();
        let mut event = Event::new(kind, request.method().as_str(), id);
        event.client = client.address.as_deref().map(bounded);
        event.user_agent = client.user_agent.as_deref().map(bounded);
        Self {
            event: Some(event),
            recorder,
            began: Instant::now(),
            asker: Asker::Unauthenticated,
            lifeline: extensions.get().cloned(),
            revocation: None,
            outcome: None,
            _open: open,
        }
    }

    /// Takes the response. If it delivers a recording, its body is followed to the end; otherwise the event ends here.
    pub(crate) fn answered(mut self, response: Response, problem: Option<&str>) -> Response {
        let (head, body) = response.into_parts();
        if head.extensions.get::<Known>().is_some() {
            self.asker = Asker::Known;
        }
        let audit = head.extensions.get::<Audit>().cloned().unwrap_or_default();
        let Some(event) = &mut self.event else { return Response::from_parts(head, body) };
        event.status = Some(head.status.as_u16());
        event.problem = problem.map(bounded);
        let text = |text: &Option<String>| text.as_deref().map(bounded);
        event.call_id = text(&audit.call_id);
        event.tenant = text(&audit.tenant);
        event.user = text(&audit.user);
        event.recording = text(&audit.recording);
        event.found = audit.found;
        let carries = event.kind == Kind::Delivery
            && event.method == Method::GET.as_str()
            && matches!(head.status.as_u16(), 200 | 206);
        if carries {
            self.revocation = head.extensions.get().cloned();
            (event.range_start, event.size) = headers::extent(&head.headers);
            event.delivery = Some(self.recorder.delivery());
            let begun = self.recorder.push(Event { kind: Kind::Begun, ..event.clone() }, Asker::Known);
            self.asker = if begun { Asker::Begun } else { Asker::Repeating };
            event.octets = Some(0);
            let remaining = headers::content_length(&head.headers);
            if remaining == Some(0) {
                // The connection does not poll a body without bytes, and so never sees its end.
                self.end(Outcome::Complete);
            }
            return Response::from_parts(head, Body::new(ObservedBody::new(body, self, remaining)));
        }
        let refused = head.status.is_client_error() || head.status.is_server_error();
        self.end(match head.extensions.get::<Denied>() {
            Some(Denied) => Outcome::Denied,
            None if refused => Outcome::Refused,
            None => Outcome::Complete,
        });
        Response::from_parts(head, body)
    }

    /// Sets the outcome, unless one is already set.
    pub(super) fn end(&mut self, outcome: Outcome) {
        self.outcome.get_or_insert(outcome);
    }

    /// The outcome when the body was dropped without one: denied, cut, or left by the client.
    fn given_up(&self) -> Outcome {
        if self.revocation.as_ref().is_some_and(Revocation::has_happened) {
            Outcome::Denied
        } else if self.lifeline.as_ref().is_some_and(Lifeline::is_cut) {
            Outcome::Cut
        } else {
            Outcome::Left
        }
    }
}

impl BodyObserver<axum::Error> for Entry {
    fn passed(&mut self, bytes: u64) {
        if let Some(event) = &mut self.event {
            event.octets = Some(event.octets.unwrap_or_default() + bytes);
        }
    }

    fn completed(&mut self) {
        self.end(Outcome::Complete);
    }

    fn failed(&mut self, _error: &axum::Error) {
        let given_up = self.given_up();
        self.end(if given_up == Outcome::Denied { given_up } else { Outcome::Cut });
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let Some(mut event) = self.event.take() else { return };
        event.outcome = Some(self.outcome.unwrap_or_else(|| self.given_up()));
        event.duration_ms = Some(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX));
        self.recorder.push(event, self.asker);
    }
}
