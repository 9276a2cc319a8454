//! What waits to be sent is bounded, whatever a peer does that reads nothing; and what waits is sent.

use audiovault_protocol::{
    frame::Frame,
    limits::{INITIAL_WINDOW, MAX_DATA_LEN},
    mux::{RelayEvent, RelayMux},
    testing::start_of_time,
};

use crate::sides::{data, id, relay_with, response};

/// Has a listener of this stream take half a window, so that credit waits to be sent.
fn half_a_window(relay: &mut RelayMux, stream: u32) {
    let frames = INITIAL_WINDOW as usize / MAX_DATA_LEN / 2;
    relay.handle_frame(response(stream), start_of_time()).unwrap();
    for _ in 0..frames {
        relay.handle_frame(data(stream, MAX_DATA_LEN), start_of_time()).unwrap();
    }
    while let Some(event) = relay.poll_event() {
        if let RelayEvent::Data(stream, _) = event {
            relay.consume(stream, MAX_DATA_LEN as u32, start_of_time());
        }
    }
}

#[test]
fn credit_goes_out_behind_that_of_a_stream_that_has_ended_meanwhile() {
    let mut relay = relay_with(2);
    half_a_window(&mut relay, 1);
    half_a_window(&mut relay, 2);
    relay.handle_frame(Frame::End(id(1)), start_of_time()).unwrap();
    assert!(matches!(relay.poll_transmit(), Some(Frame::Credit(stream, _)) if stream == id(2)));
}
