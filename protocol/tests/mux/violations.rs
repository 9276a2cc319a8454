//! Tests that a peer which breaks the protocol loses its tunnel, with a reason, and that a peer which is only late does
//! not.

use audiovault_protocol::{
    flow::credit::{Budgets, WindowBudget},
    frame::Frame,
    limits::{BUSY_FOR, GREETING_TIMEOUT, INITIAL_WINDOW, MAX_DATA_LEN},
    message::{CloseCode, ResetCode, ResponseHead},
    mux::{AgentMux, RelayMux, Violation},
    testing::{
        pair::{hello, request, welcome},
        start_of_time,
    },
};
use bytes::Bytes;
use http::HeaderMap;

use crate::sides::{agent_with, answer, data, goaway, id, relay_with, response};

#[test]
fn a_peer_that_does_not_greet_or_falls_silent_is_dropped() {
    let now = start_of_time();
    let mut mute = AgentMux::new(hello(1), now);
    assert_eq!(mute.handle_timeout(now + GREETING_TIMEOUT), Err(Violation::NoGreeting));
    let mut silent = relay_with(0);
    assert_eq!(silent.handle_timeout(now + BUSY_FOR), Err(Violation::Silent));
}

#[test]
fn every_violation_of_an_agent_ends_its_tunnel_with_a_reason() {
    let flood = |relay: &mut RelayMux| {
        (0..=INITIAL_WINDOW as usize / MAX_DATA_LEN)
            .try_for_each(|_| relay.handle_frame(data(1, MAX_DATA_LEN), start_of_time()))
    };
    let feed = |frames: Vec<Frame>| {
        let mut relay = relay_with(2);
        frames.into_iter().try_for_each(|frame| relay.handle_frame(frame, start_of_time())).unwrap_err()
    };
    let end = || Frame::End(id(1));
    assert_eq!(feed(vec![response(3)]), Violation::NeverOpened("RESPONSE", id(3)));
    assert_eq!(feed(vec![data(1, 1)]), Violation::OutOfOrder("DATA", id(1)));
    assert_eq!(feed(vec![end()]), Violation::OutOfOrder("END", id(1)));
    assert_eq!(feed(vec![response(1), response(1)]), Violation::OutOfOrder("RESPONSE", id(1)));
    assert_eq!(feed(vec![response(1), end(), end()]), Violation::OutOfOrder("END", id(1)));
    assert_eq!(feed(vec![response(1), end(), data(1, 1)]), Violation::OutOfOrder("DATA", id(1)));
    assert_eq!(feed(vec![answer(1, 1), end()]), Violation::OutOfOrder("END", id(1)));
    assert_eq!(feed(vec![answer(1, 0), answer(1, 0)]), Violation::OutOfOrder("RESPONSE", id(1)));
    assert_eq!(feed(vec![response(1), answer(1, 1)]), Violation::OutOfOrder("RESPONSE", id(1)));
    assert_eq!(feed(vec![answer(3, 1)]), Violation::NeverOpened("RESPONSE", id(3)));
    assert_eq!(feed(vec![Frame::Hello(Box::new(hello(1)))]), Violation::GreetedTwice);
    assert_eq!(feed(vec![Frame::Credit(id(1), 1)]), Violation::WrongDirection("CREDIT"));

    let mut relay = relay_with(1);
    relay.handle_frame(response(1), start_of_time()).unwrap();
    let violation = flood(&mut relay).unwrap_err();
    assert_eq!(violation, Violation::CreditExceeded(id(1)));
    assert_eq!(violation.close_code(), CloseCode::CreditExceeded);

    let budgets = Budgets { tunnel: WindowBudget::new(1), process: WindowBudget::new(1) };
    let mut strange = RelayMux::new(budgets, start_of_time());
    assert_eq!(strange.handle_frame(response(1), start_of_time()), Err(Violation::NotGreeted("RESPONSE")));
}

