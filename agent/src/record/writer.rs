//! The thread that writes the record. It alone touches the disk, so a disk that is full, slow or dead stops nobody.

use std::{
    collections::VecDeque,
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{
    event::{Notice, line},
    queue::{Mail, Queue, Work},
    rotation::{RecordError, RecordSettings, RotatedFile},
    unended,
};
use crate::problems::Problems;

/// How often a disk that could not be written is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// What the problems of this part are filed under.
const SUBJECT: &str = "audit log";

/// What the thread keeps.
pub(super) struct Writer {
    queue: Arc<Queue>,
    problems: Problems,
    target: Option<RecordSettings>,
    file: Option<RotatedFile>,
    /// What was taken from the queue and is not on disk: as many lines as the queue holds and a few.
    lines: VecDeque<String>,
    run: String,
    /// Whether deliveries of earlier runs were closed in the file of this target.
    closed: bool,
    /// When to try again, while the disk cannot be written.
    trouble_until: Option<Instant>,
}

impl Writer {
    pub(super) fn new(queue: Arc<Queue>, problems: Problems, run: String) -> Self {
        Self {
            queue,
            problems,
            target: None,
            file: None,
            lines: VecDeque::new(),
            run,
            closed: false,
            trouble_until: None,
        }
    }

    /// Writes until it is told to stop.
    pub(super) fn run(mut self) {
        loop {
            let Work { mail, lost, suppressed, stop, waiting } = self.queue.take(self.trouble_until);
            for mail in mail {
                match mail {
                    Mail::Event(event) => self.lines.push_back(line(&event)),
                    Mail::Target(target) => self.turn_to(target),
                }
            }
            let time = Timestamp::now();
            if lost > 0 {
                self.lines.push_back(line(&Notice::Lost { time, count: lost }));
            }
            if let Some(suppressed) = suppressed {
                let (since, count) = (suppressed.since, suppressed.count);
                self.lines.push_back(line(&Notice::Suppressed { time, since, count }));
            }
            self.write();
            if stop {
                self.end();
                // Whoever waits is told by this.
                drop(waiting);
                return;
            }
        }
    }

    /// Writes what waits, and notices how that went.
    fn write(&mut self) {
        match self.try_write() {
            Ok(()) => self.recovered(),
            Err(error) => self.failed(&error),
        }
    }

    fn try_write(&mut self) -> Result<(), RecordError> {
        let Some(target) = &self.target else {
            self.lines.clear();
            return Ok(());
        };
        let file = match &mut self.file {
            Some(file) => {
                file.follow()?;
                file
            }
            None => self.file.insert(RotatedFile::open(target)?),
        };
        // The file is open, so no other agent writes it.
        if !self.closed {
            self.closed = true;
            for line in unended::closing_lines(&target.path, &self.run).into_iter().rev() {
                self.lines.push_front(line);
            }
        }
        while let Some(line) = self.lines.front() {
            file.append(line)?;
            self.lines.pop_front();
        }
        Ok(())
    }

    fn failed(&mut self, error: &RecordError) {
        // Opened afresh at the next attempt, whatever has become of it.
        self.file = None;
        if self.trouble_until.is_none() {
            let cause = error.source().map(ToString::to_string).unwrap_or_default();
            tracing::error!(cause, "{error}; searches and deliveries go on, and what cannot wait is counted");
            let cause = if cause.is_empty() { cause } else { format!(" ({cause})") };
            self.problems.note(SUBJECT, Some(format!("{error}{cause}")));
        }
        self.trouble_until = Some(Instant::now() + RETRY);
    }

    fn recovered(&mut self) {
        if self.trouble_until.take().is_some() {
            if self.target.is_some() {
                tracing::info!("the audit log is written again");
            }
            self.problems.note(SUBJECT, None);
        }
    }

    /// Goes on elsewhere. What cannot be written where it was is written there.
    fn turn_to(&mut self, target: Option<RecordSettings>) {
        if self.target == target {
            return;
        }
        if self.target.is_some() {
            self.write();
        }
        self.file = None;
        self.closed = false;
        self.target = target;
    }

    fn end(&self) {
        if !self.lines.is_empty() {
            let lines = self.lines.len();
            tracing::error!(
                lines,
                "the agent ends and the audit log still cannot be written; lines are lost"
            );
        }
    }
}
