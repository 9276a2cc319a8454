//! Alarms that warn the operator before lines are lost: the disk is nearly full, or the audit log grows too fast.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use bytesize::ByteSize;

use super::{aside, rotation::AuditLogSettings};

/// The most bytes by which the audit log grows within [`PACE_TIME`] in normal use: the searches and deliveries of
/// twelve requests a second, around the clock.
const PACE: u64 = 16 * 1024 * 1024;
const PACE_TIME: Duration = Duration::from_secs(3600);
/// How long the alarm stays up after the last file that was full too soon.
const STANDS: Duration = Duration::from_secs(3600);

/// The alarm about a disk with less free space than it should have, for the start and for `check`. Blocks.
pub fn space_warning(settings: &AuditLogSettings) -> Option<String> {
    let free = free(&settings.path)?;
    (free < settings.min_free).then(|| space(settings, free))
}

fn space(settings: &AuditLogSettings, free: u64) -> String {
    format!(
        "the disk of the audit log {} has {} of free space, less than {} (--audit-log-min-free); lines are \
         kept for {} (--audit-log-min-age), so free some space or move the log: new lines are lost when the \
         disk is full",
        settings.path.display(),
        ByteSize(free),
        ByteSize(settings.min_free),
        humantime::format_duration(settings.min_age)
    )
}

/// Bytes that the agent's user can still write where the file is. `None` if the file system does not say.
fn free(path: &Path) -> Option<u64> {
    let system = rustix::fs::statvfs(aside::directory(path)).ok()?;
    Some(system.f_bavail.saturating_mul(system.f_frsize))
}

/// Watches how fast files become full. Pure; takes `now`.
#[derive(Debug, Default)]
pub(super) struct Pace {
    rotated: Option<Instant>,
    /// When a file was full too soon, and how soon that was.
    fast: Option<(Instant, Duration)>,
}

impl Pace {
    /// A file of `size` bytes was full at `now`. The first file of a run is ignored: it may have been nearly full
    /// before.
    pub(super) fn rotated(&mut self, size: u64, now: Instant) {
        let Some(before) = self.rotated.replace(now) else { return };
        let took = now.saturating_duration_since(before);
        if took.as_millis() * u128::from(PACE) < u128::from(size) * PACE_TIME.as_millis() {
            self.fast = Some((now, took));
        }
    }

    /// The alarm at `now`, if there is one.
    pub(super) fn alarm(&self, path: &Path, now: Instant) -> Option<String> {
        let (_, took) = self.fast.filter(|(at, _)| now.saturating_duration_since(*at) < STANDS)?;
        let took = Duration::from_millis(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        Some(format!(
            "the audit log {} grows too fast: a file was full within {}; a client with the search token or a \
             link sends too many requests, and the last lines show its address",
            path.display(),
            humantime::format_duration(took)
        ))
    }
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
