//! The sites of this relay as one immutable snapshot in memory.
//!
//! Every public request and every tunnel is checked against the current snapshot, without touching the database.
//! [`DirectoryWatch`] replaces the snapshot when the database has changed; while the database is unreachable, it keeps
//! the last one.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use audiovault_protocol::identity::site::{Alias, KeyDigest, SiteId, SiteKey};
use jiff::Timestamp;
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::store::{LoadedSites, Store, StoreError};

/// Why an agent may not connect for a site, or may no longer stay connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefused {
    /// The site does not exist, or the key is not, or no longer, one of its keys. Both give the same error, so that a
    /// client without a key cannot find out which sites exist.
    #[error("the site key is not valid: rotate the key of the site and give the agent the new one")]
    Unknown,
    /// The key is correct, but the operator has disabled the site.
    #[error("the site is disabled: ask the operator of the relay to enable it")]
    Disabled,
}

/// What the relay knows about one site.
#[derive(Debug, Clone)]
pub struct SiteRecord {
    /// The operator's note on the site.
    pub note: String,
    /// When the site was added.
    pub created: Timestamp,
    /// Since when the operator has disabled the site: its tunnels are refused and none of its recordings is served.
    pub disabled: Option<Timestamp>,
    /// The aliases of the site, in alphabetical order.
    pub aliases: Vec<Alias>,
    /// Digests of the keys with which an agent may connect now.
    valid_keys: Vec<KeyDigest>,
}

/// An immutable snapshot of all sites at one generation of the store.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    generation: i64,
    sites: HashMap<SiteId, SiteRecord>,
    /// The sites by their names and aliases, in lower case.
    names: HashMap<String, SiteId>,
}

impl Directory {
    /// A snapshot of these sites.
    pub fn new(loaded: LoadedSites) -> Self {
        let LoadedSites { generation, sites: stored } = loaded;
        let mut names = HashMap::new();
        let mut sites = HashMap::with_capacity(stored.len());
        for site in stored {
            let valid_keys = site.valid_keys().map(|key| key.digest).collect();
            names.insert(site.site.as_str().to_owned(), site.site.clone());
            for alias in &site.aliases {
                names.insert(alias.as_str().to_owned(), site.site.clone());
            }
            let record = SiteRecord {
                note: site.note,
                created: site.created,
                disabled: site.disabled,
                aliases: site.aliases,
                valid_keys,
            };
            sites.insert(site.site, record);
        }
        Self { generation, sites, names }
    }

    /// The generation of the store that this snapshot shows.
    pub fn generation(&self) -> i64 {
        self.generation
    }

    /// The site with this name or alias, ignoring case. Disabled sites are found too.
    pub fn find(&self, name: &str) -> Option<SiteId> {
        self.names.get(&name.to_ascii_lowercase()).cloned()
    }

    /// What is known about a site.
    pub fn site(&self, site: &SiteId) -> Option<&SiteRecord> {
        self.sites.get(site)
    }

    /// Every site, in no particular order.
    pub fn sites(&self) -> impl ExactSizeIterator<Item = (&SiteId, &SiteRecord)> {
        self.sites.iter()
    }

    /// Checks the key that an agent presents, in a time that does not depend on how much of it is correct. Returns the
    /// digest, with which a live tunnel is checked later: see [`Directory::standing`].
    ///
    /// # Errors
    /// [`KeyRefused`].
    pub fn verify_key(&self, key: &SiteKey) -> Result<KeyDigest, KeyRefused> {
        let digest = key.digest();
        self.standing(key.site(), &digest)?;
        Ok(digest)
    }

    /// Whether a tunnel that was opened with this key may stay.
    ///
    /// # Errors
    /// [`KeyRefused`].
    pub fn standing(&self, site: &SiteId, key: &KeyDigest) -> Result<(), KeyRefused> {
        let record = self.sites.get(site).ok_or(KeyRefused::Unknown)?;
        // Every key is compared, even after a match, so that the time does not depend on the position.
        let known = record.valid_keys.iter().fold(false, |known, valid| known | valid.matches(key));
        match (known, record.disabled.is_some()) {
            (false, _) => Err(KeyRefused::Unknown),
            (true, true) => Err(KeyRefused::Disabled),
            (true, false) => Ok(()),
        }
    }
}

/// Changes by another process must take effect within three seconds. Reading one integer every second leaves two
/// seconds for the change itself.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// The shortest time between two reads, no matter how many requests ask for one.
const POLL_GAP: Duration = Duration::from_millis(100);
/// How long a request waits for a read that it asked for; a slower database must not slow down requests.
const REFRESH_TIMEOUT: Duration = Duration::from_millis(500);
/// A database that needs longer to answer counts as lost until it answers.
const POLL_TIMEOUT: Duration = Duration::from_secs(2);

