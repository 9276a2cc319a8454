//! The thread that writes the audit log. It alone uses the disk, so a full, slow or dead disk delays no request.
//!
//! At its start it closes the deliveries of earlier runs that have a begin line but no end. It raises alarms that warn
//! the admin before lines are lost: the disk is nearly full, or the audit log grows too fast.

use std::{
    collections::{BTreeSet, HashSet, VecDeque},
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use audiovault_common::{
    advice::{Advice, Warning, without_causes},
    error_chain::causes_in_one_line,
};
use bytesize::ByteSize;
use jiff::Timestamp;
use memchr::memmem;
use serde_json::{Map, Value};

use super::{
    event::{Kind, Notice, Outcome, line},
    queue::{Mail, Queue, Work},
    rotation::{self, AuditLogError, AuditLogSettings, RotatedFile},
};
use crate::status::{AUDIT_LOG, AUDIT_LOG_PACE, AUDIT_LOG_SPACE, Problems};

/// How often writing is retried after a failure.
const RETRY: Duration = Duration::from_secs(1);
/// How often the file is checked when there is nothing to write. A program that moves it away waits up to this long
/// until the writer releases it.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often the free space is checked: even at full disk speed, an alarm comes at most a minute late.
const SPACE_EVERY: Duration = Duration::from_secs(60);
/// How often old files are pruned, in addition to each time that a new file is begun.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);
/// The most bytes by which the audit log grows within [`PACE_TIME`] in normal use: the searches and deliveries of
/// twelve requests a second, around the clock.
const PACE: u64 = 16 * 1024 * 1024;
const PACE_TIME: Duration = Duration::from_secs(3600);
/// How long the alarm stays up after the last file that was full too soon.
const ALARM_STANDS: Duration = Duration::from_secs(3600);
/// Bytes of the audit log that are read at a start, the newest files first: 150,000 lines, read within a second. What
/// was still running at the end of a run began within them, except for downloads that took days.
const MAX_READ: u64 = 64 * 1024 * 1024;
/// The key that the two lines of a delivery share. Quotes in texts are escaped, so no text can contain this.
const DELIVERY_KEY: &[u8] = b"\"delivery\":";
/// The text of the closing line. The line of an end can also be among those that were counted as lost.
const NO_END: &str = "no end is on record: the agent or its machine stopped first, or the line was lost";

/// The alarm about a disk with less free space than it should have, for the start and for `check`. Blocks.
pub fn space_warning(settings: &AuditLogSettings) -> Option<Warning> {
    let free = free(&settings.path)?;
    (free < settings.min_free).then(|| space(settings, free))
}

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
            for line in closing_lines(&target.path, &self.run).into_iter().rev() {
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
            let space = self.target.as_ref().and_then(space_warning).map(|warning| warning.to_string());
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
                "{}; searches and deliveries continue, and events above the queue limit are only counted",
                without_causes(error)
            );
            let advice = error.advice().map(|advice| format!("; {advice}")).unwrap_or_default();
            let cause = if cause.is_empty() { cause } else { format!(" ({cause})") };
            self.problems.note(AUDIT_LOG, Some(format!("{error}{cause}{advice}")));
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

/// Watches how fast files become full. Pure; takes `now`.
#[derive(Debug, Default)]
struct Pace {
    rotated: Option<Instant>,
    /// When a file was full too soon, and how soon that was.
    fast: Option<(Instant, Duration)>,
}

impl Pace {
    /// A file of `size` bytes was full at `now`. The first file of a run is ignored: it may have been nearly full
    /// before.
    fn rotated(&mut self, size: u64, now: Instant) {
        let Some(before) = self.rotated.replace(now) else { return };
        let took = now.saturating_duration_since(before);
        if took.as_millis() * u128::from(PACE) < u128::from(size) * PACE_TIME.as_millis() {
            self.fast = Some((now, took));
        }
    }

    /// The alarm at `now`, if there is one.
    fn alarm(&self, path: &Path, now: Instant) -> Option<String> {
        let (_, took) = self.fast.filter(|(at, _)| now.saturating_duration_since(*at) < ALARM_STANDS)?;
        let took = Duration::from_millis(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        Some(format!(
            "the audit log {} grows too fast: a file was full within {}; a client with the search token or a \
             link sends too many requests, and the last lines show its address",
            path.display(),
            humantime::format_duration(took)
        ))
    }
}

#[derive(Debug, Default)]
struct Deliveries {
    ended: HashSet<String>,
    begun: Vec<(String, Map<String, Value>)>,
}

impl Deliveries {
    /// Reads one file and returns its size in bytes. `None` if the limit is reached or the file cannot be read.
    fn read(&mut self, file: impl Read, run: &str) -> Option<u64> {
        let mut file = BufReader::new(file);
        let mut total = 0;
        let mut text = Vec::new();
        let mut begun = Vec::new();
        loop {
            text.clear();
            match file.read_until(b'\n', &mut text).ok()? {
                0 => break,
                len => total += len as u64,
            }
            if memmem::find(&text, DELIVERY_KEY).is_none() {
                continue;
            }
            // Skip a line that a crash tore.
            let Ok(line) = serde_json::from_slice::<Map<String, Value>>(&text) else { continue };
            let Some(id) = line.get("delivery").and_then(Value::as_str).map(str::to_owned) else { continue };
            if line.get("kind").and_then(Value::as_str) == Some(Kind::Begun.word()) {
                if id.split('-').next() != Some(run) {
                    begun.push((id, line));
                }
            } else {
                self.ended.insert(id);
            }
        }
        begun.append(&mut self.begun);
        self.begun = begun;
        (total > 0).then_some(total)
    }

    fn closing_lines(self) -> Vec<String> {
        let open = self.begun.into_iter().filter(|(id, _)| !self.ended.contains(id));
        let close = |(_, mut event): (String, Map<String, Value>)| {
            event.insert("kind".to_owned(), Kind::Delivery.word().into());
            event.insert("outcome".to_owned(), Outcome::Cut.word().into());
            event.insert("problem".to_owned(), NO_END.into());
            line(&event)
        };
        open.map(close).collect()
    }
}

/// The lines that close deliveries of earlier runs, in the order in which these began. Deliveries of `run` are left
/// alone. Blocks. A file that cannot be read ends the search.
fn closing_lines(path: &Path, run: &str) -> Vec<String> {
    let mut deliveries = Deliveries::default();
    let mut left = MAX_READ;
    let older = rotation::list(path).unwrap_or_default().into_iter().rev().map(|aside| aside.path);
    for path in std::iter::once(path.to_owned()).chain(older) {
        let Some(read) = File::open(path).ok().and_then(|file| deliveries.read(file.take(left), run)) else {
            break;
        };
        left = left.saturating_sub(read);
    }
    deliveries.closing_lines()
}

fn space(settings: &AuditLogSettings, free: u64) -> Warning {
    Warning::new(
        format!(
            "the disk of the audit log {} has {} of free space, less than {} (--audit-log-min-free)",
            settings.path.display(),
            ByteSize(free),
            ByteSize(settings.min_free)
        ),
        format!(
            "lines are kept for {} (--audit-log-min-age), so free some space or move the log: new lines are \
             lost when the disk is full",
            humantime::format_duration(settings.min_age)
        ),
    )
}

/// Bytes that the agent's user can still write where the file is. `None` if the file system does not say.
fn free(path: &Path) -> Option<u64> {
    let system = rustix::fs::statvfs(rotation::directory(path)).ok()?;
    Some(system.f_bavail.saturating_mul(system.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn files_that_are_full_within_an_hour_are_an_alarm_for_an_hour() {
        let began = Instant::now();
        let mut pace = Pace::default();
        let alarm = |pace: &Pace, minute: u32| pace.alarm(Path::new("a"), began + minute * MINUTE);
        pace.rotated(PACE, began);
        assert_eq!(alarm(&pace, 0), None);
        pace.rotated(PACE, began + 60 * MINUTE);
        assert_eq!(alarm(&pace, 60), None);
        pace.rotated(PACE, began + 62 * MINUTE);
        assert!(alarm(&pace, 62).unwrap().contains("full within 2m;"));
        pace.rotated(PACE, began + 123 * MINUTE);
        assert_eq!((alarm(&pace, 121).is_some(), alarm(&pace, 122)), (true, None));
        // Small files are full sooner, so the limit is in proportion to their size.
        pace.rotated(PACE / 60, began + 124 * MINUTE);
        assert_eq!(alarm(&pace, 124), None);
        pace.rotated(PACE / 60, began + 124 * MINUTE + MINUTE / 2);
        assert!(alarm(&pace, 125).is_some());
    }
}
