//! The verdicts on a storage root, from what was found there. Pure.

use std::{
    ffi::OsStr,
    io::ErrorKind,
    path::Path,
    time::{Duration, SystemTime},
};

use audiovault_agent_core::pattern::{Pattern, Placeholder};
use audiovault_common::{
    advice::Advice,
    error_chain::{causes_in_one_line, in_one_line},
};
use audiovault_protocol::{frame::one_line, recording::name::mask};

use super::report::Verdict;
use crate::{
    status::format_duration,
    storage::{
        Findings,
        census::Figures,
        driver::{DriverFault, DriverReport, LookedAt},
        open::OpenError,
        sample::Sample,
    },
};

/// Age from which the newest recording is a warning: a PBX in use records something every day.
const OLD: Duration = Duration::from_secs(24 * 3600);
/// A recording this young lies in a directory that searches for today look into, given their look-back.
const FRESH: Duration = Duration::from_secs(3600);
/// A recording modified further in the future than this was written with a wrong clock.
const AHEAD: Duration = Duration::from_secs(60);
/// Most directories that are named.
const NAMED: usize = 3;

const READERS: &str =
    "let the agent's user read it: add that user to the group of the recordings, or run chmod g+rX on them";

/// The result of counting.
#[derive(Debug, Default)]
pub(super) enum Counted {
    /// Nothing was counted.
    #[default]
    Not,
    /// Every recording was counted.
    All(Figures),
    /// The count ended at its time limit.
    Some(Figures),
    /// Recordings that could be seen; the rest cannot be read.
    Unreadable(Figures, DriverFault),
}

impl Counted {
    /// The modification time of the newest recording.
    pub(super) fn newest(&self) -> Option<SystemTime> {
        match self {
            Self::Not => None,
            Self::All(figures) | Self::Some(figures) | Self::Unreadable(figures, _) => figures.newest,
        }
    }
}

/// Whether a root can be read, and where its pattern leads today.
pub(super) fn path(
    pattern: &Pattern,
    opened: &Result<(), DriverFault>,
    today: Option<&DriverReport>,
    newest: Option<SystemTime>,
    now: SystemTime,
) -> Verdict {
    let root = pattern.root().display();
    match opened {
        Err(DriverFault::Sentinel(_)) => return Verdict::pass(format!("{root} can be opened")),
        Err(fault) => return faulty(fault),
        Ok(()) => {}
    }
    let Some(today) = today else {
        let slow = DriverFault::Slow(pattern.root().to_owned());
        return faulty(&slow);
    };
    if let Some(fault) = &today.fault {
        return faulty(fault);
    }
    let there: Vec<&LookedAt> = today.looked_at.iter().filter(|looked| looked.exists).collect();
    if pattern.components().is_empty() {
        return Verdict::pass(format!("{root} can be read"));
    }
    if today.looked_at.is_empty() && pattern.mentions(Placeholder::Tenant) {
        return Verdict::pass(format!(
            "{root} can be read; the directories of a search depend on its tenant"
        ));
    }
    let fresh = newest.and_then(|newest| now.duration_since(newest).ok()).is_some_and(|age| age < FRESH);
    let looked = || named(&today.looked_at.iter().collect::<Vec<_>>());
    match (there.as_slice(), fresh) {
        ([], true) => Verdict::warn(
            format!(
                "there are new recordings below {root}, but no directory exists that the pattern names for \
                 now: {}",
                looked()
            ),
            "compare --path with the directories of the recordings, and check --timezone",
        ),
        ([], false) => {
            Verdict::pass(format!("{root} can be read; no directory for today exists yet: {}", looked()))
        }
        (there, _) => Verdict::pass(format!("{root} can be read; today: {}", named(there))),
    }
}

/// Whether the sentinel shows that the storage is mounted.
pub(super) fn sentinel(name: &str, opened: &Result<(), DriverFault>) -> Verdict {
    let name = one_line(name);
    match opened {
        Ok(()) => Verdict::pass(format!("{name} exists")),
        Err(DriverFault::Sentinel(root)) => Verdict::fail(
            format!("{name} is not in {}: its disk or share is probably not mounted", root.display()),
            "mount the storage, or create the file if --sentinel is new",
        ),
        Err(
            DriverFault::Root { .. }
            | DriverFault::Unreadable { .. }
            | DriverFault::Slow(_)
            | DriverFault::Stalled(_),
        ) => Verdict::skipped("path has to work first"),
    }
}

