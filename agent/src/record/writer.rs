//! The thread that writes the record. It alone touches the disk, so a disk that is full, slow or dead stops nobody.

use std::{
    collections::{BTreeSet, VecDeque},
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{
    alarms::{self, Pace},
    event::{Notice, line},
    queue::{Mail, Queue, Work},
    rotation::{RecordError, RecordSettings, RotatedFile},
    unended,
};
use crate::problems::{AUDIT_LOG, AUDIT_LOG_PACE, AUDIT_LOG_SPACE, Problems};

/// How often a disk that could not be written is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How often the file is looked at when there is nothing to write: whoever moves it away waits so long for the writer to let go of it.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often the disk's room is looked at: at the pace of a disk a minute is what an alarm costs.
const SPACE_EVERY: Duration = Duration::from_secs(60);
/// How often old files are looked for that need not be kept any longer, beside when another file is begun.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);

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
    pace: Pace,
    /// When the disk's room was looked at last.
    space_at: Option<Instant>,
    /// When old files were looked for last.
    pruned_at: Option<Instant>,
    /// The alarms that stand.
    alarms: BTreeSet<&'static str>,
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
            pace: Pace::default(),
            space_at: None,
            pruned_at: None,
            alarms: BTreeSet::new(),
        }
    }

    /// Writes until it is told to stop.
    pub(super) fn run(mut self) {
        loop {
            let look_at = self.target.is_some().then(|| Instant::now() + LOOK_EVERY);
            let Work { mail, lost, counts, stop, waiting } = self.queue.take(self.trouble_until, look_at);
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
            self.lines.extend(counts.iter().map(line));
            self.write();
            self.watch();
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
        let now = Instant::now();
        let mut prune = self.pruned_at.is_none_or(|at| now >= at + PRUNE_EVERY);
        while let Some(line) = self.lines.front() {
            if file.append(line)? {
                self.pace.rotated(target.limit.unwrap_or_default(), Instant::now());
                self.space_at = None;
                prune = true;
            }
            self.lines.pop_front();
        }
        if prune {
            self.pruned_at = Some(now);
            file.prune()?;
        }
        Ok(())
    }

    /// Raises alarms and takes them back.
    fn watch(&mut self) {
        let now = Instant::now();
        let pace = self.target.as_ref().and_then(|target| self.pace.alarm(&target.path, now));
        self.alarm(AUDIT_LOG_PACE, pace);
        if self.space_at.is_none_or(|at| now >= at + SPACE_EVERY) {
            self.space_at = Some(now);
            let space = self.target.as_ref().and_then(alarms::space_warning);
            self.alarm(AUDIT_LOG_SPACE, space);
        }
    }

    fn alarm(&mut self, subject: &'static str, problem: Option<String>) {
        // Said once in the log: the figures in the sentence change all the time.
        match &problem {
            Some(problem) => {
                if self.alarms.insert(subject) {
                    tracing::error!("{problem}");
                }
            }
            None => {
                if self.alarms.remove(subject) {
                    tracing::info!("all is well again with the {subject}");
                }
            }
        }
        self.problems.note(subject, problem);
    }

    fn failed(&mut self, error: &RecordError) {
        // Opened afresh at the next attempt, whatever has become of it.
        self.file = None;
        if self.trouble_until.is_none() {
            let cause = error.source().map(ToString::to_string).unwrap_or_default();
            tracing::error!(cause, "{error}; searches and deliveries go on, and what cannot wait is counted");
            let cause = if cause.is_empty() { cause } else { format!(" ({cause})") };
            self.problems.note(AUDIT_LOG, Some(format!("{error}{cause}")));
        }
        self.trouble_until = Some(Instant::now() + RETRY);
    }

    fn recovered(&mut self) {
        if self.trouble_until.take().is_some() {
            if self.target.is_some() {
                tracing::info!("the audit log is written again");
            }
            self.problems.note(AUDIT_LOG, None);
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
        self.space_at = None;
        self.pruned_at = None;
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
