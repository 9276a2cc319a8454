use proptest::prelude::*;

use super::*;
use crate::testing::frames;

fn raw(kind: u8, stream: u32, payload: &[u8]) -> Bytes {
    [&[kind][..], &stream.to_be_bytes(), payload].concat().into()
}

proptest! {
    #[test]
    fn every_frame_survives_its_bytes(frame in frames::any_frame()) {
        prop_assert_eq!(Frame::decode(frame.encode()), Ok(frame));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Frame::decode(bytes.into());
    }

    #[test]
    fn a_damaged_frame_never_panics(frame in frames::any_frame(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut bytes = frame.encode().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = to;
        let _ = Frame::decode(bytes.into());
    }
}

#[test]
fn the_bytes_are_those_of_the_specification() {
    let stream = StreamId::new(0x0102_0304).unwrap();
    assert_eq!(&Frame::Credit(stream, 65536).encode()[..], [0x15, 1, 2, 3, 4, 0, 1, 0, 0]);
    assert_eq!(&Frame::End(stream).encode()[..], [0x13, 1, 2, 3, 4]);
    assert_eq!(&Frame::Data(stream, Bytes::from_static(b"ab")).encode()[..], b"\x12\x01\x02\x03\x04ab");
    let reset = Frame::Reset(stream, ResetCode::Cancelled, "bye".to_owned());
    assert_eq!(&reset.encode()[..], b"\x14\x01\x02\x03\x04\x00\x01bye");
}

#[test]
fn limits_are_exact() {
    let data = |len| Frame::decode(raw(DATA, 1, &vec![0; len]));
    assert!(data(MAX_DATA_LEN).is_ok());
    assert!(matches!(data(MAX_DATA_LEN + 1), Err(DecodeError::TooLong { .. })));
    assert_eq!(data(0), Err(DecodeError::Payload("DATA")));

    let reset = |len| Frame::decode(raw(RESET, 1, &[&[0, 1][..], &vec![b'x'; len]].concat()));
    assert!(reset(MAX_REASON_LEN).is_ok());
    assert!(matches!(reset(MAX_REASON_LEN + 1), Err(DecodeError::TooLong { .. })));

    let padded = |len: usize| {
        let json = br#"{"reason":"","reconnect_after_ms":[0,0]}"#;
        Frame::decode(raw(GOAWAY, 0, &[&json[..], &vec![b' '; len - json.len()]].concat()))
    };
    assert!(padded(MAX_HEAD_LEN).is_ok());
    assert!(matches!(padded(MAX_HEAD_LEN + 1), Err(DecodeError::TooLong { .. })));
}

#[test]
fn a_request_body_has_an_exact_limit() {
    let head = RequestHead {
        request_id: "r".to_owned(),
        method: "POST".to_owned(),
        target: "/search".to_owned(),
        headers: http::HeaderMap::new(),
        deadline_ms: 1,
        client: crate::http::context::Client::default(),
    };
    let request = |len| Frame::Request(StreamId::FIRST, Box::new(head.clone()), vec![0; len].into()).encode();
    assert!(Frame::decode(request(MAX_REQUEST_BODY_LEN)).is_ok());
    assert!(Frame::decode(request(MAX_REQUEST_BODY_LEN + 1)).is_err());
}

#[test]
fn the_body_of_an_answer_is_as_long_as_data_at_most() {
    let head = ResponseHead { status: 200, headers: http::HeaderMap::new(), audit: None };
    let answer = |len| Frame::Answer(StreamId::FIRST, Box::new(head.clone()), vec![0; len].into()).encode();
    assert!(Frame::decode(answer(0)).is_ok());
    assert!(Frame::decode(answer(MAX_DATA_LEN)).is_ok());
    assert!(Frame::decode(answer(MAX_DATA_LEN + 1)).is_err());
    let [kind, rest @ ..] = &answer(2)[..] else { panic!("a frame") };
    assert_eq!((*kind, &rest[rest.len() - 2..]), (0x16, &[0, 0][..]));
    assert_eq!(Frame::decode(raw(ANSWER, 1, b"\0\0\0\x09{}")), Err(DecodeError::Truncated("ANSWER")));
}

#[test]
fn only_types_from_0x80_on_may_be_unknown() {
    assert_eq!(Frame::decode(raw(0x80, 7, b"later")), Ok(Frame::Unknown(0x80)));
    assert_eq!(Frame::decode(raw(0x7f, 7, b"")), Err(DecodeError::UnknownType(0x7f)));
}

#[test]
fn streams_and_tunnel_are_not_confused() {
    assert_eq!(Frame::decode(raw(END, 0, b"")), Err(DecodeError::WrongStream("END")));
    assert_eq!(Frame::decode(raw(STATUS, 1, b"{}")), Err(DecodeError::WrongStream("STATUS")));
}

#[test]
fn a_reason_cannot_forge_lines_of_the_log() {
    let reset = raw(RESET, 1, b"\0\x04gone\n2026-01-01 INFO \x1b[31mall is well");
    let Ok(Frame::Reset(_, _, reason)) = Frame::decode(reset) else { panic!("a reset") };
    assert_eq!(reason, "gone\u{fffd}2026-01-01 INFO \u{fffd}[31mall is well");
}

#[test]
fn a_long_reason_is_cut_between_characters() {
    let reset = Frame::Reset(StreamId::FIRST, ResetCode::ReadFailed, "ñ".repeat(200));
    let Ok(Frame::Reset(_, _, reason)) = Frame::decode(reset.encode()) else { panic!("a reset") };
    assert_eq!(reason, "ñ".repeat(MAX_REASON_LEN / 2));
}
