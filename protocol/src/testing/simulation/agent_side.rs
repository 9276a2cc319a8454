//! The agent's end of a simulated tunnel, with the service that answers.

use std::{collections::BTreeMap, time::Instant};

use http::HeaderMap;

use super::{
    Finding,
    calls::{Calls, summary},
    wire::{Message, Wire},
};
use crate::{
    frame::{Frame, StreamId},
    limits::{DEAD_AFTER, GREETING_TIMEOUT, SEND_QUEUE_LEN},
    message::{ResetCode, ResponseHead},
    mux::{AgentEvent, AgentMux, Violation},
    testing::pair::{body, hello},
};

/// What the service still has to do for a stream.
#[derive(Debug)]
struct Source {
    call: usize,
    offset: u64,
    responded: bool,
    may_write: bool,
    hung: bool,
    /// It does nothing before that.
    ready_at: Instant,
}

#[derive(Debug)]
pub(super) struct AgentSide {
    pub(super) mux: AgentMux,
    pub(super) began: Instant,
    heard: Instant,
    max_streams: u32,
    sources: BTreeMap<StreamId, Source>,
    /// Whether the relay or the agent has said GOAWAY: another tunnel is wanted.
    pub(super) leaving: bool,
    /// Whether the socket took all there was.
    may_send: bool,
    /// The connection is gone, or closed.
    pub(super) ended: bool,
}

impl AgentSide {
    pub(super) fn new(max_streams: u32, now: Instant) -> Self {
        Self {
            mux: AgentMux::new(hello(max_streams), now),
            began: now,
            heard: now,
            max_streams,
            sources: BTreeMap::new(),
            leaving: false,
            may_send: true,
            ended: false,
        }
    }

    /// When something is due, whatever comes.
    pub(super) fn due(&self) -> Instant {
        let writers = self.sources.values().filter(|source| source.may_write || !source.responded);
        let next = writers.map(|source| source.ready_at).min();
        next.map_or(self.mux.poll_timeout(self.may_send), |at| at.min(self.mux.poll_timeout(self.may_send)))
    }

    pub(super) fn is_idle(&self) -> bool {
        self.sources.is_empty() && self.mux.is_drained()
    }

    /// One turn, in the order in which the driver takes it.
    pub(super) fn turn(
        &mut self,
        calls: &mut Calls,
        [from, to]: [&mut Wire; 2],
        now: Instant,
    ) -> Result<(), Finding> {
        while let Some(message) = from.receive(now) {
            self.heard = now;
            self.mux.handle_inbound(now);
            match message {
                Message::Frame(octets) => {
                    let frame = Frame::decode(octets).map_err(Violation::from);
                    let taken = frame.and_then(|frame| self.mux.handle_frame(frame, now));
                    taken.map_err(|violation| Finding::of("an agent accuses an honest relay", violation))?;
                }
                Message::Ping(payload) => to.send(Message::Pong(payload), now),
                Message::Pong(payload) => self.mux.handle_pong(&payload, now),
                Message::Close => {
                    self.work(calls, now)?;
                    return self.close();
                }
                Message::Reset => {
                    self.ended = true;
                    return Ok(());
                }
            }
        }
        self.work(calls, now)?;
        if let Err(violation) = self.mux.handle_timeout(now) {
            calls.say(now, format_args!("agent gives the tunnel up: {violation}"));
            to.send(Message::Reset, now);
            self.ended = true;
            return self.judge(&violation, now);
        }
        self.work(calls, now)?;
        self.write(calls, to, now)?;
        self.work(calls, now)?;
        if self.mux.open_streams() > self.max_streams as usize {
            return Err(Finding::new("an agent has more streams than it may"));
        }
        if self.mux.poll_timeout(self.may_send) <= now {
            return Err(Finding::new("the agent's loop is busy"));
        }
        Ok(())
    }

