//! The faults of the programs, one after the other.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use harness::{
    agent::{Agent, AgentOptions},
    relay::{Relay, Site},
};
use rand::RngExt;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::soak::load::Recordings;

/// Agents of the site.
const AGENTS: usize = 3;
/// How long a program is suspended.
const STILL: Duration = Duration::from_secs(6);

/// How often each fault happened.
pub(crate) type Events = BTreeMap<&'static str, u64>;

/// The relay and the agents of its site.
pub(crate) struct Programs {
    pub(crate) relay: Relay,
    pub(crate) site: Site,
    pub(crate) agents: Vec<Agent>,
    recordings: PathBuf,
    secret: PathBuf,
    _secrets: TempDir,
}

impl Programs {
    pub(crate) async fn start(relay: Relay, recordings: &Recordings) -> Self {
        let site = relay.add_site("acme", &[]).await;
        let secrets = tempfile::tempdir().unwrap();
        let mut programs = Self {
            relay,
            site,
            agents: Vec::new(),
            recordings: recordings.path().to_owned(),
            secret: secrets.path().join("link.secret"),
            _secrets: secrets,
        };
        for _ in 0..AGENTS {
            let agent = programs.agent().await;
            programs.agents.push(agent);
        }
        programs
    }

    /// Another agent; all of them hold the same link key.
    async fn agent(&self) -> Agent {
        let secret = self.secret.display().to_string();
        let options = AgentOptions::new(&self.recordings).with(&["--link-secret-file", &secret]);
        Agent::start(&self.relay, &self.site, options).await
    }
}

/// Causes the faults.
pub(crate) struct Churn {
    every: Duration,
    next: Instant,
    /// Which agent continues when.
    still: Option<(usize, Instant)>,
    events: Events,
}

impl Churn {
    pub(crate) fn new(every: Duration) -> Self {
        Self { every, next: Instant::now() + every, still: None, events: Events::new() }
    }

    pub(crate) fn events(self) -> Events {
        self.events
    }

    /// Causes the next fault, if it is time.
    pub(crate) async fn tick(&mut self, programs: &mut Programs) {
        let now = Instant::now();
        if let Some((which, until)) = self.still
            && now >= until
        {
            programs.agents[which].process.signal("CONT");
            self.still = None;
        }
        if now < self.next || self.still.is_some() {
            return;
        }
        self.next = now + self.every;
        let which = rand::rng().random_range(0..AGENTS);
        let what = match rand::rng().random_range(0..20) {
            0..9 => {
                let fresh = programs.agent().await;
                std::mem::replace(&mut programs.agents[which], fresh).process.kill().await;
                "an agent was killed after another was started"
            }
            9..14 => {
                programs.agents.remove(which).process.kill().await;
                let fresh = programs.agent().await;
                programs.agents.push(fresh);
                "an agent was killed and started again"
            }
            14..17 => {
                let mut old = programs.agents.remove(which);
                old.process.terminate();
                let fresh = programs.agent().await;
                programs.agents.push(fresh);
                tokio::spawn(async move { old.process.wait().await });
                "an agent was stopped in order and started again"
            }
            17..19 => {
                programs.agents[which].process.signal("STOP");
                self.still = Some((which, now + STILL));
                "an agent was suspended for 6 s"
            }
            _ => {
                programs.relay.kill().await;
                programs.relay.restart().await;
                "the relay was killed and started again"
            }
        };
        *self.events.entry(what).or_default() += 1;
    }
}
