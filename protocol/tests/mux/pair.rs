//! Tests with two sides that keep to the protocol, with all kinds of applications and links.

use std::time::Duration;

use audiovault_protocol::{
    frame::Frame,
    http::context::Client,
    limits::{
        INITIAL_WINDOW, MAX_DATA_LEN, MAX_STREAMS, MIN_DATA_COST, PAUSE_TIMEOUT, RELAY_DEADLINE,
        SHORTEST_BURST, STALL_TIMEOUT, TUNNEL_WINDOW_BUDGET,
    },
    message::{ResetCode, ResponseHead},
    mux::{AgentEvent, AgentMux, OpenError, RelayEvent},
    testing::{
        pair::{Outcome, Pair, request},
        start_of_time,
    },
};
use bytes::Bytes;
use http::HeaderMap;
use proptest::prelude::*;

use crate::sides::{agent_with, data, goaway, id, relay_with, response};

#[test]
fn a_request_is_answered_byte_for_byte() {
    let mut pair = Pair::greeted(256).unwrap();
    let lengths = [0, 1, 63, 64, 65, 32_754, 32_755, 32_756, 262_144, 262_145, 5_000_000];
    let streams = lengths.map(|len| pair.open(len, false).unwrap());
    pair.run(1000).unwrap();
    for (stream, len) in streams.iter().zip(lengths) {
        let listener = &pair.listeners[stream];
        assert_eq!((listener.outcome, listener.received), (Outcome::Complete, len));
    }
    assert_eq!(pair.budgets.tunnel.used(), 0, "every window was given back");
}

#[test]
fn a_paused_listener_gets_one_window_and_does_not_delay_others() {
    let mut pair = Pair::greeted(256).unwrap();
    let paused = pair.open(10_000_000, true).unwrap();
    pair.run(100).unwrap();
    let other = pair.open(10_000_000, false).unwrap();
    let search = pair.open(500, false).unwrap();
    pair.run(12).unwrap();
    assert_eq!(pair.listeners[&search].outcome, Outcome::Complete, "one round trip is enough");
    pair.run(2000).unwrap();
    assert_eq!(pair.listeners[&other].outcome, Outcome::Complete);
    let window = u64::from(INITIAL_WINDOW - MIN_DATA_COST)..=u64::from(INITIAL_WINDOW);
    assert!(window.contains(&pair.listeners[&paused].received));
    pair.listeners.get_mut(&paused).unwrap().paused = false;
    pair.run(2000).unwrap();
    assert_eq!(pair.listeners[&paused].outcome, Outcome::Complete);
}

#[test]
fn downloads_share_a_slow_uplink_evenly_and_a_search_overtakes_them() {
    let mut pair = Pair::greeted(256).unwrap();
    pair.uplink = 1;
    let bulk: Vec<_> = (0..5).map(|_| pair.open(3_000_000, false).unwrap()).collect();
    pair.run(150).unwrap();
    pair.data_order.clear();
    pair.run(100).unwrap();
    for stream in &bulk {
        let turns = pair.data_order.iter().filter(|other| *other == stream).count();
        assert!((19..=21).contains(&turns), "{turns} of 100 frames went to stream {stream}");
    }
    let search = pair.open(2_000, false).unwrap();
    pair.run(16).unwrap();
    assert_eq!(pair.listeners[&search].outcome, Outcome::Complete);
}

#[test]
fn a_client_that_leaves_stops_the_agent_and_frees_everything() {
    let mut pair = Pair::greeted(256).unwrap();
    let stream = pair.open(1_000_000_000, false).unwrap();
    pair.run(50).unwrap();
    pair.leave(stream);
    pair.run(20).unwrap();
    assert!(pair.agent.is_drained() && pair.relay.is_drained());
    assert_eq!((pair.budgets.tunnel.used(), pair.budgets.process.used()), (0, 0));
    pair.open(100_000, false).unwrap();
    pair.run(50).unwrap();
}

#[test]
fn a_failing_disk_is_never_a_complete_body() {
    let mut pair = Pair::greeted(256).unwrap();
    let stream = pair.open(1_000_000_000, false).unwrap();
    pair.run(50).unwrap();
    pair.fail(stream);
    pair.run(20).unwrap();
    assert_eq!(pair.listeners[&stream].outcome, Outcome::Reset(ResetCode::ReadFailed));
}

