//! Tests of the verdicts on a storage root.

use std::{io, path::PathBuf, time::UNIX_EPOCH};

use super::*;
use crate::{check::report::State, storage::call_id::CallIdRules};

const NOW: Duration = Duration::from_secs(1_711_500_000);

fn now() -> SystemTime {
    UNIX_EPOCH + NOW
}

fn ago(age: Duration) -> Option<SystemTime> {
    Some(now() - age)
}

fn today(directories: &[(&str, bool)]) -> DriverReport {
    let looked = |(path, exists): &(&str, bool)| LookedAt { directory: PathBuf::from(path), exists: *exists };
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
fn a_path_tells_where_it_leads_today() {
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
fn what_cannot_be_read_is_told_with_its_cause() {
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
fn a_call_that_is_not_found_tells_both_places_and_no_number() {
    let findings =
        Findings { looked_at: today(&[("/rec/2024/03/26", true)]).looked_at, ..Findings::default() };
    let verdict = unfound(&sample("2023/01/01/out-34911223344-1711444502.17.wav"), &findings);
    assert_eq!(verdict.state, State::Fail);
    for said in ["2023/01/01", "/rec/2024/03/26", "1711444502.17", "*********44"] {
        assert!(verdict.detail.contains(said), "{said}: {}", verdict.detail);
    }
    assert!(!verdict.detail.contains("34911223344"));
    let nameless = nameless(OsStr::new("34911223344\n.wav"));
    assert!(nameless.state == State::Fail && nameless.detail.contains("*********44"), "{}", nameless.detail);
}