#[test]
fn after_a_reset_only_what_was_under_way_may_come() {
    let mut relay = relay_with(1);
    let now = start_of_time();
    relay.release(id(1));
    assert!(matches!(relay.poll_transmit(), Some(Frame::Reset(..))));
    relay.handle_frame(response(1), now).unwrap();
    for _ in 0..INITIAL_WINDOW as usize / MAX_DATA_LEN {
        relay.handle_frame(data(1, MAX_DATA_LEN), now).unwrap();
    }
    assert_eq!(relay.handle_frame(data(1, 1), now), Err(Violation::OutOfOrder("DATA", id(1))));
    relay.handle_frame(Frame::End(id(1)), now).unwrap();
    assert_eq!(relay.handle_frame(Frame::End(id(1)), now), Err(Violation::OutOfOrder("END", id(1))));
    assert_eq!(relay.poll_event(), None, "it is not reported");
}

#[test]
fn an_answer_that_was_under_way_when_the_client_left_is_no_fault() {
    let mut relay = relay_with(1);
    relay.release(id(1));
    assert!(matches!(relay.poll_transmit(), Some(Frame::Reset(..))));
    relay.handle_frame(answer(1, 1000), start_of_time()).unwrap();
    assert_eq!(relay.poll_event(), None, "it is not reported");
    let again = relay.handle_frame(answer(1, 0), start_of_time());
    assert_eq!(again, Err(Violation::OutOfOrder("RESPONSE", id(1))));
}

#[test]
fn every_violation_of_a_relay_ends_its_tunnel_with_a_reason() {
    let feed = |frames: Vec<Frame>| {
        let mut agent = agent_with(2, 2);
        frames.into_iter().try_for_each(|frame| agent.handle_frame(frame, start_of_time())).unwrap_err()
    };
    let open = |number| Frame::Request(id(number), Box::new(request(1)), Bytes::new());
    assert_eq!(feed(vec![open(2)]), Violation::Reused(id(2)));
    assert_eq!(feed(vec![open(9)]), Violation::TooManyStreams(id(9)));
    assert_eq!(feed(vec![Frame::Credit(id(3), 1)]), Violation::NeverOpened("CREDIT", id(3)));
    assert_eq!(feed(vec![Frame::Credit(id(1), u32::MAX)]), Violation::CreditOverflow(id(1)));
    assert_eq!(
        feed(vec![Frame::Reset(id(7), ResetCode::Cancelled, String::new())]),
        Violation::NeverOpened("RESET", id(7))
    );
    assert_eq!(feed(vec![Frame::End(id(1))]), Violation::WrongDirection("END"));
    assert_eq!(feed(vec![answer(1, 0)]), Violation::WrongDirection("ANSWER"));
    assert_eq!(feed(vec![Frame::Welcome(Box::new(welcome()))]), Violation::GreetedTwice);
}

#[test]
fn a_draining_agent_is_not_flooded_by_requests_it_refuses() {
    let mut agent = agent_with(0, 2);
    agent.go_away(goaway());
    let open = |number| Frame::Request(id(number), Box::new(request(1)), Bytes::new());
    agent.handle_frame(open(1), start_of_time()).unwrap();
    agent.handle_frame(open(2), start_of_time()).unwrap();
    let third = agent.handle_frame(open(3), start_of_time());
    assert_eq!(third, Err(Violation::TooManyStreams(id(3))));
}

#[test]
fn credit_that_comes_after_the_end_is_no_fault() {
    let mut agent = agent_with(1, 2);
    agent.respond(id(1), ResponseHead { status: 200, headers: HeaderMap::new(), audit: None });
    agent.finish(id(1));
    while agent.poll_transmit(start_of_time()).is_some() {}
    agent.handle_frame(Frame::Credit(id(1), 5), start_of_time()).unwrap();
    assert_eq!(agent.poll_event(), None);
}

#[test]
fn frames_of_a_later_version_are_ignored_by_both() {
    agent_with(0, 1).handle_frame(Frame::Unknown(0x80), start_of_time()).unwrap();
    relay_with(0).handle_frame(Frame::Unknown(0xff), start_of_time()).unwrap();
}
