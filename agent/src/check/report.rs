//! The result of a check: its rows, which a watcher gets at once, and the severity of the worst one.

use std::{
    fmt,
    process::ExitCode,
    time::{Duration, Instant},
};

use audiovault_common::{advice::Advice, error_chain::in_one_line};
use audiovault_protocol::frame::one_line;
use serde::{Serialize, Serializer};

/// The result of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    /// It works.
    Pass,
    /// It works, but something needs attention.
    Warn,
    /// It does not work.
    Fail,
    /// It was not tried, because something before it does not work.
    Skipped,
}

/// A step of the check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Files, flags, and the permissions of secrets.
    Configuration,
    /// A root can be read; the row says where its pattern leads today.
    Path,
    /// The storage behind a root is mounted.
    Sentinel,
    /// How many recordings there are, and how new they are.
    Recordings,
    /// A call is found by its id.
    SampleSearch,
    /// The relay's host name resolves to addresses.
    NameService,
    /// A TCP connection to an address opens.
    Tcp,
    /// A proxy lets the connection through.
    Proxy,
    /// TLS, and who signed the certificate.
    Tls,
    /// This machine's clock against the relay's.
    Time,
    /// The connection becomes a WebSocket.
    Websocket,
    /// The relay knows the site.
    SiteKey,
    /// A search and a download work as QueueMetrics makes them.
    RoundTrip,
}

impl Step {
    /// Its name in the table.
    pub fn title(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Path => "path",
            Self::Sentinel => "sentinel",
            Self::Recordings => "recordings",
            Self::SampleSearch => "sample search",
            Self::NameService => "name service",
            Self::Tcp => "TCP",
            Self::Proxy => "proxy",
            Self::Tls => "TLS",
            Self::Time => "time",
            Self::Websocket => "WebSocket",
            Self::SiteKey => "site key",
            Self::RoundTrip => "round trip",
        }
    }
}

/// The result of a step, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The state.
    pub state: State,
    /// What was found.
    pub detail: String,
    /// What to do, if anything.
    pub advice: Option<String>,
}

impl Verdict {
    /// It works.
    pub fn pass(detail: impl Into<String>) -> Self {
        Self { state: State::Pass, detail: detail.into(), advice: None }
    }

    /// It works, but something needs attention.
    pub fn warn(detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { state: State::Warn, detail: detail.into(), advice: Some(advice.into()) }
    }

    /// It does not work.
    pub fn fail(detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { state: State::Fail, detail: detail.into(), advice: Some(advice.into()) }
    }

    /// It does not work. The advice is the error's own if it has some, otherwise `otherwise`.
    pub(super) fn failed(error: &dyn Advice, otherwise: &str) -> Self {
        let advice = error.advice().unwrap_or(otherwise.into());
        Self::fail(one_line(&in_one_line(error)), one_line(&advice))
    }

    /// It was not tried.
    pub fn skipped(because: impl Into<String>) -> Self {
        Self { state: State::Skipped, detail: because.into(), advice: None }
    }

    /// It was not tried, because this step failed.
    pub fn after(step: Step) -> Self {
        Self::skipped(format!("{} has to work first", step.title()))
    }
}

/// One row of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The step.
    #[serde(rename = "id")]
    pub step: Step,
    /// What exactly was checked, if there are several: the pattern of a path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The relay, if the step needs one.
    pub relay: Option<String>,
    /// The state.
    pub state: State,
    /// What was found.
    pub detail: String,
    /// What to do, if anything.
    pub advice: Option<String>,
    /// How long it took, in milliseconds.
    #[serde(rename = "elapsed_ms", serialize_with = "milliseconds")]
    pub elapsed: Duration,
}

impl Row {
    /// A row about a step that began at `begun`.
    pub fn new(step: Step, begun: Instant, verdict: Verdict) -> Self {
        let Verdict { state, detail, advice } = verdict;
        Self { step, subject: None, relay: None, state, detail, advice, elapsed: begun.elapsed() }
    }

    /// The same row with a subject.
    #[must_use]
    pub fn about(self, subject: impl Into<String>) -> Self {
        Self { subject: Some(subject.into()), ..self }
    }

    /// The same row with a relay.
    #[must_use]
    pub fn with(self, relay: impl Into<String>) -> Self {
        Self { relay: Some(relay.into()), ..self }
    }
}

/// The result of the whole check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The version of this program.
    pub version: &'static str,
    /// The site, if the configuration names it.
    pub site: Option<String>,
    /// The worst state of all rows. Skipped rows do not count.
    pub state: State,
    /// The rows, in the order in which they were tried.
    pub rows: Vec<Row>,
}

/// The exit code of a check. A greater one is worse, except that a configuration that cannot be used has code 2, as
/// with every command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// 0: everything works.
    Well = 0,
    /// 1: it works, with warnings.
    Warnings = 1,
    /// 2: the configuration cannot be used.
    Misconfigured = 2,
    /// 3: something does not work.
    Failures = 3,
}

impl Report {
    /// Makes the report of these rows.
    pub fn new(site: Option<String>, rows: Vec<Row>) -> Self {
        let any = |state| rows.iter().any(|row| row.state == state);
        let state = [State::Fail, State::Warn].into_iter().find(|state| any(*state)).unwrap_or(State::Pass);
        Self { version: env!("CARGO_PKG_VERSION"), site, state, rows }
    }

