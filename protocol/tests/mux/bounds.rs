//! Tests that frames which wait are limited in number, even if the peer reads nothing, and that they are sent in the
//! end.

use audiovault_protocol::{
    frame::Frame,
    limits::{INITIAL_WINDOW, MAX_DATA_LEN, RELAY_DEADLINE},
    message::ResetCode,
    mux::{AgentMux, RelayEvent, RelayMux, Violation},
    testing::{pair::request, start_of_time},
};
use bytes::Bytes;

use crate::sides::{agent_with, answer, data, goaway, id, relay_with, response};

fn ask(agent: &mut AgentMux, stream: u32) -> Result<(), Violation> {
    agent.handle_frame(Frame::Request(id(stream), Box::new(request(1)), Bytes::new()), start_of_time())
}

fn cancel(agent: &mut AgentMux, stream: u32) {
    agent
        .handle_frame(Frame::Reset(id(stream), ResetCode::Cancelled, String::new()), start_of_time())
        .unwrap();
}

#[test]
fn an_agent_that_answers_what_it_cannot_have_read_breaks_the_protocol() {
    let unread = || {
        let mut relay = relay_with(0);
        relay.open(request(1), Bytes::new(), RELAY_DEADLINE, start_of_time()).unwrap();
        relay
    };
    let reset = Frame::Reset(id(1), ResetCode::ReadFailed, String::new());
    for (frame, name) in [(response(1), "RESPONSE"), (answer(1, 1), "RESPONSE"), (reset, "RESET")] {
        assert_eq!(unread().handle_frame(frame, start_of_time()), Err(Violation::NeverOpened(name, id(1))));
    }
}

/// Lets the consumer of this stream take half a window, so that credit waits to be sent.
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

#[test]
fn an_agent_queues_no_more_resets_than_it_may_have_streams() {
    let mut agent = agent_with(2, 2);
    agent.reset(id(1), ResetCode::ReadFailed, "the disk is gone");
    assert_eq!(ask(&mut agent, 3), Err(Violation::TooManyStreams(id(3))), "a relay that reads nothing");
}

#[test]
fn a_relay_that_gave_up_what_the_agent_was_about_to_give_up_may_ask_anew() {
    let mut agent = agent_with(1, 1);
    agent.reset(id(1), ResetCode::ReadFailed, "the disk is gone");
    cancel(&mut agent, 1);
    ask(&mut agent, 2).unwrap();
    assert_eq!(agent.poll_transmit(start_of_time()), None, "the relay no longer waits for the RESET");

    let mut leaving = agent_with(0, 1);
    leaving.go_away(goaway());
    ask(&mut leaving, 1).unwrap();
    cancel(&mut leaving, 1);
    ask(&mut leaving, 2).unwrap();
}
