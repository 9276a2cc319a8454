//! The decoder understands the same as tungstenite, however the bytes are cut.

use std::io::{self, Cursor, Read, Write};

use proptest::prelude::*;
use tokio_tungstenite::tungstenite::{self, WebSocket, protocol::WebSocketConfig};

use super::*;

/// A frame as a peer may send it, right or wrong.
#[derive(Debug, Clone)]
struct Sent {
    is_final: bool,
    opcode: u8,
    masked: bool,
    payload: Vec<u8>,
}

impl Sent {
    fn encode(&self, bytes: &mut Vec<u8>) {
        let mask = [0x11, 0x22, 0x33, 0x44];
        bytes.push(if self.is_final { 0x80 } else { 0 } | self.opcode);
        let masked = if self.masked { 0x80 } else { 0 };
        match u16::try_from(self.payload.len()).unwrap() {
            len @ ..126 => bytes.push(masked | len as u8),
            len => {
                bytes.push(masked | 126);
                bytes.extend_from_slice(&len.to_be_bytes());
            }
        }
        if self.masked {
            bytes.extend_from_slice(&mask);
        }
        let mask = if self.masked { mask } else { [0; 4] };
        bytes.extend(self.payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
    }
}

fn frame() -> impl Strategy<Value = Sent> {
    let opcode = prop_oneof![
        4 => Just(2_u8),
        2 => Just(0_u8),
        1 => Just(1_u8),
        1 => Just(8_u8),
        2 => Just(9_u8),
        1 => Just(10_u8),
        1 => 0_u8..16,
    ];
    let payload = prop_oneof![
        4 => proptest::collection::vec(any::<u8>(), 0..200),
        1 => proptest::collection::vec(any::<u8>(), 5_000..6_000),
    ];
    let is_final = prop_oneof![4 => Just(true), 1 => Just(false)];
    let masked = prop_oneof![20 => Just(true), 1 => Just(false)];
    (is_final, opcode, masked, payload).prop_map(|(is_final, opcode, masked, payload)| Sent {
        // The library judges the parts of a text one by one. The decoder refuses a text when it is complete.
        is_final: is_final || opcode == 1,
        opcode,
        masked,
        payload,
    })
}

/// Reads from memory and forgets what is written.
struct Peer(Cursor<Vec<u8>>);

impl Read for Peer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Peer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The messages as tungstenite reads them, and whether it refuses what follows.
fn by_library(bytes: &[u8]) -> (Vec<Message>, bool) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE_LEN))
        .max_frame_size(Some(MAX_MESSAGE_LEN));
    let role = tungstenite::protocol::Role::Server;
    let mut socket = WebSocket::from_raw_socket(Peer(Cursor::new(bytes.to_vec())), role, Some(config));
    let mut messages = Vec::new();
    loop {
        messages.push(match socket.read() {
            Ok(tungstenite::Message::Binary(payload)) => Message::Binary(payload),
            Ok(tungstenite::Message::Ping(payload)) => Message::Ping(payload),
            Ok(tungstenite::Message::Pong(payload)) => Message::Pong(payload),
            // A code that no peer may send is replaced there; here its bytes do not matter.
            Ok(tungstenite::Message::Close(_)) => {
                messages.push(Message::Close(None));
                return (messages, false);
            }
            Ok(tungstenite::Message::Text(_) | tungstenite::Message::Frame(_)) => return (messages, true),
            Err(WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => return (messages, false),
            Err(_) => return (messages, true),
        });
    }
}

/// The same, read by the decoder in pieces of these lengths.
fn by_decoder(bytes: &[u8], pieces: &[usize]) -> (Vec<Message>, bool) {
    let mut decoder = Decoder::new(Role::Server);
    let mut messages = Vec::new();
    let mut left = bytes;
    for len in pieces.iter().cycle() {
        let (mut piece, rest) = left.split_at(left.len().min(*len));
        left = rest;
        loop {
            match decoder.next(&mut piece) {
                Ok(Some(Message::Close(_))) => {
                    messages.push(Message::Close(None));
                    return (messages, false);
                }
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(_) => return (messages, true),
            }
        }
        assert!(piece.is_empty(), "nothing is left over");
        if left.is_empty() {
            break;
        }
    }
    (messages, false)
}

proptest! {
    #[test]
    fn the_decoder_understands_what_the_library_does(
        frames in proptest::collection::vec(frame(), 1..12),
        pieces in proptest::collection::vec(1_usize..3_000, 1..8),
        missing in 0_usize..20,
    ) {
        let mut bytes = Vec::new();
        frames.iter().for_each(|frame| frame.encode(&mut bytes));
        bytes.truncate(bytes.len() - missing.min(bytes.len()));
        let (ours, refused) = by_decoder(&bytes, &pieces);
        let (theirs, refused_there) = by_library(&bytes);
        // A header is judged before its payload has come, so what is wrong is found earlier here.
        prop_assert!(refused || !refused_there, "{theirs:?}");
        prop_assert_eq!(ours, theirs);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
        for role in [Role::Server, Role::Client] {
            let mut decoder = Decoder::new(role);
            let mut input = &bytes[..];
            while let Ok(Some(_)) = decoder.next(&mut input) {}
        }
    }
}

#[test]
fn a_message_that_is_too_long_is_refused_before_its_memory_is_taken() {
    let mut decoder = Decoder::new(Role::Client);
    let too_long = (MAX_MESSAGE_LEN as u64 + 1).to_be_bytes();
    let header = [&[0x82, 127][..], &too_long].concat();
    assert_eq!(decoder.next(&mut &header[..]), Err(Violation::TooLong));

    // Also if it comes in fragments.
    let mut decoder = Decoder::new(Role::Client);
    let first = [&[0x02, 126][..], &60_000_u16.to_be_bytes(), &vec![0; 60_000]].concat();
    assert_eq!(decoder.next(&mut &first[..]), Ok(None));
    let second = [&[0x80, 126][..], &60_000_u16.to_be_bytes()].concat();
    assert_eq!(decoder.next(&mut &second[..]), Err(Violation::TooLong));
}