/// How many recordings there are and how old the newest is; `newest` is the newest of all roots.
pub(super) fn recordings(counted: &Counted, newest: Option<SystemTime>, now: SystemTime) -> Verdict {
    let (figures, more) = match counted {
        Counted::Not => return Verdict::skipped("nothing could be counted"),
        Counted::All(figures) => (figures, ""),
        Counted::Some(figures) => (figures, " and more; there was no time to count all"),
        Counted::Unreadable(figures, fault) => {
            return Verdict::fail(
                format!("{} found; {}", many(figures.recordings), problem(fault)),
                advice(fault),
            );
        }
    };
    let Some(own) = figures.newest else {
        return Verdict::warn(
            format!("there is no recording{more}"),
            "does the PBX record, and into this directory? This can be normal for a new PBX",
        );
    };
    if let Ok(ahead) = own.duration_since(now)
        && ahead > AHEAD
    {
        return Verdict::warn(
            format!(
                "{}{more}; the newest is dated {} in the future",
                many(figures.recordings),
                format_duration(ahead)
            ),
            "either this machine's clock is wrong (see the row \"time\"), or the clock of the machine that \
             wrote the recording",
        );
    }
    let age = |time: SystemTime| now.duration_since(time).unwrap_or_default();
    let detail =
        format!("{}{more}; the newest is {} old", many(figures.recordings), format_duration(age(own)));
    // An archive may be old if another root has today's recordings.
    if newest.is_none_or(|newest| age(newest) > OLD) {
        return Verdict::warn(
            detail,
            "does the PBX still record, and into this directory? This is normal after days without calls",
        );
    }
    Verdict::pass(detail)
}

/// Verdict for recordings whose names have no call id.
pub(super) fn nameless(name: &OsStr) -> Verdict {
    Verdict::fail(
        format!("no file name of a recording contains a call id; the newest is {}", masked(name)),
        "searches use the call id: configure the PBX to put it into the file name, or describe its form with \
         --call-id",
    )
}

/// Whether a search for the recording would need a tenant that its path does not give.
pub(super) fn lacks_tenant(pattern: &Pattern, sample: &Sample) -> bool {
    pattern.mentions(Placeholder::Tenant) && sample.tenant.is_none()
}

/// Verdict for a sample that was found.
pub(super) fn found(sample: &Sample, findings: &Findings) -> Verdict {
    Verdict::pass(format!(
        "the call {} of the newest recording ({}) was found in {} ms",
        sample.call_id.as_str(),
        masked(name(sample)),
        findings.elapsed.as_millis()
    ))
}

/// Verdict for a sample that was not found.
pub(super) fn unfound(sample: &Sample, findings: &Findings) -> Verdict {
    let directory = sample.path.parent().filter(|directory| !directory.as_os_str().is_empty());
    let lies = directory
        .map_or_else(|| "the root itself".to_owned(), |directory| one_line(&directory.to_string_lossy()));
    let looked: Vec<&LookedAt> = findings.looked_at.iter().collect();
    let looked = if looked.is_empty() { "nowhere".to_owned() } else { named(&looked) };
    Verdict::fail(
        format!(
            "the newest recording ({}) is in {lies}, but a search for its call {} does not find it; the \
             search looked into {looked}",
            masked(name(sample)),
            sample.call_id.as_str()
        ),
        "compare --path with the directories of the recordings; check --timezone and --look-back",
    )
}

/// Verdict for a sample that was found but cannot be read.
pub(super) fn locked(sample: &Sample, error: &OpenError) -> Verdict {
    let cause = causes_in_one_line(error).unwrap_or_default();
    Verdict::fail(
        format!("the newest recording ({}) is found but cannot be read: {cause}", masked(name(sample))),
        READERS,
    )
}

fn faulty(fault: &DriverFault) -> Verdict {
    Verdict::fail(problem(fault), advice(fault))
}

