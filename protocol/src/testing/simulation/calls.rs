//! The calls of a simulation: their plans and outcomes, and the trace of events.

use std::{
    fmt,
    time::{Duration, Instant},
};

use super::{Chance, Finding};
use crate::{
    frame::{Frame, StreamId},
    limits::RELAY_DEADLINE,
    message::ResetCode,
    testing::start_of_time,
};

/// The plan of one call: what its agent does and what its listener does.
#[derive(Debug, Clone)]
pub(super) struct CallPlan {
    /// Bytes of the request's body.
    pub(super) asks: usize,
    /// Bytes of the response's body.
    pub(super) bytes: u64,
    /// How long the agent's service works before it responds.
    pub(super) thinks: Duration,
    /// How many bytes it reads at a time, and how long that takes.
    pub(super) chunk: u64,
    pub(super) reads: Duration,
    /// The offset at which its disk fails, if it does.
    pub(super) fails_at: Option<u64>,
    /// The offset at which its disk hangs, and for how long.
    pub(super) hangs: Option<(u64, Duration)>,
    /// How long the listener waits before it takes another chunk.
    pub(super) rests: Duration,
    /// When the listener leaves, if it does.
    pub(super) leaves: Option<Duration>,
    /// True if the rest of a body that was cut is requested on another tunnel.
    pub(super) continues: bool,
}

impl CallPlan {
    pub(super) fn random(chance: &mut Chance) -> Self {
        let most = if chance.one_in(20) { 12_000_000 } else { 1_000_000 };
        let bytes = chance.magnitude(most);
        let second = Duration::from_secs(1);
        let somewhere = bytes + 1;
        Self {
            asks: if chance.one_in(4) { 0 } else { chance.magnitude(65_536) as usize },
            bytes,
            thinks: if chance.one_in(3) { chance.time(20 * second) } else { Duration::ZERO },
            chunk: 1 + chance.magnitude(87_000).max(bytes / 400).min(87_000),
            reads: if chance.one_in(3) { chance.time(second / 2) } else { Duration::ZERO },
            fails_at: chance.one_in(10).then(|| chance.below(somewhere)),
            hangs: chance.one_in(6).then(|| (chance.below(somewhere), chance.time(50 * second))),
            rests: match chance.below(8) {
                // A chunk of speech in minutes rather than in seconds, as a browser reads that has enough buffered.
                0 if chance.one_in(2) => 60 * second + chance.time(1700 * second),
                0 => chance.time(60 * second),
                1 | 2 => chance.time(second),
                _ => Duration::ZERO,
            },
            leaves: chance.one_in(5).then(|| chance.time(60 * second)),
            continues: chance.one_in(2),
        }
    }

    /// True if the agent may send nothing for so long that the relay gives the stream up.
    pub(super) fn may_stall(&self) -> bool {
        self.hangs.is_some_and(|(_, time)| time > Duration::from_secs(25))
    }
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The whole body was received, and its end.
    Complete,
    /// The stream was given up, by either side.
    Reset(ResetCode),
    /// The listener left.
    Left,
    /// The tunnel ended.
    Cut,
    /// No tunnel accepted the call.
    NotOpened,
}

/// Most tunnels that are tried for a call before it has a response, as in the relay.
const MOST_ASKED: usize = 4;
/// The share of the deadline that is left for the response after waiting for a tunnel: one third.
const LEFT_FOR_ANSWER: u32 = 3;

/// How far a call has come.
#[derive(Debug)]
pub(super) struct Ask {
    deadline: Instant,
    /// The offset of the first missing byte, from which the body is requested.
    pub(super) from: u64,
    /// Bytes that were delivered in total.
    delivered: u64,
    /// True if only the rest of a body is requested.
    pub(super) continued: bool,
    tried: Vec<u64>,
    /// A tunnel that may have carried the call was lost.
    lost: bool,
    answered: bool,
}

impl Ask {
    pub(super) fn was_asked(&self) -> bool {
        self.continued || !self.tried.is_empty()
    }

    pub(super) fn has_tried(&self, tunnel: u64) -> bool {
        self.tried.contains(&tunnel)
    }

    /// How long the response may take.
    pub(super) fn patience(&self, now: Instant) -> Duration {
        if self.continued { RELAY_DEADLINE } else { self.deadline.saturating_duration_since(now) }
    }

    /// Until when the call may wait for a tunnel.
    pub(super) fn answer_from(&self) -> Instant {
        self.deadline - RELAY_DEADLINE / LEFT_FOR_ANSWER
    }
}

/// All calls of a simulation, by their number.
pub(super) struct Calls<'a> {
    plans: Vec<CallPlan>,
    asks: Vec<Ask>,
    /// Calls that are to be retried.
    lost: Vec<usize>,
    outcomes: Vec<Option<Outcome>>,
    settled_twice: bool,
    /// How often a call was retried on another tunnel.
    pub(super) asked_again: u64,
    /// Bytes of complete bodies.
    pub(super) bytes: u64,
    trace: &'a mut dyn FnMut(Duration, fmt::Arguments<'_>),
}

