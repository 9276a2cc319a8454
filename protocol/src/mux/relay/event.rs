//! Events and errors of the relay's multiplexer.

use bytes::Bytes;

use crate::{
    frame::StreamId,
    message::{Goaway, Hello, ResetCode, ResponseHead, Status},
};

/// An event that the relay's application should handle.
#[derive(Debug, PartialEq, Eq)]
pub enum RelayEvent {
    /// The agent introduced itself; answer with [`RelayMux::welcome`](super::RelayMux::welcome).
    Hello(Box<Hello>),
    /// The agent reported the state of its recordings.
    Status(Status),
    /// The agent is about to leave; no more streams can be opened.
    Goaway(Goaway),
    /// The head of a response was received.
    Response(StreamId, Box<ResponseHead>),
    /// A piece of body. When it has been taken, report its cost with [`RelayMux::consume`](super::RelayMux::consume).
    Data(StreamId, Bytes),
    /// The body is complete.
    End(StreamId),
    /// The stream was given up, by the agent or by this side because a deadline passed or nothing progressed.
    Reset(StreamId, ResetCode, String),
}

/// Why no stream was opened. Nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The agent has not introduced itself or is leaving, or the stream ids are used up.
    #[error("the tunnel does not accept new requests")]
    Closed,
    /// As many streams are open as the agent allows.
    #[error("the agent has reached its limit of requests")]
    TooManyStreams,
    /// The window budget of the tunnel or of the process is used up.
    #[error("the relay has no memory left for another download")]
    NoBudget,
}
