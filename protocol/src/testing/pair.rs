//! An agent and a relay without a network: two multiplexers, a clock, and messages with a delay.
//!
//! The pair also plays both applications. The agent answers every request with as many bytes as the request's target
//! says (`/5000`); each byte is computed from stream and offset. The relay's listener checks the bytes and takes them
//! at once, unless it is paused.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::OnceLock,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::HeaderMap;

use crate::{
    flow::credit::{Budgets, WindowBudget, cost},
    frame::{Frame, StreamId},
    http::context::Client,
    identity::signed_link::{LinkSecret, LinkSigner},
    limits::{INITIAL_WINDOW, MAX_WINDOW, RELAY_DEADLINE, SEND_QUEUE_LEN, TUNNEL_WINDOW_BUDGET},
    message::{AgentRequest, Hello, RequestHead, ResetCode, ResponseHead, Welcome},
    mux::{AgentEvent, AgentMux, OpenError, RelayEvent, RelayMux, Violation},
    testing::start_of_time,
};

/// How a stream went, as its listener saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Neither ended nor given up.
    Open,
    /// END was received.
    Complete,
    /// RESET was received, or a deadline passed.
    Reset(ResetCode),
}

/// One stream from the listener's side.
#[derive(Debug)]
pub struct Listener {
    /// Bytes that were requested from the agent.
    pub expected: u64,
    /// Bytes that were received, all of them right.
    pub received: u64,
    /// True if RESPONSE was received.
    pub answered: bool,
    /// The state of the stream.
    pub outcome: Outcome,
    /// True if the listener takes nothing.
    pub paused: bool,
    held: VecDeque<u32>,
}

/// The part of a stream that the agent still has to send.
#[derive(Debug)]
struct Source {
    left: u64,
    offset: u64,
    may_write: bool,
}

/// The simulated pair.
#[derive(Debug)]
pub struct Pair {
    /// The relay's end.
    pub relay: RelayMux,
    /// The agent's end.
    pub agent: AgentMux,
    /// The simulated time.
    pub now: Instant,
    /// Delay in one direction.
    pub delay: Duration,
    /// Most messages that the agent's socket takes in one step; the rest waits in the lanes.
    pub uplink: usize,
    /// Every stream that was ever opened.
    pub listeners: BTreeMap<StreamId, Listener>,
    /// The budgets of the relay's end.
    pub budgets: Budgets,
    /// The order in which streams sent DATA.
    pub data_order: Vec<StreamId>,
    sources: BTreeMap<StreamId, Source>,
    to_agent: VecDeque<(Instant, Bytes)>,
    to_relay: VecDeque<(Instant, Bytes)>,
}

/// Bodies repeat after a prime number of bytes, so that every loss or swap of frames is noticed.
const PERIOD: u64 = 65_521;

/// A part of the body of a stream. Every swap, loss or repetition is noticed.
pub(super) fn body(stream: StreamId, range: std::ops::Range<u64>) -> Bytes {
    static BYTES: OnceLock<Bytes> = OnceLock::new();
    let bytes = BYTES.get_or_init(|| {
        let mixed = |at: u64| (at % PERIOD).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0];
        (0..PERIOD + SEND_QUEUE_LEN as u64).map(mixed).collect()
    });
    let start = (range.start + u64::from(stream.number()) * 251) % PERIOD;
    bytes.slice(start as usize..(start + range.end - range.start) as usize)
}

/// A HELLO of an agent with this many streams.
pub fn hello(max_streams: u32) -> Hello {
    Hello {
        agent_version: "1".to_owned(),
        instance: "00112233445566aa".to_owned(),
        slot: 0,
        link_key_id: LinkSigner::new(&LinkSecret::from_bytes([1; 32])).key_id(),
        host: "pbx".to_owned(),
        os: "linux".to_owned(),
        started_at: 1,
        tenants: Vec::new(),
        max_streams,
        drains: false,
        token_fields: Vec::new(),
    }
}

