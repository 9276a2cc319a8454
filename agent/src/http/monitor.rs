//! Watches the storage between searches, and reports its state to the relay.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use audiovault_protocol::message::{DriverStatus, MAX_STATUS_PROBLEM_LEN, Status};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    http::{AgentService, Current},
    status::{self, Standing},
    storage::RecordingStorage,
};

/// How often the roots are probed and STATUS is sent.
const PROBE_INTERVAL: Duration = Duration::from_secs(15);
/// The shortest time from one count of the recordings to the next...
const COUNT_INTERVAL: Duration = Duration::from_secs(60);
/// ...which grows with the duration of a count, so that counting takes a twentieth of the time at most.
const COUNT_PAUSES: u32 = 20;

/// The shortest time from one update of the index to the next, if there is an index; it grows in the same way.
const INDEX_INTERVAL: Duration = Duration::from_secs(30);

/// Probes the roots regularly while a receiver exists; every value is a new STATUS. New roots are probed at once.
pub fn start(service: &Current) -> watch::Receiver<Status> {
    let (sender, receiver) = watch::channel(Status::default());
    let mut services = service.follow();
    let standing = service.problems().follow();
    tokio::spawn(async move {
        loop {
            let storage = Arc::clone(services.borrow_and_update().storage());
            let counting = AbortOnDropHandle::new(tokio::spawn(count(Arc::clone(&storage))));
            let indexing = AbortOnDropHandle::new(tokio::spawn(index(Arc::clone(&storage))));
            tokio::select! {
                () = sender.closed() => return,
                () = look_after(&storage, services.clone(), standing.clone(), &sender) => {}
                Ok(()) = until_moved(&mut services, &storage) => {}
            }
            drop((counting, indexing));
        }
    });
    receiver
}

async fn look_after(
    storage: &RecordingStorage,
    services: watch::Receiver<Arc<AgentService>>,
    mut standing: watch::Receiver<Standing>,
    sender: &watch::Sender<Status>,
) {
    let mut ticks = tokio::time::interval(PROBE_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => storage.probe().await,
            // An alarm does not wait for the next probe.
            Ok(()) = standing.changed() => {}
        }
        let mut problems = status::for_the_relay(&standing.borrow_and_update());
        problems.extend(services.borrow().problems());
        let problems = problems.iter().map(|problem| truncated(problem)).collect();
        sender.send_replace(Status { problems, ..status(storage) });
    }
}

/// Waits until the service uses another vault.
async fn until_moved(
    services: &mut watch::Receiver<Arc<AgentService>>,
    storage: &Arc<RecordingStorage>,
) -> Result<(), watch::error::RecvError> {
    services.wait_for(|service| !Arc::ptr_eq(service.storage(), storage)).await.map(drop)
}

async fn count(storage: Arc<RecordingStorage>) {
    loop {
        let began = Instant::now();
        storage.count().await;
        tokio::time::sleep(COUNT_INTERVAL.max(began.elapsed() * COUNT_PAUSES)).await;
    }
}

async fn index(storage: Arc<RecordingStorage>) {
    loop {
        let began = Instant::now();
        storage.refresh_indexes().await;
        tokio::time::sleep(INDEX_INTERVAL.max(began.elapsed() * COUNT_PAUSES)).await;
    }
}

fn status(storage: &RecordingStorage) -> Status {
    let drivers = storage.health().into_iter().map(|driver| DriverStatus {
        pattern: driver.pattern,
        readable: driver.degraded.is_none(),
        problem: driver.degraded,
        recordings: driver.figures.map(|figures| figures.recordings),
        newest: driver
            .figures
            .and_then(|figures| Some(figures.newest?.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs())),
    });
    Status { drivers: drivers.collect(), problems: Vec::new() }
}

/// Truncates a sentence to the length that STATUS allows.
fn truncated(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_STATUS_PROBLEM_LEN)].to_owned()
}

#[cfg(test)]
mod tests {
    use audiovault_agent_core::pattern::Pattern;

    use super::*;
    use crate::testing::settings;

    #[tokio::test(start_paused = true)]
    async fn a_root_that_vanishes_and_returns_is_noticed_without_any_search() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("nas");
        std::fs::create_dir(&root).unwrap();
        let pattern = Pattern::parse(&format!("file:{}", root.display())).unwrap();
        let mut statuses = start(&Current::new(settings(pattern)));
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

    #[tokio::test(start_paused = true)]
    async fn recordings_that_lie_elsewhere_after_a_reload_are_looked_after_there() {
        let pattern = |path: &str| Pattern::parse(&format!("file:{path}")).unwrap();
        let service = Current::new(settings(pattern("/nowhere/before")));
        let mut statuses = start(&service);
        service.renew(settings(pattern("/nowhere/after")));
        let moved =
            statuses.wait_for(|status| status.drivers.iter().any(|driver| driver.pattern.contains("after")));
        moved.await.unwrap();
    }
}
