//! The agent's multiplexer against a relay that sends anything, a socket that accepts nothing for any time, and a
//! service that answers, fails and forgets.
//!
//! Violations are allowed; `World` has what must hold until then.

#![no_main]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use arbitrary::Arbitrary;
use audiovault_protocol::{
    flow::credit::cost,
    frame::{Frame, StreamId},
    limits::{MAX_DATA_LEN, SEND_QUEUE_LEN},
    message::{Goaway, ResetCode, ResponseHead, Status},
    mux::{AgentEvent, AgentMux, PingPayload, Violation},
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
    Welcome { initial_window: u32 },
    Goaway,
    Request { gap: u8, body: u8 },
    Requests(u8),
    Reset(u8),
    Credit(u8, u32),
    OfAnyStream { stream: u32, kind: u8 },
    Bytes(&'a [u8]),
    Pong { right: bool },
    Respond(u8),
    Write(u8, u16),
    Finish(u8),
    Fail(u8),
    FailAll,
    Status,
    GoAway,
    Send(u8),
    Wait { milliseconds: u16 },
    WaitLong { seconds: u16 },
}

#[derive(Debug, Default)]
struct Stream {
    /// What the service has done.
    responded: bool,
    written: u64,
    finished: bool,
    waits: bool,
    /// What the socket has accepted.
    answered: bool,
    sent: u64,
    /// Credit, as the relay counts it.
    credit: u64,
}

struct World {
    mux: AgentMux,
    now: Instant,
    max_streams: usize,
    initial_window: u64,
    next: u32,
    leaving: bool,
    welcomed: bool,
    greeted: bool,
    ping: Option<PingPayload>,
    streams: BTreeMap<StreamId, Stream>,
}

fuzz_target!(|input: (u8, Vec<Step>)| {
    let (max_streams, steps) = input;
    let now = start_of_time();
    let mut world = World {
        mux: AgentMux::new(hello(max_streams.into()), now),
        now,
        max_streams: max_streams.into(),
        initial_window: 0,
        next: 1,
        leaving: false,
        welcomed: false,
        greeted: false,
        ping: None,
        streams: BTreeMap::new(),
    };
    if steps.into_iter().try_for_each(|step| world.take(step)).is_ok() {
        world.finish();
    }
});

fn head() -> ResponseHead {
    ResponseHead { status: 200, headers: HeaderMap::new(), audit: None }
}

fn goaway() -> Goaway {
    Goaway { reason: "maintenance".to_owned(), reconnect_after_ms: [0, 1] }
}

fn id(number: impl Into<u32>) -> StreamId {
    StreamId::new(number.into()).unwrap_or(StreamId::FIRST)
}

/// Bytes of a body that depend on their position.
fn body(from: u64, len: usize) -> Bytes {
    (from..from + len as u64).map(|at| (at % 251) as u8).collect()
}

impl World {
    fn take(&mut self, step: Step) -> Result<(), Violation> {
        match step {
            Step::Welcome { initial_window } => {
                self.initial_window = if self.welcomed { self.initial_window } else { initial_window.into() };
                let mut welcome = welcome();
                welcome.initial_window = initial_window;
                self.receive(Frame::Welcome(Box::new(welcome)))?;
            }
            Step::Goaway => self.receive(Frame::Goaway(goaway()))?,
            Step::Request { gap, body } => self.request(gap, body)?,
            Step::Requests(times) => (0..times).try_for_each(|_| self.request(0, 0))?,
            Step::Reset(stream) => {
                self.receive(Frame::Reset(id(stream), ResetCode::Cancelled, String::new()))?;
            }
            Step::Credit(stream, bytes) => self.credit(id(stream), bytes.max(1))?,
            Step::OfAnyStream { stream, kind } => self.receive(frame_of_any_stream(id(stream), kind))?,
            Step::Bytes(bytes) => match Frame::decode(Bytes::copy_from_slice(bytes))? {
                Frame::Credit(stream, bytes) => self.credit(stream, bytes)?,
                // Separate steps, which update the accounts.
                Frame::Welcome(_) | Frame::Request(..) => {}
                frame => self.receive(frame)?,
            },
            Step::Pong { right } => {
                let payload = self.ping.filter(|_| right).unwrap_or([9; 8]);
                self.mux.handle_pong(&payload, self.now);
            }
            Step::Respond(stream) => self.respond(id(stream)),
            Step::Write(stream, len) => self.write(id(stream), len.into()),
            Step::Finish(stream) => self.end(id(stream)),
            Step::Fail(stream) => self.fail(id(stream)),
            Step::FailAll => {
                let streams: Vec<_> = self.streams.keys().copied().collect();
                streams.into_iter().for_each(|stream| self.fail(stream));
            }
            Step::Status => self.mux.set_status(Status::default()),
            Step::GoAway => {
                self.mux.go_away(goaway());
                self.leaving = true;
            }
            Step::Send(frames) => self.send(frames.into()),
            Step::Wait { milliseconds } => self.now += Duration::from_millis(milliseconds.into()),
            Step::WaitLong { seconds } => self.now += Duration::from_secs(seconds.into()),
        }
        self.take_events();
        self.mux.handle_timeout(self.now)?;
        self.check();
        Ok(())
    }

    fn receive(&mut self, frame: Frame) -> Result<(), Violation> {
        self.mux.handle_inbound(self.now);
        self.mux.handle_frame(frame, self.now)
    }

    fn request(&mut self, gap: u8, body: u8) -> Result<(), Violation> {
        let stream = id(self.next + u32::from(gap));
        let body = Bytes::from(vec![b'x'; body.into()]);
        self.receive(Frame::Request(stream, Box::new(request(1)), body))?;
        self.next = stream.number() + 1;
        self.take_events();
        Ok(())
    }

    fn credit(&mut self, stream: StreamId, bytes: u32) -> Result<(), Violation> {
        self.receive(Frame::Credit(stream, bytes))?;
        if let Some(open) = self.streams.get_mut(&stream) {
            open.credit += u64::from(bytes);
        }
        Ok(())
    }

    fn respond(&mut self, stream: StreamId) {
        if let Some(open) = self.streams.get_mut(&stream) {
            open.responded = true;
            self.mux.respond(stream, head());
        }
    }

    /// The service follows its answers: it waits if there is no room.
    fn write(&mut self, stream: StreamId, len: usize) {
        let Some(open) = self.streams.get_mut(&stream).filter(|open| !open.waits) else { return };
        let room = self.mux.send(stream, body(open.written, len));
        if open.responded && !open.finished {
            open.written += len as u64;
            open.waits = !room;
            assert!(
                room || open.written - open.sent >= SEND_QUEUE_LEN as u64,
                "no room in a queue that is not full"
            );
        }
    }

    fn end(&mut self, stream: StreamId) {
        if let Some(open) = self.streams.get_mut(&stream) {
            open.finished |= open.responded;
            self.mux.finish(stream);
        }
    }

    fn fail(&mut self, stream: StreamId) {
        if self.streams.remove(&stream).is_some() {
            self.mux.reset(stream, ResetCode::ReadFailed, "the disk is gone");
        }
    }

    fn take_events(&mut self) {
        while let Some(event) = self.mux.poll_event() {
            match event {
                AgentEvent::Welcome(_) => assert!(!std::mem::replace(&mut self.welcomed, true)),
                AgentEvent::Goaway(_) => {}
                AgentEvent::Request(stream, ..) => {
                    assert!(self.welcomed && !self.leaving, "a request that should not have been accepted");
                    let open = Stream { credit: self.initial_window, ..Stream::default() };
                    assert!(self.streams.insert(stream, open).is_none(), "a stream came twice");
                }
                AgentEvent::Writable(stream) => {
                    let open = self.streams.get_mut(&stream).expect("no writer has that stream");
                    assert!(std::mem::take(&mut open.waits), "no writer waited");
                }
                AgentEvent::Reset(stream, _) => {
                    self.streams.remove(&stream).expect("that stream was over");
                }
            }
        }
    }

    fn send(&mut self, frames: usize) {
        for _ in 0..frames {
            let Some(frame) = self.mux.poll_transmit(self.now) else {
                assert_eq!(self.mux.poll_transmit(self.now), None, "a frame was not sent");
                return;
            };
            assert_eq!(Frame::decode(frame.encode()).as_ref(), Ok(&frame), "the relay would not understand");
            assert_eq!(std::mem::replace(&mut self.greeted, true), !matches!(frame, Frame::Hello(_)));
            self.note(frame);
            self.take_events();
        }
    }

    /// Every stream has one response, then its body within its credit, then one end.
    fn note(&mut self, frame: Frame) {
        match frame {
            Frame::Hello(_) => {}
            Frame::Goaway(_) => assert!(self.leaving),
            Frame::Status(_) => assert!(self.welcomed),
            Frame::Response(stream, _) => self.answer(stream),
            Frame::Data(stream, data) => self.carry(stream, &data),
            Frame::End(stream) => self.close(stream),
            Frame::Answer(stream, _, data) => {
                self.answer(stream);
                if !data.is_empty() {
                    self.carry(stream, &data);
                }
                self.close(stream);
            }
            Frame::Reset(stream, code, _) => {
                assert!(!self.streams.contains_key(&stream), "an open stream was given up");
                assert!(code == ResetCode::ReadFailed || (code == ResetCode::Refused && self.leaving));
            }
            other => panic!("an agent does not send {}", other.name()),
        }
    }

    fn answer(&mut self, stream: StreamId) {
        let open = self.streams.get_mut(&stream).expect("a response to an unknown stream");
        assert!(
            open.responded && !std::mem::replace(&mut open.answered, true),
            "a stream was answered twice"
        );
    }

    fn carry(&mut self, stream: StreamId, data: &Bytes) {
        let open = self.streams.get_mut(&stream).expect("a body for an unknown stream");
        assert!(open.answered && !data.is_empty() && data.len() <= MAX_DATA_LEN);
        assert_eq!(*data, body(open.sent, data.len()), "wrong bytes");
        open.sent += data.len() as u64;
        assert!(open.sent <= open.written, "more than was written");
        let cost = u64::from(cost(data.len()));
        open.credit = open.credit.checked_sub(cost).expect("more than the credit");
    }

    fn close(&mut self, stream: StreamId) {
        let open = self.streams.remove(&stream).expect("an end of an unknown stream");
        assert!(open.answered && open.finished && open.sent == open.written, "an end before the end");
    }

    fn check(&mut self) {
        assert!(self.mux.poll_timeout(false) > self.now, "a busy loop");
        if let Some(ping) = self.mux.poll_ping(self.now) {
            self.ping = Some(ping);
            assert_eq!(self.mux.poll_ping(self.now), None, "two pings at a time");
        }
        assert!(self.mux.poll_timeout(true) > self.now, "a busy loop");
        assert_eq!(self.mux.open_streams(), self.streams.len());
        assert!(self.streams.len() <= self.max_streams, "more streams than were allowed");
    }

    /// The service gives up everything, and the socket accepts all frames: no more than the streams can have.
    fn finish(mut self) {
        for stream in std::mem::take(&mut self.streams).into_keys() {
            self.mux.reset(stream, ResetCode::ReadFailed, "the disk is gone");
        }
        let waited = std::iter::from_fn(|| self.mux.poll_transmit(self.now)).count();
        // HELLO, GOAWAY, STATUS, and a RESET for each stream.
        let most = self.max_streams + 3;
        assert!(waited <= most, "{waited} frames waited, with {} streams at most", self.max_streams);
        assert!(self.mux.is_drained());
    }
}

/// A frame of a peer that uses any numbers for streams.
fn frame_of_any_stream(stream: StreamId, kind: u8) -> Frame {
    match kind % 5 {
        0 => Frame::Response(stream, Box::new(head())),
        1 => Frame::Data(stream, body(0, 1)),
        2 => Frame::End(stream),
        3 => Frame::Reset(stream, ResetCode::Cancelled, String::new()),
        _ => Frame::Answer(stream, Box::new(head()), Bytes::new()),
    }
}