/// A WELCOME with the usual window.
pub fn welcome() -> Welcome {
    Welcome {
        relay_version: "1".to_owned(),
        session: "s1".to_owned(),
        base_url: "https://relay.example/acme".to_owned(),
        initial_window: INITIAL_WINDOW,
        max_streams: 256,
        ping_after_ms: 15_000,
        dead_after_ms: 45_000,
    }
}

/// A request for this many bytes.
pub fn request(bytes: u64) -> RequestHead {
    get(&format!("/{bytes}")).head
}

/// A GET request without headers and body.
pub fn get(target: &str) -> AgentRequest {
    let head = RequestHead {
        request_id: "r1".to_owned(),
        method: "GET".to_owned(),
        target: target.to_owned(),
        headers: HeaderMap::new(),
        deadline_ms: 12_000,
        client: Client::default(),
    };
    AgentRequest { head, body: Bytes::new() }
}

impl Pair {
    /// A pair whose sides have not greeted each other yet.
    pub fn new(max_streams: u32) -> Self {
        let now = start_of_time();
        let process = WindowBudget::new(TUNNEL_WINDOW_BUDGET);
        let budgets = Budgets { tunnel: WindowBudget::new(TUNNEL_WINDOW_BUDGET), process };
        Self {
            relay: RelayMux::new(budgets.clone(), now),
            agent: AgentMux::new(hello(max_streams), now),
            now,
            delay: Duration::from_millis(5),
            uplink: 64,
            listeners: BTreeMap::new(),
            budgets,
            data_order: Vec::new(),
            sources: BTreeMap::new(),
            to_agent: VecDeque::new(),
            to_relay: VecDeque::new(),
        }
    }

    /// A pair whose sides have greeted each other.
    ///
    /// # Errors
    /// [`Violation`] if greeting breaks the protocol.
    pub fn greeted(max_streams: u32) -> Result<Self, Violation> {
        let mut pair = Self::new(max_streams);
        pair.run(12)?;
        Ok(pair)
    }

    /// The relay requests this many bytes.
    ///
    /// # Errors
    /// [`OpenError`], as the multiplexer returns it.
    pub fn open(&mut self, bytes: u64, paused: bool) -> Result<StreamId, OpenError> {
        let stream = self.relay.open(request(bytes), Bytes::new(), RELAY_DEADLINE, self.now)?;
        let held = VecDeque::new();
        let outcome = Outcome::Open;
        let listener = Listener { expected: bytes, received: 0, answered: false, outcome, paused, held };
        self.listeners.insert(stream, listener);
        Ok(stream)
    }

    /// The listener goes away.
    pub fn leave(&mut self, stream: StreamId) {
        self.relay.release(stream);
        if let Some(listener) = self.listeners.get_mut(&stream)
            && listener.outcome == Outcome::Open
        {
            listener.outcome = Outcome::Reset(ResetCode::Cancelled);
        }
    }

    /// The agent can no longer read the body.
    pub fn fail(&mut self, stream: StreamId) {
        self.sources.remove(&stream);
        self.agent.reset(stream, ResetCode::ReadFailed, "the disk is gone");
    }

    /// Lets this many steps of one millisecond pass.
    ///
    /// # Errors
    /// [`Violation`] if either side finds that the other broke the protocol.
    pub fn run(&mut self, steps: usize) -> Result<(), Violation> {
        for _ in 0..steps {
            self.now += Duration::from_millis(1);
            self.deliver()?;
            self.play_relay();
            self.play_agent();
            self.transmit();
            self.relay.handle_timeout(self.now)?;
            self.agent.handle_timeout(self.now)?;
        }
        Ok(())
    }

    /// Lets steps pass until nothing happens any more.
    ///
    /// # Errors
    /// The same as [`Pair::run`].
    pub fn settle(&mut self) -> Result<(), Violation> {
        loop {
            let before = self.data_order.len();
            self.run(2 * self.delay.as_millis() as usize + 8)?;
            let quiet = self.to_agent.is_empty() && self.to_relay.is_empty();
            if quiet && self.data_order.len() == before {
                return Ok(());
            }
        }
    }

