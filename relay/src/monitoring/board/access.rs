//! The latest changes of who can answer for a site. They are read from the database, because the command line and peer
//! relays write there too.

use std::{collections::HashMap, sync::Arc, time::Duration};

use audiovault_protocol::identity::site::SiteId;
use jiff::Timestamp;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

use crate::{
    model::operator_events::AccessChange,
    store::{Store, StoreError},
};

/// For how long a change is shown: an operator who looks at the board once a day sees each.
const SHOWN_FOR: Duration = Duration::from_secs(86_400);
/// How often changes are read, with an indexed query: a change is seen while the operator who made it is still at
/// work.
const READ_INTERVAL: Duration = Duration::from_secs(5);

type Changes = HashMap<SiteId, Vec<AccessChange>>;

/// The changes of all sites, kept up to date until this is dropped.
#[derive(Debug)]
pub(super) struct AccessWatch {
    current: watch::Receiver<Arc<Changes>>,
    task: JoinHandle<()>,
}

impl AccessWatch {
    pub(super) async fn start(store: Store) -> Result<Self, StoreError> {
        let (sender, current) = watch::channel(Arc::new(read(&store).await?));
        let task = tokio::spawn(follow(store, sender));
        Ok(Self { current, task })
    }

    /// The changes of all sites. For each site, the latest change of every action.
    pub(super) fn current(&self) -> Arc<Changes> {
        Arc::clone(&self.current.borrow())
    }
}

impl Drop for AccessWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(store: Store, sender: watch::Sender<Arc<Changes>>) {
    let mut ticks = interval(READ_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // While the database is unreachable, the earlier changes stay; the board shows that it is unreachable.
        if let Ok(changes) = read(&store).await {
            sender.send_replace(Arc::new(changes));
        }
    }
}

async fn read(store: &Store) -> Result<Changes, StoreError> {
    let mut changes = Changes::new();
    for change in store.access_changes(Timestamp::now() - SHOWN_FOR).await? {
        changes.entry(change.site.clone()).or_default().push(change);
    }
    Ok(changes)
}
