//! The frame decoder accepts any bytes: it never panics, copies no body, uses little memory, and encodes a decoded
//! frame so that it decodes to the same again.

#![no_main]

use audiovault_protocol::{frame::Frame, limits::MAX_HEAD_LEN};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Memory that a frame may use for each of its bytes. Empty strings in a list need most: three bytes (`"",`) become a
/// `String` of 24, in a vector that has doubled its capacity and still holds the half from which it was copied.
const MEMORY_PER_BYTE: usize = 3 * 24 / 3;
/// Memory that a frame may use in addition: the first capacity of a header map and of the lists, and the box around a
/// head.
const MEMORY_FLOOR: usize = 8 * 1024;

fuzz_target!(|bytes: &[u8]| {
    let message = Bytes::copy_from_slice(bytes);
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let decoded = Frame::decode(message.clone());
    let held = MEMORY.peak_usage() - before;
    let len = bytes.len().min(MAX_HEAD_LEN);
    assert!(held <= MEMORY_FLOOR + MEMORY_PER_BYTE * len, "{held} bytes of memory for a frame of {len}");
    let Ok(frame) = decoded else { return };

    if let Frame::Data(_, body) | Frame::Request(_, _, body) | Frame::Answer(_, _, body) = &frame
        && !body.is_empty()
    {
        assert!(message.as_ptr_range().contains(&body.as_ptr()), "a body was copied");
    }
    check_encoding(&frame);
});

/// A decoded frame decodes to the same when it is sent again.
fn check_encoding(frame: &Frame) {
    let encoded = frame.encode();
    match Frame::decode(encoded.clone()) {
        // Bytes of a reason that are not UTF-8 become longer, and the sender cuts a reason that is too long.
        Ok(Frame::Reset(stream, code, reason)) => {
            assert!(
                matches!(frame, Frame::Reset(s, c, r) if *s == stream && *c == code && r.starts_with(&reason))
            );
            assert_eq!(Frame::Reset(stream, code, reason).encode(), encoded);
        }
        Ok(again) => {
            assert_eq!(again, *frame);
            assert_eq!(again.encode(), encoded);
        }
        // Members with default values are written out, which can make a head too long that was just short enough.
        Err(error) => {
            assert!(encoded.len() > MAX_HEAD_LEN, "{} is not understood again: {error}", frame.name())
        }
    }
}
