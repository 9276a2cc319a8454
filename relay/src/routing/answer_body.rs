//! The body of an agent's response, from a tunnel of this relay or from a peer relay.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use audiovault_protocol::link::{BodyError, TunnelBody};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::cluster::ProvenBody;

/// The body of an agent's response.
#[derive(Debug)]
pub(crate) enum AnswerBody {
    /// Comes through a tunnel of this relay.
    Tunnel(TunnelBody),
    /// Comes through a peer relay.
    Node(ProvenBody),
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Tunnel(body) => Pin::new(body).poll_frame(cx),
            Self::Node(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Tunnel(body) => body.is_end_stream(),
            Self::Node(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Tunnel(body) => body.size_hint(),
            Self::Node(body) => body.size_hint(),
        }
    }
}