#[test]
fn a_request_that_was_not_sent_leaves_no_trace() {
    let mut relay = relay_with(0);
    let now = start_of_time();
    let stream = relay.open(request(1), Bytes::new(), RELAY_DEADLINE, now).unwrap();
    relay.release(stream);
    assert_eq!(relay.poll_transmit(), None);
    assert_eq!(
        relay.open(request(1), Bytes::new(), RELAY_DEADLINE, now),
        Ok(id(2)),
        "ids are never used twice"
    );
}

#[test]
fn as_many_streams_open_as_the_agent_allows_and_not_one_more() {
    let mut pair = Pair::greeted(3).unwrap();
    let streams: Vec<_> = (0..3).map(|_| pair.open(1_000_000_000, true).unwrap()).collect();
    assert_eq!(pair.open(1, false), Err(OpenError::TooManyStreams));
    pair.run(20).unwrap();
    pair.leave(streams[0]);
    assert_eq!(pair.open(1, false), Err(OpenError::TooManyStreams), "its RESET was not sent yet");
    pair.run(1).unwrap();
    pair.open(1, false).unwrap();
    pair.run(20).unwrap();
}

#[test]
fn the_relay_itself_opens_no_more_than_its_own_limit() {
    let mut pair = Pair::greeted(u32::MAX).unwrap();
    for _ in 0..MAX_STREAMS {
        pair.open(1, false).unwrap();
    }
    assert_eq!(pair.open(1, false), Err(OpenError::TooManyStreams));
}

#[test]
fn bodies_that_lie_with_paused_listeners_keep_their_budget() {
    let mut pair = Pair::greeted(256).unwrap();
    for _ in 0..TUNNEL_WINDOW_BUDGET / u64::from(INITIAL_WINDOW) {
        match pair.open(1000, true) {
            Ok(_) => pair.run(12).unwrap(),
            Err(error) => assert_eq!(error, OpenError::NoBudget),
        }
    }
    assert_eq!(pair.relay.open_streams(), 0);
    assert_eq!(pair.open(1, false), Err(OpenError::NoBudget), "all are complete, none was taken");
    pair.listeners.values_mut().for_each(|listener| listener.paused = false);
    pair.run(1).unwrap();
    pair.open(1, false).unwrap();
}

#[test]
fn a_request_without_an_answer_ends_at_its_deadline() {
    let mut relay = relay_with(1);
    let now = start_of_time();
    assert!(relay.poll_timeout(true) <= now + RELAY_DEADLINE);
    relay.handle_timeout(now + RELAY_DEADLINE - Duration::from_millis(1)).unwrap();
    assert_eq!(relay.poll_event(), None);
    relay.handle_timeout(now + RELAY_DEADLINE).unwrap();
    assert!(matches!(relay.poll_event(), Some(RelayEvent::Reset(_, ResetCode::DeadlineExceeded, _))));
    assert!(matches!(relay.poll_transmit(), Some(Frame::Reset(_, ResetCode::DeadlineExceeded, _))));
}

#[test]
fn progress_counts_and_not_length() {
    let mut relay = relay_with(1);
    let mut now = start_of_time();
    relay.handle_frame(response(1), now).unwrap();
    for _ in 0..5 {
        now += STALL_TIMEOUT - Duration::from_millis(1);
        relay.handle_inbound(now);
        relay.handle_timeout(now).unwrap();
        relay.handle_frame(data(1, 1), now).unwrap();
    }
    now += STALL_TIMEOUT;
    relay.handle_inbound(now);
    relay.handle_timeout(now).unwrap();
    let last = std::iter::from_fn(|| relay.poll_event()).last();
    assert!(matches!(last, Some(RelayEvent::Reset(_, ResetCode::Stalled, _))));
}

