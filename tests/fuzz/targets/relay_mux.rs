//! The relay's multiplexer against an agent that sends anything, a socket that accepts nothing for any time, and
//! listeners who read, pause and leave.
//!
//! Violations are allowed; `World` has what must hold until then.

#![no_main]

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use arbitrary::Arbitrary;
use audiovault_protocol::{
    flow::credit::{Budgets, WindowBudget, cost},
    frame::{Frame, StreamId},
    limits::{INITIAL_WINDOW, MAX_DATA_LEN, MAX_STREAMS, MAX_WINDOW, RELAY_DEADLINE, TUNNEL_WINDOW_BUDGET},
    message::{Goaway, ResetCode, ResponseHead, Status},
    mux::{PingPayload, RelayEvent, RelayMux, Violation},
    testing::{
        pair::{hello, request, welcome},
        start_of_time,
    },
};
use bytes::Bytes;
use http::HeaderMap;
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
enum Step<'a> {
    Hello {
        max_streams: u32,
    },
    Goaway,
    Status,
    Response(u8),
    Data(u8, u16),
    /// Full frames: a window has room for eight.
    Body {
        stream: u8,
        frames: u8,
    },
    End(u8),
    Reset(u8, u16),
    Answer(u8, u16),
    OfAnyStream {
        stream: u32,
        kind: u8,
    },
    Bytes(&'a [u8]),
    Pong {
        right: bool,
    },
    Open,
    OpenMany(u8),
    Take(u8),
    TakeAll,
    Release(u8),
    GoAway,
    Send(u8),
    Wait {
        milliseconds: u16,
    },
    WaitLong {
        seconds: u16,
    },
}

/// The state of a stream, as its listener and its agent can know it.
#[derive(Debug, Default)]
struct Listener {
    answered: bool,
    over: bool,
    /// Costs of chunks that were not read yet.
    held: VecDeque<u32>,
    requested: bool,
    given_up: bool,
    granted: u64,
    received: u64,
}

struct World {
    mux: RelayMux,
    budgets: Budgets,
    now: Instant,
    agent_max: usize,
    /// Whether either side is leaving: earlier requests may still be on their way.
    leaving: bool,
    goaway_sent: bool,
    ping: Option<PingPayload>,
    /// Streams that were not released.
    listeners: BTreeMap<StreamId, Listener>,
}

fuzz_target!(|steps: Vec<Step>| {
    let tunnel = WindowBudget::new(TUNNEL_WINDOW_BUDGET);
    let budgets = Budgets { tunnel, process: WindowBudget::new(TUNNEL_WINDOW_BUDGET / 2) };
    let now = start_of_time();
    let mut world = World {
        mux: RelayMux::new(budgets.clone(), now),
        budgets,
        now,
        agent_max: 0,
        leaving: false,
        goaway_sent: false,
        ping: None,
        listeners: BTreeMap::new(),
    };
    let alive = steps.into_iter().try_for_each(|step| world.take(step)).is_ok();
    let budgets = world.budgets.clone();
    if alive {
        world.finish();
    } else {
        drop(world);
    }
    assert_eq!((budgets.tunnel.used(), budgets.process.used()), (0, 0), "windows were not released");
});

fn head() -> Box<ResponseHead> {
    Box::new(ResponseHead { status: 200, headers: HeaderMap::new(), audit: None })
}

fn goaway() -> Goaway {
    Goaway { reason: "maintenance".to_owned(), reconnect_after_ms: [0, 1] }
}

fn id(number: impl Into<u32>) -> StreamId {
    StreamId::new(number.into()).unwrap_or(StreamId::FIRST)
}

fn filler(len: u16) -> Bytes {
    Bytes::from(vec![0; usize::from(len).clamp(1, MAX_DATA_LEN)])
}

/// A frame of a peer that uses any numbers for streams.
fn frame_of_any_stream(stream: StreamId, kind: u8) -> Frame {
    match kind % 7 {
        0 => Frame::Response(stream, head()),
        1 => Frame::Data(stream, filler(1)),
        2 => Frame::End(stream),
        3 => Frame::Reset(stream, ResetCode::ReadFailed, String::new()),
        4 => Frame::Answer(stream, head(), Bytes::new()),
        5 => Frame::Credit(stream, 1),
        _ => Frame::Request(stream, Box::new(request(1)), Bytes::new()),
    }
}

