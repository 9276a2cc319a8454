//! The body of a public response, and the permits that its request holds until the body ends.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use audiovault_common::observed_body::ObservedBody;
use audiovault_protocol::link::BodyError;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;

use super::{audit_events::DeliveryProgress, resume::ResumableBody};
use crate::{
    limits::{ClientKey, Permit, SitePermit},
    routing::dispatch::AnswerBody,
};

/// The body of a public response.
#[derive(Debug, Default)]
pub struct PublicBody {
    content: Content,
    /// Returned when the body is dropped.
    _client_permit: Option<Permit<ClientKey>>,
    _site_permit: Option<SitePermit>,
}

/// A connection keeps room for one of these while it waits for requests, so the large ones are boxed.
#[derive(Debug)]
enum Content {
    /// Known as a whole.
    Whole(Full<Bytes>),
    /// What an agent sends, unchanged.
    Agent(Box<AnswerBody>),
    /// A recording on its way, with its entry in the audit log.
    Delivery(Box<ObservedBody<ResumableBody, DeliveryProgress>>),
}

impl Default for Content {
    fn default() -> Self {
        Self::Whole(Full::default())
    }
}

impl PublicBody {
    /// What an agent sends, unchanged.
    pub(super) fn of_agent(body: AnswerBody) -> Self {
        Self { content: Content::Agent(Box::new(body)), ..Self::default() }
    }

    /// A recording on its way.
    pub(super) fn of_delivery(body: ObservedBody<ResumableBody, DeliveryProgress>) -> Self {
        Self { content: Content::Delivery(Box::new(body)), ..Self::default() }
    }

    /// The same body, which holds the permit of its request's client.
    pub(super) fn holding(self, permit: Permit<ClientKey>) -> Self {
        Self { _client_permit: Some(permit), ..self }
    }

    /// The same body, which holds the permit of its request at the site.
    pub(super) fn holding_site(self, permit: Option<SitePermit>) -> Self {
        Self { _site_permit: permit, ..self }
    }

    /// Drops the content, for a response to HEAD.
    pub(super) fn without_content(self) -> Self {
        Self { content: Content::default(), ..self }
    }
}

impl From<Bytes> for PublicBody {
    fn from(bytes: Bytes) -> Self {
        Self { content: Content::Whole(Full::new(bytes)), ..Self::default() }
    }
}

impl Body for PublicBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.content {
            Content::Whole(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
            Content::Agent(body) => Pin::new(body).poll_frame(cx),
            Content::Delivery(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(body) => body.is_end_stream(),
            Content::Agent(body) => body.is_end_stream(),
            Content::Delivery(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(body) => body.size_hint(),
            Content::Agent(body) => body.size_hint(),
            Content::Delivery(body) => body.size_hint(),
        }
    }
}
