//! The attempts that were refused at one site within the last hour.

use std::time::{Duration, Instant};

use audiovault_protocol::admission::throttle::Allowance;
use jiff::Timestamp;

use super::SiteThrottle;

const MINUTES: usize = 60;
/// After this time without a throttled attempt, no client is throttled any more: every bucket is full.
const REFILL_TIME: Duration = Allowance::CLIENT.full_after();

/// Why an attempt was refused.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Token,
    Key,
    Link,
    Throttled,
}

#[derive(Debug, Clone, Copy, Default)]
struct Minute {
    number: u64,
    counts: [u32; 4],
}

/// Refused attempts, counted by the minute in a ring.
#[derive(Debug)]
pub(super) struct Refusals {
    start: Instant,
    minutes: [Minute; MINUTES],
    throttled: Option<Spell>,
    /// The time in which all clients together have been throttled.
    ceiling: Option<Spell>,
}

/// A time in which attempts were throttled.
#[derive(Debug, Clone, Copy)]
struct Spell {
    since: Timestamp,
    last: Instant,
}

impl Spell {
    /// The spell, if it has not ended yet.
    fn that_lasts(spell: Option<Self>, now: Instant) -> Option<Self> {
        spell.filter(|spell| now.saturating_duration_since(spell.last) < REFILL_TIME)
    }

    /// Extends the spell, or begins a new one if it has ended.
    fn go_on(spell: Option<Self>, now: Instant) -> Self {
        let since = Self::that_lasts(spell, now).map_or_else(Timestamp::now, |spell| spell.since);
        Self { since, last: now }
    }
}

impl Default for Refusals {
    fn default() -> Self {
        Self { start: Instant::now(), minutes: [Minute::default(); MINUTES], throttled: None, ceiling: None }
    }
}

impl Refusals {
    pub(super) fn count(&mut self, kind: Kind, now: Instant) {
        let number = self.number(now);
        let minute = &mut self.minutes[permit(number)];
        if minute.number != number {
            *minute = Minute { number, counts: [0; 4] };
        }
        minute.counts[kind as usize] = minute.counts[kind as usize].saturating_add(1);
        if matches!(kind, Kind::Throttled) {
            self.throttled = Some(Spell::go_on(self.throttled, now));
        }
    }

    /// Notes that an attempt was throttled because of the wrong attempts of all clients together.
    pub(super) fn reached_ceiling(&mut self, now: Instant) {
        self.ceiling = Some(Spell::go_on(self.ceiling, now));
    }

    pub(super) fn snapshot(&self, now: Instant) -> SiteThrottle {
        let number = self.number(now);
        let recent = self.minutes.iter().filter(|minute| minute.number + MINUTES as u64 > number);
        let sum = |kind: Kind| {
            let counts = recent.clone().map(|minute| minute.counts[kind as usize]);
            counts.fold(0, u32::saturating_add)
        };
        SiteThrottle {
            wrong_tokens: sum(Kind::Token),
            wrong_keys: sum(Kind::Key),
            wrong_links: sum(Kind::Link),
            throttled: sum(Kind::Throttled),
            since: Spell::that_lasts(self.throttled, now).map(|spell| spell.since),
            ceiling_since: Spell::that_lasts(self.ceiling, now).map(|spell| spell.since),
        }
    }

    fn number(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_secs() / 60
    }
}

fn permit(number: u64) -> usize {
    usize::try_from(number).unwrap_or_default() % MINUTES
}
