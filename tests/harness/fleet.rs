//! Many agents in this process.
//!
//! They run the agent's own code from dialling to backoff, each with its own site, its own connection and its own TLS.
//! Only the service behind them is small: one directory with one recording.

use std::{
    collections::BTreeMap,
    fmt::{self, Debug, Write},
    path::Path,
    sync::{Arc, Mutex},
    time::Instant,
};

use audiovault_agent::{
    auth::Access,
    http::{Current, ServiceSettings, dialect::Dialect, links::LinkSettings, monitor},
    limits::Schedule,
    net::NetworkSettings,
    storage::StorageSettings,
    tunnel::{
        self, DEFAULT_MAX_STREAMS, Shared, TunnelConfig,
        states::{TunnelName, TunnelState, TunnelStates},
    },
};
use audiovault_agent_core::{pattern::Pattern, secret::Secret};
use audiovault_protocol::{identity::site::SiteKey, recording::name::RecordedNames};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    relay::{Relay, Site},
    secrets,
};

/// Agents that run until this is dropped.
pub struct Fleet {
    states: Vec<watch::Receiver<BTreeMap<TunnelName, TunnelState>>>,
    _tasks: JoinSet<()>,
}

/// The connected agents in the order in which they connected, each with the time.
#[derive(Debug, Clone, Default)]
pub struct Connected(Arc<Mutex<Vec<(usize, Instant)>>>);

impl Connected {
    /// The agents that have connected so far.
    pub fn so_far(&self) -> Vec<(usize, Instant)> {
        self.0.lock().expect("no panic under the lock").clone()
    }

    fn add(&self, agent: usize) {
        self.0.lock().expect("no panic under the lock").push((agent, Instant::now()));
    }
}

impl Fleet {
    /// Starts one agent for each site. All of them dial at once.
    pub fn start(relay: &Relay, sites: &[Site], recordings: &Path) -> Self {
        let mut tasks = JoinSet::new();
        let states = sites.iter().map(|site| start(relay, site, recordings, &mut tasks).follow()).collect();
        Self { states, _tasks: tasks }
    }

    /// Records every agent that connects from now on, until all are connected.
    pub fn follow(&self, connected: &Connected) -> JoinSet<()> {
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
    pub async fn all_gone(&self) {
        for states in &self.states {
            states.clone().wait_for(|states| !all_connected(states)).await.expect("the agent runs");
        }
    }
}

impl Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet").field("agents", &self.states.len()).finish_non_exhaustive()
    }
}

/// Imports this many sites at once, with files in a directory.
pub async fn import(relay: &Relay, dir: &Path, count: usize) -> Vec<Site> {
    let mut table = "site\n".to_owned();
    for number in 0..count {
        writeln!(table, "site-{number:05}").expect("a string takes everything");
    }
    let (file, secrets) = (dir.join("sites.csv"), dir.join("secrets.csv"));
    std::fs::write(&file, table).expect("a file");
    let [file, to] = [&file, &secrets].map(|path| path.display().to_string());
    relay.site_command(&["import", &file, "--secrets", &to]).await;
    let secrets = std::fs::read_to_string(secrets).expect("a file");
    let sites: Vec<Site> = secrets.lines().skip(1).map(site).collect();
    assert_eq!(sites.len(), count);
    sites
}

fn site(line: &str) -> Site {
    let fields: Vec<_> = line.split(',').map(str::to_owned).collect();
    let [name, site_key, search_token, search_url] = fields.try_into().expect("four fields");
    secrets::remember(&site_key);
    secrets::remember(&search_token);
    Site { name, site_key, search_token, search_url }
}

fn all_connected(states: &BTreeMap<TunnelName, TunnelState>) -> bool {
    !states.is_empty() && states.values().all(TunnelState::is_connected)
}

fn start(relay: &Relay, site: &Site, recordings: &Path, tasks: &mut JoinSet<()>) -> TunnelStates {
    let site_key = SiteKey::parse(&site.site_key).expect("a site key");
    let pattern = Pattern::parse(&format!("file:{}", recordings.display())).expect("a pattern");
    let name = site_key.site().clone();
    let service = Current::new(ServiceSettings {
        storage: StorageSettings::new(vec![pattern]),
        access: Access::new(Some(&Secret::new(&site.search_token)), &[], Some(name.as_str()))
            .expect("a token that may be used"),
        links: LinkSettings::for_this_run(name),
        recorded_names: RecordedNames::Masked,
        max_rate: Schedule::default(),
        max_streams: DEFAULT_MAX_STREAMS,
        audit_log: None,
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
    // The sender is dropped, so the configuration never changes and the agent runs until its shutdown.
    let (_, config) = watch::channel(Arc::new(config));
    let shutdown = CancellationToken::new();
    tasks.spawn(tunnel::run(Shared { config, service, status, states: states.clone(), shutdown }));
    states
}
