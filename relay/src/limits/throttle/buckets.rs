//! One bucket of attempts for each pair that has made a wrong one.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::{BURST, MAX_PAIRS, REFILL, Subject};

/// How long it takes to fill an empty bucket.
const FULL: Duration = Duration::from_secs(REFILL.as_secs() * BURST as u64);
/// Pairs below which nobody looks for those that can be forgotten.
const SWEEP_FROM: usize = 1024;

#[derive(Debug)]
struct Bucket {
    /// When the bucket will be full again; the later, the emptier it is.
    full_at: Instant,
    /// Attempts that were let through and not judged yet.
    under_way: u32,
}

#[derive(Debug, Default)]
pub(super) struct Buckets {
    buckets: HashMap<Subject, Bucket>,
    swept: Option<Instant>,
}

impl Buckets {
    /// Takes a place for an attempt that has not been judged yet; `false` if the pair has done nothing wrong lately
    /// and needs none.
    ///
    /// # Errors
    /// How long to wait until there is a place.
    pub(super) fn reserve(&mut self, subject: &Subject, now: Instant) -> Result<bool, Duration> {
        let Some(bucket) = self.buckets.get_mut(subject) else {
            return Ok(false);
        };
        let full_at = bucket.full_at.max(now) + REFILL * (bucket.under_way + 1);
        let wait = full_at.saturating_duration_since(now + FULL);
        if !wait.is_zero() {
            return Err(wait);
        }
        bucket.under_way += 1;
        Ok(true)
    }

    /// Gives a place back.
    pub(super) fn release(&mut self, subject: &Subject) {
        if let Some(bucket) = self.buckets.get_mut(subject) {
            bucket.under_way = bucket.under_way.saturating_sub(1);
        }
    }

    /// Counts a wrong attempt. Debts do not grow without end: whoever stops is forgiven in a minute.
    pub(super) fn wrong(&mut self, subject: Subject, now: Instant) {
        let len = self.buckets.len();
        let due = self.swept.is_none_or(|swept| now.saturating_duration_since(swept) >= FULL);
        if (len >= SWEEP_FROM && due) || len >= MAX_PAIRS {
            self.sweep(now);
        }
        let bucket = self.buckets.entry(subject).or_insert(Bucket { full_at: now, under_way: 0 });
        bucket.full_at = (bucket.full_at.max(now) + REFILL).min(now + FULL);
    }

    /// Forgets the pairs whose buckets are full; if too many are left, those that would be full soonest.
    fn sweep(&mut self, now: Instant) {
        self.buckets.retain(|_, bucket| bucket.full_at > now || bucket.under_way > 0);
        if self.buckets.len() >= MAX_PAIRS {
            let mut times: Vec<_> = self.buckets.values().map(|bucket| bucket.full_at).collect();
            let middle = times.len() / 2;
            let (_, median, _) = times.select_nth_unstable(middle);
            let median = *median;
            // Half of the table at a time, so that the next half comes in without looking.
            let mut surplus = self.buckets.len() - middle;
            self.buckets.retain(|_, bucket| {
                let kept = bucket.full_at > median || surplus == 0;
                surplus -= usize::from(!kept);
                kept
            });
        }
        self.buckets.shrink_to(2 * self.buckets.len());
        self.swept = Some(now);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.buckets.len()
    }
}
