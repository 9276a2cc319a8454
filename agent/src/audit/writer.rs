//! The thread that writes the audit log. It alone uses the disk, so a full, slow or dead disk delays no request.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use audiovault_common::error_chain::causes_in_one_line;
use jiff::Timestamp;

use super::{
    alarms::{self, Pace},
    event::{Notice, line},
    queue::{Mail, Queue, Work},
    rotation::{AuditLogError, AuditLogSettings, RotatedFile},
    unended,
};
use crate::status::problems::{AUDIT_LOG, AUDIT_LOG_PACE, AUDIT_LOG_SPACE, Problems};

/// How often writing is retried after a failure.
const RETRY: Duration = Duration::from_secs(1);
/// How often the file is checked when there is nothing to write. A program that moves it away waits up to this long
/// until the writer releases it.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often the free space is checked: even at full disk speed, an alarm comes at most a minute late.
const SPACE_EVERY: Duration = Duration::from_secs(60);
/// How often old files are pruned, in addition to each time that a new file is begun.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);

/// The state of the thread.
pub(super) struct Writer {
    queue: Arc<Queue>,
    problems: Problems,
    target: Option<AuditLogSettings>,
    file: Option<RotatedFile>,
    /// Lines taken from the queue that are not on disk: as many as the queue holds, and a few more.
    lines: VecDeque<String>,
    run: String,
    /// Whether deliveries of earlier runs were closed in the file of this target.
    closed: bool,
    /// When to try again, after the disk could not be written.
    trouble_until: Option<Instant>,
    pace: Pace,
    /// When the free space was last checked.
    space_at: Option<Instant>,
    /// When old files were last pruned.
    pruned_at: Option<Instant>,
    /// The alarms that are up.
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

    /// Writes until the queue is stopped.
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
                // Dropping the sender wakes the task that waits for the end.
                drop(waiting);
                return;
            }
        }
    }

    /// Writes all waiting lines, and notes whether that worked.
    fn write(&mut self) {
        match self.try_write() {
            Ok(()) => self.recovered(),
            Err(error) => self.failed(&error),
        }
    }

    fn try_write(&mut self) -> Result<(), AuditLogError> {
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
        // The file is open and locked, so no other agent writes it.
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

    /// Raises and clears alarms.
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
        // Log an alarm only once, because the figures in its sentence change all the time.
        match &problem {
            Some(problem) => {
                if self.alarms.insert(subject) {
                    tracing::error!(code = "audit_log.alarm", "{problem}");
                }
            }
            None => {
                if self.alarms.remove(subject) {
                    tracing::info!(code = "audit_log.alarm_over", "the alarm is over: {subject}");
                }
            }
        }
        self.problems.note(subject, problem);
    }

    fn failed(&mut self, error: &AuditLogError) {
        // The next attempt opens it again, so the state after the error does not matter.
        self.file = None;
        if self.trouble_until.is_none() {
            let cause = causes_in_one_line(error).unwrap_or_default();
            tracing::error!(
                cause,
                code = "audit_log.failed",
                "{error}; searches and deliveries continue, and events above the queue limit are only \
                 counted"
            );
            let cause = if cause.is_empty() { cause } else { format!(" ({cause})") };
            self.problems.note(AUDIT_LOG, Some(format!("{error}{cause}")));
        }
        self.trouble_until = Some(Instant::now() + RETRY);
    }

    fn recovered(&mut self) {
        if self.trouble_until.take().is_some() {
            if self.target.is_some() {
                tracing::info!(code = "audit_log.recovered", "the audit log is written again");
            }
            self.problems.note(AUDIT_LOG, None);
        }
    }

    /// Switches to another file. Lines that cannot be written to the old file are written to the new one.
    fn turn_to(&mut self, target: Option<AuditLogSettings>) {
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
                code = "audit_log.lines_lost",
                "the agent stops, and the audit log still cannot be written; lines are lost"
            );
        }
    }
}
