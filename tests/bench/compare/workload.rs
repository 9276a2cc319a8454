//! The requests to every contender.

use std::{
    future::Future,
    io,
    time::{Duration, Instant},
};

use tokio::{sync::watch, task::JoinSet};

use crate::{
    client::{Connection, Target},
    compare::{contender::Contender, files::Size},
    searched,
};

/// Clients that pause their downloads while others search.
const PAUSED: usize = 20;

/// One kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub(crate) enum Workload {
    /// One download of 1 GiB
    BulkOne,
    /// Sixteen downloads of 64 MiB at a time
    BulkMany,
    /// Recordings of 500 kB, sixteen at a time
    Recordings,
    /// 1 kB on kept connections, thirty-two at a time
    Small,
    /// 1 kB on one kept connection
    Single,
    /// 1 kB with a new connection each, eight at a time
    Anew,
    /// 1 kB, four at a time, without load and during an endless download
    BesideBulk,
    /// 1 kB, four at a time, without load and with twenty paused listeners
    BesidePaused,
    /// Searches on kept connections, thirty-two at a time; only contenders that know recordings
    Search,
}

/// The result of one run of a workload.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    pub(crate) elapsed: Duration,
    pub(crate) bytes: u64,
    /// How long each request took.
    pub(crate) times: Vec<Duration>,
    /// How long each request took without other load, if the workload has other load.
    pub(crate) calm: Vec<Duration>,
}

impl Workload {
    /// Whether this contender can do the work.
    pub(crate) fn is_for(self, contender: &Contender) -> bool {
        self != Self::Search || contender.search.is_some()
    }

    /// Does the work for about this long, or once if it has a fixed size.
    pub(crate) async fn run(self, contender: &Contender, about: Duration) -> io::Result<Outcome> {
        match self {
            Self::BulkOne => once(contender, Size::Gibibyte, 1).await,
            Self::BulkMany => once(contender, Size::Mebibytes64, 16).await,
            Self::Recordings => kept(contender, Size::Recording, 16, about).await,
            Self::Small => kept(contender, Size::Small, 32, about).await,
            Self::Single => kept(contender, Size::Small, 1, about).await,
            Self::Anew => anew(contender, 8, about).await,
            Self::BesideBulk => beside(contender, about, bulk_without_end).await,
            Self::BesidePaused => beside(contender, about, paused).await,
            Self::Search => searches(contender, 32, about).await,
        }
    }
}

/// Every connection downloads its own file.
async fn once(contender: &Contender, size: Size, connections: usize) -> io::Result<Outcome> {
    let mut clients = Vec::new();
    for n in 0..connections {
        let target = contender.target(size, n);
        clients.push((Connection::open(target.address).await?, target));
    }
    gather(clients.into_iter().map(|(mut connection, target)| async move {
        Ok((vec![connection.get(&target).await?], target.bytes))
    }))
    .await
}

/// Every connection downloads one file after the other.
async fn kept(contender: &Contender, size: Size, connections: usize, about: Duration) -> io::Result<Outcome> {
    let mut clients = Vec::new();
    for n in 0..connections {
        let targets: Vec<_> = (0..size.count()).map(|file| contender.target(size, n + file)).collect();
        clients.push((Connection::open(targets[0].address).await?, targets));
    }
    let end = Instant::now() + about;
    gather(clients.into_iter().map(|(mut connection, targets)| async move {
        let (mut times, mut bytes) = (Vec::new(), 0);
        for target in targets.iter().cycle() {
            if Instant::now() >= end {
                break;
            }
            times.push(connection.get(target).await?);
            bytes += target.bytes;
        }
        Ok((times, bytes))
    }))
    .await
}

/// Every connection searches again and again.
async fn searches(contender: &Contender, connections: usize, about: Duration) -> io::Result<Outcome> {
    let place = contender.search.as_ref().ok_or_else(|| io::Error::other("it does not search"))?;
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push((Connection::open(place.address).await?, place.clone()));
    }
    let end = Instant::now() + about;
    gather(clients.into_iter().map(|(mut connection, place)| async move {
        let mut times = Vec::new();
        while Instant::now() < end {
            times.push(connection.search(&place, searched::CALL).await?.0);
        }
        Ok((times, 0))
    }))
    .await
}

/// Opens a new connection for every file.
async fn anew(contender: &Contender, connections: usize, about: Duration) -> io::Result<Outcome> {
    let end = Instant::now() + about;
    gather((0..connections).map(|n| {
        let targets: Vec<Target> =
            (0..Size::Small.count()).map(|file| contender.target(Size::Small, n + file)).collect();
        async move {
            let mut times = Vec::new();
            for target in targets.iter().cycle() {
                if Instant::now() >= end {
                    break;
                }
                times.push(Connection::get_anew(target).await?);
            }
            let bytes = times.len() as u64 * Size::Small.bytes();
            Ok((times, bytes))
        }
    }))
    .await
}

/// Small requests without and with other load.
async fn beside<F>(
    contender: &Contender,
    about: Duration,
    other: fn(Vec<Target>, watch::Sender<usize>) -> F,
) -> io::Result<Outcome>
where
    F: Future<Output = io::Result<()>> + 'static,
{
    let calm = kept(contender, Size::Small, 4, about).await?.times;
    let (started, mut running) = watch::channel(0);
    let targets = (0..Size::Mebibytes64.count()).map(|n| contender.target(Size::Mebibytes64, n)).collect();
    let disturbance = other(targets, started);
    let measured = async {
        // The other load says when it has begun.
        let _ = running.wait_for(|running| *running > 0).await;
        kept(contender, Size::Small, 4, about).await
    };
    let outcome = tokio::select! {
        ended = disturbance => Err(ended.err().unwrap_or_else(|| io::Error::other("it ended before"))),
        outcome = measured => outcome,
    };
    Ok(Outcome { calm, ..outcome? })
}

/// Downloads one file after the other until it is dropped.
async fn bulk_without_end(targets: Vec<Target>, started: watch::Sender<usize>) -> io::Result<()> {
    let mut connection = Connection::open(targets[0].address).await?;
    started.send_replace(1);
    for target in targets.iter().cycle() {
        connection.get(target).await?;
    }
    Ok(())
}

/// Begins to download and then reads nothing more, until it is dropped.
async fn paused(targets: Vec<Target>, started: watch::Sender<usize>) -> io::Result<()> {
    let mut held = Vec::new();
    for target in targets.iter().cycle().take(PAUSED) {
        let mut connection = Connection::open(target.address).await?;
        connection.begin(target, "keep-alive").await?;
        held.push(connection);
    }
    // The data on its way to them first fills the buffers.
    tokio::time::sleep(Duration::from_millis(300)).await;
    started.send_replace(held.len());
    std::future::pending().await
}

/// Runs all clients to their end on this thread.
async fn gather<F>(clients: impl Iterator<Item = F>) -> io::Result<Outcome>
where
    F: Future<Output = io::Result<(Vec<Duration>, u64)>> + 'static,
{
    let start = Instant::now();
    let local = tokio::task::LocalSet::new();
    let mut running = JoinSet::new();
    for client in clients {
        running.spawn_local_on(client, &local);
    }
    let mut outcome = Outcome::default();
    local
        .run_until(async {
            while let Some(done) = running.join_next().await {
                let (times, bytes) = done.map_err(io::Error::other)??;
                outcome.times.extend(times);
                outcome.bytes += bytes;
            }
            Ok::<(), io::Error>(())
        })
        .await?;
    outcome.elapsed = start.elapsed();
    Ok(outcome)
}
