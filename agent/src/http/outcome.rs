//! What the routes of the service return: a response or an error, with what the audit logs need to know of it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use audiovault_common::{http_error::HttpError, observed_body::ObservedBody};
use audiovault_protocol::{http::context::Audit, link::Revocation};
use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;

use super::body::RecordingBody;
use crate::{
    audit::{Entry, Follow},
    limits::Paced,
    storage::deny_list::RevocableBody,
};

/// The result of a route.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The response.
    pub(crate) result: Result<Response<ServiceBody>, HttpError>,
    /// What the audit logs should say, also of an error.
    pub(crate) audit: Option<Audit>,
    /// Whether the client has shown an accepted token or a valid link. All other clients are unauthenticated.
    pub(crate) known: bool,
    /// Whether the deny list removed something.
    pub(crate) denied: bool,
    /// Ends the response if its recording is denied.
    pub(crate) revocation: Option<Revocation>,
}

impl Outcome {
    /// The result of a client that has shown an accepted token or a valid link.
    pub(crate) fn of_known(result: Result<Response<ServiceBody>, HttpError>, audit: Audit) -> Self {
        Self { audit: Some(audit), known: true, ..result.into() }
    }
}

impl From<Result<Response<ServiceBody>, HttpError>> for Outcome {
    fn from(result: Result<Response<ServiceBody>, HttpError>) -> Self {
        Self { result, audit: None, known: false, denied: false, revocation: None }
    }
}

/// A recording on its way.
pub(crate) type Delivery = RevocableBody<Paced<RecordingBody>>;

/// The body of a response of the service.
#[derive(Debug, Default)]
pub struct ServiceBody(Content);

#[derive(Debug)]
enum Content {
    /// Known as a whole.
    Whole(Full<Bytes>),
    Recording(Box<Delivery>),
    /// A recording whose delivery is written to the audit log.
    Followed(Box<ObservedBody<ServiceBody, Entry>>),
}

impl Default for Content {
    fn default() -> Self {
        Self::Whole(Full::default())
    }
}

impl ServiceBody {
    /// The body with a recording.
    pub(crate) fn of_recording(delivery: Delivery) -> Self {
        Self(Content::Recording(Box::new(delivery)))
    }

    /// The same body, whose end is written to the audit log.
    pub(crate) fn followed(self, follow: Follow) -> Self {
        Self(Content::Followed(Box::new(ObservedBody::new(self, follow.entry, follow.remaining))))
    }
}

impl From<Bytes> for ServiceBody {
    fn from(bytes: Bytes) -> Self {
        Self(Content::Whole(Full::new(bytes)))
    }
}

impl Body for ServiceBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match &mut self.0 {
            Content::Whole(body) => Pin::new(body).poll_frame(context).map_err(|never| match never {}),
            Content::Recording(body) => Pin::new(body).poll_frame(context),
            Content::Followed(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Content::Whole(body) => body.is_end_stream(),
            Content::Recording(body) => body.is_end_stream(),
            Content::Followed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Content::Whole(body) => body.size_hint(),
            Content::Recording(body) => body.size_hint(),
            Content::Followed(body) => body.size_hint(),
        }
    }
}
