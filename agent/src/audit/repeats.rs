//! Counts the repeats of an authenticated client instead of filling the audit log with them: only the first get lines
//! of their own. Otherwise a client with the token could fill the disk, since the audit log is kept for months. Pure;
//! takes `now`.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use audiovault_protocol::admission::unauthenticated::UnauthenticatedLimit;
use jiff::Timestamp;

use super::event::{Event, Kind, Notice};

/// Lines per minute for one recording that one client downloads, or for one call that it searches and that has
/// recordings. A listener who seeks once a second in one recording is at the limit.
const SAME: u32 = 60;
/// Lines per minute for one client's searches that find nothing, and for its requests that are refused. They disclosed
/// nothing, and each may name another call, so all of one client count together.
const FRUITLESS: u32 = 60;
/// Most repeats that are watched at a time, about 200 kB. Further events get lines of their own.
const MAX_WATCHED: usize = 1024;
/// How often expired entries are looked for when the limit is reached.
const PURGE_EVERY: Duration = Duration::from_secs(1);

/// What makes two events repeats of each other. User and user agent are not part of it, because the client chooses
/// both.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    kind: Kind,
    client: Option<String>,
    /// The call, for a search that found something.
    call: Option<Call>,
    /// The recording, for a delivery.
    recording: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Call {
    tenant: Option<String>,
    id: Option<String>,
}

impl Key {
    fn of(event: &Event) -> Self {
        let refused = event.status.is_none_or(|status| status >= 400);
        let found = event.kind == Kind::Search && !refused && event.found.is_some_and(|found| found > 0);
        let kind = if event.kind == Kind::Begun { Kind::Delivery } else { event.kind };
        let call = || Call { tenant: event.tenant.clone(), id: event.call_id.clone() };
        Self {
            kind,
            client: event.client.clone(),
            call: found.then(call),
            recording: event.recording.clone().filter(|_| kind == Kind::Delivery && !refused),
        }
    }

    fn lines(&self) -> u32 {
        if self.call.is_some() || self.recording.is_some() { SAME } else { FRUITLESS }
    }
}

#[derive(Debug)]
struct Watched {
    unauthenticated: UnauthenticatedLimit<Timestamp>,
    /// Bytes that the counted requests handed out.
    bytes: u64,
}

/// The repeats of all clients.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    watched: HashMap<Key, Watched>,
    /// When the first count is due.
    due: Option<Instant>,
    purged: Option<Instant>,
}

impl Repeats {
    /// Returns true if an event that is over gets a line of its own. Otherwise it is counted.
    pub(super) fn admit(&mut self, event: &Event, now: Instant) -> bool {
        let Some(watched) = self.watch(Key::of(event), now) else { return true };
        let admitted = watched.unauthenticated.admit(now, event.time);
        if !admitted {
            watched.bytes += event.octets.unwrap_or_default();
            let due = watched.unauthenticated.due();
            self.due = self.due.into_iter().chain(due).min();
        }
        admitted
    }

    /// Returns true if a delivery that begins gets lines of its own. Otherwise it is counted when it ends.
    pub(super) fn begin(&mut self, event: &Event, now: Instant) -> bool {
        self.watch(Key::of(event), now).is_none_or(|watched| watched.unauthenticated.begin(now, event.time))
    }

    /// Counts a delivery that began without a line. Returns false if there was no room; it then gets a line of its own.
    pub(super) fn count(&mut self, event: &Event, now: Instant) -> bool {
        let Some(watched) = self.watch(Key::of(event), now) else { return false };
        watched.unauthenticated.count(now, event.time);
        watched.bytes += event.octets.unwrap_or_default();
        let due = watched.unauthenticated.due();
        self.due = self.due.into_iter().chain(due).min();
        true
    }

    /// When the next count is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The counts that are due at `now`, or all of them if `last` is true.
    pub(super) fn close(&mut self, now: Instant, last: bool) -> Vec<Notice> {
        if !last && self.due.is_none_or(|due| now < due) {
            return Vec::new();
        }
        let mut notices = Vec::new();
        let time = Timestamp::now();
        self.watched.retain(|key, watched| {
            if let Some(suppressed) = watched.unauthenticated.close(now, last) {
                let bytes = std::mem::take(&mut watched.bytes);
                notices.push(Notice::Suppressed {
                    time,
                    since: suppressed.since,
                    count: suppressed.count,
                    of: Some(key.kind),
                    client: key.client.clone(),
                    tenant: key.call.as_ref().and_then(|call| call.tenant.clone()),
                    call_id: key.call.as_ref().and_then(|call| call.id.clone()),
                    recording: key.recording.clone(),
                    octets: (key.kind == Kind::Delivery).then_some(bytes),
                });
            }
            !watched.unauthenticated.is_over(now)
        });
        self.due = self.watched.values().filter_map(|watched| watched.unauthenticated.due()).min();
        notices
    }

