//! What PostgreSQL writes, and for which events.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use harness::{postgres::Postgres, relay::Site};
use sqlx::PgConnection;

use crate::shared::{
    LONG_LEN, SHORT_LEN,
    load::{download, search, search_slowly},
    setting::{Setting, Way},
};

/// Time until everything is in the audit log: the relay writes events within a hundredth of a second, and the bytes
/// of deliveries once a second.
const SETTLE: Duration = Duration::from_millis(1500);
/// Pause between searches that must not share a transaction.
const PAUSE: Duration = Duration::from_millis(50);
/// How often a tunnel is opened and closed.
const TUNNELS: usize = 5;

const NOW: &str = "SELECT CAST(pg_current_wal_insert_lsn() - '0/0' AS BIGINT), \
     CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS TEXT) AS BIGINT)";
const COMMITTED: &str = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()";
const AUDIT: &str = "SELECT pg_total_relation_size('audit'), COUNT(*) FROM audit";

/// A connection besides those of the relays; it only reads.
pub(crate) struct Statistics(PgConnection);

/// What was written, for this many events.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    pub(crate) wal: f64,
    /// Transactions that wrote.
    pub(crate) transactions: f64,
}

/// What was written for each event.
#[derive(Debug)]
pub(crate) struct Costs {
    pub(crate) search_busy: Written,
    pub(crate) search_alone: Written,
    pub(crate) delivery: Written,
    pub(crate) long_delivery: Written,
    pub(crate) tunnel: Written,
}

/// What an idle relay writes per second, and how many transactions it has, including those that only read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Idle {
    pub(crate) written: Written,
    pub(crate) all_transactions: f64,
}

impl Statistics {
    pub(crate) async fn open(server: &Postgres) -> Self {
        Self(server.connection().await)
    }

    async fn now(&mut self) -> Written {
        let (wal, next): (i64, i64) = sqlx::query_as(NOW).fetch_one(&mut self.0).await.unwrap();
        Written { wal: wal as f64, transactions: next as f64 }
    }

    /// What is written per second without requests.
    pub(crate) async fn idle(&mut self, about: Duration) -> Idle {
        // The server reports transactions up to a second late.
        let committed = sqlx::query_scalar::<_, i64>(COMMITTED);
        let before = (self.now().await, committed.fetch_one(&mut self.0).await.unwrap());
        let begun = Instant::now();
        tokio::time::sleep(about).await;
        let committed = sqlx::query_scalar::<_, i64>(COMMITTED).fetch_one(&mut self.0).await.unwrap();
        let seconds = begun.elapsed().as_secs_f64();
        Idle {
            written: self.now().await.since(before.0).each(seconds),
            all_transactions: (committed - before.1) as f64 / seconds,
        }
    }

    /// What some work has written in addition to the idle relay, for each of the events that it returns.
    async fn each(&mut self, idle: Idle, happening: impl Future<Output = usize>) -> Written {
        let (before, begun) = (self.now().await, Instant::now());
        let times = happening.await;
        tokio::time::sleep(SETTLE).await;
        let seconds = begun.elapsed().as_secs_f64();
        let written = self.now().await.since(before);
        let always = idle.written.each(1.0 / seconds);
        written.since(always).each(times as f64)
    }

    /// The cost of each kind of event.
    pub(crate) async fn costs(
        &mut self,
        setting: &Setting,
        way: &Way,
        recordings: &Path,
        about: Duration,
    ) -> Costs {
        let idle = self.idle(2 * SETTLE + about).await;
        let site = std::slice::from_ref(&way.site);
        let searched = async { search(site, 16, about).await.times.len() };
        let alone = async { search_slowly(site, 1, about, PAUSE).await.times.len() };
        let short = async { download(&way.short, SHORT_LEN, 4, about).await.times.len() };
        let long = async { download(&way.long, LONG_LEN, 4, about).await.times.len() };
        Costs {
            search_busy: self.each(idle, searched).await,
            search_alone: self.each(idle, alone).await,
            delivery: self.each(idle, short).await,
            long_delivery: self.each(idle, long).await,
            tunnel: self.each(idle, come_and_go(setting, &setting.sites[0], recordings)).await,
        }
    }

    /// Bytes on disk of an audit event, with its indexes.
    pub(crate) async fn of_event(&mut self) -> f64 {
        let (size, events): (i64, i64) = sqlx::query_as(AUDIT).fetch_one(&mut self.0).await.unwrap();
        size as f64 / events as f64
    }
}

/// An agent connects and disconnects, several times.
async fn come_and_go(setting: &Setting, site: &Site, recordings: &Path) -> usize {
    for _ in 0..TUNNELS {
        let mut agent = setting.agent(site, recordings).await;
        agent.process.terminate();
        agent.process.wait().await;
    }
    TUNNELS
}

impl Written {
    fn since(self, before: Self) -> Self {
        Self { wal: self.wal - before.wal, transactions: self.transactions - before.transactions }
    }

    fn each(self, times: f64) -> Self {
        Self { wal: self.wal / times, transactions: self.transactions / times }
    }
}
