//! The running relay: opens the database, starts the listeners, and drains when it has to stop.

pub mod config;
pub mod listeners;

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use audiovault_common::{
    error_chain::in_one_line,
    listener::{Gate, Listening},
    systemd,
};
use audiovault_protocol::{identity::site::SiteId, limits::CLOSE_TIMEOUT};
use jiff::Timestamp;
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};

use self::{
    config::{AlertConfig, ServeConfig},
    listeners::{public_gate, start_admin, start_for_relays, start_public},
};
use crate::{
    admin::{
        self, AdminState, SecurityHeaders,
        auth::{Auth, offer_setup},
    },
    audit::journal::{Journal, JournalWriter, MAX_SPOOL_LEN, Spool, SpoolError},
    cluster::{Cluster, JoinError, Membership, rebalance},
    limits::Limits,
    monitoring::{
        alerts,
        board::{Board, Sources},
        metrics::{self, HttpMetrics, Metrics},
    },
    net::listen::{ListenError, Sockets},
    public::{self, PublicSide, PublicState},
    routing::router::AgentRouter,
    sites::directory::DirectoryWatch,
    store::{self, IfMissing, OpenError, Store, StoreError},
    tunnel::registry::Registry,
};

/// How long the admin listener may take to finish running requests.
const ADMIN_DRAIN: Duration = Duration::from_secs(1);

/// The reason that agents are given.
const SHUTTING_DOWN: &str = "the relay is shutting down";
/// When the relay has to stop, how long it still accepts connections of clients, each for one request.
const LAST_CONNECTIONS: Duration = Duration::from_secs(1);
/// How long agents are kept after that, for the request of the last connection.
const LAST_REQUESTS: Duration = Duration::from_millis(500);
/// Why the relay could not run.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The directory for waiting audit events cannot be used.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The database cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The relay cannot join the cluster.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// A listener cannot be started.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

/// A running relay.
#[derive(Debug)]
pub struct Relay {
    public: Vec<Listening>,
    admin: Listening,
    for_relays: Option<Listening>,
    membership: Option<Membership>,
    /// Stops rebalancing at the start of a drain.
    balancing: Option<AbortOnDropHandle<()>>,
    state: Arc<PublicState>,
    journal: JournalWriter,
    store: Store,
    /// Tasks that are aborted when the relay ends.
    background: Vec<AbortOnDropHandle<()>>,
    drain_timeout: Duration,
    accept_rate: u32,
}

impl Relay {
    /// Opens the database and starts the listeners.
    ///
    /// # Errors
    /// [`RelayError`].
    pub async fn start(config: ServeConfig) -> Result<Self, RelayError> {
        let parts = Parts::open(&config).await?;
        let board = parts.board().await?;
        let background = start_background(&config, &board, &parts.store);
        let http_metrics = HttpMetrics::default();
        let gate = public_gate(&config);
        let metrics = parts.metrics(&board, &http_metrics, &gate, config.records.site_metrics);
        let state = Arc::new(parts.public_state(&config, http_metrics));
        let side = PublicSide::new(Arc::clone(&state), &config.allow_origin);
        let mut sockets = Sockets::inherited();
        let public = start_public(&config, &mut sockets, &gate, side).await?;
        let admin_state = AdminState {
            public: Arc::clone(&state),
            directory: Arc::clone(&parts.directory),
            board,
            metrics,
            auth: Auth::new(parts.store.clone(), Arc::clone(&parts.limits))
                .with_session_idle(config.records.session_idle),
            headers: SecurityHeaders::new(&config.public_url, config.hsts.admin.clone()),
            metrics_public: config.metrics_public,
        };
        let admin = start_admin(&config, &mut sockets, admin::router(Arc::new(admin_state))).await?;
        let for_relays = match &config.cluster {
            Some(cluster) => {
                let router = public::router_for_relays(Arc::clone(&state));
                Some(start_for_relays(cluster, &mut sockets, router).await?)
            }
            None => None,
        };
        sockets.check_all_used();
        offer_first_user(&parts.store, &config.admin.url(admin.addr)).await?;
        let drain_timeout = config.drain_timeout;
        let accept_rate = config.limits.accept_rate;
        let balancing = parts.balance();
        let Parts { store, journal, membership, .. } = parts;
        Ok(Self {
            public,
            admin,
            for_relays,
            membership,
            balancing,
            state,
            journal,
            store,
            background,
            drain_timeout,
            accept_rate,
        })
    }