#[test]
fn a_listener_may_pause_for_an_hour() {
    let mut relay = relay_with(1);
    let now = start_of_time();
    relay.handle_frame(response(1), now).unwrap();
    for _ in 0..INITIAL_WINDOW as usize / MAX_DATA_LEN {
        relay.handle_frame(data(1, MAX_DATA_LEN), now).unwrap();
    }
    let almost = now + PAUSE_TIMEOUT - Duration::from_secs(1);
    relay.handle_inbound(almost);
    relay.handle_timeout(almost).unwrap();
    assert_eq!(relay.open_streams(), 1);
    relay.handle_inbound(now + PAUSE_TIMEOUT);
    relay.handle_timeout(now + PAUSE_TIMEOUT).unwrap();
    assert_eq!(relay.open_streams(), 0);
}

#[test]
fn an_agent_that_leaves_finishes_what_is_open_and_refuses_the_rest() {
    let mut pair = Pair::greeted(256).unwrap();
    let under_way = pair.open(3_000_000, false).unwrap();
    pair.run(10).unwrap();
    pair.agent.go_away(goaway());
    let crossing = pair.open(1, false).unwrap();
    pair.run(20).unwrap();
    assert_eq!(pair.listeners[&crossing].outcome, Outcome::Reset(ResetCode::Refused));
    assert_eq!(pair.open(1, false), Err(OpenError::Closed));
    pair.run(1000).unwrap();
    assert_eq!(pair.listeners[&under_way].outcome, Outcome::Complete);
    assert!(pair.agent.is_drained());
}

#[test]
fn a_relay_that_leaves_opens_nothing_more() {
    let mut pair = Pair::greeted(256).unwrap();
    let under_way = pair.open(3_000_000, false).unwrap();
    pair.relay.go_away(goaway());
    assert_eq!(pair.open(1, false), Err(OpenError::Closed));
    pair.run(1000).unwrap();
    assert_eq!(pair.listeners[&under_way].outcome, Outcome::Complete);
}

#[test]
fn the_writer_of_a_full_queue_is_woken_once_when_half_is_sent() {
    let mut agent = agent_with(1, 2);
    agent.respond(id(1), ResponseHead { status: 200, headers: HeaderMap::new(), audit: None });
    assert!(agent.send(id(1), vec![0; 262_143].into()));
    assert!(!agent.send(id(1), vec![0; 1].into()));
    let mut woken = 0;
    while agent.poll_transmit(start_of_time()).is_some() {
        woken += std::iter::from_fn(|| agent.poll_event())
            .filter(|event| *event == AgentEvent::Writable(id(1)))
            .count();
    }
    assert_eq!(woken, 1);
}

fn answered(agent: &mut AgentMux, stream: u32, body: usize) {
    agent.respond(id(stream), ResponseHead { status: 200, headers: HeaderMap::new(), audit: None });
    if body > 0 {
        agent.send(id(stream), vec![0; body].into());
    }
    agent.finish(id(stream));
}

#[test]
fn a_small_answer_that_is_complete_is_one_frame() {
    let mut agent = agent_with(4, 4);
    // An unknown link may be slow, so the shortest burst is the most that it takes.
    for (stream, body) in [(1, 0), (2, 1), (3, SHORTEST_BURST)] {
        answered(&mut agent, stream, body);
        let frame = agent.poll_transmit(start_of_time());
        assert!(matches!(frame, Some(Frame::Answer(_, _, bytes)) if bytes.len() == body), "{body}");
        assert_eq!(agent.poll_transmit(start_of_time()), None);
    }
    answered(&mut agent, 4, SHORTEST_BURST + 1);
    let names: Vec<_> =
        std::iter::from_fn(|| agent.poll_transmit(start_of_time())).map(|frame| frame.name()).collect();
    assert_eq!(names, ["RESPONSE", "DATA", "DATA", "END"]);
    assert!(agent.is_drained());
}

