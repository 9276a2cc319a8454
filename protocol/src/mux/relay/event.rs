//! What a relay's multiplexer tells.

use bytes::Bytes;

use crate::{
    frame::StreamId,
    message::{Goaway, Hello, ResetCode, ResponseHead, Status},
};

/// What the relay should do or know.
#[derive(Debug, PartialEq, Eq)]
pub enum RelayEvent {
    /// The agent introduced itself; answer with [`RelayMux::welcome`](super::RelayMux::welcome).
    Hello(Box<Hello>),
    /// The agent told how its recordings are.
    Status(Status),
    /// The agent will go; no stream can be opened any more.
    Goaway(Goaway),
    /// A stream was answered.
    Response(StreamId, Box<ResponseHead>),
    /// A piece of body; take its cost back with [`RelayMux::consume`](super::RelayMux::consume).
    Data(StreamId, Bytes),
    /// The body is complete.
    End(StreamId),
    /// The stream was given up, by the agent or for lack of progress.
    Reset(StreamId, ResetCode, String),
}

/// Why no stream was opened. Nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The agent has not introduced itself, or is leaving, or the stream ids are used up.
    #[error("the tunnel takes no new requests")]
    Closed,
    /// As many streams are open as the agent allows.
    #[error("the agent is busy with as many requests as it allows")]
    TooManyStreams,
    /// The sum of windows of the tunnel or the process is spent.
    #[error("the relay has no memory left for another download")]
    NoBudget,
}
