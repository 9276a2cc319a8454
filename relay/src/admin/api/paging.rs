//! The limit on the number of events in one response, and the cursor for the next one.

use std::ops::RangeInclusive;

use crate::{admin::HttpError, store::Cursor};

/// Number of events in one response if the request has no `limit`.
const USUAL_LIMIT: u32 = 100;
/// How many events one response can have.
const LIMITS: RangeInclusive<u32> = 1..=1000;

/// The number of events in one response.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit(u32);

impl Limit {
    /// The limit that the request asks for, or the default.
    ///
    /// # Errors
    /// [`HttpError`] with status 422 if the limit is out of bounds.
    pub(super) fn check(asked: Option<u32>) -> Result<Self, HttpError> {
        let limit = asked.unwrap_or(USUAL_LIMIT);
        if !LIMITS.contains(&limit) {
            return Err(HttpError::unprocessable("limit must be from 1 to 1000"));
        }
        Ok(Self(limit))
    }

    /// Number of events to read: one more than the limit, which shows whether there are older ones.
    pub(super) fn to_read(self) -> u32 {
        self.0 + 1
    }

    /// Cuts the events to the limit. Returns the cursor of the next response, or `None` if there are no more events.
    pub(super) fn cut<T>(self, events: &mut Vec<T>, place: impl Fn(&T) -> Cursor) -> Option<Cursor> {
        let more = events.len() > self.0 as usize;
        events.truncate(self.0 as usize);
        events.last().filter(|_| more).map(place)
    }
}
