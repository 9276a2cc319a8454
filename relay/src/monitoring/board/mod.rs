//! What operators see of the sites, kept up to date: once a second the picture is made anew from the directory and
//! the registry, and what has changed goes to everybody who watches.

mod access;
mod activity;
pub mod live;
mod painter;
mod view;

use std::{sync::Arc, time::Duration};

use audiovault_protocol::site::SiteId;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::{
    sync::{broadcast, watch},
    task::JoinHandle,
    time::timeout,
};

use self::painter::Painter;
pub use self::{
    activity::Point,
    painter::Sources,
    view::{SiteState, SiteView},
};
use crate::{
    cluster::node_health::{NodeHealth, NodeView},
    sites::directory::DirectoryWatch,
    store::StoreError,
};

/// Changes that a watcher may be behind before it is sent the rows themselves again.
const MAX_BEHIND: usize = 256;
/// How long a picture with the latest changes of the sites is waited for: one is drawn every second.
const DRAWN_WITHIN: Duration = Duration::from_secs(3);

/// One site in the picture.
#[derive(Debug)]
pub struct Row {
    /// What is seen of it.
    pub view: SiteView,
    /// Figures of the last hour, a point for each minute.
    pub series: Vec<Point>,
    /// The number of the picture in which the view changed last.
    pub changed: u64,
}

/// All sites at one moment, in the order of their names.
#[derive(Debug, Default)]
pub struct Picture {
    /// Grows with every picture that differs from the one before.
    pub number: u64,
    /// The generation of the sites that it shows.
    pub generation: i64,
    /// The sites.
    pub rows: Vec<Arc<Row>>,
    /// How the relay itself is.
    pub relay: RelayView,
}

/// How the relay itself is.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct RelayView {
    /// Whether the database answers.
    pub database: bool,
    /// Whether audit and history are written.
    pub journal: bool,
    /// Records of audit and history that were lost.
    pub lost: u64,
    /// All relays that share the database, in the order of their addresses; none where this one stands alone.
    pub relays: Vec<NodeView>,
}

impl RelayView {
    pub(crate) fn new(own: &NodeHealth, lost: u64, relays: Vec<NodeView>) -> Self {
        Self { database: own.database, journal: own.journal, lost, relays }
    }

    /// Whether it is this relay that tells of a journal that fails: one event that all of them notice is told once.
    pub fn speaks(&self) -> bool {
        self.relays.iter().find(|relay| !relay.health.journal).is_none_or(|first| first.here)
    }
}

/// How many sites are in which state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Totals {
    /// Sites with an agent and readable recordings.
    pub up: usize,
    /// Sites with an agent, but not with all of their recordings.
    pub degraded: usize,
    /// Sites whose agents have gone.
    pub down: usize,
    /// Sites that never had an agent.
    pub never_seen: usize,
    /// Sites that the operator has disabled.
    pub disabled: usize,
}

impl Totals {
    /// Counts sites.
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

    /// All sites.
    pub fn sites(&self) -> usize {
        self.up + self.degraded + self.down + self.never_seen + self.disabled
    }
}

impl Picture {
    /// One site.
    pub fn site(&self, site: &SiteId) -> Option<&Arc<Row>> {
        let found = self.rows.binary_search_by(|row| row.view.site.cmp(site)).ok()?;
        self.rows.get(found)
    }
}

/// What has changed from one picture to the next.
#[derive(Debug)]
pub struct Change {
    /// The number of the later picture.
    pub number: u64,
    /// Sites that are new or have changed, each with the fields that are other than before; a site that was removed
    /// has none.
    pub sites: Vec<(SiteId, Option<Map<String, Value>>)>,
    /// Whether the relay itself has changed.
    pub relay: bool,
}

/// The picture that is kept up to date; the task ends when this is dropped.
#[derive(Debug)]
pub struct Board {
    current: watch::Receiver<Arc<Picture>>,
    changes: broadcast::Sender<Arc<Change>>,
    directory: Arc<DirectoryWatch>,
    task: JoinHandle<()>,
}

impl Board {
    /// Draws the first picture and begins to keep it up to date.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read when each site was last seen.
    pub async fn start(sources: Sources) -> Result<Self, StoreError> {
        let directory = Arc::clone(&sources.directory);
        let mut painter = Painter::new(sources).await?;
        painter.paint();
        let (sender, current) = watch::channel(painter.picture());
        let (changes, _) = broadcast::channel(MAX_BEHIND);
        let task = tokio::spawn(painter.run(sender, changes.clone()));
        Ok(Self { current, changes, directory, task })
    }

    /// The latest picture.
    pub fn current(&self) -> Arc<Picture> {
        Arc::clone(&self.current.borrow())
    }

    /// The first picture with every change of the sites that the relay knows of: whoever has just made one sees what
    /// became of it. If none comes, the latest.
    pub async fn up_to_date(&self) -> Arc<Picture> {
        let mut pictures = self.pictures();
        let drawn = pictures.wait_for(|picture| picture.generation == self.directory.current().generation());
        let _ = timeout(DRAWN_WITHIN, drawn).await;
        self.current()
    }

    /// Follows the pictures themselves.
    pub fn pictures(&self) -> watch::Receiver<Arc<Picture>> {
        self.current.clone()
    }

    /// Follows the changes from now on.
    pub fn changes(&self) -> broadcast::Receiver<Arc<Change>> {
        self.changes.subscribe()
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests;
