//! Frames and their encoding: one binary WebSocket message is one frame, `type(1) stream(4, big endian) payload`.

use bytes::{BufMut, Bytes};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    limits::{FRAME_HEADER_LEN, MAX_DATA_LEN, MAX_HEAD_LEN, MAX_REASON_LEN, MAX_REQUEST_BODY_LEN},
    message::{Goaway, Hello, RequestHead, ResetCode, ResponseHead, Status, Welcome},
};

/// Identifies a stream on its tunnel. The relay counts ids up from 1 and never uses one twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(u32);

impl StreamId {
    /// The first stream of every tunnel.
    pub const FIRST: Self = Self(1);

    /// A stream id from its number, or `None` for 0, which means the tunnel itself.
    pub fn new(number: u32) -> Option<Self> {
        (number != 0).then_some(Self(number))
    }

    /// The id as a number.
    pub fn number(self) -> u32 {
        self.0
    }

    /// The id after this one, or `None` after the largest.
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

impl std::fmt::Display for StreamId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// 0x01, agent to relay.
    Hello(Box<Hello>),
    /// 0x02, relay to agent.
    Welcome(Box<Welcome>),
    /// 0x03, both ways.
    Goaway(Goaway),
    /// 0x04, agent to relay.
    Status(Status),
    /// 0x10, relay to agent: opens a stream and carries the whole request.
    Request(StreamId, Box<RequestHead>, Bytes),
    /// 0x11, agent to relay.
    Response(StreamId, Box<ResponseHead>),
    /// 0x12, agent to relay: never empty.
    Data(StreamId, Bytes),
    /// 0x13, agent to relay: the body is complete.
    End(StreamId),
    /// 0x14, both ways: the sender gives the stream up.
    Reset(StreamId, ResetCode, String),
    /// 0x15, relay to agent: allows this many more bytes of body; never 0.
    Credit(StreamId, u32),
    /// 0x16, agent to relay: RESPONSE, the whole body and END at once.
    Answer(StreamId, Box<ResponseHead>, Bytes),
    /// 0x80 and above: reserved for later versions, ignored.
    Unknown(u8),
}

