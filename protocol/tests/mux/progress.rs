//! Tests of what counts as progress of a body, and how long it may make none.

use std::time::Duration;

use audiovault_protocol::{
    limits::{INITIAL_WINDOW, MAX_DATA_LEN, PAUSE_TIMEOUT},
    message::ResetCode,
    mux::{RelayEvent, RelayMux},
    testing::start_of_time,
};

use crate::sides::{data, id, relay_with, response};

#[test]
fn a_listener_who_takes_little_at_a_time_is_not_given_up() {
    let mut relay = relay_with(1);
    let mut now = start_of_time();
    relay.handle_frame(response(1), now).unwrap();
    for _ in 0..INITIAL_WINDOW as usize / MAX_DATA_LEN {
        relay.handle_frame(data(1, MAX_DATA_LEN), now).unwrap();
    }
    while relay.poll_event().is_some() {}
    let mut pass = |relay: &mut RelayMux, time: Duration| {
        now += time;
        relay.handle_inbound(now);
        relay.handle_timeout(now).unwrap();
        now
    };
    // Three chunks are less than half a window, so no credit is returned for them.
    for _ in 0..3 {
        let now = pass(&mut relay, PAUSE_TIMEOUT / 2);
        relay.consume(id(1), MAX_DATA_LEN as u32, now);
        assert_eq!(relay.poll_event(), None, "he took something half an hour ago");
    }
    pass(&mut relay, PAUSE_TIMEOUT);
    let given_up = relay.poll_event();
    assert!(matches!(given_up, Some(RelayEvent::Reset(_, ResetCode::Stalled, _))), "nothing for an hour");
}