    /// The severity of the worst row.
    pub fn severity(&self) -> Severity {
        let failed = |row: &&Row| row.state == State::Fail;
        let mut failures = self.rows.iter().filter(failed);
        match self.state {
            State::Fail if failures.any(|row| row.step == Step::Configuration) => Severity::Misconfigured,
            State::Fail => Severity::Failures,
            State::Warn => Severity::Warnings,
            State::Pass | State::Skipped => Severity::Well,
        }
    }
}

impl From<Severity> for ExitCode {
    fn from(severity: Severity) -> Self {
        Self::from(severity as u8)
    }
}

/// All rows so far.
pub(super) struct Rows<'w> {
    found: Vec<Row>,
    watcher: &'w mut dyn FnMut(&Row),
}

impl fmt::Debug for Rows<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").field("found", &self.found).finish_non_exhaustive()
    }
}

impl<'w> Rows<'w> {
    /// Starts without rows.
    pub(super) fn new(watcher: &'w mut dyn FnMut(&Row)) -> Self {
        Self { found: Vec::new(), watcher }
    }

    /// Adds a row.
    pub(super) fn push(&mut self, row: Row) {
        (self.watcher)(&row);
        self.found.push(row);
    }

    /// Adds a row about a step that began at `begun`.
    pub(super) fn add(&mut self, step: Step, begun: Instant, verdict: Verdict) {
        self.push(Row::new(step, begun, verdict));
    }

    /// The rows about one relay.
    pub(super) fn with<'r>(&'r mut self, relay: &'r str) -> RelayRows<'r, 'w> {
        RelayRows { rows: self, relay }
    }

    /// All rows.
    pub(super) fn into_found(self) -> Vec<Row> {
        self.found
    }
}

/// Rows about one relay.
#[derive(Debug)]
pub(super) struct RelayRows<'r, 'w> {
    rows: &'r mut Rows<'w>,
    relay: &'r str,
}

impl RelayRows<'_, '_> {
    /// Adds a row about a step that began at `begun`.
    pub(super) fn add(&mut self, step: Step, begun: Instant, verdict: Verdict) {
        self.rows.push(Row::new(step, begun, verdict).with(self.relay));
    }

    /// Adds a row for each step that was skipped because `first` failed.
    pub(super) fn skip_after(&mut self, first: Step, steps: &[Step]) {
        for step in steps {
            self.add(*step, Instant::now(), Verdict::after(first));
        }
    }
}

fn milliseconds<S: Serializer>(elapsed: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;
    use crate::status::state::Unhealthy;

    fn severity(verdicts: &[(Step, Verdict)]) -> Severity {
        let now = Instant::now();
        let rows = verdicts.iter().map(|(step, verdict)| Row::new(*step, now, verdict.clone()));
        Report::new(None, rows.collect()).severity()
    }

    #[test]
    fn the_worst_row_decides() {
        let pass = Verdict::pass("a");
        let warn = Verdict::warn("a", "b");
        let fail = Verdict::fail("a", "b");
        let skipped = Verdict::after(Step::Tcp);
        assert_eq!(severity(&[(Step::Tcp, pass.clone()), (Step::Tls, skipped.clone())]), Severity::Well);
        assert_eq!(severity(&[(Step::Tcp, warn.clone()), (Step::Tls, pass)]), Severity::Warnings);
        assert_eq!(severity(&[(Step::Configuration, warn), (Step::Tls, fail.clone())]), Severity::Failures);
        assert_eq!(severity(&[(Step::Configuration, fail), (Step::Tls, skipped)]), Severity::Misconfigured);
    }

    #[test]
    fn the_advice_of_the_error_outranks_the_advice_of_the_step() {
        let error = Unhealthy::Unreadable("/run/a\u{1b}".into(), ErrorKind::NotFound.into());
        let verdict = Verdict::failed(&error, "ask somebody");
        assert_eq!(
            (verdict.state, verdict.detail.as_str()),
            (State::Fail, "cannot read /run/a\u{fffd}: entity not found")
        );
        assert!(verdict.advice.unwrap().starts_with("check that the agent runs"));
        let verdict = Verdict::failed(&Unhealthy::Stale(7), "ask somebody");
        assert_eq!(verdict.advice.as_deref(), Some("ask somebody"));
    }

    #[test]
    fn a_row_is_one_flat_object_of_json() {
        let row = Row::new(Step::NameService, Instant::now(), Verdict::fail("no such name", "check it"));
        let json = serde_json::to_value(row.with("wss://relay.example")).unwrap();
        assert_eq!(json["elapsed_ms"], 0);
        let known = ["id", "relay", "state", "detail", "advice", "elapsed_ms"];
        assert!(json.as_object().unwrap().keys().all(|key| known.contains(&key.as_str())), "{json}");
        assert_eq!((&json["id"], &json["state"]), (&"name_service".into(), &"FAIL".into()));
        let path = Row::new(Step::Path, Instant::now(), Verdict::pass("a")).about("file:/a");
        let json = serde_json::to_value(path).unwrap();
        assert_eq!((&json["subject"], &json["relay"]), (&"file:/a".into(), &serde_json::Value::Null));
    }
}