#[test]
fn whole_answers_leave_bulk_its_ninth() {
    let mut agent = agent_with(32, 32);
    agent.respond(id(1), ResponseHead { status: 200, headers: HeaderMap::new(), audit: None });
    agent.send(id(1), vec![0; 200_000].into());
    while agent.poll_transmit(start_of_time()).is_some() {}
    agent.handle_frame(Frame::Credit(id(1), 200_000), start_of_time()).unwrap();
    agent.send(id(1), vec![0; 200_000].into());
    (2..=32).for_each(|stream| answered(&mut agent, stream, 1000));
    let bulk = |frame: &Frame| matches!(frame, Frame::Data(stream, _) if *stream == id(1));
    let sent = std::iter::from_fn(|| agent.poll_transmit(start_of_time()));
    let before: Vec<_> = sent.take_while(|frame| !bulk(frame)).map(|frame| frame.name()).collect();
    assert_eq!(before[..8], ["ANSWER"; 8]);
    assert_eq!(before[8..], ["RESPONSE"; 23], "their bodies go on in their lane");
}

#[derive(Debug, Clone)]
enum Step {
    Open { bytes: u64, paused: bool },
    Leave(prop::sample::Index),
    Fail(prop::sample::Index),
    Toggle(prop::sample::Index),
    Run(usize),
    Uplink(usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (prop_oneof![0..2000u64, 0..1_000_000u64], any::<bool>()).prop_map(|(bytes, paused)| Step::Open { bytes, paused }),
        1 => any::<prop::sample::Index>().prop_map(Step::Leave),
        1 => any::<prop::sample::Index>().prop_map(Step::Fail),
        2 => any::<prop::sample::Index>().prop_map(Step::Toggle),
        4 => (1..40usize).prop_map(Step::Run),
        1 => (1..64usize).prop_map(Step::Uplink),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, max_shrink_iters: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_byte_is_wrong_and_nothing_leaks_after_any_steps(steps in prop::collection::vec(any_step(), 1..40), delay in 0..30u64) {
        let mut pair = Pair::new(8);
        pair.delay = Duration::from_millis(delay);
        pair.run(2 * delay as usize + 4).unwrap();
        let mut streams = Vec::new();
        for step in steps {
            match step {
                Step::Open { bytes, paused } => streams.extend(pair.open(bytes, paused).ok()),
                Step::Leave(at) if !streams.is_empty() => pair.leave(streams[at.index(streams.len())]),
                Step::Fail(at) if !streams.is_empty() => pair.fail(streams[at.index(streams.len())]),
                Step::Toggle(at) if !streams.is_empty() => {
                    let listener = pair.listeners.get_mut(&streams[at.index(streams.len())]).unwrap();
                    listener.paused = !listener.paused;
                }
                Step::Run(steps) => pair.run(steps).unwrap(),
                Step::Uplink(frames) => pair.uplink = frames,
                Step::Leave(_) | Step::Fail(_) | Step::Toggle(_) => {}
            }
        }
        pair.uplink = 64;
        pair.listeners.values_mut().for_each(|listener| listener.paused = false);
        pair.settle().unwrap();
        for listener in pair.listeners.values() {
            match listener.outcome {
                Outcome::Complete => prop_assert_eq!(listener.received, listener.expected),
                Outcome::Reset(_) => prop_assert!(listener.received <= listener.expected),
                Outcome::Open => prop_assert!(false, "a stream was forgotten: {:?}", listener),
            }
        }
        prop_assert!(pair.relay.is_drained() && pair.agent.is_drained());
        prop_assert_eq!((pair.budgets.tunnel.used(), pair.budgets.process.used()), (0, 0));
    }

    #[test]
    fn frames_in_any_order_end_in_a_violation_at_worst(frames in prop::collection::vec(audiovault_protocol::testing::frames::any_frame(), 0..40)) {
        let mut relay = relay_with(3);
        let mut agent = agent_with(3, 8);
        for frame in frames {
            let _ = relay.handle_frame(frame.clone(), start_of_time());
            let _ = agent.handle_frame(frame, start_of_time());
            while relay.poll_transmit().is_some() {}
            while agent.poll_transmit(start_of_time()).is_some() {}
        }
    }
}

#[test]
fn the_head_of_a_request_names_who_asked() {
    let mut head = request(1);
    head.client = Client { address: Some("192.0.2.7".to_owned()), user_agent: Some("player".to_owned()) };
    let Ok(Frame::Request(_, back, _)) =
        Frame::decode(Frame::Request(id(1), Box::new(head.clone()), Bytes::new()).encode())
    else {
        panic!("a request")
    };
    assert_eq!(*back, head);
}
