//! Many agents in this process: the agent's own code from dialling to backoff, each with its own site, its own
//! connection and its own TLS. Only the service behind them is small: one directory with one recording.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Instant,
};

use audiovault_agent::{
    access::Access,
    dialect::Dialect,
    limits::Schedule,
    links::LinkSettings,
    monitor,
    reach::NetworkSettings,
    secret::Secret,
    service::{ServiceSettings, current::Current},
    tunnel::{
        self, DEFAULT_MAX_STREAMS, Shared, TunnelConfig,
        states::{TunnelName, TunnelState, TunnelStates},
    },
    vault::{VaultSettings, pattern::Pattern},
};
use audiovault_protocol::{recording_name::RecordedNames, site::SiteKey};
use harness::relay::{Relay, Site};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// Agents that run until this is dropped.
pub(crate) struct Agents {
    states: Vec<watch::Receiver<BTreeMap<TunnelName, TunnelState>>>,
    _tasks: JoinSet<()>,
}

/// The agents that are connected, in the order in which they came, and when each came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Connected(Arc<Mutex<Vec<(usize, Instant)>>>);

impl Connected {
    /// Who came so far.
    pub(crate) fn so_far(&self) -> Vec<(usize, Instant)> {
        self.0.lock().unwrap().clone()
    }

    fn add(&self, agent: usize) {
        self.0.lock().unwrap().push((agent, Instant::now()));
    }
}

impl Agents {
    /// Starts one agent for each site; they dial at once.
    pub(crate) fn start(relay: &Relay, sites: &[Site], recordings: &Path) -> Self {
        let mut tasks = JoinSet::new();
        let states = sites.iter().map(|site| start(relay, site, recordings, &mut tasks).follow()).collect();
        Self { states, _tasks: tasks }
    }

    /// Notes every agent that connects from now on, until all have.
    pub(crate) fn follow(&self, connected: &Connected) -> JoinSet<()> {
        let followed = self.states.iter().enumerate().map(|(agent, states)| {
            let (mut states, connected) = (states.clone(), connected.clone());
            async move {
                states.wait_for(all_connected).await.expect("the agent runs");
                connected.add(agent);
            }
        });
        followed.collect()
    }

    /// Waits until no agent believes that it is connected.
    pub(crate) async fn all_gone(&self) {
        for states in &self.states {
            states.clone().wait_for(|states| !all_connected(states)).await.expect("the agent runs");
        }
    }
}

fn all_connected(states: &BTreeMap<TunnelName, TunnelState>) -> bool {
    !states.is_empty() && states.values().all(TunnelState::is_connected)
}

fn start(relay: &Relay, site: &Site, recordings: &Path, tasks: &mut JoinSet<()>) -> TunnelStates {
    let site_key = SiteKey::parse(&site.site_key).expect("a site key");
    let pattern = Pattern::parse(&format!("file:{}", recordings.display())).expect("a pattern");
    let name = site_key.site().clone();
    let service = Current::new(ServiceSettings {
        vault: VaultSettings::new(vec![pattern]),
        access: Access::new(Some(&Secret::new(&site.search_token)), &[], Some(name.as_str()))
            .expect("a token that may be used"),
        links: LinkSettings::for_this_run(name),
        recorded_names: RecordedNames::Masked,
        max_rate: Schedule::default(),
        max_streams: DEFAULT_MAX_STREAMS,
        record: None,
        deny: None,
        cdr: None,
        dialect: Dialect::default(),
        verbose_search: false,
    });
    let config = TunnelConfig {
        relays: vec![relay.tunnel_url().parse().expect("an address")],
        connections: 1,
        site_key,
        network: NetworkSettings {
            cacert: relay.certificate().map(|tls| tls.authority.clone()),
            ..NetworkSettings::default()
        },
        max_streams: DEFAULT_MAX_STREAMS,
    };
    let (status, states) = (monitor::start(&service), TunnelStates::default());
    // The sender is dropped: an agent whose configuration nobody can change runs until its shutdown.
    let (_, config) = watch::channel(Arc::new(config));
    let shutdown = CancellationToken::new();
    tasks.spawn(tunnel::run(Shared { config, service, status, states: states.clone(), shutdown }));
    states
}