    /// The addresses of the public listeners, plain HTTP before TLS, with their real ports.
    pub fn public_addrs(&self) -> Vec<SocketAddr> {
        self.public.iter().map(|listening| listening.addr).collect()
    }

    /// The address of the admin listener, with its real port.
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin.addr
    }

    /// Stops the relay: refuses new tunnels, asks agents to dial again, and lets running downloads end until the drain
    /// timeout.
    ///
    /// Every step leaves time for the work that the step before has let in, so that no request fails while a successor
    /// accepts from the same sockets. Clients first learn that their connection will close, then no more
    /// connections are accepted, and the agents are sent away last.
    pub async fn drain(self) {
        tracing::info!(code = "program.stopping", "shutting down: waiting for running downloads");
        systemd::stopping(None);
        self.state.draining.store(true, Ordering::Relaxed);
        drop(self.balancing);
        if self.state.registry.is_in_use() {
            tokio::time::sleep(LAST_CONNECTIONS).await;
        }
        for listening in &self.public {
            listening.handle.graceful_shutdown(Some(self.drain_timeout));
        }
        if self.state.registry.is_in_use() {
            tokio::time::sleep(LAST_REQUESTS).await;
        }
        let registry = &self.state.registry;
        let rate = self.accept_rate;
        match self.membership {
            Some(_) => rebalance::all(registry, SHUTTING_DOWN, rate, self.drain_timeout).await,
            None => registry.leave_all(SHUTTING_DOWN, rate),
        }
        for listening in self.public {
            let _ = listening.task.await;
        }
        // A tunnel closes by itself when no stream is open on it.
        self.state.tunnels.close();
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.state.tunnels.wait()).await;
        self.admin.handle.graceful_shutdown(Some(ADMIN_DRAIN));
        let _ = self.admin.task.await;
        if let Some(for_relays) = self.for_relays {
            for_relays.handle.graceful_shutdown(Some(ADMIN_DRAIN));
            let _ = for_relays.task.await;
        }
        drop(self.background);
        drop(self.membership);
        self.journal.close().await;
        // If a connection to the database stays open, its write-ahead log is left behind.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.store.close()).await;
        tracing::info!(code = "program.stopped", "stopped");
    }
}

/// Starts the tasks that delete expired events and, if a webhook is configured, send alerts.
fn start_background(config: &ServeConfig, board: &Board, store: &Store) -> Vec<AbortOnDropHandle<()>> {
    let retention = config.records.retention.start(store.clone());
    let alerts =
        config.records.alerts.clone().map(|AlertConfig { webhook, hold }| {
            alerts::start(board.snapshots(), store.clone(), hold, webhook)
        });
    [Some(retention), alerts].into_iter().flatten().map(AbortOnDropHandle::new).collect()
}

/// While there is no user, logs the link that makes the first one.
async fn offer_first_user(store: &Store, admin_url: &str) -> Result<(), StoreError> {
    if let Some(link) = offer_setup(store, admin_url).await? {
        tracing::warn!(
            link = link.as_str(),
            code = "user.none_yet",
            "there is no user yet: open this link to create the first one"
        );
    }
    Ok(())
}

/// Runs the relay until `shutdown` is cancelled, then drains it.
///
/// # Errors
/// [`RelayError`] if the relay cannot start.
pub async fn run(config: ServeConfig, shutdown: CancellationToken) -> Result<(), RelayError> {
    let relay = Relay::start(config).await?;
    systemd::ready();
    shutdown.cancelled().await;
    relay.drain().await;
    Ok(())
}

/// A site that was connected this short a time before the relay started is expected to connect again soon. Two minutes
/// are long enough to install a new version.
const A_MOMENT: Duration = Duration::from_secs(120);

/// Opens the spool: in the directory of the configuration, or beside a SQLite database. A relay can run without the
/// latter, for example while another one that it replaces still uses it.
fn open_spool(directory: Option<&Path>, database: Option<&Path>) -> Result<Option<Spool>, SpoolError> {
    if let Some(directory) = directory {
        return Spool::open(directory, MAX_SPOOL_LEN).map(Some);
    }
    let Some(database) = database else { return Ok(None) };
    Ok(Spool::open_beside(database, MAX_SPOOL_LEN)
        .inspect_err(|error| {
            tracing::info!(
                error = in_one_line(error),
                code = "audit_log.without_spool",
                "audit events go to the database without a spool"
            );
        })
        .ok())
}