impl World {
    fn take(&mut self, step: Step) -> Result<(), Violation> {
        match step {
            Step::Hello { max_streams } => self.receive(Frame::Hello(Box::new(hello(max_streams))))?,
            Step::Goaway => self.receive(Frame::Goaway(goaway()))?,
            Step::Status => self.receive(Frame::Status(Status::default()))?,
            Step::Response(stream) => self.receive(Frame::Response(id(stream), head()))?,
            Step::Data(stream, len) => self.receive(Frame::Data(id(stream), filler(len)))?,
            Step::Body { stream, frames } => {
                (0..frames % 16).try_for_each(|_| self.receive(Frame::Data(id(stream), filler(u16::MAX))))?
            }
            Step::End(stream) => self.receive(Frame::End(id(stream)))?,
            Step::Reset(stream, code) => {
                self.receive(Frame::Reset(id(stream), ResetCode::from(code), "why not".to_owned()))?;
            }
            Step::Answer(stream, len) => self.receive(Frame::Answer(id(stream), head(), filler(len)))?,
            Step::OfAnyStream { stream, kind } => self.receive(frame_of_any_stream(id(stream), kind))?,
            Step::Bytes(bytes) => self.receive(Frame::decode(Bytes::copy_from_slice(bytes))?)?,
            Step::Pong { right } => {
                let payload = self.ping.filter(|_| right).unwrap_or([9; 8]);
                self.mux.handle_pong(&payload, self.now);
            }
            Step::Open => self.open(),
            Step::OpenMany(times) => (0..times).for_each(|_| self.open()),
            Step::Take(stream) => self.take_chunk(id(stream)),
            Step::TakeAll => self.take_all(),
            Step::Release(stream) => self.release(id(stream)),
            Step::GoAway => {
                self.mux.go_away(goaway());
                // Before HELLO there is nothing to leave.
                self.leaving |= self.agent_max > 0;
            }
            Step::Send(frames) => self.send(usize::from(frames)),
            Step::Wait { milliseconds } => self.now += Duration::from_millis(milliseconds.into()),
            Step::WaitLong { seconds } => self.now += Duration::from_secs(seconds.into()),
        }
        self.take_events();
        self.mux.handle_timeout(self.now)?;
        self.take_events();
        self.check();
        Ok(())
    }

    fn receive(&mut self, frame: Frame) -> Result<(), Violation> {
        self.mux.handle_inbound(self.now);
        if let Frame::Data(stream, data) | Frame::Answer(stream, _, data) = &frame
            && !data.is_empty()
            && let Some(listener) = self.listeners.get_mut(stream)
        {
            listener.received += u64::from(cost(data.len()));
        }
        self.mux.handle_frame(frame, self.now)
    }

    fn open(&mut self) {
        if let Ok(stream) = self.mux.open(request(1), Bytes::new(), RELAY_DEADLINE, self.now) {
            assert!(!self.leaving, "a stream was opened after GOAWAY");
            let listener = Listener { granted: INITIAL_WINDOW.into(), ..Listener::default() };
            assert!(self.listeners.insert(stream, listener).is_none(), "a stream was opened twice");
        }
    }

    fn take_chunk(&mut self, stream: StreamId) {
        if let Some(cost) = self.listeners.get_mut(&stream).and_then(|listener| listener.held.pop_front()) {
            self.mux.consume(stream, cost, self.now);
        }
    }

    fn take_all(&mut self) {
        for (stream, listener) in &mut self.listeners {
            for cost in listener.held.drain(..) {
                self.mux.consume(*stream, cost, self.now);
            }
        }
    }

    /// The listener leaves; from now on it gets nothing of the stream.
    fn release(&mut self, stream: StreamId) {
        if self.listeners.remove(&stream).is_some() {
            self.mux.release(stream);
        }
    }