    fn watch(&mut self, key: Key, now: Instant) -> Option<&mut Watched> {
        if self.watched.len() >= MAX_WATCHED && !self.watched.contains_key(&key) {
            if self.purged.is_none_or(|purged| now >= purged + PURGE_EVERY) {
                self.purged = Some(now);
                self.watched.retain(|_, watched| !watched.unauthenticated.is_over(now));
            }
            if self.watched.len() >= MAX_WATCHED {
                return None;
            }
        }
        let lines = key.lines();
        let new = || Watched { unauthenticated: UnauthenticatedLimit::with_lines(lines), bytes: 0 };
        Some(self.watched.entry(key).or_insert_with(new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn search(call: usize, found: u32) -> Event {
        let mut event = Event::new(Kind::Search, "GET", "r");
        event.client = Some("192.0.2.1".to_owned());
        event.call_id = Some(format!("1711441902.{call}"));
        event.status = Some(200);
        event.found = Some(found);
        event
    }

    fn delivery(kind: Kind) -> Event {
        let mut event = search(1, 0);
        event.kind = kind;
        event.recording = Some("in-1711441902.1.wav".to_owned());
        event.octets = (kind == Kind::Delivery).then_some(10);
        event
    }

    fn counts(notices: &[Notice]) -> Vec<u64> {
        let count = |notice: &Notice| match notice {
            Notice::Suppressed { count, .. } => Some(*count),
            Notice::Lost { .. } | Notice::Erased { .. } => None,
        };
        let mut counts: Vec<_> = notices.iter().filter_map(count).collect();
        counts.sort_unstable();
        counts
    }

    #[test]
    fn the_same_again_is_counted_and_another_call_has_a_line() {
        let mut repeats = Repeats::default();
        let now = Instant::now();
        let mut again = search(1, 1);
        let lines = (0..1000).filter(|n| {
            // Another made-up user name does not make it another client.
            again.user = Some(format!("user-{n}"));
            repeats.admit(&again, now)
        });
        assert_eq!(lines.count(), SAME as usize);
        assert!((2..900).all(|call| repeats.admit(&search(call, 1), now)), "each is a call of its own");
        assert_eq!(repeats.due(), Some(now + MINUTE));
        assert!(repeats.close(now + MINUTE / 2, false).is_empty());
        let notices = repeats.close(now + MINUTE, false);
        assert_eq!(counts(&notices), [1000 - u64::from(SAME)]);
        assert!(
            matches!(&notices[0], Notice::Suppressed { call_id: Some(id), client: Some(_), octets: None, .. } if id == "1711441902.1")
        );
        assert!(repeats.watched.is_empty() && repeats.due().is_none());
    }

    #[test]
    fn fruitless_and_refused_searches_are_counted_across_calls() {
        let mut repeats = Repeats::default();
        let now = Instant::now();
        let lines = (0..1000).filter(|call| repeats.admit(&search(*call, 0), now)).count();
        assert_eq!(lines, FRUITLESS as usize);
        let other = Event { client: Some("192.0.2.2".to_owned()), ..search(1, 0) };
        assert!(repeats.admit(&other, now), "another client has lines of its own");
        assert_eq!(counts(&repeats.close(now, true)), [1000 - u64::from(FRUITLESS)]);
    }

    #[test]
    fn deliveries_that_begin_without_a_line_are_counted_with_their_bytes_when_they_end() {
        let mut repeats = Repeats::default();
        let now = Instant::now();
        let begun = (0..SAME + 3).filter(|_| repeats.begin(&delivery(Kind::Begun), now)).count();
        assert_eq!((begun, repeats.due()), (SAME as usize, None));
        for _ in 0..3 {
            assert!(repeats.count(&delivery(Kind::Delivery), now + 3 * MINUTE));
        }
        let notices = repeats.close(now + 4 * MINUTE, false);
        assert!(
            matches!(
                &notices[..],
                [Notice::Suppressed { count: 3, octets: Some(30), recording: Some(_), .. }]
            ),
            "{notices:?}"
        );
    }

    #[test]
    fn memory_is_bounded_and_what_is_not_watched_has_lines() {
        let mut repeats = Repeats::default();
        let now = Instant::now();
        assert!((0..5000).all(|call| repeats.admit(&search(call, 1), now)));
        assert_eq!(repeats.watched.len(), MAX_WATCHED);
        assert!((0..1000).all(|_| repeats.admit(&search(4999, 1), now)));
        assert!(repeats.admit(&search(4999, 1), now + MINUTE));
        assert_eq!(repeats.watched.len(), 1, "those before are over");
    }
}