/// The parts of a relay that exist before it listens: database, sites, limits, audit log, cluster.
struct Parts {
    store: Store,
    directory: Arc<DirectoryWatch>,
    registry: Arc<Registry>,
    limits: Arc<Limits>,
    journal: JournalWriter,
    membership: Option<Membership>,
}

impl Parts {
    /// Opens the database, and joins the cluster if one is configured.
    async fn open(config: &ServeConfig) -> Result<Self, RelayError> {
        let store = store::open(&config.database, IfMissing::Create).await?;
        let store = store.with_name_rest(config.records.name_rest);
        store.set_public_url(config.public_url.as_str()).await?;
        let directory = Arc::new(DirectoryWatch::start(store.clone()).await?);
        let registry = Arc::new(Registry::new(config.limits.memory_budget, config.limits.site_maximum));
        let limits = Arc::new(Limits::new(&config.limits));
        let spool = open_spool(config.records.spool_dir.as_deref(), store.file())?;
        if let Some(records) = spool.as_ref().map(Spool::records).filter(|records| *records > 0) {
            tracing::info!(
                records,
                code = "audit_log.spool_found",
                "delivering events that an earlier run could not write to the database"
            );
        }
        let journal = Journal::start_with(store.clone(), Arc::<Registry>::clone(&registry), spool);
        let membership = match (&config.cluster, store.route_book()) {
            (Some(config), Some(book)) => {
                let run = journal.journal();
                Some(Cluster::join(config, book, run.run(), Arc::clone(&limits)).await?)
            }
            _ => {
                if store.others_alive(journal.journal().run()).await? > 0 {
                    tracing::warn!(
                        code = "cluster.not_configured",
                        "another relay used this database a moment ago; if both keep running, set --node-url on \
                         both: otherwise each reaches only its own agents"
                    );
                }
                None
            }
        };
        let parts = Self { store, directory, registry, limits, journal, membership };
        parts.expect_agents().await?;
        Ok(parts)
    }

    /// Expects the agents that were connected shortly before, to a relay that this one replaces. Agents whose tunnel a
    /// peer relay holds are not expected here.
    async fn expect_agents(&self) -> Result<(), StoreError> {
        let since = self.store.connected_since(Timestamp::now() - A_MOMENT).await?;
        let cluster = self.cluster();
        let elsewhere = |site: &SiteId| cluster.as_ref().is_some_and(|cluster| cluster.holds(site));
        self.registry.expect(since.into_iter().filter(|site| !elsewhere(site)));
        Ok(())
    }

    fn cluster(&self) -> Option<Arc<Cluster>> {
        self.membership.as_ref().map(|membership| Arc::clone(&membership.cluster))
    }

    /// Starts to rebalance agents between the relays, if there is a cluster.
    fn balance(&self) -> Option<AbortOnDropHandle<()>> {
        let balancing = rebalance::balance(Arc::clone(&self.registry), self.cluster()?);
        Some(AbortOnDropHandle::new(tokio::spawn(balancing)))
    }

    async fn board(&self) -> Result<Board, StoreError> {
        Board::start(Sources {
            directory: Arc::clone(&self.directory),
            registry: Arc::clone(&self.registry),
            limits: Arc::clone(&self.limits),
            journal: self.journal.journal(),
            store: self.store.clone(),
            cluster: self.cluster(),
        })
        .await
    }

    fn metrics(&self, board: &Board, http: &HttpMetrics, gate: &Arc<Gate>, per_site: bool) -> Metrics {
        let sources = metrics::Sources {
            snapshots: board.snapshots(),
            sessions: Arc::clone(&self.registry),
            journal: self.journal.journal(),
            limits: Arc::clone(&self.limits),
            gate: Arc::clone(gate),
            per_site,
        };
        Metrics::new(http, sources)
    }

    fn public_state(&self, config: &ServeConfig, metrics: HttpMetrics) -> PublicState {
        PublicState {
            public_url: config.public_url.clone(),
            trusted_proxies: config.trusted_proxies.clone(),
            search_by_get: config.search_by_get,
            hsts: config.hsts.public.clone(),
            agents: AgentRouter::new(Arc::clone(&self.registry), self.cluster()),
            registry: Arc::clone(&self.registry),
            limits: Arc::clone(&self.limits),
            directory: self.directory.subscribe(),
            store: self.store.clone(),
            refresher: self.directory.refresher(),
            tunnels: TaskTracker::new(),
            journal: self.journal.journal(),
            recorded_names: config.records.names,
            shown_version: config.shown_version,
            metrics,
            draining: AtomicBool::new(false),
        }
    }
}
