//! Cost of the frame codec: what every byte and every request costs on both sides.

#![expect(clippy::expect_used, reason = "a measurement that cannot go on has nothing to say")]

use audiovault_protocol::{
    frame::{Frame, StreamId},
    http::context::{Audit, Client},
    limits::{FULL_DATA_LEN, INITIAL_WINDOW},
    message::{RequestHead, ResponseHead},
};
use bytes::Bytes;
use divan::{Bencher, counter::BytesCount};
use http::{HeaderMap, HeaderName, HeaderValue};

fn main() {
    divan::main();
}

/// A full DATA frame, and one of a slow uplink.
const DATA_LENS: [usize; 2] = [FULL_DATA_LEN, 4 * 1024];

fn headers(named: &[(&'static str, &'static str)]) -> HeaderMap {
    let named = named.iter();
    named.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

fn data(len: usize) -> Frame {
    Frame::Data(StreamId::FIRST, vec![0x5a; len].into())
}

/// A search as QueueMetrics posts it.
fn request() -> Frame {
    let head = RequestHead {
        request_id: "01hqz3v7m2x9k4t8".to_owned(),
        method: "POST".to_owned(),
        target: "/search".to_owned(),
        headers: headers(&[("content-type", "application/x-www-form-urlencoded"), ("accept", "*/*")]),
        deadline_ms: 12_000,
        client: Client::default(),
    };
    let body = Bytes::from_static(b"token=0123456789abcdef&callid=1711441902.17&start=1711441902");
    Frame::Request(StreamId::FIRST, Box::new(head), body)
}

/// The head of a recording.
fn response() -> Frame {
    let head = ResponseHead {
        status: 200,
        headers: headers(&[
            ("content-type", "audio/wav"),
            ("content-length", "512044"),
            ("accept-ranges", "bytes"),
            ("etag", "\"7d02c-17c05f2a1b3c4d5e\""),
            ("last-modified", "Tue, 26 Mar 2024 08:31:42 GMT"),
            ("content-disposition", "inline; filename=\"recording.wav\""),
        ]),
        audit: Some(Audit::default()),
    };
    Frame::Response(StreamId::FIRST, Box::new(head))
}

fn credit() -> Frame {
    Frame::Credit(StreamId::FIRST, INITIAL_WINDOW / 2)
}

fn encode(bencher: Bencher, frame: &Frame) {
    bencher.counter(BytesCount::new(frame.encode().len())).bench(|| divan::black_box(frame).encode());
}

fn decode(bencher: Bencher, frame: &Frame) {
    let message = frame.encode();
    bencher
        .counter(BytesCount::new(message.len()))
        .with_inputs(|| message.clone())
        .bench_values(|message| Frame::decode(message).expect("a whole frame"));
}

#[divan::bench(args = DATA_LENS)]
fn encode_data(bencher: Bencher, len: usize) {
    encode(bencher, &data(len));
}

#[divan::bench(args = DATA_LENS)]
fn decode_data(bencher: Bencher, len: usize) {
    decode(bencher, &data(len));
}

#[divan::bench]
fn encode_request(bencher: Bencher) {
    encode(bencher, &request());
}

#[divan::bench]
fn decode_request(bencher: Bencher) {
    decode(bencher, &request());
}

#[divan::bench]
fn encode_response(bencher: Bencher) {
    encode(bencher, &response());
}

#[divan::bench]
fn decode_response(bencher: Bencher) {
    decode(bencher, &response());
}

#[divan::bench]
fn encode_credit(bencher: Bencher) {
    encode(bencher, &credit());
}

#[divan::bench]
fn decode_credit(bencher: Bencher) {
    decode(bencher, &credit());
}