/// Lets a request for an unknown site or key have the database read before it is refused: an operator who has just
/// added a site or rotated a key should not have to wait for the next second.
#[derive(Debug, Clone)]
pub struct Refresher {
    asked: Arc<Notify>,
    /// The numbers of reads that were started and finished.
    reads: watch::Receiver<Reads>,
    healthy: Arc<AtomicBool>,
}

/// The database does not answer, so an unknown site or key may still be valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the relay's database does not answer; try again")]
pub struct Unreadable;

#[derive(Debug, Clone, Copy, Default)]
struct Reads {
    begun: u64,
    finished: u64,
}

impl Refresher {
    /// Waits until the database was read once more, but only for a short time.
    ///
    /// # Errors
    /// [`Unreadable`]: a site that is not in the snapshot may exist all the same.
    pub async fn refresh(&self) -> Result<(), Unreadable> {
        let mut reads = self.reads.clone();
        // A read that has already started may have missed the change.
        let wanted = reads.borrow().begun + 1;
        self.asked.notify_one();
        let read = timeout(REFRESH_TIMEOUT, reads.wait_for(|reads| reads.finished >= wanted)).await;
        if read.is_ok() && self.healthy.load(Ordering::Relaxed) { Ok(()) } else { Err(Unreadable) }
    }
}

/// The current [`Directory`] and a task that replaces it when the store has changed.
///
/// The task ends when this is dropped; subscribers then keep the last snapshot.
#[derive(Debug)]
pub struct DirectoryWatch {
    current: watch::Receiver<Arc<Directory>>,
    healthy: Arc<AtomicBool>,
    refresher: Refresher,
    poller: JoinHandle<()>,
}

impl DirectoryWatch {
    /// Loads the first snapshot and starts to poll the store once a second.
    ///
    /// # Errors
    /// [`StoreError`] if the first snapshot cannot be loaded. Later failures are only logged.
    pub async fn start(store: Store) -> Result<Self, StoreError> {
        let (sender, current) = watch::channel(Arc::new(Directory::new(store.load().await?)));
        let healthy = Arc::new(AtomicBool::new(true));
        let (reads, refreshed) = watch::channel(Reads::default());
        let asked = Arc::new(Notify::new());
        let refresher =
            Refresher { asked: Arc::clone(&asked), reads: refreshed, healthy: Arc::clone(&healthy) };
        let poller = Poller { store, sender, healthy: Arc::clone(&healthy), asked, reads };
        Ok(Self { current, healthy, refresher, poller: tokio::spawn(poller.run()) })
    }

    /// The latest snapshot.
    pub fn current(&self) -> Arc<Directory> {
        Arc::clone(&self.current.borrow())
    }

    /// A receiver of every new snapshot; live tunnels are checked again with it.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Directory>> {
        self.current.clone()
    }

    /// Makes the database be read before the next poll.
    pub fn refresher(&self) -> Refresher {
        self.refresher.clone()
    }

    /// Whether the database answered the last time it was asked.
    pub fn healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }
}

impl Drop for DirectoryWatch {
    fn drop(&mut self) {
        self.poller.abort();
    }
}

struct Poller {
    store: Store,
    sender: watch::Sender<Arc<Directory>>,
    healthy: Arc<AtomicBool>,
    asked: Arc<Notify>,
    reads: watch::Sender<Reads>,
}

impl Poller {
    async fn run(self) {
        let mut ticks = interval(POLL_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.asked.notified() => {}
            }
            self.reads.send_modify(|reads| reads.begun += 1);
            match timeout(POLL_TIMEOUT, self.poll()).await {
                Ok(Ok(())) => self.found(),
                Ok(Err(error)) => self.lost(&error.to_string(), &error.cause()),
                Err(_) => self.lost("the database does not answer: check its disk", ""),
            }
            self.reads.send_modify(|reads| reads.finished = reads.begun);
            tokio::time::sleep(POLL_GAP).await;
        }
    }

    async fn poll(&self) -> Result<(), StoreError> {
        let known = self.sender.borrow().generation();
        // Not "newer": the generation of a database that was restored from a backup is lower.
        if self.store.generation().await? == known {
            return Ok(());
        }
        let directory = Directory::new(self.store.load().await?);
        tracing::info!(
            generation = directory.generation(),
            sites = directory.sites().len(),
            code = "sites.changed",
            "the sites have changed"
        );
        self.sender.send_replace(Arc::new(directory));
        Ok(())
    }

    fn found(&self) {
        if !self.healthy.swap(true, Ordering::Relaxed) {
            tracing::info!(code = "database.back", "the database is back");
        }
    }

    fn lost(&self, error: &str, cause: &str) {
        if self.healthy.swap(false, Ordering::Relaxed) {
            tracing::error!(
                error,
                cause,
                code = "database.lost",
                "the database is lost; going on with the sites as last known"
            );
        }
    }
}

#[cfg(test)]
mod tests;
