//! Outbound tunnels: to every relay the configured number of tunnels, each dialled, served and dialled again for
//! ever.

mod backoff;
pub(crate) mod connect;
mod handshake_stream;
pub mod states;
pub(crate) mod supervisor;

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use audiovault_common::advice::Advice;
use audiovault_protocol::{
    identity::site::SiteKey,
    message::{Hello, Status},
};
use data_encoding::HEXLOWER;
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use url::Url;

use self::{
    connect::Dialler,
    states::{TunnelName, TunnelStates},
    supervisor::Supervisor,
};
use crate::{
    http::{AgentService, Current},
    net::{NetworkSettings, TrustError},
};

pub use self::supervisor::DRAIN_TIMEOUT;

/// The default limit of streams that all tunnels together serve at a time: as many as one relay opens on one tunnel.
pub const DEFAULT_MAX_STREAMS: u32 = 256;

/// The relays to dial, and how.
#[derive(Debug, Clone)]
pub struct TunnelConfig {
    /// The relays: `ws://`, `wss://`, `http://` or `https://`, with or without a path.
    pub relays: Vec<Url>,
    /// Number of tunnels to each relay.
    pub connections: u16,
    /// Proves to the relay that the agent belongs to the site.
    pub site_key: SiteKey,
    /// The network settings.
    pub network: NetworkSettings,
    /// The most streams that all tunnels together serve at a time.
    pub max_streams: u32,
}

/// Why a tunnel cannot be attempted; every other failure is retried for ever.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// The relay's address has no host, or a scheme that relays do not have.
    #[error("the relay's address must be wss://HOST[:PORT], or ws:// on a trusted network")]
    NoHost,
    /// The certificate authorities cannot be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

impl Advice for TunnelError {
    fn advice(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::NoHost => None,
            Self::Trust(error) => error.advice(),
        }
    }
}

impl TunnelConfig {
    /// Checks whether tunnels can be dialled with this configuration.
    ///
    /// # Errors
    /// [`TunnelError`].
    pub fn check(&self) -> Result<(), TunnelError> {
        self.relays.iter().try_for_each(|relay| Dialler::new(relay, self).map(drop))
    }

    /// Whether both have the same site key.
    fn has_key_of(&self, other: &Self) -> bool {
        self.site_key.digest().matches(&other.site_key.digest())
    }

    /// The number of streams that one tunnel may carry: its share, but at least one.
    fn streams_each(&self) -> u32 {
        let tunnels = u32::try_from(self.relays.len()).unwrap_or(u32::MAX) * u32::from(self.connections);
        (self.max_streams / tunnels.max(1)).max(1)
    }
}

/// What the tunnels of one agent share.
#[derive(Debug, Clone)]
pub struct Shared {
    /// The configuration. A new value is used at the next attempt. If it changes the HELLO or the site key, a new
    /// tunnel replaces each old one, which finishes its open streams.
    pub config: watch::Receiver<Arc<TunnelConfig>>,
    /// The service that answers requests from the tunnels.
    pub service: Current,
    /// The state of the recordings and of the agent; every new value is sent to the relays.
    pub status: watch::Receiver<Status>,
    /// The states of all tunnels.
    pub states: TunnelStates,
    /// Ends all tunnels, after running downloads have finished.
    pub shutdown: CancellationToken,
}

/// The identity of this run of the agent: the fields that are the same in every HELLO.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    instance: String,
    host: String,
    started_at: u64,
}

impl Run {
    pub(crate) fn begin() -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            instance: HEXLOWER.encode(&rand::random::<[u8; 8]>()),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            started_at: started.as_secs(),
        }
    }

    pub(crate) fn hello(&self, slot: u16, config: &TunnelConfig, service: &AgentService) -> Hello {
        Hello {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            instance: self.instance.clone(),
            slot,
            link_key_id: service.link_key_id(),
            host: self.host.clone(),
            os: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            started_at: self.started_at,
            tenants: service.tenants(),
            max_streams: config.streams_each(),
            drains: false,
            token_fields: service.token_fields(),
        }
    }
}

/// Serves through tunnels until the shutdown, then lets running downloads finish.
pub async fn run(shared: Shared) {
    let mut fleet = Fleet { run: Run::begin(), tunnels: HashMap::new(), tasks: JoinSet::new() };
    let mut config = shared.config.clone();
    loop {
        let wanted = Arc::clone(&config.borrow_and_update());
        fleet.keep(&wanted, &shared);
        tokio::select! {
            () = shared.shutdown.cancelled() => break,
            changed = config.changed() => if changed.is_err() {
                // No more changes can come.
                shared.shutdown.cancelled().await;
                break;
            },
            Some(_) = fleet.tasks.join_next() => {}
        }
    }
    while fleet.tasks.join_next().await.is_some() {}
}

/// The tunnels of this run.
struct Fleet {
    run: Run,
    tunnels: HashMap<TunnelName, (CancellationToken, AbortHandle)>,
    tasks: JoinSet<()>,
}

impl Fleet {
    /// Starts tunnels that are missing and ends those that are no longer configured.
    fn keep(&mut self, config: &TunnelConfig, shared: &Shared) {
        let relays = config.relays.iter();
        let wanted: Vec<TunnelName> = relays
            .flat_map(|relay| (0..config.connections).map(|slot| TunnelName { relay: relay.clone(), slot }))
            .collect();
        self.tunnels.retain(|name, (stop, task)| {
            let kept = wanted.contains(name) && !task.is_finished();
            if !kept {
                stop.cancel();
                shared.states.forget(name);
            }
            kept
        });
        for name in wanted {
            if self.tunnels.contains_key(&name) {
                continue;
            }
            let stop = shared.shutdown.child_token();
            let shared = Shared { shutdown: stop.clone(), ..shared.clone() };
            let supervisor = Supervisor::new(name.clone(), self.run.clone(), shared);
            let span = tracing::info_span!(parent: None, "tunnel", relay = %name.relay, number = name.slot);
            let task = self.tasks.spawn(supervisor.run().instrument(span));
            self.tunnels.insert(name, (stop, task));
        }
    }
}
