//! The plan of one call: what its agent does and what its listener does.

use std::time::Duration;

use super::random::Chance;

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
