//! One side alone; the test plays its peer by hand.

use audiovault_protocol::{
    flow::credit::{Budgets, WindowBudget},
    frame::{Frame, StreamId},
    limits::{RELAY_DEADLINE, TUNNEL_WINDOW_BUDGET},
    message::{Goaway, ResponseHead},
    mux::{AgentMux, RelayMux},
    testing::{
        pair::{hello, request, welcome},
        start_of_time,
    },
};
use bytes::Bytes;
use http::HeaderMap;

pub(crate) fn id(number: u32) -> StreamId {
    StreamId::new(number).unwrap()
}

pub(crate) fn data(stream: u32, len: usize) -> Frame {
    Frame::Data(id(stream), vec![0; len].into())
}

pub(crate) fn response(stream: u32) -> Frame {
    Frame::Response(id(stream), head())
}

pub(crate) fn answer(stream: u32, len: usize) -> Frame {
    Frame::Answer(id(stream), head(), vec![0; len].into())
}

fn head() -> Box<ResponseHead> {
    Box::new(ResponseHead { status: 200, headers: HeaderMap::new(), audit: None })
}

pub(crate) fn goaway() -> Goaway {
    Goaway { reason: "maintenance".to_owned(), reconnect_after_ms: [0, 1000] }
}

/// A relay's end whose agent has greeted and which has opened streams 1 to `open`.
pub(crate) fn relay_with(open: u32) -> RelayMux {
    let now = start_of_time();
    let budgets =
        Budgets { tunnel: WindowBudget::new(TUNNEL_WINDOW_BUDGET), process: WindowBudget::new(u64::MAX) };
    let mut relay = RelayMux::new(budgets, now);
    relay.handle_frame(Frame::Hello(Box::new(hello(256))), now).unwrap();
    relay.welcome(welcome());
    for number in 1..=open {
        assert_eq!(relay.open(request(1), Bytes::new(), RELAY_DEADLINE, now), Ok(id(number)));
    }
    while relay.poll_transmit().is_some() {}
    while relay.poll_event().is_some() {}
    relay
}

/// An agent's end that was welcomed and has accepted streams 1 to `open`.
pub(crate) fn agent_with(open: u32, max_streams: u32) -> AgentMux {
    let now = start_of_time();
    let mut agent = AgentMux::new(hello(max_streams), now);
    agent.handle_frame(Frame::Welcome(Box::new(welcome())), now).unwrap();
    for number in 1..=open {
        let request = Frame::Request(id(number), Box::new(request(1)), Bytes::new());
        agent.handle_frame(request, now).unwrap();
    }
    while agent.poll_event().is_some() {}
    while agent.poll_transmit(start_of_time()).is_some() {}
    agent
}