    /// Every stream has one response, then its body, then one end.
    fn take_events(&mut self) {
        while let Some(event) = self.mux.poll_event() {
            match event {
                RelayEvent::Hello(hello) => {
                    self.agent_max =
                        usize::try_from(hello.max_streams).unwrap_or(usize::MAX).min(MAX_STREAMS);
                    self.mux.welcome(welcome());
                }
                RelayEvent::Status(_) => {}
                RelayEvent::Goaway(_) => self.leaving = true,
                RelayEvent::Response(stream, _) => {
                    let listener = self.listener(stream);
                    assert!(!listener.answered, "a stream was answered twice");
                    listener.answered = true;
                }
                RelayEvent::Data(stream, data) => {
                    let listener = self.listener(stream);
                    assert!(listener.answered, "a body before its answer");
                    listener.held.push_back(cost(data.len()));
                }
                RelayEvent::End(stream) => {
                    let listener = self.listener(stream);
                    assert!(listener.answered, "an end before its answer");
                    listener.over = true;
                }
                RelayEvent::Reset(stream, ..) => self.listener(stream).over = true,
            }
        }
    }

    /// The listener that gets an event: it has not left, and its stream is not over.
    fn listener(&mut self, stream: StreamId) -> &mut Listener {
        let listener = self.listeners.get_mut(&stream).expect("a stream without a listener");
        assert!(!listener.over, "a stream continued after its end");
        listener
    }

    /// The socket accepts this many frames; there are no more than the streams can have.
    fn send(&mut self, frames: usize) {
        for _ in 0..frames {
            let Some(frame) = self.mux.poll_transmit() else {
                assert_eq!(self.mux.poll_transmit(), None, "a frame was not sent");
                return;
            };
            assert_eq!(Frame::decode(frame.encode()).as_ref(), Ok(&frame), "the agent would not understand");
            self.note(&frame);
        }
    }

    fn note(&mut self, frame: &Frame) {
        match frame {
            Frame::Request(stream, ..) => {
                assert!(!self.goaway_sent, "a request after GOAWAY");
                // The request of a listener who left earlier would have been removed too.
                let listener = self.listeners.get_mut(stream).expect("a request without a listener");
                assert!(!std::mem::replace(&mut listener.requested, true), "a request was sent twice");
            }
            Frame::Credit(stream, bytes) => {
                let listener = self.listeners.get_mut(stream).expect("credit for a listener who left");
                assert!(listener.requested && !listener.over, "credit for a stream that is not open");
                listener.granted += u64::from(*bytes);
            }
            Frame::Reset(stream, ..) => {
                if let Some(listener) = self.listeners.get_mut(stream) {
                    assert!(listener.requested && !std::mem::replace(&mut listener.given_up, true));
                }
            }
            Frame::Goaway(_) => self.goaway_sent = true,
            Frame::Welcome(_) => {}
            other => panic!("a relay does not send {}", other.name()),
        }
    }

    fn check(&mut self) {
        // Nothing is due any more, so the loop has something to wait for, as with a socket that accepts pings.
        assert!(self.mux.poll_timeout(false) > self.now, "a busy loop");
        if let Some(ping) = self.mux.poll_ping(self.now) {
            self.ping = Some(ping);
            assert_eq!(self.mux.poll_ping(self.now), None, "two pings at a time");
        }
        assert!(self.mux.poll_timeout(true) > self.now, "a busy loop");

        assert!(self.mux.open_streams() <= self.agent_max, "more streams than the agent allows");
        let held: u64 =
            self.listeners.values().flat_map(|listener| &listener.held).copied().map(u64::from).sum();
        let used = self.budgets.tunnel.used();
        assert_eq!(used, self.budgets.process.used());
        assert!(held <= used, "{held} bytes are held, {used} are accounted for");
        assert!(
            used <= TUNNEL_WINDOW_BUDGET / 2 && used <= self.listeners.len() as u64 * u64::from(MAX_WINDOW)
        );
        for (stream, listener) in &self.listeners {
            let Listener { granted, received, .. } = listener;
            assert!(
                granted.saturating_sub(*received) <= MAX_WINDOW.into(),
                "too much credit on stream {stream}"
            );
        }
    }

    /// All listeners leave, and the socket accepts all frames.
    fn finish(mut self) {
        for stream in self.listeners.keys().copied().collect::<Vec<_>>() {
            self.mux.release(stream);
        }
        self.listeners.clear();
        // A REQUEST or RESET for each possible stream, WELCOME and GOAWAY.
        let most = self.agent_max + 2;
        let waited = std::iter::from_fn(|| self.mux.poll_transmit()).count();
        assert!(waited <= most, "{waited} frames waited, with {} streams at most", self.agent_max);
        assert!(self.mux.is_drained());
        assert_eq!(self.mux.open_streams(), 0);
    }
}