/// Why a message is not a valid frame. The sender is broken; the tunnel ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Fewer bytes than a frame header, or than the fixed fields of the frame.
    #[error("a {0} frame is cut short")]
    Truncated(&'static str),
    /// A payload longer than its limit.
    #[error("the payload of a {what} frame has {len} bytes, more than {max}")]
    TooLong {
        /// The frame's name.
        what: &'static str,
        /// Its length in bytes.
        len: usize,
        /// Its longest allowed length in bytes.
        max: usize,
    },
    /// A type below 0x80 that this version does not know.
    #[error("frame type 0x{0:02x} is not part of this protocol version")]
    UnknownType(u8),
    /// A stream frame on stream 0, or a tunnel frame on another stream.
    #[error("a {0} frame has a wrong stream id")]
    WrongStream(&'static str),
    /// A payload that is not valid JSON of the expected form.
    #[error("the payload of a {0} frame is not valid JSON for this frame")]
    Json(&'static str),
    /// A DATA frame without data, a CREDIT of 0, or an END with a payload.
    #[error("a {0} frame must not have a payload")]
    Payload(&'static str),
}

const HELLO: u8 = 0x01;
const WELCOME: u8 = 0x02;
const GOAWAY: u8 = 0x03;
const STATUS: u8 = 0x04;
const REQUEST: u8 = 0x10;
const RESPONSE: u8 = 0x11;
const DATA: u8 = 0x12;
const END: u8 = 0x13;
const RESET: u8 = 0x14;
const CREDIT: u8 = 0x15;
const ANSWER: u8 = 0x16;
/// Unknown types from this number on are ignored.
const FIRST_OPTIONAL: u8 = 0x80;

/// Bytes that are enough for nearly every head; for a longer head, the buffer of the message grows.
const USUAL_HEAD_LEN: usize = 768;

impl Frame {
    /// Decodes one message. Payloads are slices of it, not copies.
    ///
    /// # Errors
    /// [`DecodeError`] when the message breaks the protocol.
    pub fn decode(mut message: Bytes) -> Result<Self, DecodeError> {
        if message.len() < FRAME_HEADER_LEN {
            return Err(DecodeError::Truncated("short"));
        }
        let header = message.split_to(FRAME_HEADER_LEN);
        let kind = header[0];
        let stream = StreamId::new(u32::from_be_bytes([header[1], header[2], header[3], header[4]]));
        let tunnel = |what| {
            if stream.is_none() { Ok(()) } else { Err(DecodeError::WrongStream(what)) }
        };
        let stream = |what| stream.ok_or(DecodeError::WrongStream(what));
        match kind {
            HELLO => tunnel("HELLO").and_then(|()| json("HELLO", &message)).map(Self::Hello),
            WELCOME => tunnel("WELCOME").and_then(|()| json("WELCOME", &message)).map(Self::Welcome),
            GOAWAY => tunnel("GOAWAY").and_then(|()| json("GOAWAY", &message)).map(Self::Goaway),
            STATUS => tunnel("STATUS").and_then(|()| json("STATUS", &message)).map(Self::Status),
            REQUEST => {
                let (head, body) = head_and_body("REQUEST", message, MAX_REQUEST_BODY_LEN)?;
                Ok(Self::Request(stream("REQUEST")?, json("REQUEST", &head)?, body))
            }
            RESPONSE => Ok(Self::Response(stream("RESPONSE")?, json("RESPONSE", &message)?)),
            DATA => decode_data(stream("DATA")?, message),
            END if message.is_empty() => Ok(Self::End(stream("END")?)),
            END => Err(DecodeError::Payload("END")),
            RESET => decode_reset(stream("RESET")?, &message),
            CREDIT => decode_credit(stream("CREDIT")?, &message),
            ANSWER => {
                let (head, body) = head_and_body("ANSWER", message, MAX_DATA_LEN)?;
                Ok(Self::Answer(stream("ANSWER")?, json("ANSWER", &head)?, body))
            }
            FIRST_OPTIONAL.. => Ok(Self::Unknown(kind)),
            _ => Err(DecodeError::UnknownType(kind)),
        }
    }

    /// Encodes into one message.
    ///
    /// A reason longer than [`MAX_REASON_LEN`] is cut. The caller keeps other payloads within their limits, which
    /// [`Frame::decode`] enforces at the other side.
    pub fn encode(&self) -> Bytes {
        let mut message = Vec::new();
        let body = self.encode_head(&mut message);
        message.extend_from_slice(body);
        message.into()
    }

    /// Appends everything of the message but its body to `head`, and returns the body, which follows. So the caller
    /// copies a body only to where it is sent from.
    ///
    /// A reason longer than [`MAX_REASON_LEN`] is cut.
    pub fn encode_head(&self, head: &mut Vec<u8>) -> &[u8] {
        match self {
            Self::Hello(hello) => put_json(begin(head, HELLO, None), hello),
            Self::Welcome(welcome) => put_json(begin(head, WELCOME, None), welcome),
            Self::Goaway(goaway) => put_json(begin(head, GOAWAY, None), goaway),
            Self::Status(status) => put_json(begin(head, STATUS, None), status),
            Self::Request(stream, request, body) => {
                put_sized_json(begin(head, REQUEST, Some(*stream)), request);
                return body;
            }
            Self::Response(stream, response) => put_json(begin(head, RESPONSE, Some(*stream)), response),
            Self::Data(stream, data) => {
                begin(head, DATA, Some(*stream));
                return data;
            }
            Self::End(stream) => {
                begin(head, END, Some(*stream));
            }
            Self::Reset(stream, code, reason) => {
                begin(head, RESET, Some(*stream)).put_u16((*code).into());
                return &reason.as_bytes()[..reason.floor_char_boundary(MAX_REASON_LEN)];
            }
            Self::Credit(stream, bytes) => begin(head, CREDIT, Some(*stream)).put_u32(*bytes),
            Self::Answer(stream, response, body) => {
                put_sized_json(begin(head, ANSWER, Some(*stream)), response);
                return body;
            }
            Self::Unknown(kind) => {
                begin(head, *kind, None);
            }
        }
        &[]
    }

    /// The frame's name as the protocol writes it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "HELLO",
            Self::Welcome(_) => "WELCOME",
            Self::Goaway(_) => "GOAWAY",
            Self::Status(_) => "STATUS",
            Self::Request(..) => "REQUEST",
            Self::Response(..) => "RESPONSE",
            Self::Data(..) => "DATA",
            Self::End(_) => "END",
            Self::Reset(..) => "RESET",
            Self::Credit(..) => "CREDIT",
            Self::Answer(..) => "ANSWER",
            Self::Unknown(_) => "unknown",
        }
    }
}

/// Text of a peer, made safe for a log line: control characters, which could forge lines of the log, are replaced.
pub fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

fn check_len(what: &'static str, len: usize, max: usize) -> Result<(), DecodeError> {
    if len > max {
        return Err(DecodeError::TooLong { what, len, max });
    }
    Ok(())
}

fn json<T: DeserializeOwned>(what: &'static str, payload: &[u8]) -> Result<T, DecodeError> {
    check_len(what, payload.len(), MAX_HEAD_LEN)?;
    serde_json::from_slice(payload).map_err(|_| DecodeError::Json(what))
}

/// Splits a payload into the JSON of the head, which follows its length, and the body.
fn head_and_body(
    what: &'static str,
    mut payload: Bytes,
    longest_body: usize,
) -> Result<(Bytes, Bytes), DecodeError> {
    let Some((len, _)) = payload.split_first_chunk::<4>() else {
        return Err(DecodeError::Truncated(what));
    };
    let len = usize::try_from(u32::from_be_bytes(*len)).unwrap_or(usize::MAX);
    check_len(what, len, MAX_HEAD_LEN)?;
    let mut head = payload.split_off(4);
    if head.len() < len {
        return Err(DecodeError::Truncated(what));
    }
    let body = head.split_off(len);
    check_len(what, body.len(), longest_body)?;
    Ok((head, body))
}

fn decode_data(stream: StreamId, payload: Bytes) -> Result<Frame, DecodeError> {
    check_len("DATA", payload.len(), MAX_DATA_LEN)?;
    if payload.is_empty() {
        return Err(DecodeError::Payload("DATA"));
    }
    Ok(Frame::Data(stream, payload))
}

fn decode_reset(stream: StreamId, payload: &[u8]) -> Result<Frame, DecodeError> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return Err(DecodeError::Truncated("RESET"));
    };
    check_len("RESET", reason.len(), MAX_REASON_LEN)?;
    // A reason is only for a log line; broken UTF-8 in it does no harm.
    let reason = one_line(&String::from_utf8_lossy(reason));
    Ok(Frame::Reset(stream, ResetCode::from(u16::from_be_bytes(*code)), reason))
}