    /// The relay closes what is drained, and nothing else.
    fn close(&mut self) -> Result<(), Finding> {
        self.ended = true;
        if self.mux.open_streams() > 0 || !self.leaving {
            return Err(Finding::new("a relay closed a tunnel that was in use"));
        }
        Ok(())
    }

    fn judge(&self, violation: &Violation, now: Instant) -> Result<(), Finding> {
        let right = (*violation == Violation::Silent && now >= self.heard + DEAD_AFTER)
            || (*violation == Violation::NoGreeting && now >= self.began + GREETING_TIMEOUT);
        if right { Ok(()) } else { Err(Finding::of("an agent accuses an honest relay", violation)) }
    }

    fn work(&mut self, calls: &mut Calls, now: Instant) -> Result<(), Finding> {
        while let Some(event) = self.mux.poll_event() {
            match event {
                AgentEvent::Welcome(_) => {}
                AgentEvent::Goaway(_) => self.leaving = true,
                AgentEvent::Request(stream, head, asked) => {
                    let call = head.request_id.parse().unwrap_or(usize::MAX);
                    let plan = calls.plan(call)?;
                    if asked != vec![b'q'; plan.asks] {
                        return Err(Finding::new("a request came with another body"));
                    }
                    let ready_at = now + plan.thinks;
                    let source =
                        Source { call, offset: 0, responded: false, may_write: true, hung: false, ready_at };
                    self.sources.insert(stream, source);
                }
                AgentEvent::Writable(stream) => {
                    if let Some(source) = self.sources.get_mut(&stream) {
                        source.may_write = true;
                    }
                }
                AgentEvent::Reset(stream, _) => {
                    self.sources.remove(&stream);
                }
            }
        }
        for stream in self.sources.keys().copied().collect::<Vec<_>>() {
            self.serve(stream, calls, now)?;
        }
        Ok(())
    }

    /// What the service does for one stream, until it waits for something.
    fn serve(&mut self, stream: StreamId, calls: &Calls, now: Instant) -> Result<(), Finding> {
        let Some(source) = self.sources.get_mut(&stream) else { return Ok(()) };
        let plan = calls.plan(source.call)?;
        while now >= source.ready_at {
            if !source.responded {
                source.responded = true;
                let head = ResponseHead { status: 200, headers: HeaderMap::new(), audit: None };
                self.mux.respond(stream, head);
            }
            if plan.fails_at.is_some_and(|at| source.offset >= at) {
                self.sources.remove(&stream);
                self.mux.reset(stream, ResetCode::ReadFailed, "the disk is gone");
                return Ok(());
            }
            if source.offset == plan.octets {
                self.sources.remove(&stream);
                self.mux.finish(stream);
                return Ok(());
            }
            if let Some((_, time)) = plan.hangs.filter(|(at, _)| source.offset >= *at && !source.hung) {
                (source.hung, source.ready_at) = (true, now + time);
                continue;
            }
            if !source.may_write {
                return Ok(());
            }
            let end = plan.octets.min(source.offset + plan.chunk.min(SEND_QUEUE_LEN as u64));
            source.may_write = self.mux.send(stream, body(stream, source.offset..end));
            (source.offset, source.ready_at) = (end, now + plan.reads);
        }
        Ok(())
    }

    fn write(&mut self, calls: &mut Calls, to: &mut Wire, now: Instant) -> Result<(), Finding> {
        self.may_send = false;
        while to.takes_more() {
            if let Some(payload) = self.mux.poll_ping(now) {
                to.send(Message::Ping(payload), now);
            } else if let Some(frame) = self.mux.poll_transmit(now) {
                calls.say(now, format_args!("agent sends {}", summary(&frame)));
                to.send(Message::Frame(frame.encode()), now);
            } else {
                self.may_send = true;
                break;
            }
        }
        if self.may_send && self.mux.poll_transmit(now).is_some() {
            return Err(Finding::new("the agent has something to send after it had nothing"));
        }
        Ok(())
    }
}
