//! The parts of a relay that exist before it listens: database, sites, limits, audit log, cluster.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use audiovault_protocol::identity::site::SiteId;
use jiff::Timestamp;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::RelayError;
use crate::{
    app::config::ServeConfig,
    audit::journal::{Journal, JournalWriter, MAX_SPOOL_LEN, Spool},
    cluster::{Cluster, Membership, rebalance},
    limits::Limits,
    monitoring::{
        board::{Board, Sources},
        metrics::{self, HttpMetrics, Metrics},
    },
    net::listen::Gate,
    public::PublicState,
    routing::router::AgentRouter,
    sites::directory::DirectoryWatch,
    store::{self, IfMissing, Store, StoreError},
    tunnel::registry::Registry,
};

/// A site that was connected this short a time before the relay started is expected to connect again soon. Two minutes
/// are long enough to install a new version.
const A_MOMENT: Duration = Duration::from_secs(120);

pub(super) struct Parts {
    pub(super) store: Store,
    pub(super) directory: Arc<DirectoryWatch>,
    registry: Arc<Registry>,
    pub(super) limits: Arc<Limits>,
    pub(super) journal: JournalWriter,
    pub(super) membership: Option<Membership>,
}

impl Parts {
    /// Opens the database, and joins the cluster if one is configured.
    pub(super) async fn open(config: &ServeConfig) -> Result<Self, RelayError> {
        let store = store::open(&config.database, IfMissing::Create).await?;
        let store = store.with_name_rest(config.records.name_rest);
        store.set_public_url(config.public_url.as_str()).await?;
        let directory = Arc::new(DirectoryWatch::start(store.clone()).await?);
        let registry = Arc::new(Registry::new(config.limits.memory_budget, config.limits.site_maximum));
        let limits = Arc::new(Limits::new(&config.limits));
        let spool =
            config.records.spool_dir.as_ref().map(|dir| Spool::open(dir, MAX_SPOOL_LEN)).transpose()?;
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
    pub(super) fn balance(&self) -> Option<AbortOnDropHandle<()>> {
        let balancing = rebalance::balance(Arc::clone(&self.registry), self.cluster()?);
        Some(AbortOnDropHandle::new(tokio::spawn(balancing)))
    }

    pub(super) async fn board(&self) -> Result<Board, StoreError> {
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

    pub(super) fn metrics(
        &self,
        board: &Board,
        http: &HttpMetrics,
        gate: &Arc<Gate>,
        per_site: bool,
    ) -> Metrics {
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

    pub(super) fn public_state(&self, config: &ServeConfig, metrics: HttpMetrics) -> PublicState {
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
