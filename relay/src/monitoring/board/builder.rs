//! Builds the snapshots of the board, and finds out what has changed.
//!
//! The latest changes of who can answer for a site are read from the database, because the command line and peer
//! relays write there too.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use audiovault_protocol::identity::site::SiteId;
use jiff::Timestamp;
use serde_json::{Map, Value};
use tokio::{
    sync::{broadcast, watch},
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

use super::{Change, RelayView, Row, SiteState, SiteView, Snapshot, activity::Activity};
use crate::{
    audit::journal::Journal,
    cluster::{Cluster, NodeHealth, NodeView, part::SitePart},
    limits::{Limits, SiteThrottle},
    model::operator_events::AccessChange,
    sites::directory::{DirectoryWatch, SiteRecord},
    store::{Store, StoreError},
    tunnel::{
        registry::Registry,
        session::Session,
        view::{AgentView, RecordingsView, readable_ms},
    },
};

/// How often a snapshot is built: a change of state is seen within this time.
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(1);
/// How often figures are updated, in ticks; only states are faster.
const FIGURE_TICKS: u64 = 5;
const MINUTE: i64 = 60;
const HOUR: i64 = 3600;

/// What the snapshot is built from.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The sites.
    pub directory: Arc<DirectoryWatch>,
    /// Their connected agents.
    pub registry: Arc<Registry>,
    /// Who is throttled.
    pub limits: Arc<Limits>,
    /// Whether the audit log and the history can be written.
    pub journal: Journal,
    /// The database, for what happened before this run.
    pub store: Store,
    /// The cluster, if this relay is part of one.
    pub cluster: Option<Arc<Cluster>>,
}

/// What is remembered of a site from one snapshot to the next.
#[derive(Debug, Default)]
struct Memory {
    activity: Activity,
    /// Bytes delivered up to the last update of the figures.
    bytes: u64,
}

pub(super) struct BoardBuilder {
    sources: Sources,
    access: AccessWatch,
    memories: HashMap<SiteId, Memory>,
    last_seen: HashMap<SiteId, Timestamp>,
    snapshot: Arc<Snapshot>,
    ticks: u64,
    /// Whether figures are updated this time.
    figures: bool,
}

