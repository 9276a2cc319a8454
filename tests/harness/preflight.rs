//! `audiovault-agent check`, as an admin or an admin's program runs it.

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    agent::AgentOptions,
    proxy_server::CREDENTIALS,
    relay::{Relay, Site},
};

/// The rows of a check with one relay and one path, in their order.
pub const STEPS: [&str; 12] = [
    "configuration",
    "path",
    "recordings",
    "sample_search",
    "name_service",
    "tcp",
    "proxy",
    "tls",
    "time",
    "websocket",
    "site_key",
    "round_trip",
];

/// The result of `check --json`.
#[derive(Debug)]
pub struct Report {
    /// The exit code.
    pub code: i32,
    /// The whole output.
    pub json: Value,
}

/// Runs the check with `--json`.
pub async fn check(relay: &Relay, site: &Site, options: &AgentOptions) -> Report {
    let (code, out) = run(relay, site, options, &["--json"]).await;
    let json = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"));
    Report { code, json }
}

/// Runs the check for people. Returns exit code and table.
pub async fn table(relay: &Relay, site: &Site, options: &AgentOptions) -> (i32, String) {
    run(relay, site, options, &[]).await
}

async fn run(relay: &Relay, site: &Site, options: &AgentOptions, more: &[&str]) -> (i32, String) {
    let secrets = TempDir::new().expect("a temporary directory");
    let line = options.command_line("check", relay, site, secrets.path());
    let (code, out, err) = line.run(more).await;
    assert_eq!(err, "", "the rows say everything");
    let (_, password) = CREDENTIALS.split_once(':').expect("user and password");
    for secret in [&site.site_key, &site.search_token, password] {
        assert!(!out.contains(secret), "{out}");
    }
    (code, out)
}

impl Report {
    /// Every row as its id and its state.
    pub fn states(&self) -> Vec<(&str, &str)> {
        self.rows().map(|row| (text(row, "id"), text(row, "state"))).collect()
    }

    /// The detail and the advice of a step: `detail → advice`.
    ///
    /// # Panics
    /// If the step has no row.
    pub fn said(&self, step: &str) -> String {
        let found = self.rows().find(|row| row["id"] == step);
        said(found.unwrap_or_else(|| panic!("{step} in {:#}", self.json)))
    }

    /// Checks that every step has passed.
    pub fn is_well(&self) {
        let states = STEPS.map(|step| (step, "PASS"));
        assert_eq!((self.code, self.states()), (0, states.to_vec()), "{:#}", self.json);
        assert_eq!(self.json["state"], "PASS");
    }

    /// Checks that only this step fails, and that its text contains all of these words. Steps that depend on it must
    /// not be tried. Returns the text.
    pub fn fails_at(&self, step: &str, words: &[&str]) -> String {
        assert_eq!(self.code, 3, "{:#}", self.json);
        self.has_only("FAIL", step, words)
    }

    /// Checks that the check works, with a warning about this step only whose text contains all of these words.
    /// Returns the text.
    pub fn warns_at(&self, step: &str, words: &[&str]) -> String {
        assert_eq!(self.code, 1, "{:#}", self.json);
        self.has_only("WARN", step, words)
    }

    fn has_only(&self, state: &str, step: &str, words: &[&str]) -> String {
        let bad = |row: &&Value| row["state"] == "FAIL" || row["state"] == "WARN";
        let rows: Vec<_> = self.rows().filter(bad).collect();
        let [row] = rows.as_slice() else { panic!("one bad row in {:#}", self.json) };
        assert_eq!((text(row, "id"), text(row, "state")), (step, state), "{:#}", self.json);
        assert_eq!(self.json["state"], state);
        let said = said(row);
        for part in words {
            assert!(said.contains(part), "{part:?} is not said: {said}");
        }
        said
    }

    fn rows(&self) -> impl Iterator<Item = &Value> {
        self.json["rows"].as_array().expect("rows").iter()
    }
}

fn text<'a>(row: &'a Value, field: &str) -> &'a str {
    row[field].as_str().unwrap_or_else(|| panic!("{field} in {row}"))
}

fn said(row: &Value) -> String {
    let detail = text(row, "detail");
    row["advice"].as_str().map_or_else(|| detail.to_owned(), |advice| format!("{detail} → {advice}"))
}
