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

#[derive(Debug, Default)]
struct Bucket {
    /// When the bucket will be full again, if anything was wrong: the later, the emptier it is.
    full_at: Option<Instant>,
    /// What is tried at the moment and not judged yet, and by how many attempts.
    under_way: Vec<(u64, u32)>,
}

#[derive(Debug, Default)]
pub(super) struct Buckets {
    buckets: HashMap<Subject, Bucket>,
    swept: Option<Instant>,
}

impl Bucket {
    /// How long a guess has to wait beside so many that are under way.
    fn wait(&self, beside: usize, now: Instant) -> Duration {
        let places = u32::try_from(beside + 1).unwrap_or(u32::MAX);
        let full_at = self.full_at.map_or(now, |at| at.max(now)) + REFILL.saturating_mul(places);
        full_at.saturating_duration_since(now + FULL)
    }
}

impl Buckets {
    /// Takes a place for a guess that has not been judged yet. Attempts that try the same share it: they are one guess, and
    /// who has just been given a new token may search with it a hundred times at once.
    ///
    /// # Errors
    /// How long to wait until there is a place.
    pub(super) fn reserve(&mut self, subject: &Subject, guess: u64, now: Instant) -> Result<(), Duration> {
        let bucket = self.buckets.entry(subject.clone()).or_default();
        if let Some((_, attempts)) = bucket.under_way.iter_mut().find(|(other, _)| *other == guess) {
            *attempts += 1;
            return Ok(());
        }
        let wait = bucket.wait(bucket.under_way.len(), now);
        if !wait.is_zero() {
            return Err(wait);
        }
        bucket.under_way.push((guess, 1));
        Ok(())
    }

    /// Gives a place back.
    pub(super) fn release(&mut self, subject: &Subject, guess: u64) {
        let Some(bucket) = self.buckets.get_mut(subject) else { return };
        if let Some(at) = bucket.under_way.iter().position(|(other, _)| *other == guess) {
            bucket.under_way[at].1 -= 1;
            if bucket.under_way[at].1 == 0 {
                bucket.under_way.swap_remove(at);
            }
        }
        if bucket.under_way.is_empty() && bucket.full_at.is_none() {
            self.buckets.remove(subject);
        }
    }

    /// How long another guess would have to wait.
    pub(super) fn wait(&self, subject: &Subject, now: Instant) -> Duration {
        self.buckets.get(subject).map_or(Duration::ZERO, |bucket| bucket.wait(bucket.under_way.len(), now))
    }

    /// Counts a wrong attempt. Debts do not grow without end: whoever stops is forgiven in a minute.
    pub(super) fn wrong(&mut self, subject: Subject, now: Instant) {
        let len = self.buckets.len();
        let due = self.swept.is_none_or(|swept| now.saturating_duration_since(swept) >= FULL);
        if (len >= SWEEP_FROM && due) || len >= MAX_PAIRS {
            self.sweep(now);
        }
        let bucket = self.buckets.entry(subject).or_default();
        let full_at = bucket.full_at.map_or(now, |at| at.max(now)) + REFILL;
        bucket.full_at = Some(full_at.min(now + FULL));
    }

    /// Forgets the pairs whose buckets are full; if too many are left, those that would be full soonest.
    fn sweep(&mut self, now: Instant) {
        let now = Some(now);
        self.buckets.retain(|_, bucket| bucket.full_at > now || !bucket.under_way.is_empty());
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
        self.swept = now;
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.buckets.len()
    }
}
