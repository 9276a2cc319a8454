//! What was called for, what it came to, and who is told of it all.

use std::{
    fmt,
    time::{Duration, Instant},
};

use super::{Finding, plan::CallPlan};
use crate::{frame::Frame, message::ResetCode, testing::start_of_time};

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The whole body came, and its end.
    Complete,
    /// The stream was given up, by either side.
    Reset(ResetCode),
    /// The listener left.
    Left,
    /// The tunnel ended.
    Cut,
    /// No tunnel took it.
    NotOpened,
}

/// All calls of a simulation, by their number.
pub(super) struct Calls<'a> {
    plans: Vec<CallPlan>,
    outcomes: Vec<Option<Outcome>>,
    settled_twice: bool,
    /// Octets of complete bodies.
    pub(super) octets: u64,
    trace: &'a mut dyn FnMut(Duration, fmt::Arguments<'_>),
}

impl<'a> Calls<'a> {
    pub(super) fn new(trace: &'a mut dyn FnMut(Duration, fmt::Arguments<'_>)) -> Self {
        Self { plans: Vec::new(), outcomes: Vec::new(), settled_twice: false, octets: 0, trace }
    }

    pub(super) fn add(&mut self, plan: CallPlan) -> usize {
        self.plans.push(plan);
        self.outcomes.push(None);
        self.plans.len() - 1
    }

    pub(super) fn plan(&self, call: usize) -> Result<&CallPlan, Finding> {
        self.plans.get(call).ok_or_else(|| Finding::new("a request came that nobody made"))
    }

    /// From now on listeners take whatever comes at once.
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

/// A frame in a few words.
pub(super) fn summary(frame: &Frame) -> String {
    let name = frame.name();
    match frame {
        Frame::Request(stream, head, body) => {
            format!("{name} on stream {stream}: call {}, {} octets", head.request_id, body.len())
        }
        Frame::Data(stream, data) | Frame::Answer(stream, _, data) => {
            format!("{name} on stream {stream}: {} octets", data.len())
        }
        Frame::Response(stream, _) | Frame::End(stream) => format!("{name} on stream {stream}"),
        Frame::Reset(stream, code, _) => format!("{name} on stream {stream}: {code:?}"),
        Frame::Credit(stream, octets) => format!("{name} on stream {stream}: {octets} octets"),
        Frame::Hello(_) | Frame::Welcome(_) | Frame::Goaway(_) | Frame::Status(_) | Frame::Unknown(_) => {
            name.to_owned()
        }
    }
}