impl<'a> Calls<'a> {
    pub(super) fn new(trace: &'a mut dyn FnMut(Duration, fmt::Arguments<'_>)) -> Self {
        Self {
            plans: Vec::new(),
            asks: Vec::new(),
            lost: Vec::new(),
            outcomes: Vec::new(),
            settled_twice: false,
            bytes: 0,
            asked_again: 0,
            trace,
        }
    }

    pub(super) fn add(&mut self, plan: CallPlan, now: Instant) -> usize {
        self.plans.push(plan);
        let deadline = now + RELAY_DEADLINE;
        self.asks.push(Ask {
            deadline,
            from: 0,
            delivered: 0,
            continued: false,
            tried: Vec::new(),
            lost: false,
            answered: false,
        });
        self.outcomes.push(None);
        self.plans.len() - 1
    }

    pub(super) fn plan(&self, call: usize) -> Result<&CallPlan, Finding> {
        self.plans.get(call).ok_or_else(|| Finding::new("a request came that was not sent"))
    }

    pub(super) fn ask(&self, call: usize) -> Result<&Ask, Finding> {
        self.asks.get(call).ok_or_else(|| Finding::new("this call was not made"))
    }

    /// A call was sent on a tunnel.
    pub(super) fn asked(&mut self, call: usize, tunnel: u64) {
        if let Some(ask) = self.asks.get_mut(call) {
            self.asked_again += u64::from(ask.was_asked());
            ask.tried.push(tunnel);
        }
    }

    /// RESPONSE was received.
    pub(super) fn answer(&mut self, call: usize) -> Result<(), Finding> {
        let ask = self.asks.get_mut(call).ok_or_else(|| Finding::new("this call was not made"))?;
        if std::mem::replace(&mut ask.answered, true) {
            return Err(Finding::new("a call was answered twice"));
        }
        Ok(())
    }

    /// Bytes were received, which must follow those before.
    pub(super) fn deliver(&mut self, call: usize, [from, to]: [u64; 2]) -> Result<(), Finding> {
        let ask = self.asks.get_mut(call).ok_or_else(|| Finding::new("this call was not made"))?;
        if std::mem::replace(&mut ask.delivered, to) != from {
            return Err(Finding::new("bytes were delivered twice, or left out"));
        }
        Ok(())
    }

    /// The tunnel of a call was lost before a response: the call may be retried once on another tunnel.
    pub(super) fn lose(&mut self, call: usize) {
        let Some(ask) = self.asks.get_mut(call) else { return };
        if std::mem::replace(&mut ask.lost, true) {
            self.settle(call, Outcome::Cut);
        } else {
            self.lost.push(call);
        }
    }

    /// The agent was leaving when it received the call, and has done nothing for it.
    pub(super) fn refuse(&mut self, call: usize) {
        if self.asks.get(call).is_some_and(|ask| ask.tried.len() < MOST_ASKED) {
            self.lost.push(call);
        } else {
            self.settle(call, Outcome::Reset(ResetCode::Refused));
        }
    }

    /// The tunnel was lost during the body: the rest may be requested on another one.
    pub(super) fn cut(&mut self, call: usize, received: u64) {
        let continues = self.plans.get(call).is_some_and(|plan| plan.continues);
        let Some(ask) = self.asks.get_mut(call).filter(|_| continues) else {
            return self.settle(call, Outcome::Cut);
        };
        (ask.from, ask.continued, ask.answered, ask.lost) = (received, true, false, false);
        ask.tried.clear();
        self.lost.push(call);
    }

    pub(super) fn take_lost(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.lost)
    }

    /// From now on listeners take everything at once.
    pub(super) fn hurry(&mut self) {
        self.plans.iter_mut().for_each(|plan| plan.rests = Duration::ZERO);
    }

    pub(super) fn settle(&mut self, call: usize, outcome: Outcome) {
        if let Some(slot) = self.outcomes.get_mut(call) {
            self.settled_twice |= slot.replace(outcome).is_some();
        }
    }

    pub(super) fn count(&self, of: impl Fn(Outcome) -> bool) -> u64 {
        self.outcomes.iter().flatten().filter(|outcome| of(**outcome)).count() as u64
    }

    pub(super) fn are_settled(&self) -> bool {
        self.outcomes.iter().all(Option::is_some)
    }

    pub(super) fn check(&self) -> Result<(), Finding> {
        if self.settled_twice {
            return Err(Finding::new("a call ended twice"));
        }
        Ok(())
    }

    pub(super) fn say(&mut self, now: Instant, what: fmt::Arguments<'_>) {
        (self.trace)(now - start_of_time(), what);
    }
}

/// Marks the bytes of a call's body, so that bytes of another call are noticed.
pub(super) fn mark(call: usize) -> StreamId {
    u32::try_from(call).ok().and_then(|call| StreamId::new(call + 1)).unwrap_or(StreamId::FIRST)
}

/// A short description of a frame.
pub(super) fn summary(frame: &Frame) -> String {
    let name = frame.name();
    match frame {
        Frame::Request(stream, head, body) => {
            format!("{name} on stream {stream}: call {}, {} bytes", head.request_id, body.len())
        }
        Frame::Data(stream, data) | Frame::Answer(stream, _, data) => {
            format!("{name} on stream {stream}: {} bytes", data.len())
        }
        Frame::Response(stream, _) | Frame::End(stream) => format!("{name} on stream {stream}"),
        Frame::Reset(stream, code, _) => format!("{name} on stream {stream}: {code:?}"),
        Frame::Credit(stream, bytes) => format!("{name} on stream {stream}: {bytes} bytes"),
        Frame::Hello(_) | Frame::Welcome(_) | Frame::Goaway(_) | Frame::Status(_) | Frame::Unknown(_) => {
            name.to_owned()
        }
    }
}