impl BoardBuilder {
    pub(super) async fn new(sources: Sources) -> Result<Self, StoreError> {
        let last_seen = sources.store.last_seen().await?;
        let access = AccessWatch::start(sources.store.clone()).await?;
        let since = Timestamp::from_second(Timestamp::now().as_second() - HOUR).unwrap_or_default();
        let mut memories: HashMap<SiteId, Memory> = HashMap::new();
        for counted in sources.store.minutes_since(since).await? {
            // This run itself counts what it has already written.
            if counted.run != sources.journal.run() {
                let memory = memories.entry(counted.site).or_default();
                memory.activity.seed(&counted.run, counted.minute, counted.traffic);
            }
        }
        // A run numbers its snapshots from its start time in seconds on. There is at most one snapshot a second, so no
        // earlier run used a higher number, and a browser with an earlier number gets everything.
        let number = u64::try_from(Timestamp::now().as_second()).unwrap_or_default();
        let snapshot = Arc::new(Snapshot { number, ..Snapshot::default() });
        Ok(Self { sources, access, memories, last_seen, snapshot, ticks: 0, figures: true })
    }

    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot)
    }

    pub(super) async fn run(
        mut self,
        current: watch::Sender<Arc<Snapshot>>,
        changes: broadcast::Sender<Arc<Change>>,
    ) {
        let mut ticks = interval(SNAPSHOT_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let change = self.build();
            current.send_replace(self.snapshot());
            if !change.sites.is_empty() || change.relay {
                // There may be no watcher.
                let _ = changes.send(Arc::new(change));
            }
        }
    }

    /// Builds the next snapshot and returns what has changed.
    pub(super) fn build(&mut self) -> Change {
        self.figures = self.ticks.is_multiple_of(FIGURE_TICKS);
        self.ticks += 1;
        let directory = self.sources.directory.current();
        let access = self.access.current();
        let before = Arc::clone(&self.snapshot);
        let mut number = before.number + 1;
        let mut changed = Vec::new();
        let mut rows = Vec::with_capacity(before.rows.len());
        for (site, record) in directory.sites() {
            let old = before.site(site);
            let access_changes = access.get(site).cloned().unwrap_or_default();
            let (view, minute_begun) = self.view(site, record, access_changes, old.map(|old| &old.view));
            rows.push(match old {
                Some(old) if old.view == view && !minute_begun => Arc::clone(old),
                _ => {
                    let fields = difference(old.map(|old| &old.view), &view);
                    let quiet_since = old.filter(|_| fields.is_empty()).map(|old| old.changed);
                    if quiet_since.is_none() {
                        changed.push((site.clone(), Some(fields)));
                    }
                    let series = self.memories.get(site).map(|memory| memory.activity.points());
                    let series = series.unwrap_or_default();
                    Arc::new(Row { view, series, changed: quiet_since.unwrap_or(number) })
                }
            });
        }
        rows.sort_by(|a, b| a.view.site.cmp(&b.view.site));
        for old in before.rows.iter().filter(|old| directory.site(&old.view.site).is_none()) {
            self.memories.remove(&old.view.site);
            self.last_seen.remove(&old.view.site);
            changed.push((old.view.site.clone(), None));
        }
        let relay = self.relay_view();
        let relay_changed = relay != before.relay;
        if changed.is_empty() && !relay_changed {
            number = before.number;
        }
        self.snapshot = Arc::new(Snapshot { number, generation: directory.generation(), rows, relay });
        Change { number, sites: changed, relay: relay_changed }
    }

    /// The health of this relay and its peers.
    fn relay_view(&self) -> RelayView {
        let journal = self.sources.journal.health();
        let health = NodeHealth::new(self.sources.directory.healthy(), &journal);
        let mut relays = Vec::new();
        if let Some(cluster) = &self.sources.cluster {
            cluster.gossip().publish_health(health.clone());
            relays = cluster.gossip().relays();
            relays.push(NodeView { url: cluster.own_url().to_owned(), here: true, health: health.clone() });
            relays.sort_by(|one, other| one.url.cmp(&other.url));
        }
        RelayView::new(&health, journal.lost, relays)
    }

    /// What this relay sees of a site.
    fn own_part(&mut self, site: &SiteId) -> SitePart {
        let sessions = self.sources.registry.sessions(site);
        let counters = self.sources.registry.counters(site);
        if let Some(seen) = counters.last_seen() {
            self.last_seen.insert(site.clone(), seen);
        }
        let rtt = sessions.iter().filter_map(|session| session.caller.rtt()).min();
        SitePart {
            agents: sessions.iter().map(|session| AgentView::of(session)).collect(),
            since: sessions.iter().map(|session| session.since).min(),
            recordings: recordings(&sessions),
            rtt_ms: rtt.map(|rtt| readable_ms(rtt.as_secs_f64() * 1000.0)),
            open_streams: sessions.iter().map(|session| session.caller.open_streams()).sum(),
            totals: counters.totals(),
            minutes: Vec::new(),
            refused: match self.figures {
                true => self.sources.limits.throttle.snapshot(site, Instant::now()),
                false => SiteThrottle::default(),
            },
        }
    }

    /// What all relays see of a site, in a minute. Adds what all of them have counted to the site's activity.
    fn part(&mut self, site: &SiteId, minute: i64) -> SitePart {
        let mut part = self.own_part(site);
        let memory = self.memories.entry(site.clone()).or_default();
        memory.activity.count(minute, part.totals);
        let Some(cluster) = &self.sources.cluster else { return part };
        if self.figures {
            part.minutes = memory.activity.own().iter().collect();
        }
        cluster.gossip().publish(site, part.clone(), self.figures);
        let mut is_elsewhere = false;
        cluster.gossip().each(site, |run, other, minutes| {
            part.join(other);
            if self.figures {
                memory.activity.apply(run, minutes);
            }
            is_elsewhere |= !other.agents.is_empty();
        });
        if is_elsewhere {
            self.last_seen.insert(site.clone(), Timestamp::now());
        }
        part
    }

    /// One site as it is now, and whether a minute has begun for it.
    fn view(
        &mut self,
        site: &SiteId,
        record: &SiteRecord,
        access_changes: Vec<AccessChange>,
        old: Option<&SiteView>,
    ) -> (SiteView, bool) {
        let now = Timestamp::now();
        let minute = now.as_second().div_euclid(MINUTE);
        let part = self.part(site, minute);
        let readable = part.recordings.as_ref().is_none_or(|recordings| recordings.readable);
        let last_seen = self.last_seen.get(site).copied();
        let state = state(record, part.agents.is_empty(), readable, last_seen.is_some());
        let since = match old {
            Some(old) if old.state == state => old.since,
            Some(_) => now,
            None => first_since(state, record, part.since, last_seen).unwrap_or(now),
        };
        let memory = self.memories.entry(site.clone()).or_default();
        let begun = memory.activity.sample(minute, part.rtt_ms);
        let hour = memory.activity.last_hour();
        let bytes = memory.activity.bytes();
        let mut view = SiteView {
            site: site.clone(),
            note: record.note.clone(),
            aliases: record.aliases.clone(),
            state,
            since,
            agents: part.agents,
            rtt_ms: part.rtt_ms,
            bytes_per_second: bytes.saturating_sub(memory.bytes) / FIGURE_TICKS,
            open_streams: part.open_streams,
            searches_last_hour: hour.searches,
            errors_last_hour: hour.errors,
            refused_last_hour: part.refused,
            access_changes,
            recordings: part.recordings,
        };
        match old {
            Some(old) if !self.figures => keep_figures(&mut view, old),
            _ => memory.bytes = bytes,
        }
        (view, begun)
    }
}

