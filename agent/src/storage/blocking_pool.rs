//! A pool of threads that may wait for one storage. Calls to a dead server never return, so their number is limited,
//! and a server that is known not to answer gets no further calls.

use std::{io, sync::Arc};

use tokio::{
    sync::{Semaphore, watch},
    task::JoinHandle,
};
use tokio_util::task::AbortOnDropHandle;

/// Calls at a time that open and read the recordings of one storage: enough for many listeners if the disk answers,
/// and few enough threads if it never does.
const PLACES: usize = 64;

/// The threads that may wait for one storage.
#[derive(Debug, Clone)]
pub(crate) struct BlockingPool {
    places: Arc<Semaphore>,
    stalled: Arc<watch::Sender<bool>>,
}

impl Default for BlockingPool {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(PLACES)), stalled: Arc::new(watch::Sender::new(false)) }
    }
}

impl BlockingPool {
    /// Runs a task on a thread as soon as there is a permit, which is usually at once. Dropping the handle abandons
    /// the task.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> AbortOnDropHandle<io::Result<T>> {
        let places = Arc::clone(&self.places);
        let begin = |permit| -> JoinHandle<io::Result<T>> {
            tokio::task::spawn_blocking(move || {
                let done = work();
                drop(permit);
                Ok(done)
            })
        };
        let job = match Arc::clone(&places).try_acquire_owned() {
            Ok(permit) => begin(permit),
            Err(_) => tokio::spawn(async move {
                let permit = places.acquire_owned().await.map_err(io::Error::other)?;
                begin(permit).await.unwrap_or_else(|error| Err(io::Error::other(error)))
            }),
        };
        AbortOnDropHandle::new(job)
    }

    /// Whether the storage is known not to answer.
    pub(super) fn is_stalled(&self) -> bool {
        *self.stalled.borrow()
    }

    /// Stores whether the storage answers.
    pub(super) fn set_stalled(&self, stalled: bool) {
        self.stalled.send_replace(stalled);
    }

    /// Awaits `work` while the storage answers. `None` as soon as the storage is known not to answer.
    pub(super) async fn unless_stalled<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut stalled = self.stalled.subscribe();
        tokio::select! {
            biased;
            _ = stalled.wait_for(|stalled| *stalled) => None,
            done = work => Some(done),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn so_many_wait_at_a_time_and_the_rest_without_threads() {
        let pool = BlockingPool::default();
        let (begun, have_begun) = mpsc::channel();
        let (answer, answers) = mpsc::channel::<()>();
        let answers = Arc::new(std::sync::Mutex::new(answers));
        let jobs: Vec<_> = (0..2 * PLACES)
            .map(|_| {
                let begun = begun.clone();
                let answers = Arc::clone(&answers);
                pool.run(move || {
                    begun.send(()).unwrap();
                    // The tasks wait until the channel closes.
                    answers.lock().unwrap().recv().unwrap_err();
                })
            })
            .collect();
        for _ in 0..PLACES {
            have_begun.recv().unwrap();
        }
        tokio::task::yield_now().await;
        assert!(have_begun.try_recv().is_err(), "more than there are places");
        drop(answer);
        assert!(join_all(jobs).await.into_iter().all(|done| done.unwrap().is_ok()));
        assert_eq!(have_begun.iter().take(PLACES).count(), PLACES);
    }
}
