//! The pure multiplexers: they take in frames and give out frames and events, and get the time as an argument.
//!
//! The two sides of a tunnel do different things, so they are two types: [`RelayMux`] opens streams and receives
//! bodies, [`AgentMux`] accepts streams and sends bodies. Neither ever waits: frames and bytes that cannot be sent yet
//! stay in queues whose limits follow from the number of streams and their windows.
//!
//! # Contract
//!
//! A driver calls the methods in this order, whenever the socket, the timer or the
//! application has something new:
//!
//! 1. `handle_frame` for each frame that has arrived, `handle_pong` for each pong, and `handle_inbound` once if any bytes
//!    have arrived, also of a frame that is not yet complete. All that has arrived comes before the next step: after a
//!    machine slept, its peer must not be blamed for the silence.
//! 2. `poll_event` until it returns `None`. What the application does about an event (open, respond, send, consume,
//!    reset …) may be done between these calls or at any other time.
//! 3. `handle_timeout` with the current time. It returns at once if nothing is due, and an error if the peer has been
//!    silent for too long. Then `poll_event` again.
//! 4. `poll_ping` and `poll_transmit` in turns while the socket takes data. Both return `None` when nothing may be sent.
//!    A frame that was returned counts as sent. To ask for a frame early gives away the choice of the most urgent one,
//!    so a frame is taken only when the socket is ready for it.
//! 5. Sleep until one of the three has something new, or until `poll_timeout`, which every other call may change.
//!
//! Times may repeat but never go back. After an error of a `handle_*` method the tunnel must be closed with
//! [`Violation::close_code`]; the state is of no further use.

mod agent;
pub mod keepalive;
mod relay;
pub mod stream;

pub use agent::{AgentEvent, AgentMux};
pub use relay::{OpenError, RelayEvent, RelayMux};

pub use crate::mux::keepalive::PingPayload;

use crate::{
    frame::{DecodeError, StreamId},
    message::CloseCode,
};

/// How the peer broke the protocol. The tunnel ends with [`Violation::close_code`] and this sentence as the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A message that is not a frame.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A text message; frames are binary.
    #[error("received a text message, but frames are binary")]
    NotBinary,
    /// A text message, or the reason of a close frame, that is not UTF-8.
    #[error("received text that is not UTF-8")]
    NotUtf8,
    /// A message longer than either side may send.
    #[error("a message is longer than {} bytes", crate::limits::MAX_MESSAGE_LEN)]
    TooLong,
    /// The peer does not follow WebSocket (RFC 6455): a message is unmasked, compressed, or otherwise malformed.
    #[error("invalid WebSocket message: {0}")]
    NotWebSocket(String),
    /// Another frame came before the greeting.
    #[error("received a {0} frame before the greeting")]
    NotGreeted(&'static str),
    /// HELLO or WELCOME came a second time.
    #[error("received a second greeting")]
    GreetedTwice,
    /// The frame belongs to the other direction.
    #[error("a {0} frame was sent in the wrong direction")]
    WrongDirection(&'static str),
    /// The frame names a stream that was never opened.
    #[error("received a {0} frame for stream {1}, which was never opened")]
    NeverOpened(&'static str, StreamId),
    /// The frame does not fit the state of its stream.
    #[error("received a {0} frame out of order on stream {1}")]
    OutOfOrder(&'static str, StreamId),
    /// A REQUEST used an id that is not larger than all earlier ones.
    #[error("the id of stream {0} was already used")]
    Reused(StreamId),
    /// More streams were opened than the agent allows.
    #[error("stream {0} exceeds the number of streams allowed")]
    TooManyStreams(StreamId),
    /// The agent sent more than its credit.
    #[error("stream {0} sent more than its credit")]
    CreditExceeded(StreamId),
    /// More credit was granted than fits into a u32.
    #[error("stream {0} was granted more credit than possible")]
    CreditOverflow(StreamId),
    /// No greeting was received within [`crate::limits::GREETING_TIMEOUT`].
    #[error("no greeting was received in time")]
    NoGreeting,
    /// Nothing was received for [`crate::limits::DEAD_AFTER`].
    #[error("nothing was received for too long")]
    Silent,
}

impl Violation {
    /// The WebSocket close code that says this to the peer.
    pub fn close_code(&self) -> CloseCode {
        match self {
            Self::CreditExceeded(_) => CloseCode::CreditExceeded,
            Self::NoGreeting => CloseCode::NoGreeting,
            Self::Silent => CloseCode::Silent,
            // These are faults of the WebSocket itself, which has codes for them.
            Self::NotWebSocket(_) => CloseCode::WebSocketViolation,
            Self::NotBinary => CloseCode::UnsupportedData,
            Self::NotUtf8 => CloseCode::InvalidPayload,
            Self::TooLong => CloseCode::TooBig,
            Self::Decode(_)
            | Self::NotGreeted(_)
            | Self::GreetedTwice
            | Self::WrongDirection(_)
            | Self::NeverOpened(..)
            | Self::OutOfOrder(..)
            | Self::Reused(_)
            | Self::TooManyStreams(_)
            | Self::CreditOverflow(_) => CloseCode::ProtocolViolation,
        }
    }
}
