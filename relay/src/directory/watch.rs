//! Keeps the picture of the sites up to date while the database lives, and keeps the last one while it does not.

use std::{
    error::Error as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{MissedTickBehavior, interval, timeout},
};

use super::Directory;
use crate::store::{Store, StoreError};

/// Changes by another process must take effect within three seconds; one read of one integer a second leaves two
/// for the change itself.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// A database that takes longer to answer counts as lost until it does.
const POLL_TIMEOUT: Duration = Duration::from_secs(2);

/// The current [`Directory`] and a task that replaces it when the store has changed.
///
/// The task ends when this is dropped; subscribers then keep the last picture.
#[derive(Debug)]
pub struct DirectoryWatch {
    current: watch::Receiver<Arc<Directory>>,
    healthy: Arc<AtomicBool>,
    poller: JoinHandle<()>,
}

impl DirectoryWatch {
    /// Loads the first picture and starts to poll the store once a second.
    ///
    /// # Errors
    /// [`StoreError`] when even the first picture cannot be loaded; later losses are survived.
    pub async fn start(store: Arc<dyn Store>) -> Result<Self, StoreError> {
        let (sender, current) = watch::channel(Arc::new(store.load().await?));
        let healthy = Arc::new(AtomicBool::new(true));
        let poller = Poller { store, sender, healthy: Arc::clone(&healthy) };
        Ok(Self { current, healthy, poller: tokio::spawn(poller.run()) })
    }

    /// The latest picture.
    pub fn current(&self) -> Arc<Directory> {
        Arc::clone(&self.current.borrow())
    }

    /// A receiver that is told of every new picture; live tunnels are judged again by it.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Directory>> {
        self.current.clone()
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
    store: Arc<dyn Store>,
    sender: watch::Sender<Arc<Directory>>,
    healthy: Arc<AtomicBool>,
}

impl Poller {
    async fn run(self) {
        let mut ticks = interval(POLL_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match timeout(POLL_TIMEOUT, self.poll()).await {
                Ok(Ok(())) => self.found(),
                Ok(Err(error)) => {
                    let cause = error.source().map(ToString::to_string).unwrap_or_default();
                    self.lost(&error.to_string(), &cause);
                }
                Err(_) => self.lost("the database does not answer: check its disk", ""),
            }
        }
    }

    async fn poll(&self) -> Result<(), StoreError> {
        let known = self.sender.borrow().generation();
        // Not "newer": a database that was restored from a backup counts backwards.
        if self.store.generation().await? == known {
            return Ok(());
        }
        let directory = self.store.load().await?;
        tracing::info!(
            generation = directory.generation(),
            sites = directory.sites().len(),
            "the sites have changed"
        );
        self.sender.send_replace(Arc::new(directory));
        Ok(())
    }

    fn found(&self) {
        if !self.healthy.swap(true, Ordering::Relaxed) {
            tracing::info!("the database is back");
        }
    }

    fn lost(&self, error: &str, cause: &str) {
        if self.healthy.swap(false, Ordering::Relaxed) {
            tracing::error!(error, cause, "the database is lost; going on with the sites as last known");
        }
    }
}
