//! The board, kept up to date: once a second a new snapshot is built from the directory and the registry, and the
//! changes are sent to every watcher.

mod activity;
mod builder;
pub mod live;

use std::{sync::Arc, time::Duration};

use audiovault_protocol::identity::site::{Alias, SiteId};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::{
    sync::{broadcast, watch},
    task::JoinHandle,
    time::timeout,
};

use self::builder::BoardBuilder;
pub use self::{activity::Point, builder::Sources};
use crate::{
    cluster::{NodeHealth, NodeView},
    limits::SiteThrottle,
    model::operator_events::AccessChange,
    sites::directory::DirectoryWatch,
    store::StoreError,
    tunnel::view::{AgentView, RecordingsView},
};

/// Most changes that a watcher may be behind before it gets the rows themselves again.
const MAX_BEHIND: usize = 256;
/// How long to wait for a snapshot with the latest changes of the sites: one is built every second.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(3);

/// One site in a snapshot.
#[derive(Debug)]
pub struct Row {
    /// What the board shows of the site.
    pub view: SiteView,
    /// Figures of the last hour, a point for each minute.
    pub series: Vec<Point>,
    /// The number of the snapshot in which the view changed last.
    pub changed: u64,
}

/// All sites at one moment, in the order of their names.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Grows with every snapshot that differs from the one before.
    pub number: u64,
    /// The generation of the sites in it.
    pub generation: i64,
    /// The sites.
    pub rows: Vec<Arc<Row>>,
    /// The health of the relay itself.
    pub relay: RelayView,
}

/// The health of the relay itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct RelayView {
    /// Whether the database answers.
    pub database: bool,
    /// Whether the audit log and the history can be written.
    pub journal: bool,
    /// Entries of the audit log and the history that were lost.
    pub lost: u64,
    /// All relays that share the database, in the order of their addresses; empty if this relay is not part of a
    /// cluster.
    pub relays: Vec<NodeView>,
}

impl RelayView {
    pub(crate) fn new(own: &NodeHealth, lost: u64, relays: Vec<NodeView>) -> Self {
        Self { database: own.database, journal: own.journal, lost, relays }
    }

    /// True if this relay should send the audit-failure alert (only one per cluster does).
    pub fn sends_audit_alert(&self) -> bool {
        self.relays.iter().find(|relay| !relay.health.journal).is_none_or(|first| first.here)
    }
}

/// The number of sites in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Totals {
    /// Sites with an agent and readable recordings.
    pub up: usize,
    /// Sites with an agent, but with a storage root that cannot be read.
    pub degraded: usize,
    /// Sites with no agent connected any more.
    pub down: usize,
    /// Sites that never had an agent.
    pub never_seen: usize,
    /// Sites that an operator has disabled.
    pub disabled: usize,
}

impl Totals {
    /// Counts the sites.
    pub fn of<'a>(sites: impl Iterator<Item = &'a SiteView>) -> Self {
        let mut totals = Self::default();
        for site in sites {
            match site.state {
                SiteState::Up => totals.up += 1,
                SiteState::Degraded => totals.degraded += 1,
                SiteState::Down => totals.down += 1,
                SiteState::NeverSeen => totals.never_seen += 1,
                SiteState::Disabled => totals.disabled += 1,
            }
        }
        totals
    }

    /// The number of all sites.
    pub fn sites(&self) -> usize {
        self.up + self.degraded + self.down + self.never_seen + self.disabled
    }
}

impl Snapshot {
    /// The row of one site.
    pub fn site(&self, site: &SiteId) -> Option<&Arc<Row>> {
        let found = self.rows.binary_search_by(|row| row.view.site.cmp(site)).ok()?;
        self.rows.get(found)
    }
}

/// What has changed from one snapshot to the next.
#[derive(Debug)]
pub struct Change {
    /// The number of the later snapshot.
    pub number: u64,
    /// Sites that are new or have changed, each with its changed fields; `None` for a site that was removed.
    pub sites: Vec<(SiteId, Option<Map<String, Value>>)>,
    /// Whether the health of the relay has changed.
    pub relay: bool,
}

/// Keeps the current snapshot up to date. The task ends when this is dropped.
#[derive(Debug)]
pub struct Board {
    current: watch::Receiver<Arc<Snapshot>>,
    changes: broadcast::Sender<Arc<Change>>,
    directory: Arc<DirectoryWatch>,
    task: JoinHandle<()>,
}

impl Board {
    /// Builds the first snapshot and starts to keep it up to date.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub async fn start(sources: Sources) -> Result<Self, StoreError> {
        let directory = Arc::clone(&sources.directory);
        let mut builder = BoardBuilder::new(sources).await?;
        builder.build();
        let (sender, current) = watch::channel(builder.snapshot());
        let (changes, _) = broadcast::channel(MAX_BEHIND);
        let task = tokio::spawn(builder.run(sender, changes.clone()));
        Ok(Self { current, changes, directory, task })
    }

    /// The latest snapshot.
    pub fn current(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.borrow())
    }

    /// The first snapshot with every change of the sites that the relay knows of, so that an operator sees the result
    /// of a change at once. If none comes in time, the latest snapshot.
    pub async fn up_to_date(&self) -> Arc<Snapshot> {
        let mut snapshots = self.snapshots();
        let built =
            snapshots.wait_for(|snapshot| snapshot.generation == self.directory.current().generation());
        let _ = timeout(SNAPSHOT_TIMEOUT, built).await;
        self.current()
    }

    /// Receives the snapshots.
    pub fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.current.clone()
    }

    /// Receives the changes from now on.
    pub fn changes(&self) -> broadcast::Receiver<Arc<Change>> {
        self.changes.subscribe()
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// State of a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SiteState {
    /// An agent was connected before, but none is now.
    Down,
    /// An agent is connected, but one of its storage roots cannot be read.
    Degraded,
    /// An agent is connected.
    Up,
    /// No agent was ever connected.
    NeverSeen,
    /// An operator has disabled the site.
    Disabled,
}

impl SiteState {
    /// The name in the API and in addresses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Degraded => "degraded",
            Self::Up => "up",
            Self::NeverSeen => "never_seen",
            Self::Disabled => "disabled",
        }
    }
}

/// One site on the board. Figures are rounded for people, so that they change only if the difference matters.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct SiteView {
    /// Name of the site.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// The operator's note on the site.
    pub note: String,
    /// Other names under which QueueMetrics can search the site.
    #[schema(value_type = Vec<String>)]
    pub aliases: Vec<Alias>,
    /// State of the site.
    pub state: SiteState,
    /// Since when the site has been in this state.
    pub since: Timestamp,
    /// The connected agents of the site.
    pub agents: Vec<AgentView>,
    /// The shortest of the agents' latest round-trip times, in milliseconds.
    pub rtt_ms: Option<f64>,
    /// Bytes of recordings delivered per second, over the last five seconds.
    pub bytes_per_second: u64,
    /// Number of requests that are being answered now.
    pub open_streams: usize,
    /// Searches of the last hour.
    pub searches_last_hour: u64,
    /// Requests of the last hour that ended in a server error.
    pub errors_last_hour: u64,
    /// Wrong search tokens and site keys of the last hour, and attempts that were refused because of them.
    pub refused_last_hour: SiteThrottle,
    /// Changes in the last day to who can answer for the site: the latest event of each action, the newest first.
    pub access_changes: Vec<AccessChange>,
    /// The health of the site's recordings; null until an agent has reported it.
    pub recordings: Option<RecordingsView>,
}

#[cfg(test)]
mod tests;
