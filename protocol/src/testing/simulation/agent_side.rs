//! The agent's end of a simulated tunnel, with the service that answers.

use std::{collections::BTreeMap, time::Instant};

use http::HeaderMap;

use super::{
    Finding,
    calls::{Calls, mark},
    side::{Driver, Side},
};
use crate::{
    frame::StreamId,
    limits::SEND_QUEUE_LEN,
    message::{CloseCode, ResetCode, ResponseHead},
    mux::{AgentEvent, AgentMux},
    testing::pair::{body, hello},
};

/// The work that the service still has to do for a stream.
#[derive(Debug)]
struct Source {
    call: usize,
    offset: u64,
    responded: bool,
    may_write: bool,
    hung: bool,
    /// The service does nothing before this time.
    ready_at: Instant,
}

#[derive(Debug)]
pub(super) struct AgentSide {
    pub(super) driver: Driver<AgentMux>,
    max_streams: u32,
    sources: BTreeMap<StreamId, Source>,
    /// True if the relay or the agent has sent GOAWAY: another tunnel is needed.
    pub(super) leaving: bool,
    pub(super) welcomed: bool,
}

impl AgentSide {
    pub(super) fn new(max_streams: u32, now: Instant) -> Self {
        Self {
            driver: Driver::new(AgentMux::new(hello(max_streams), now), now),
            max_streams,
            sources: BTreeMap::new(),
            leaving: false,
            welcomed: false,
        }
    }

    /// When something is due at the latest.
    pub(super) fn due(&self) -> Instant {
        let writers = self.sources.values().filter(|source| source.may_write || !source.responded);
        let next = writers.map(|source| source.ready_at).min();
        next.map_or(self.driver.due(), |at| at.min(self.driver.due()))
    }

    pub(super) fn is_idle(&self) -> bool {
        self.sources.is_empty() && self.driver.mux.is_drained()
    }

    /// Does the service's work for one stream until it has to wait for something.
    fn serve(&mut self, stream: StreamId, calls: &Calls, now: Instant) -> Result<(), Finding> {
        let Some(source) = self.sources.get_mut(&stream) else { return Ok(()) };
        let plan = calls.plan(source.call)?;
        while now >= source.ready_at {
            if !source.responded {
                source.responded = true;
                let head = ResponseHead { status: 200, headers: HeaderMap::new(), audit: None };
                self.driver.mux.respond(stream, head);
            }
            if plan.fails_at.is_some_and(|at| source.offset >= at) {
                self.sources.remove(&stream);
                self.driver.mux.reset(stream, ResetCode::ReadFailed, "the disk is gone");
                return Ok(());
            }
            if source.offset == plan.bytes {
                self.sources.remove(&stream);
                self.driver.mux.finish(stream);
                return Ok(());
            }
            if let Some((_, time)) = plan.hangs.filter(|(at, _)| source.offset >= *at && !source.hung) {
                (source.hung, source.ready_at) = (true, now + time);
                continue;
            }
            if !source.may_write {
                return Ok(());
            }
            let end = plan.bytes.min(source.offset + plan.chunk.min(SEND_QUEUE_LEN as u64));
            source.may_write = self.driver.mux.send(stream, body(mark(source.call), source.offset..end));
            (source.offset, source.ready_at) = (end, now + plan.reads);
        }
        Ok(())
    }
}

impl Side for AgentSide {
    type Mux = AgentMux;
    const NAME: &'static str = "agent";

    fn driver(&mut self) -> &mut Driver<AgentMux> {
        &mut self.driver
    }

    fn work(&mut self, calls: &mut Calls, now: Instant) -> Result<(), Finding> {
        while let Some(event) = self.driver.mux.poll_event() {
            match event {
                AgentEvent::Welcome(_) => self.welcomed = true,
                AgentEvent::Goaway(_) => self.leaving = true,
                AgentEvent::Request(stream, head, asked) => {
                    let call = head.request_id.parse().unwrap_or(usize::MAX);
                    let plan = calls.plan(call)?;
                    if asked != vec![b'q'; plan.asks] {
                        return Err(Finding::new("a request came with another body"));
                    }
                    let offset = head.target[1..].parse().unwrap_or(u64::MAX);
                    let ready_at = now + plan.thinks;
                    let source =
                        Source { call, offset, responded: false, may_write: true, hung: false, ready_at };
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

    /// The relay closes only tunnels that are drained or replaced.
    fn on_close(&mut self, code: CloseCode) -> Result<(), Finding> {
        if code == CloseCode::Replaced {
            return Ok(());
        }
        if self.driver.mux.open_streams() > 0 || !self.leaving {
            return Err(Finding::new("a relay closed a tunnel that was in use"));
        }
        Ok(())
    }

    fn check(&self, _calls: &Calls, _now: Instant) -> Result<(), Finding> {
        if self.driver.mux.open_streams() > self.max_streams as usize {
            return Err(Finding::new("an agent has more streams than it may"));
        }
        Ok(())
    }
}