/// Advice about a root, or a part of it, that cannot be read.
fn advice(fault: &DriverFault) -> String {
    match fault {
        DriverFault::Root { source, .. } if source.kind() == ErrorKind::PermissionDenied => {
            READERS.to_owned()
        }
        DriverFault::Root { source, .. } if source.kind() == ErrorKind::NotFound => {
            "compare --path with the directory in which the PBX writes recordings, and check that it is \
             mounted"
                .to_owned()
        }
        DriverFault::Unreadable { root, source } if source.kind() == ErrorKind::PermissionDenied => {
            let root = root.display();
            format!("{READERS}; to list the directories, run as that user: find {root} -type d ! -readable")
        }
        DriverFault::Root { .. } | DriverFault::Unreadable { .. } | DriverFault::Stalled(_) => {
            "check the disk or share, and how it is mounted".to_owned()
        }
        DriverFault::Sentinel(_) | DriverFault::Slow(_) => {
            fault.advice().map_or_else(|| READERS.to_owned(), |advice| one_line(&advice))
        }
    }
}

fn problem(fault: &DriverFault) -> String {
    one_line(&in_one_line(fault))
}

fn name(sample: &Sample) -> &OsStr {
    sample.path.file_name().unwrap_or_else(|| Path::new("").as_os_str())
}

/// A file name for display: telephone numbers masked, and no control characters for the terminal.
fn masked(name: &OsStr) -> String {
    one_line(&mask(&name.to_string_lossy()))
}

fn many(count: u64) -> String {
    if count == 1 { "1 recording".to_owned() } else { format!("{count} recordings") }
}

