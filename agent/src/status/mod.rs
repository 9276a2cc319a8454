//! What is wrong with the agent, and how it is, for those who ask.
//!
//! The part that notices a problem notes it in [`Problems`], by its subject; the parts that report the agent's state
//! read it there.

pub mod state;

use std::{collections::BTreeMap, time::Duration};

use tokio::sync::watch;

/// The audit log cannot be written.
pub const AUDIT_LOG: &str = "audit log";
/// The audit log grows faster than it should.
pub const AUDIT_LOG_PACE: &str = "audit log's pace";
/// The disk of the audit log is nearly full.
pub const AUDIT_LOG_SPACE: &str = "audit log's disk";
/// Subjects that are also reported to the relay's operator, in STATUS. Evidence is at stake, and the site may not
/// notice for months.
const FOR_THE_RELAY: [&str; 3] = [AUDIT_LOG, AUDIT_LOG_PACE, AUDIT_LOG_SPACE];

/// The current problems, by subject.
pub type Standing = BTreeMap<&'static str, String>;

/// A shared table with at most one problem per subject. Cheap to clone; all clones share one table.
#[derive(Debug, Clone, Default)]
pub struct Problems(watch::Sender<Standing>);

impl Problems {
    /// Sets or clears the problem of a subject.
    pub fn note(&self, subject: &'static str, problem: Option<String>) {
        self.0.send_if_modified(|standing| match problem {
            Some(problem) => standing.insert(subject, problem.clone()).is_none_or(|before| before != problem),
            None => standing.remove(subject).is_some(),
        });
    }

    /// Subscribes to the problems.
    pub fn follow(&self) -> watch::Receiver<Standing> {
        self.0.subscribe()
    }
}

/// All problems in one line, if there are any.
pub fn in_one_line(standing: &Standing) -> Option<String> {
    (!standing.is_empty()).then(|| standing.values().map(String::as_str).collect::<Vec<_>>().join("; "))
}

/// The problems that are reported to the relay's operator.
pub fn for_the_relay(standing: &Standing) -> Vec<String> {
    FOR_THE_RELAY.iter().filter_map(|subject| standing.get(subject).cloned()).collect()
}

/// Formats a duration in its two largest units, truncated to whole seconds: `2days 3h`.
pub fn format_duration(duration: Duration) -> String {
    let whole = humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string();
    whole.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_subject_has_its_own_note() {
        let problems = Problems::default();
        let mut board = problems.follow();
        problems.note("a", Some("a is bad".to_owned()));
        problems.note("b", Some("b is bad".to_owned()));
        assert_eq!(in_one_line(&board.borrow_and_update()).as_deref(), Some("a is bad; b is bad"));
        problems.note("b", Some("b is bad".to_owned()));
        assert!(!board.has_changed().unwrap(), "the same again is no news");
        problems.note("a", None);
        assert_eq!(in_one_line(&board.borrow_and_update()).as_deref(), Some("b is bad"));
        problems.note("b", None);
        assert_eq!(in_one_line(&board.borrow()), None);
    }

    #[test]
    fn two_units_are_enough() {
        assert_eq!(format_duration(Duration::from_secs(86_400 + 7_200 + 61)), "1day 2h");
        assert_eq!(format_duration(Duration::from_millis(61_900)), "1m 1s");
        assert_eq!(format_duration(Duration::from_millis(900)), "0s");
    }
}
