//! Relays with their agents, and the cost of all these programs.

use std::{path::Path, time::Duration};

use harness::{
    agent::{Agent, AgentOptions},
    client::{first_link, search},
    cluster::{Cluster, client},
    process::Process,
    recordings::CALL,
    relay::Site,
    usage::Processes,
};

use crate::shared::{LONG, load::Load};

/// Access logs are off, as in the other comparisons; the audit log is on.
const RELAY_LOG: [&str; 2] = ["--log-level", "audiovault_relay::public=warn,info"];
const AGENT_LOG: [&str; 2] = ["--log-level", "audiovault_agent::http::envelope=warn,info"];

/// This many relays behind HAProxy, and sites with one agent each.
pub(crate) struct Setting {
    /// Dropped before the relays that they dial.
    agents: Vec<Agent>,
    pub(crate) cluster: Cluster,
    pub(crate) sites: Vec<Site>,
}

/// Processor time so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) relays: Duration,
    pub(crate) agents: Duration,
    pub(crate) database: Duration,
    pub(crate) balancer: Duration,
}

impl Setting {
    /// Starts everything; the agents dial HAProxy.
    pub(crate) async fn start(relays: usize, sites: usize, recordings: &Path) -> Self {
        let cluster = Cluster::start_with(relays, &RELAY_LOG).await.expect("PostgreSQL and HAProxy");
        let mut setting = Self { agents: Vec::new(), cluster, sites: Vec::new() };
        for number in 0..sites {
            let site = setting.cluster.relays[0].add_site(&format!("site-{number}"), &[]).await;
            let agent = setting.agent(&site, recordings).await;
            setting.agents.push(agent);
            setting.sites.push(site);
        }
        setting
    }

    /// One more agent.
    pub(crate) async fn agent(&self, site: &Site, recordings: &Path) -> Agent {
        let options = AgentOptions::new(recordings).through(self.cluster.tunnel_url()).with(&AGENT_LOG);
        Agent::start(&self.cluster.relays[0], site, options).await
    }

    /// The first site with the address of the relay that has its tunnel, and with that of the next relay.
    pub(crate) async fn ways(&self) -> [Way; 2] {
        let holder = self.cluster.holder(&self.sites[0].name).await;
        let other = (holder + 1) % self.cluster.relays.len();
        [self.way(holder).await, self.way(other).await]
    }

    async fn way(&self, relay: usize) -> Way {
        let site = self.cluster.at(relay, &self.sites[0]);
        let mut links = Vec::new();
        for call in [CALL, LONG] {
            let found = search(&client(), &site, call, &[]).await;
            links.push(self.cluster.link_at(relay, &first_link(&found)));
        }
        let [short, long] = links.try_into().expect("two links");
        Way { site, short, long }
    }

    /// The cost of all programs so far.
    pub(crate) fn cost(&self) -> Cost {
        let of = |processes: Vec<&Process>| {
            Processes(processes.into_iter().map(Process::id).collect()).processor_time()
        };
        Cost {
            relays: of(self.cluster.relays.iter().map(|relay| relay.process()).collect()),
            agents: of(self.agents.iter().map(|agent| &agent.process).collect()),
            database: of(self.cluster.server.iter().filter_map(|server| server.process.as_ref()).collect()),
            balancer: of(vec![&self.cluster.balancer.process]),
        }
    }

    /// The cost of a load, with the load.
    pub(crate) async fn costing(&self, load: impl Future<Output = Load>) -> (Load, Cost) {
        let before = self.cost();
        let load = load.await;
        (load, self.cost().since(&before))
    }
}

/// How to reach a site: through one relay, which has its tunnel or not.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) site: Site,
    /// A link of one second of a call.
    pub(crate) short: String,
    /// A link of 64 MiB.
    pub(crate) long: String,
}

impl Cost {
    pub(crate) fn since(&self, before: &Self) -> Self {
        let since = |of: fn(&Self) -> Duration| of(self).saturating_sub(of(before));
        Self {
            relays: since(|cost| cost.relays),
            agents: since(|cost| cost.agents),
            database: since(|cost| cost.database),
            balancer: since(|cost| cost.balancer),
        }
    }

    pub(crate) fn all(&self) -> Duration {
        self.relays + self.agents + self.database + self.balancer
    }
}