fn recordings(sessions: &[Arc<Session>]) -> Option<RecordingsView> {
    let statuses = sessions.iter().filter_map(|session| session.status());
    let drivers: Vec<_> = statuses.flat_map(|status| status.drivers).collect();
    RecordingsView::of(&drivers)
}

fn keep_figures(view: &mut SiteView, old: &SiteView) {
    view.rtt_ms = old.rtt_ms;
    view.bytes_per_second = old.bytes_per_second;
    view.open_streams = old.open_streams;
    view.searches_last_hour = old.searches_last_hour;
    view.errors_last_hour = old.errors_last_hour;
    view.refused_last_hour = old.refused_last_hour;
}

fn state(record: &SiteRecord, offline: bool, readable: bool, seen: bool) -> SiteState {
    match (record.disabled.is_some(), offline, readable, seen) {
        (true, ..) => SiteState::Disabled,
        (false, false, true, _) => SiteState::Up,
        (false, false, false, _) => SiteState::Degraded,
        (false, true, _, true) => SiteState::Down,
        (false, true, _, false) => SiteState::NeverSeen,
    }
}

/// Since when a site has been in its state, if the relay has just started to watch it.
fn first_since(
    state: SiteState,
    record: &SiteRecord,
    connected: Option<Timestamp>,
    last_seen: Option<Timestamp>,
) -> Option<Timestamp> {
    match state {
        SiteState::Up | SiteState::Degraded => connected,
        SiteState::Down => last_seen,
        SiteState::NeverSeen => Some(record.created),
        SiteState::Disabled => record.disabled,
    }
}

/// The fields that have changed; all of them if there was no earlier view.
fn difference(old: Option<&SiteView>, new: &SiteView) -> Map<String, Value> {
    let fields = |view: &SiteView| match serde_json::to_value(view) {
        Ok(Value::Object(fields)) => fields,
        // A struct always becomes an object.
        _ => Map::new(),
    };
    let old = old.map(fields).unwrap_or_default();
    let mut new = fields(new);
    new.retain(|name, value| old.get(name) != Some(value));
    new
}

/// For how long a change is shown: an operator who looks at the board once a day sees each.
const ACCESS_SHOWN_FOR: Duration = Duration::from_secs(86_400);
/// How often changes are read, with an indexed query: a change is seen while the operator who made it is still at
/// work.
const ACCESS_READ_INTERVAL: Duration = Duration::from_secs(5);

type AccessChanges = HashMap<SiteId, Vec<AccessChange>>;

/// The changes of all sites, kept up to date until this is dropped.
#[derive(Debug)]
struct AccessWatch {
    current: watch::Receiver<Arc<AccessChanges>>,
    task: JoinHandle<()>,
}

impl AccessWatch {
    async fn start(store: Store) -> Result<Self, StoreError> {
        let (sender, current) = watch::channel(Arc::new(read_access_changes(&store).await?));
        let task = tokio::spawn(follow_access_changes(store, sender));
        Ok(Self { current, task })
    }

    /// The changes of all sites. For each site, the latest change of every action.
    fn current(&self) -> Arc<AccessChanges> {
        Arc::clone(&self.current.borrow())
    }
}

impl Drop for AccessWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow_access_changes(store: Store, sender: watch::Sender<Arc<AccessChanges>>) {
    let mut ticks = interval(ACCESS_READ_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // While the database is unreachable, the earlier changes stay; the board shows that it is unreachable.
        if let Ok(changes) = read_access_changes(&store).await {
            sender.send_replace(Arc::new(changes));
        }
    }
}

async fn read_access_changes(store: &Store) -> Result<AccessChanges, StoreError> {
    let mut changes = AccessChanges::new();
    for change in store.access_changes(Timestamp::now() - ACCESS_SHOWN_FOR).await? {
        changes.entry(change.site.clone()).or_default().push(change);
    }
    Ok(changes)
}
