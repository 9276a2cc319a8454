//! Decides which changes are announced. Pure: snapshots and time are arguments.

use std::{collections::HashMap, time::Duration};

use audiovault_protocol::identity::site::SiteId;
use jiff::Timestamp;

use super::{Alert, AlertData, Event};
use crate::monitoring::board::{SiteState, SiteView, Snapshot};

/// What was announced, and what may be announced next.
#[derive(Debug)]
pub(super) struct Evaluator {
    announced: HashMap<SiteId, SiteState>,
    /// States that differ from the announced ones, with when this run first saw them.
    pending: HashMap<SiteId, (SiteState, Timestamp)>,
    /// Sites whose tokens are being guessed, with when that began.
    guessing: HashMap<SiteId, Timestamp>,
    journal_failing: bool,
    /// True if this relay sent the alert.
    journal_reported: bool,
    journal_pending: Option<Timestamp>,
    hold: Duration,
}

impl Evaluator {
    pub(super) fn new(announced: HashMap<SiteId, String>, hold: Duration) -> Self {
        let states = [SiteState::Up, SiteState::Degraded, SiteState::Down];
        let known = |name: &str| states.into_iter().find(|state| state.as_str() == name);
        let announced = announced.into_iter().filter_map(|(site, name)| Some((site, known(&name)?)));
        Self {
            announced: announced.collect(),
            pending: HashMap::new(),
            guessing: HashMap::new(),
            journal_failing: false,
            journal_reported: false,
            journal_pending: None,
            hold,
        }
    }

    /// The alerts that this snapshot causes.
    pub(super) fn evaluate(&mut self, snapshot: &Snapshot, now: Timestamp) -> Vec<Alert> {
        self.announced.retain(|site, _| snapshot.site(site).is_some());
        let mut alerts: Vec<_> =
            snapshot.rows.iter().filter_map(|row| self.judge_site(&row.view, now)).collect();
        alerts.extend(self.judge_guessing(snapshot));
        alerts.extend(self.judge_journal(snapshot, now));
        alerts
    }

    fn judge_site(&mut self, view: &SiteView, now: Timestamp) -> Option<Alert> {
        let announced = self.announced.get(&view.site).copied();
        let event = match view.state {
            SiteState::Up => Event::SiteUp,
            SiteState::Degraded => Event::SiteDegraded,
            // A site that was never announced was never up, so its absence is no news.
            SiteState::Down if announced.is_some() => Event::SiteDown,
            SiteState::Down | SiteState::NeverSeen | SiteState::Disabled => {
                self.pending.remove(&view.site);
                return None;
            }
        };
        if announced == Some(view.state) {
            self.pending.remove(&view.site);
            return None;
        }
        let pending = self.pending.entry(view.site.clone()).or_insert((view.state, now));
        if pending.0 != view.state {
            *pending = (view.state, now);
        }
        if !lasted(pending.1, now, self.hold) {
            return None;
        }
        self.pending.remove(&view.site);
        self.announced.insert(view.site.clone(), view.state);
        let problem = view.recordings.as_ref().and_then(|recordings| recordings.problem.clone());
        Some(Alert::new(
            event,
            AlertData {
                site: Some(view.site.clone()),
                note: Some(view.note.clone()).filter(|note| !note.is_empty()),
                previous: announced,
                since: view.since,
                problem: problem.filter(|_| view.state == SiteState::Degraded),
            },
        ))
    }

    /// Every time that guessing begins, an alert is sent at once: after a minute, an attacker would have had a hundred
    /// guesses.
    fn judge_guessing(&mut self, snapshot: &Snapshot) -> Vec<Alert> {
        let mut alerts = Vec::new();
        let views = snapshot.rows.iter().map(|row| &row.view);
        let guessed = views.filter_map(|view| Some((view, view.refused_last_hour.ceiling_since?)));
        let guessing: HashMap<SiteId, Timestamp> = guessed
            .map(|(view, since)| {
                if !self.guessing.contains_key(&view.site) && snapshot.relay.sends_audit_alert() {
                    alerts.push(guessing_alert(view, since));
                }
                (view.site.clone(), since)
            })
            .collect();
        self.guessing = guessing;
        alerts
    }

    fn judge_journal(&mut self, snapshot: &Snapshot, now: Timestamp) -> Option<Alert> {
        let failing = !snapshot.relay.journal;
        if failing == self.journal_failing {
            self.journal_pending = None;
            return None;
        }
        let since = *self.journal_pending.get_or_insert(now);
        if !lasted(since, now, self.hold) {
            return None;
        }
        self.journal_failing = failing;
        self.journal_pending = None;
        let ours = if failing { snapshot.relay.sends_audit_alert() } else { self.journal_reported };
        self.journal_reported = failing && ours;
        if !ours {
            return None;
        }
        let event = if failing { Event::JournalFailing } else { Event::JournalRecovered };
        let problem =
            failing.then(|| "cannot write the audit log and history: see the relay's log".to_owned());
        Some(Alert::new(event, AlertData { site: None, note: None, previous: None, since, problem }))
    }
}

fn guessing_alert(view: &SiteView, since: Timestamp) -> Alert {
    let problem = "search tokens are being guessed from many addresses: clients without a recent correct token are \
                   throttled";
    Alert::new(
        Event::TokenGuessing,
        AlertData {
            site: Some(view.site.clone()),
            note: Some(view.note.clone()).filter(|note| !note.is_empty()),
            previous: None,
            since,
            problem: Some(problem.to_owned()),
        },
    )
}

fn lasted(since: Timestamp, now: Timestamp, hold: Duration) -> bool {
    let lasted = now.as_millisecond().saturating_sub(since.as_millisecond());
    u128::try_from(lasted).is_ok_and(|lasted| lasted >= hold.as_millis())
}
