//! A bounded queue between the tasks that serve requests and the thread that writes. Adding to it never blocks.

use std::{collections::VecDeque, time::Instant};

use audiovault_protocol::admission::unauthenticated::UnauthenticatedLimit;
use jiff::Timestamp;
use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::oneshot;

use super::{
    event::{Event, Kind, Notice},
    repeats::Repeats,
    rotation::AuditLogSettings,
};

/// Most events that wait for the disk: seconds of a busy site, and about a megabyte.
pub(super) const CAPACITY: usize = 1024;
/// With this many events waiting, begin lines are left out: the lines of their ends say the same and more.
const ROOM_FOR_BEGINNINGS: usize = CAPACITY / 2;

/// Whose event it is, and whether it gets a line of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asker {
    /// An unauthenticated client.
    Unauthenticated,
    /// An authenticated client; what it repeats too often is counted.
    Known,
    /// A delivery whose beginning has a line: its end gets one too.
    Begun,
    /// A delivery whose beginning has no line: its end is counted.
    Repeating,
}

/// A message for the writer.
#[derive(Debug)]
pub(super) enum Mail {
    /// An event to write.
    Event(Box<Event>),
    /// Write to this file from now on, or nowhere.
    Target(Option<AuditLogSettings>),
}

/// What the writer has to do next.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// The messages, in the order in which they came.
    pub(super) mail: VecDeque<Mail>,
    /// How many later events found no room.
    pub(super) lost: u64,
    /// Counts of requests that have no lines of their own.
    pub(super) counts: Vec<Notice>,
    /// Whether the writer has to end after this work.
    pub(super) stop: bool,
    /// Dropped at the end, which wakes the task that waits for it.
    pub(super) waiting: Option<oneshot::Sender<()>>,
}

#[derive(Debug, Default)]
struct State {
    on: bool,
    mail: VecDeque<Mail>,
    /// The number of events in `mail`.
    events: usize,
    /// Whether `mail` has a new target.
    retargeted: bool,
    lost: u64,
    unauthenticated: UnauthenticatedLimit<Timestamp>,
    repeats: Repeats,
    stop: bool,
    waiting: Option<oneshot::Sender<()>>,
}

/// The queue between the requests and the writer.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    news: Condvar,
}

impl Queue {
    /// Whether anything is recorded.
    pub(super) fn is_on(&self) -> bool {
        self.lock().on
    }

    /// Adds an event, or counts it if there is no room. Returns true if it gets a line of its own.
    pub(super) fn push(&self, event: Event, asker: Asker) -> bool {
        let mut state = self.lock();
        if !state.on {
            return false;
        }
        if !state.admit(&event, asker) {
            // Wake the writer, so that it learns when the count is due.
            drop(state);
            self.news.notify_one();
            return false;
        }
        let begun = event.kind == Kind::Begun;
        if begun && state.events >= ROOM_FOR_BEGINNINGS {
            return true;
        }
        if state.events < CAPACITY {
            state.events += 1;
            state.mail.push_back(Mail::Event(Box::new(event)));
        } else {
            state.lost += 1;
        }
        drop(state);
        self.news.notify_one();
        true
    }

    /// Switches to another file, or to none, for all events from now on.
    pub(super) fn turn_to(&self, target: Option<AuditLogSettings>) {
        let mut state = self.lock();
        state.on = target.is_some() && !state.stop;
        state.retargeted = true;
        state.mail.push_back(Mail::Target(target));
        drop(state);
        self.news.notify_one();
    }

    /// Makes the writer write everything and end. No event is accepted any more.
    pub(super) fn stop(&self, waiting: Option<oneshot::Sender<()>>) {
        let mut state = self.lock();
        state.on = false;
        state.stop = true;
        state.waiting = waiting;
        drop(state);
        self.news.notify_one();
    }

    /// Waits for work, until `wake_at` at most. After a write error the writer waits until `trouble_until`. Events stay
    /// in the queue until then, while there is room, unless there is a new target or the writer has to end.
    pub(super) fn take(&self, trouble_until: Option<Instant>, wake_at: Option<Instant>) -> Work {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            let well = trouble_until.is_none();
            if state.stop || state.retargeted || (well && (state.events > 0 || state.lost > 0)) {
                return state.hand_over(now);
            }
            let due =
                || state.unauthenticated.due().into_iter().chain(state.repeats.due()).chain(wake_at).min();
            match trouble_until.or_else(due) {
                None => self.news.wait(&mut state),
                Some(until) if now < until => {
                    self.news.wait_for(&mut state, until - now);
                }
                Some(_) if well => return state.hand_over(now),
                Some(_) => return Work::default(),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl State {
    fn admit(&mut self, event: &Event, asker: Asker) -> bool {
        let now = Instant::now();
        match asker {
            Asker::Unauthenticated => self.unauthenticated.admit(now, Timestamp::now()),
            Asker::Known if event.kind == Kind::Begun => self.repeats.begin(event, now),
            Asker::Known => self.repeats.admit(event, now),
            Asker::Begun => true,
            Asker::Repeating => !self.repeats.count(event, now),
        }
    }

    fn counts(&mut self, now: Instant) -> Vec<Notice> {
        let mut counts = self.repeats.close(now, self.stop);
        let time = Timestamp::now();
        let unauthenticated = self.unauthenticated.close(now, self.stop);
        counts.extend(unauthenticated.map(|unauthenticated| {
            Notice::of_unauthenticated(time, unauthenticated.since, unauthenticated.count)
        }));
        counts
    }

    fn hand_over(&mut self, now: Instant) -> Work {
        self.events = 0;
        self.retargeted = false;
        Work {
            mail: std::mem::take(&mut self.mail),
            lost: std::mem::take(&mut self.lost),
            counts: self.counts(now),
            stop: self.stop,
            waiting: self.waiting.take(),
        }
    }
}
