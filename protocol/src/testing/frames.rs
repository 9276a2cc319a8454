//! Proptest strategies that make every kind of frame.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::{collection::vec, option, prelude::*, sample::select};

use crate::{
    frame::{Frame, StreamId},
    http::{
        context::{Audit, Client},
        headers,
    },
    identity::signed_link::{LINK_SECRET_LEN, LinkKeyId, LinkSecret, LinkSigner},
    limits::{MAX_DATA_LEN, MAX_REASON_LEN},
    message::{DriverStatus, Goaway, Hello, RequestHead, ResetCode, ResponseHead, Status, Welcome},
};

/// Any stream id.
pub fn any_stream() -> impl Strategy<Value = StreamId> {
    (1..=u32::MAX).prop_map(|number| StreamId::new(number).unwrap_or(StreamId::FIRST))
}

fn any_headers(allowed: &'static [HeaderName]) -> impl Strategy<Value = HeaderMap> {
    vec((select(allowed), "[ -~]{0,40}"), 0..6).prop_map(|pairs| {
        let pairs = pairs.into_iter().filter_map(|(name, value)| Some((name, value.parse().ok()?)));
        let mut headers = HeaderMap::new();
        pairs.for_each(|(name, value): (_, HeaderValue)| {
            headers.append(name, value);
        });
        headers
    })
}

fn any_link_key_id() -> impl Strategy<Value = LinkKeyId> {
    any::<[u8; LINK_SECRET_LEN]>()
        .prop_map(|secret| LinkSigner::new(&LinkSecret::from_bytes(secret)).key_id())
}

fn any_hello() -> impl Strategy<Value = Hello> {
    let texts = (".{0,20}", "[0-9a-f]{16}", ".{0,20}", ".{0,20}");
    let numbers = (any::<u16>(), any::<u64>(), any::<u32>());
    (texts, numbers, any_link_key_id(), vec(".{0,10}", 0..4)).prop_map(
        |(texts, numbers, link_key_id, tenants)| Hello {
            agent_version: texts.0,
            instance: texts.1,
            slot: numbers.0,
            link_key_id,
            host: texts.2,
            os: texts.3,
            started_at: numbers.1,
            tenants,
            max_streams: numbers.2,
            drains: numbers.2 % 2 == 1,
            token_fields: if numbers.2 % 3 == 0 { vec!["key".to_owned()] } else { Vec::new() },
        },
    )
}

fn any_welcome() -> impl Strategy<Value = Welcome> {
    (".{0,20}", ".{0,20}", ".{0,40}", any::<[u32; 2]>(), any::<[u64; 2]>()).prop_map(|welcome| Welcome {
        relay_version: welcome.0,
        session: welcome.1,
        base_url: welcome.2,
        initial_window: welcome.3[0],
        max_streams: welcome.3[1],
        ping_after_ms: welcome.4[0],
        dead_after_ms: welcome.4[1],
    })
}

fn any_goaway() -> impl Strategy<Value = Goaway> {
    (".{0,40}", any::<[u64; 2]>())
        .prop_map(|(reason, reconnect_after_ms)| Goaway { reason, reconnect_after_ms })
}

fn any_status() -> impl Strategy<Value = Status> {
    let figures = (option::of(any::<u64>()), option::of(any::<u64>()));
    let driver = (".{0,40}", any::<bool>(), option::of(".{0,20}"), figures).prop_map(
        |(pattern, readable, problem, (recordings, newest))| DriverStatus {
            pattern,
            readable,
            problem,
            recordings,
            newest,
        },
    );
    vec(driver, 0..4).prop_map(|drivers| {
        let problems = drivers.iter().filter_map(|driver| driver.problem.clone()).collect();
        Status { drivers, problems }
    })
}

fn any_request_head() -> impl Strategy<Value = RequestHead> {
    let client = (option::of(".{0,20}"), option::of(".{0,20}"))
        .prop_map(|(address, user_agent)| Client { address, user_agent });
    (".{0,20}", "[A-Z]{1,8}", "/[!-~]{0,80}", any_headers(&headers::REQUEST), any::<u32>(), client).prop_map(
        |head| RequestHead {
            request_id: head.0,
            method: head.1,
            target: head.2,
            headers: head.3,
            deadline_ms: head.4,
            client: head.5,
        },
    )
}

fn any_response_head() -> impl Strategy<Value = ResponseHead> {
    let texts = (option::of(".{0,20}"), option::of(".{0,20}"), option::of(".{0,20}"), option::of(".{0,20}"));
    let audit =
        (texts, option::of(any::<u32>()), option::of(any::<u32>())).prop_map(|(texts, bytes, found)| Audit {
            call_id: texts.0,
            tenant: texts.1,
            user: texts.2,
            recording: texts.3,
            bytes_per_second: bytes,
            found,
        });
    (any::<u16>(), any_headers(&headers::RESPONSE), option::of(audit))
        .prop_map(|(status, headers, audit)| ResponseHead { status, headers, audit })
}

/// Any frame that an encoder of this version makes.
pub fn any_frame() -> impl Strategy<Value = Frame> {
    let body = vec(any::<u8>(), 0..200).prop_map(Bytes::from);
    let answered = vec(any::<u8>(), 0..200).prop_map(Bytes::from);
    let data = prop_oneof![1..200usize, Just(MAX_DATA_LEN)].prop_map(|len| Bytes::from(vec![b'x'; len]));
    let reason = "\\PC{0,60}".prop_map(|text| text.chars().take(MAX_REASON_LEN / 4).collect::<String>());
    prop_oneof![
        any_hello().prop_map(|hello| Frame::Hello(Box::new(hello))),
        any_welcome().prop_map(|welcome| Frame::Welcome(Box::new(welcome))),
        any_goaway().prop_map(Frame::Goaway),
        any_status().prop_map(Frame::Status),
        (any_stream(), any_request_head(), body).prop_map(|(stream, head, body)| Frame::Request(
            stream,
            Box::new(head),
            body
        )),
        (any_stream(), any_response_head())
            .prop_map(|(stream, head)| Frame::Response(stream, Box::new(head))),
        (any_stream(), data).prop_map(|(stream, data)| Frame::Data(stream, data)),
        any_stream().prop_map(Frame::End),
        (any_stream(), any::<u16>(), reason).prop_map(|(stream, code, reason)| Frame::Reset(
            stream,
            ResetCode::from(code),
            reason
        )),
        (any_stream(), 1..=u32::MAX).prop_map(|(stream, bytes)| Frame::Credit(stream, bytes)),
        (any_stream(), any_response_head(), answered).prop_map(|(stream, head, body)| Frame::Answer(
            stream,
            Box::new(head),
            body
        )),
        (0x80..=u8::MAX).prop_map(Frame::Unknown),
    ]
}
