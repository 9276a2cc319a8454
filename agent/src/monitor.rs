//! Looks after the recordings between searches and tells the relay how they are.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use audiovault_protocol::message::{DriverStatus, Status};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::vault::Vault;

/// How often the roots are tried and STATUS is sent.
const EVERY: Duration = Duration::from_secs(15);
/// The least time from one count of the recordings to the next...
const COUNT_EVERY: Duration = Duration::from_secs(60);
/// ...which grows with what counting takes, so that it takes a twentieth of the time at most.
const COUNT_PAUSES: u32 = 20;

/// Tries the roots now and then for as long as anybody listens; every value is a fresh STATUS.
pub fn start(vault: Arc<Vault>) -> watch::Receiver<Status> {
    let (sender, receiver) = watch::channel(Status::default());
    tokio::spawn(async move {
        let _counting = AbortOnDropHandle::new(tokio::spawn(count(Arc::clone(&vault))));
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = sender.closed() => return,
                _ = ticks.tick() => {}
            }
            vault.probe().await;
            sender.send_replace(status(&vault));
        }
    });
    receiver
}

async fn count(vault: Arc<Vault>) {
    loop {
        let began = Instant::now();
        vault.count().await;
        tokio::time::sleep(COUNT_EVERY.max(began.elapsed() * COUNT_PAUSES)).await;
    }
}

fn status(vault: &Vault) -> Status {
    let drivers = vault.health().into_iter().map(|driver| DriverStatus {
        pattern: driver.pattern,
        readable: driver.degraded.is_none(),
        problem: driver.degraded,
        recordings: driver.figures.map(|figures| figures.recordings),
        newest: driver
            .figures
            .and_then(|figures| Some(figures.newest?.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs())),
    });
    Status { drivers: drivers.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::{VaultSettings, pattern::Pattern};

    #[tokio::test(start_paused = true)]
    async fn a_root_that_vanishes_and_returns_is_noticed_without_any_search() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("nas");
        std::fs::create_dir(&root).unwrap();
        let pattern = Pattern::parse(&format!("file:{}", root.display())).unwrap();
        let mut statuses = start(Arc::new(Vault::new(VaultSettings::new(vec![pattern]))));
        let wait_for = async |statuses: &mut watch::Receiver<Status>, readable| {
            let wanted = |status: &Status| status.drivers.iter().any(|driver| driver.readable == readable);
            statuses.wait_for(wanted).await.unwrap().clone()
        };
        wait_for(&mut statuses, true).await;
        std::fs::remove_dir(&root).unwrap();
        let gone = wait_for(&mut statuses, false).await;
        assert!(gone.drivers[0].problem.as_deref().unwrap().contains("mounted"), "{gone:?}");
        std::fs::create_dir(&root).unwrap();
        wait_for(&mut statuses, true).await;
    }
}