    fn deliver(&mut self) -> Result<(), Violation> {
        while let Some((_, message)) = self.to_agent.pop_front_if(|(at, _)| *at <= self.now) {
            self.agent.handle_inbound(self.now);
            self.agent.handle_frame(Frame::decode(message)?, self.now)?;
        }
        while let Some((_, message)) = self.to_relay.pop_front_if(|(at, _)| *at <= self.now) {
            self.relay.handle_inbound(self.now);
            self.relay.handle_frame(Frame::decode(message)?, self.now)?;
        }
        Ok(())
    }

    fn transmit(&mut self) {
        let at = self.now + self.delay;
        if self.relay.poll_ping(self.now).is_some() {
            self.agent.handle_inbound(at);
        }
        if self.agent.poll_ping(self.now).is_some() {
            self.relay.handle_inbound(at);
        }
        while let Some(frame) = self.relay.poll_transmit() {
            self.to_agent.push_back((at, frame.encode()));
        }
        for _ in 0..self.uplink {
            let Some(frame) = self.agent.poll_transmit(self.now) else {
                break;
            };
            if let Frame::Data(stream, _) | Frame::Answer(stream, ..) = &frame {
                self.data_order.push(*stream);
            }
            self.to_relay.push_back((at, frame.encode()));
        }
    }

    fn play_agent(&mut self) {
        while let Some(event) = self.agent.poll_event() {
            match event {
                AgentEvent::Request(stream, head, _) => {
                    let left = head.target[1..].parse().unwrap_or(0);
                    self.agent.respond(
                        stream,
                        ResponseHead { status: 200, headers: HeaderMap::new(), audit: None },
                    );
                    self.sources.insert(stream, Source { left, offset: 0, may_write: true });
                }
                AgentEvent::Writable(stream) => {
                    if let Some(source) = self.sources.get_mut(&stream) {
                        source.may_write = true;
                    }
                }
                AgentEvent::Reset(stream, _) => {
                    self.sources.remove(&stream);
                }
                AgentEvent::Welcome(_) | AgentEvent::Goaway(_) => {}
            }
        }
        let mut done = Vec::new();
        for (stream, source) in &mut self.sources {
            while source.may_write && source.left > 0 {
                let len = source.left.min(SEND_QUEUE_LEN as u64 / 3);
                let chunk = body(*stream, source.offset..source.offset + len);
                source.may_write = self.agent.send(*stream, chunk);
                source.left -= len;
                source.offset += len;
            }
            if source.left == 0 {
                self.agent.finish(*stream);
                done.push(*stream);
            }
        }
        self.sources.retain(|stream, _| !done.contains(stream));
    }

    fn play_relay(&mut self) {
        while let Some(event) = self.relay.poll_event() {
            match event {
                RelayEvent::Hello(_) => self.relay.welcome(welcome()),
                RelayEvent::Response(stream, _) => self.listener(stream, |listener| listener.answered = true),
                RelayEvent::Data(stream, data) => self.listener(stream, |listener| {
                    let end = listener.received + data.len() as u64;
                    assert!(
                        data == body(stream, listener.received..end),
                        "stream {stream} is wrong before {end}"
                    );
                    listener.received = end;
                    listener.held.push_back(cost(data.len()));
                    assert!(listener.held.iter().sum::<u32>() <= MAX_WINDOW, "more is held than a window");
                }),
                RelayEvent::End(stream) => {
                    self.listener(stream, |listener| listener.outcome = Outcome::Complete)
                }
                RelayEvent::Reset(stream, code, _) => {
                    self.listener(stream, |listener| listener.outcome = Outcome::Reset(code));
                }
                RelayEvent::Status(_) | RelayEvent::Goaway(_) => {}
            }
        }
        for (stream, listener) in &mut self.listeners {
            while !listener.paused
                && let Some(cost) = listener.held.pop_front()
            {
                self.relay.consume(*stream, cost, self.now);
            }
            if listener.outcome != Outcome::Open && listener.held.is_empty() {
                self.relay.release(*stream);
            }
        }
    }

    fn listener(&mut self, stream: StreamId, change: impl FnOnce(&mut Listener)) {
        if let Some(listener) = self.listeners.get_mut(&stream)
            && listener.outcome == Outcome::Open
        {
            change(listener);
        }
    }
}
