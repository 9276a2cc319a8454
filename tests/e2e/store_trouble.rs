//! A database that is locked or full stops no playback, and the events of that time are in the audit log afterwards.

use std::time::{Duration, Instant};

use harness::{
    agent::{Agent, AgentOptions},
    client::{body, client, first_link, search, send},
    matrix,
    operator::{Api, Operator},
    process::PATIENCE,
    recordings::{CALL, noise, one_recording, wav, write},
    relay::{Relay, Site},
    small_disk::SmallDisk,
};
use reqwest::{Client, Response, header::RANGE};
use serde_json::json;
use sqlx::{Connection, Executor, SqliteConnection};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

/// Less than a writer waits for a lock: a request that waits for the database would be too late.
const AT_ONCE: Duration = Duration::from_secs(4);
/// More than all socket buffers on the way can hold.
const LONG: usize = 64 * 1024 * 1024;
const LONG_CALL: &str = "1711441902.99";
const WRITTEN: &str = "audiovault_relay_journal_up";
const WAITING: &str = "audiovault_relay_journal_waiting";
const LOST: &str = "audiovault_relay_journal_lost_total";
const NOTICE: &str = "The audit log and history cannot be written";

/// A relay with a site, a listener, and an operator who watches.
struct Place {
    relay: Relay,
    site: Site,
    client: Client,
    operator: Operator,
    api: Api,
    /// The number of events that the audit log must have in the end.
    events: usize,
    _dir: TempDir,
    _agent: Agent,
}

impl Place {
    async fn new(relay: Relay) -> Self {
        let site = relay.add_site("acme", &[]).await;
        let dir = one_recording();
        write(dir.path(), format!("in-{LONG_CALL}.wav"), &noise(LONG, 1));
        let agent = Agent::start(&relay, &site, AgentOptions::new(dir.path())).await;
        relay.add_user("root", &["--role", "admin"]).await;
        let operator = Operator::log_in(&relay, "root").await;
        // This token is unused until now, so that its first use must be stored during the fault.
        let api = Api::admin(&relay).await;
        let client = client(&relay);
        Self { relay, site, client, operator, api, events: 0, _dir: dir, _agent: agent }
    }

    async fn link(&mut self, call: &str) -> String {
        self.events += 1;
        first_link(&search(&self.client, &self.site, call, &[]).await)
    }

    /// Searches and downloads a whole recording and a part of it.
    async fn listen(&mut self) {
        let wanted = wav(1.0, 1);
        let listened = async {
            let link = self.link(CALL).await;
            self.events += 2;
            assert_eq!(body(send(self.client.get(&link)).await).await, (200, wanted.clone()));
            let part = send(self.client.get(&link).header(RANGE, "bytes=1000-1999")).await;
            assert_eq!(body(part).await, (206, wanted[1000..2000].to_vec()));
        };
        timeout(AT_ONCE, listened).await.unwrap();
    }

    /// Begins to listen to a long recording, and pauses.
    async fn begin(&mut self) -> Response {
        let link = self.link(LONG_CALL).await;
        self.events += 1;
        let mut response = send(self.client.get(&link)).await;
        response.chunk().await.unwrap().unwrap();
        response
    }

    /// Listens again and again until the relay says that it cannot write.
    async fn until_reported(&mut self) {
        let reported = async {
            while self.relay.figure(WRITTEN).await == 1.0 {
                self.listen().await;
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(PATIENCE, reported).await.unwrap();
        let reported = async {
            while !self.operator.page("/").await.contains(NOTICE) {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(PATIENCE, reported).await.unwrap();
    }

    /// What must hold while nothing can be written.
    async fn still_works(&mut self) {
        self.until_reported().await;
        let before = self.events;
        self.listen().await;
        assert_eq!(self.relay.figure("audiovault_relay_database_up").await, 1.0, "it can be read");
        assert!(self.relay.figure(WAITING).await >= (self.events - before) as f64);
        assert_eq!(self.relay.figure(LOST).await, 0.0);
        assert_eq!(self.relay.admin("/readyz").await, (200, "ready\n".to_owned()));
        let (status, problem) = self.api.post("/api/v1/sites", &json!({"site": "late"})).await;
        assert_eq!((status, &problem["status"]), (503, &json!(503)), "{problem}");
        self.listen().await;
    }

    /// What must hold afterwards: nothing is missing, and every program can write again.
    async fn is_as_before(&mut self, paused: Response, fault: &str) {
        let over = Instant::now();
        let written = async {
            while self.relay.figure(WRITTEN).await == 0.0 || self.operator.page("/").await.contains(NOTICE) {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(PATIENCE, written).await.unwrap();
        let back = over.elapsed().as_millis();
        let rest = timeout(PATIENCE, paused.bytes()).await.unwrap().unwrap();
        assert!(
            noise(LONG, 1).ends_with(&rest) && rest.len() > LONG / 2,
            "it was not sent completely before"
        );
        self.listen().await;
        let record = self.relay.audit(self.events).await;
        assert!(record.iter().all(|line| line.contains(",complete,")), "{record:#?}");
        assert_eq!(self.relay.figure(LOST).await, 0.0);
        // A refused request does not block the database for the next one, here or in another program.
        assert_eq!(self.api.post("/api/v1/sites", &json!({"site": "acme"})).await.0, 409);
        self.relay.add_site("late", &[]).await;
        assert_eq!(self.api.post("/api/v1/sites", &json!({"site": "later"})).await.0, 201);
        let promise = "searches and playback continue, and the audit log is complete afterwards";
        let measured = format!(
            "{} of {} events in the audit log, written again after {back} ms",
            record.len(),
            self.events
        );
        matrix::row("relay", fault, promise, measured);
    }
}

#[tokio::test]
async fn a_locked_database_stops_no_playback_and_loses_nothing() {
    let mut place = Place::new(Relay::start().await).await;
    place.listen().await;
    let paused = place.begin().await;
    let mut other = SqliteConnection::connect(&place.relay.database()).await.unwrap();
    other.execute("BEGIN EXCLUSIVE").await.unwrap();
    place.still_works().await;
    other.execute("ROLLBACK").await.unwrap();
    place.is_as_before(paused, "database locked").await;
}

#[tokio::test]
async fn a_full_disk_stops_no_playback_and_loses_nothing() {
    let Some(disk) = SmallDisk::mount() else { return };
    let mut place = Place::new(Relay::start_on(disk.path()).await).await;
    place.listen().await;
    let paused = place.begin().await;
    disk.fill();
    place.still_works().await;
    disk.free();
    place.is_as_before(paused, "disk full").await;
}
