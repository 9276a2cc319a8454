//! Decodes the bytes of a WebSocket (RFC 6455, section 5) to messages. Pure state: bytes are pushed in, in pieces of any
//! length, and each byte of a payload is copied once.

use std::io::Cursor;

use bytes::{Bytes, BytesMut};
use tokio_tungstenite::tungstenite::{
    error::{Error as WsError, ProtocolError},
    protocol::frame::{
        FrameHeader,
        coding::{Control, Data, OpCode},
    },
};

use super::{Role, mask::append_masked};
use crate::{limits::MAX_MESSAGE_LEN, mux::Violation};

/// Longest header of a frame in bytes (RFC 6455, section 5.2).
const MAX_HEADER_LEN: usize = 14;
/// Longest payload of a control frame in bytes (RFC 6455, section 5.5).
const MAX_CONTROL_LEN: usize = 125;

/// A message of the peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::link) enum Message {
    /// A binary message, joined if it came in fragments.
    Binary(Bytes),
    Ping(Bytes),
    Pong(Bytes),
    /// The peer closes: its code, if it gave one, and its reason.
    Close(Option<(u16, String)>),
}

/// The state between two pieces.
#[derive(Debug)]
pub(super) struct Decoder {
    role: Role,
    /// The bytes of a header that is not complete yet.
    header: [u8; MAX_HEADER_LEN],
    header_len: usize,
    /// The frame whose payload is not complete yet.
    frame: Option<Incoming>,
    /// The fragments of a message that is not complete yet, and its kind.
    fragments: Option<(Data, BytesMut)>,
}

/// A frame whose header is known.
#[derive(Debug)]
struct Incoming {
    opcode: OpCode,
    is_final: bool,
    mask: Option<[u8; 4]>,
    /// Earlier fragments of the same message, and the bytes of this frame so far.
    payload: BytesMut,
    /// Bytes of this frame so far, and those that are missing.
    filled: usize,
    missing: usize,
}

impl Decoder {
    /// Decodes what the peer of this role sends.
    pub(super) fn new(role: Role) -> Self {
        Self { role, header: [0; MAX_HEADER_LEN], header_len: 0, frame: None, fragments: None }
    }

    /// The next message. Takes bytes from the front of `input`, up to the end of that message, or all of them if no
    /// message is complete.
    ///
    /// # Errors
    /// [`Violation`] if the peer broke the protocol. No further message can be decoded then.
    pub(super) fn next(&mut self, input: &mut &[u8]) -> Result<Option<Message>, Violation> {
        loop {
            let Some(mut frame) = self.frame.take() else {
                match self.read_header(input)? {
                    Some(frame) => self.frame = Some(frame),
                    None => return Ok(None),
                }
                continue;
            };
            frame.fill(input);
            if frame.missing > 0 {
                self.frame = Some(frame);
                return Ok(None);
            }
            if let Some(message) = self.complete(frame)? {
                return Ok(Some(message));
            }
        }
    }

    fn read_header(&mut self, input: &mut &[u8]) -> Result<Option<Incoming>, Violation> {
        let before = self.header_len;
        let more = input.len().min(MAX_HEADER_LEN - before);
        self.header[before..before + more].copy_from_slice(&input[..more]);
        let mut cursor = Cursor::new(&self.header[..before + more]);
        let parsed = FrameHeader::parse(&mut cursor).map_err(|error| violation(&error))?;
        let Some((header, len)) = parsed else {
            *input = &input[more..];
            self.header_len = before + more;
            return Ok(None);
        };
        let used = usize::try_from(cursor.position()).unwrap_or(MAX_HEADER_LEN) - before;
        *input = &input[used..];
        self.header_len = 0;
        self.begin(&header, len).map(Some)
    }