fn decode_credit(stream: StreamId, payload: &[u8]) -> Result<Frame, DecodeError> {
    let bytes = <[u8; 4]>::try_from(payload).map_err(|_| DecodeError::Truncated("CREDIT"))?;
    match u32::from_be_bytes(bytes) {
        0 => Err(DecodeError::Payload("CREDIT")),
        bytes => Ok(Frame::Credit(stream, bytes)),
    }
}

/// Starts a message.
fn begin(message: &mut Vec<u8>, kind: u8, stream: Option<StreamId>) -> &mut Vec<u8> {
    message.put_u8(kind);
    message.put_u32(stream.map_or(0, |stream| stream.0));
    message
}

fn put_json(message: &mut Vec<u8>, value: &impl Serialize) {
    message.reserve(USUAL_HEAD_LEN);
    // These types hold only strings, numbers and lists of them, which always serialise.
    let _ = serde_json::to_writer(message, value);
}

/// Writes JSON behind its length, which a body will follow.
fn put_sized_json(message: &mut Vec<u8>, value: &impl Serialize) {
    let len_at = message.len();
    message.put_u32(0);
    put_json(message, value);
    let len = u32::try_from(message.len() - len_at - 4).unwrap_or(u32::MAX);
    message[len_at..len_at + 4].copy_from_slice(&len.to_be_bytes());
}

#[cfg(test)]
mod tests;