fn named(directories: &[&LookedAt]) -> String {
    let names = directories.iter().take(NAMED).map(|looked| one_line(&looked.directory.to_string_lossy()));
    let mut text = names.collect::<Vec<_>>().join(", ");
    if directories.len() > NAMED {
        text.push_str(&format!(" and {} more", directories.len() - NAMED));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::{io, path::PathBuf, time::UNIX_EPOCH};

    use audiovault_agent_core::call_id::CallIdRules;

    use super::*;
    use crate::check::report::State;

    const NOW: Duration = Duration::from_secs(1_711_500_000);

    fn now() -> SystemTime {
        UNIX_EPOCH + NOW
    }

    fn ago(age: Duration) -> Option<SystemTime> {
        Some(now() - age)
    }

    fn today(directories: &[(&str, bool)]) -> DriverReport {
        let looked =
            |(path, exists): &(&str, bool)| LookedAt { directory: PathBuf::from(path), exists: *exists };
        DriverReport { looked_at: directories.iter().map(looked).collect(), ..DriverReport::default() }
    }

    fn sample(path: &str) -> Sample {
        let call_id = CallIdRules::default().parse("1711444502.17").unwrap();
        Sample { path: path.into(), modified: now(), call_id, tenant: None }
    }

    fn judged(pattern: &str, today: &DriverReport, newest: Option<SystemTime>) -> Verdict {
        path(&Pattern::parse(pattern).unwrap(), &Ok(()), Some(today), newest, now())
    }

    #[test]
    fn a_path_shows_its_directory_of_today() {
        let dated = "file:/rec/%YY/%MM/%DD";
        let there = today(&[("/rec/2024/03/26", false), ("/rec/2024/03/27", true)]);
        let verdict = judged(dated, &there, ago(Duration::ZERO));
        assert_eq!(verdict.state, State::Pass);
        assert!(verdict.detail.ends_with("today: /rec/2024/03/27"), "{}", verdict.detail);
        let none = today(&[("/rec/2024/03/27", false)]);
        let quiet = judged(dated, &none, ago(FRESH * 9));
        assert!(
            quiet.state == State::Pass && quiet.detail.contains("no directory for today"),
            "{}",
            quiet.detail
        );
        let wrong = judged(dated, &none, ago(Duration::from_secs(60)));
        assert!(wrong.state == State::Warn && wrong.advice.unwrap().contains("--path"));
        assert_eq!(judged("file:/rec", &today(&[("/rec", true)]), None).detail, "/rec can be read");
        assert!(judged("file:/rec/%TE", &today(&[]), None).detail.contains("depend on its tenant"));
    }

    #[test]
    fn a_directory_that_cannot_be_read_is_reported_with_its_cause() {
        let pattern = Pattern::parse("file:/rec").unwrap();
        let source = || io::Error::from(ErrorKind::PermissionDenied);
        let fault = DriverFault::Root { root: "/rec".into(), source: source() };
        let verdict = path(&pattern, &Err(fault), None, None, now());
        assert!(
            verdict.detail.starts_with("the directory /rec cannot be read: permission denied"),
            "{}",
            verdict.detail
        );
        assert!(verdict.advice.unwrap().contains("group"));
        let missing = DriverFault::Root { root: "/rec".into(), source: ErrorKind::NotFound.into() };
        let advice = path(&pattern, &Err(missing), None, None, now()).advice.unwrap();
        assert!(advice.contains("compare --path") && !advice.contains("group"), "{advice}");
        let unreadable = DriverFault::Unreadable { root: "/rec".into(), source: source() };
        let verdict = recordings(&Counted::Unreadable(Figures::default(), unreadable), None, now());
        assert!(
            verdict.state == State::Fail && verdict.detail.contains("permission denied"),
            "{}",
            verdict.detail
        );
        assert!(verdict.advice.unwrap().contains("find /rec -type d ! -readable"));
        let verdict = locked(&sample("a/34911223344.wav"), &OpenError::Unreadable(source()));
        assert!(
            verdict.detail.contains("*********44.wav") && verdict.detail.contains("permission"),
            "{}",
            verdict.detail
        );
    }

    #[test]
    fn a_sentinel_that_is_missing_is_a_disk_that_is_not_mounted() {
        let missing = || Err(DriverFault::Sentinel("/nas".into()));
        assert_eq!(sentinel(".mounted", &missing()).state, State::Fail);
        assert_eq!(sentinel(".mounted", &Ok(())).state, State::Pass);
        let pattern = Pattern::parse("file:/nas").unwrap();
        assert_eq!(path(&pattern, &missing(), None, None, now()).state, State::Pass);
    }

    #[test]
    fn old_recordings_are_a_warning_unless_another_root_has_new_ones() {
        let counted = |age| Counted::All(Figures { recordings: 12, newest: ago(age) });
        let old = recordings(&counted(OLD * 3), ago(OLD * 3), now());
        assert!(
            old.state == State::Warn && old.detail == "12 recordings; the newest is 3days old",
            "{}",
            old.detail
        );
        assert_eq!(recordings(&counted(OLD * 3), ago(OLD / 2), now()).state, State::Pass);
        assert_eq!(recordings(&counted(OLD / 2), ago(OLD / 2), now()).state, State::Pass);
        assert_eq!(recordings(&Counted::All(Figures::default()), None, now()).state, State::Warn);
        let ahead = Some(now() + OLD);
        let future = recordings(&Counted::All(Figures { recordings: 1, newest: ahead }), ahead, now());
        assert!(
            future.state == State::Warn && future.detail.ends_with("1day in the future"),
            "{}",
            future.detail
        );
        let some =
            recordings(&Counted::Some(Figures { recordings: 1, newest: ago(OLD / 2) }), ago(OLD / 2), now());
        assert!(some.detail.starts_with("1 recording and more"), "{}", some.detail);
    }

    #[test]
    fn a_call_that_is_not_found_is_reported_with_both_places_and_no_number() {
        let findings =
            Findings { looked_at: today(&[("/rec/2024/03/26", true)]).looked_at, ..Findings::default() };
        let verdict = unfound(&sample("2023/01/01/out-34911223344-1711444502.17.wav"), &findings);
        assert_eq!(verdict.state, State::Fail);
        for said in ["2023/01/01", "/rec/2024/03/26", "1711444502.17", "*********44"] {
            assert!(verdict.detail.contains(said), "{said}: {}", verdict.detail);
        }
        assert!(!verdict.detail.contains("34911223344"));
        let nameless = nameless(OsStr::new("34911223344\n.wav"));
        assert!(
            nameless.state == State::Fail && nameless.detail.contains("*********44"),
            "{}",
            nameless.detail
        );
    }
}
