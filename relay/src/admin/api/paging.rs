//! Lists of events that are answered in parts.

use std::ops::RangeInclusive;

use crate::{admin::Refused, store::Cursor};

/// Events in one answer where the request does not say how many.
const USUAL_LIMIT: u32 = 100;
/// Events that one answer may have.
const LIMITS: RangeInclusive<u32> = 1..=1000;

/// How many events one answer has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit(u32);

impl Limit {
    /// As a request says it.
    ///
    /// # Errors
    /// [`Refused`] with 422 where it is out of bounds.
    pub(super) fn check(asked: Option<u32>) -> Result<Self, Refused> {
        let limit = asked.unwrap_or(USUAL_LIMIT);
        if !LIMITS.contains(&limit) {
            return Err(Refused::unprocessable("limit: from 1 to 1000 events fit into one answer"));
        }
        Ok(Self(limit))
    }

    /// How many to read: one more shows whether there are older ones.
    pub(super) fn to_read(self) -> u32 {
        self.0 + 1
    }

    /// Cuts what was read to one answer, and returns where the next one goes on.
    pub(super) fn cut<T>(self, events: &mut Vec<T>, place: impl Fn(&T) -> Cursor) -> Option<Cursor> {
        let more = events.len() > self.0 as usize;
        events.truncate(self.0 as usize);
        events.last().filter(|_| more).map(place)
    }
}