    /// Checks a header (RFC 6455, sections 5.1, 5.2, 5.4 and 5.5) and allocates its payload.
    fn begin(&mut self, header: &FrameHeader, len: u64) -> Result<Incoming, Violation> {
        let FrameHeader { is_final, rsv1, rsv2, rsv3, opcode, mask } = *header;
        if rsv1 || rsv2 || rsv3 {
            return Err(broken(ProtocolError::NonZeroReservedBits));
        }
        match self.role {
            Role::Server if mask.is_none() => return Err(broken(ProtocolError::UnmaskedFrameFromClient)),
            Role::Client if mask.is_some() => return Err(broken(ProtocolError::MaskedFrameFromServer)),
            Role::Server | Role::Client => {}
        }
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let fragments = match opcode {
            OpCode::Control(_) if !is_final => return Err(broken(ProtocolError::FragmentedControlFrame)),
            OpCode::Control(_) if len > MAX_CONTROL_LEN => {
                return Err(broken(ProtocolError::ControlFrameTooBig));
            }
            OpCode::Control(_) => None,
            OpCode::Data(Data::Continue) if self.fragments.is_none() => {
                return Err(broken(ProtocolError::UnexpectedContinueFrame));
            }
            OpCode::Data(Data::Continue) => self.fragments.as_mut().map(|(_, so_far)| so_far),
            OpCode::Data(data) if self.fragments.is_some() => {
                return Err(broken(ProtocolError::ExpectedFragment(data)));
            }
            OpCode::Data(_) => None,
        };
        let mut payload = fragments.map(std::mem::take).unwrap_or_default();
        if len > MAX_MESSAGE_LEN - payload.len() {
            return Err(Violation::TooLong);
        }
        payload.reserve(len);
        Ok(Incoming { opcode, is_final, mask, payload, filled: 0, missing: len })
    }

    /// The message that a whole frame completes.
    fn complete(&mut self, frame: Incoming) -> Result<Option<Message>, Violation> {
        let Incoming { opcode, is_final, payload, .. } = frame;
        let kind = match opcode {
            OpCode::Control(Control::Ping) => return Ok(Some(Message::Ping(payload.freeze()))),
            OpCode::Control(Control::Pong) => return Ok(Some(Message::Pong(payload.freeze()))),
            OpCode::Control(Control::Close) => return close(&payload).map(Message::Close).map(Some),
            // The library has already refused the reserved codes.
            OpCode::Control(Control::Reserved(code)) => {
                return Err(broken(ProtocolError::UnknownControlFrameType(code)));
            }
            OpCode::Data(Data::Reserved(code)) => {
                return Err(broken(ProtocolError::UnknownDataFrameType(code)));
            }
            OpCode::Data(Data::Continue) => self.fragments.take().map_or(Data::Binary, |(kind, _)| kind),
            OpCode::Data(kind @ (Data::Text | Data::Binary)) => kind,
        };
        if !is_final {
            self.fragments = Some((kind, payload));
            return Ok(None);
        }
        match kind {
            Data::Text if std::str::from_utf8(&payload).is_err() => Err(Violation::NotUtf8),
            Data::Text => Err(Violation::NotBinary),
            Data::Binary | Data::Continue | Data::Reserved(_) => Ok(Some(Message::Binary(payload.freeze()))),
        }
    }
}

impl Incoming {
    fn fill(&mut self, input: &mut &[u8]) {
        let (piece, rest) = input.split_at(input.len().min(self.missing));
        match self.mask {
            Some(mask) => append_masked(&mut self.payload, piece, mask, self.filled),
            None => self.payload.extend_from_slice(piece),
        }
        self.filled += piece.len();
        self.missing -= piece.len();
        *input = rest;
    }
}

/// Code and reason of a close frame (RFC 6455, section 5.5.1).
fn close(payload: &[u8]) -> Result<Option<(u16, String)>, Violation> {
    match payload {
        [] => Ok(None),
        [high, low, reason @ ..] => match std::str::from_utf8(reason) {
            Ok(reason) => Ok(Some((u16::from_be_bytes([*high, *low]), reason.to_owned()))),
            Err(_) => Err(Violation::NotUtf8),
        },
        [_] => Err(broken(ProtocolError::InvalidCloseSequence)),
    }
}

fn broken(error: ProtocolError) -> Violation {
    violation(&WsError::Protocol(error))
}

fn violation(error: &WsError) -> Violation {
    Violation::NotWebSocket(error.to_string())
}

#[cfg(test)]
mod tests;
