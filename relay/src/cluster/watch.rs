//! Keeps the routes up to date: renews this relay's lease and reads those of its peers, listens for changes, and reads
//! everything again from time to time, because notifications can be lost.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use audiovault_common::tls::CertificateWatch;
use tokio::{
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use super::{Cluster, LeaseReading, NodeNews, Reading, Routes};
use crate::{
    store::{RouteListener, RouteNews, StoreError},
    tunnel::registry::RETURN_TIME,
};

/// How often the lease is renewed: a fifth of [`super::LEASE`].
const RENEW_EVERY: Duration = Duration::from_secs(1);
/// A server that needs longer counts as lost until it answers.
const RENEW_TIMEOUT: Duration = Duration::from_secs(3);
/// After this many renewals in a row after a gap, the announced routes are taken to be complete.
const COMPLETE_AFTER: u32 = 10;
/// How often everything is read again without a reason.
const READ_EVERY: Duration = Duration::from_secs(30);
/// The shortest time between two readings of everything, no matter what asks for them.
const READ_GAP: Duration = Duration::from_secs(1);
/// How long to wait before a lost connection is made again.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// Starts the tasks. The routes are known when this returns.
pub(super) async fn start(
    cluster: &Arc<Cluster>,
    certificate: Option<CertificateWatch>,
) -> Result<[JoinHandle<()>; 5], StoreError> {
    cluster.renew(false).await?;
    let listener = cluster.book.listen().await?;
    cluster.read().await?;
    let missed = cluster.book.missed(RETURN_TIME).await?;
    cluster.change(|routes, now| routes.expect(missed, now));
    Ok([
        tokio::spawn(Arc::clone(cluster).keep_lease()),
        tokio::spawn(Arc::clone(cluster).keep_listening(listener)),
        tokio::spawn(Arc::clone(cluster).keep_reading()),
        tokio::spawn(Arc::clone(cluster).keep_asking()),
        tokio::spawn(Arc::clone(cluster).keep_certificate(certificate)),
    ])
}

impl Cluster {
    async fn keep_lease(self: Arc<Self>) {
        let mut ticks = interval(RENEW_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut gap = false;
        let mut quiet = COMPLETE_AFTER;
        loop {
            ticks.tick().await;
            let renewed = timeout(RENEW_TIMEOUT, self.renew(gap)).await;
            let (failed, why) = match renewed {
                Ok(Ok(())) => (false, String::new()),
                Ok(Err(error)) => (true, format!("{error}: {}", error.cause())),
                Err(_) => (true, "the database does not answer".to_owned()),
            };
            match (gap, failed) {
                (false, true) => {
                    tracing::warn!(
                        why,
                        code = "cluster.lease_not_renewed",
                        "cannot renew the lease of this relay; routes stay as last known"
                    )
                }
                (true, false) => {
                    tracing::info!(code = "cluster.lease_renewed", "the lease of this relay is renewed again")
                }
                _ => {}
            }
            if failed {
                self.change_nodes(Routes::leases_unreadable);
            } else if gap {
                self.read_anew.notify_one();
            }
            // The peers still have to write down what they could not, and the listener must reconnect.
            quiet = if failed { 0 } else { quiet.saturating_add(1) };
            self.leases_unreadable.store(quiet < COMPLETE_AFTER, Ordering::Relaxed);
            gap = failed;
        }
    }

    /// Renews the lease of this relay and reads those of its peers.
    async fn renew(&self, after_gap: bool) -> Result<(), StoreError> {
        self.book.renew_lease(&self.own_run, &self.own_url).await?;
        let begun = Instant::now();
        let records = self.book.nodes(&self.own_run).await?;
        let reading = LeaseReading { records, after_gap };
        let NodeNews { came, lost } =
            self.change_nodes(|routes, now| routes.apply_leases(reading, begun, now));
        for node in came {
            tracing::info!(
                node = %node.url,
                run = %node.run,
                code = "peer.appeared",
                "a peer relay has appeared"
            );
        }
        for node in lost {
            tracing::warn!(
                node = %node.url,
                run = %node.run,
                code = "peer.disappeared",
                "a peer relay has disappeared"
            );
        }
        Ok(())
    }

    async fn keep_listening(self: Arc<Self>, mut listener: RouteListener) {
        loop {
            match listener.next().await {
                Ok(RouteNews::Changes(changes)) => self.change(|routes, now| {
                    changes.into_iter().for_each(|change| routes.apply(change, &self.own_run, now));
                }),
                Ok(RouteNews::Gap) => self.read_anew.notify_one(),
                // The next call reconnects; the routes that were missed are read then.
                Err(error) => {
                    tracing::debug!(%error, cause = error.cause(), "cannot listen for changes of routes");
                    tokio::time::sleep(LISTEN_AGAIN).await;
                    self.read_anew.notify_one();
                }
            }
        }
    }

    async fn keep_certificate(self: Arc<Self>, certificate: Option<CertificateWatch>) {
        if let Some(certificate) = certificate {
            self.client.follow(certificate).await;
        }
    }

    async fn keep_reading(self: Arc<Self>) {
        let mut ticks = interval(READ_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.reset();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.read_anew.notified() => {}
            }
            if let Err(error) = self.read().await {
                tracing::debug!(%error, cause = error.cause(), "cannot read the routes");
            }
            tokio::time::sleep(READ_GAP).await;
        }
    }

    /// Reads everything again.
    async fn read(&self) -> Result<(), StoreError> {
        self.lock().begin_reading();
        let mut reading = Reading::default();
        self.book.routes(&self.own_run, |record| reading.add(record)).await?;
        let places = self.lock().places(&reading, Instant::now());
        for part in reading.parts(&places) {
            // Requests wait for one part at most, and not until the old part is dropped.
            let before = self.lock().replace_part(part, &self.own_run, Instant::now());
            drop(before);
        }
        self.change(|routes, now| routes.end_reading(&places, now));
        Ok(())
    }
}
