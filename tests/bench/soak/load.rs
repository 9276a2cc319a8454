//! The clients that search and listen, and their results.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use harness::{
    client::{client, first_link, search},
    recordings::{noise, write},
    relay::Site,
};
use rand::RngExt;
use reqwest::{Client, StatusCode};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::soak::churn::{Events, Programs};

/// Sizes of the recordings in bytes: from a few seconds of sound to an hour.
const SIZES: [usize; 8] = [1_000, 20_000, 90_000, 300_000, 500_000, 1_500_000, 4_000_000, 20_000_000];
/// Average pause between two searches of a client, and between two downloads of a listener: without pauses the test
/// would only measure the processor.
const THINK: Duration = Duration::from_millis(100);
/// Pause of a slow listener between two reads.
const SIP: Duration = Duration::from_millis(20);

/// Recordings with known bytes.
pub(crate) struct Recordings {
    directory: TempDir,
    bytes: Vec<Vec<u8>>,
}

impl Recordings {
    pub(crate) fn make() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let bytes: Vec<_> = (1..).zip(SIZES).map(|(seed, size)| noise(size, seed)).collect();
        for (number, bytes) in bytes.iter().enumerate() {
            write(directory.path(), format!("in-{}.mp3", call(number)), bytes);
        }
        Self { directory, bytes }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }
}

fn call(number: usize) -> String {
    format!("17114419{number:02}.17")
}

/// The results of all requests so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    searches: AtomicU64,
    answers: AtomicU64,
    bytes: AtomicU64,
    whole: AtomicU64,
    left: AtomicU64,
    cut: AtomicU64,
    /// Bytes that differ from the recording, and downloads that ended early as if complete.
    pub(crate) wrong: AtomicU64,
    /// Requests that were refused or not answered, by reason.
    failures: Mutex<BTreeMap<String, u64>>,
    /// How long searches took since the last call.
    recent: Mutex<Vec<Duration>>,
}

impl Tally {
    fn fail(&self, what: String) {
        *self.failures.lock().unwrap().entry(what).or_default() += 1;
    }

    /// How long the searches took that were answered since the last call.
    pub(crate) fn recent(&self) -> Vec<Duration> {
        std::mem::take(&mut self.recent.lock().unwrap())
    }

    /// Whether none of the errors happened that must never happen.
    pub(crate) fn is_clean(&self) -> bool {
        self.wrong.load(Ordering::Relaxed) == 0
    }

    pub(crate) fn table(&self, events: &Events) -> String {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut table = String::from("| | |\n|---|---|\n");
        let megabytes = get(&self.bytes) / 1_000_000;
        for (what, figure) in [
            ("searches", get(&self.searches)),
            ("downloads answered", get(&self.answers)),
            ("downloads completed", get(&self.whole)),
            ("downloads left by their client", get(&self.left)),
            ("downloads cut", get(&self.cut)),
            ("MB delivered, every byte compared", megabytes),
            ("wrong bytes, or a part delivered as the whole", get(&self.wrong)),
        ] {
            let _ = writeln!(table, "| {what} | {figure} |");
        }
        for (what, count) in events {
            let _ = writeln!(table, "| {what} | {count} times |");
        }
        for (what, count) in &*self.failures.lock().unwrap() {
            let _ = writeln!(table, "| not answered: {what} | {count} |");
        }
        table
    }
}

/// Clients that search and listen.
pub(crate) struct Load {
    tasks: JoinSet<()>,
    stop: Arc<AtomicBool>,
    tally: Arc<Tally>,
    /// Held until no client reads from it any more.
    _recordings: Arc<Recordings>,
}

/// What each of them needs.
#[derive(Clone)]
struct Worker {
    client: Client,
    site: Site,
    links: Arc<Vec<String>>,
    recordings: Arc<Recordings>,
    tally: Arc<Tally>,
    stop: Arc<AtomicBool>,
}

impl Load {
    pub(crate) async fn start(
        programs: &Programs,
        recordings: Recordings,
        [searchers, listeners]: [usize; 2],
    ) -> Self {
        let client = client(&programs.relay);
        let mut links = Vec::new();
        for number in 0..SIZES.len() {
            links.push(first_link(&search(&client, &programs.site, &call(number), &[]).await));
        }
        let worker = Worker {
            client,
            site: programs.site.clone(),
            links: Arc::new(links),
            recordings: Arc::new(recordings),
            tally: Arc::default(),
            stop: Arc::default(),
        };
        let mut tasks = JoinSet::new();
        for _ in 0..searchers {
            tasks.spawn(worker.clone().keep_searching());
        }
        for _ in 0..listeners {
            tasks.spawn(worker.clone().keep_listening());
        }
        Self { tasks, stop: worker.stop, tally: worker.tally, _recordings: worker.recordings }
    }

    pub(crate) fn tally(&self) -> Arc<Tally> {
        Arc::clone(&self.tally)
    }

    /// Lets all clients finish their current requests.
    pub(crate) async fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while self.tasks.join_next().await.is_some() {}
    }
}

impl Worker {
    fn is_running(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    async fn keep_searching(self) {
        while self.is_running() {
            let number = rand::rng().random_range(0..SIZES.len());
            let asked = Instant::now();
            self.tally.searches.fetch_add(1, Ordering::Relaxed);
            let form = [("token", self.site.search_token.as_str()), ("callid", &call(number))];
            match self.client.post(&self.site.search_url).form(&form).send().await {
                Ok(answer) if answer.status() == StatusCode::OK => {
                    self.tally.recent.lock().unwrap().push(asked.elapsed());
                    let found = answer.text().await.unwrap_or_default();
                    if !found.contains(&call(number)) && !found.contains("\"url\"") {
                        self.tally.fail("a search found nothing".to_owned());
                    }
                }
                Ok(answer) => self.tally.fail(format!("search, {}", answer.status())),
                Err(_) => self.tally.fail("search, no connection to the relay".to_owned()),
            }
            tokio::time::sleep(THINK).await;
        }
    }

    async fn keep_listening(self) {
        while self.is_running() {
            let number = rand::rng().random_range(0..SIZES.len());
            let from = rand::rng().random_range(0..SIZES[number]);
            let request = self.client.get(&self.links[number]).header("range", format!("bytes={from}-"));
            match request.send().await {
                Ok(answer) if answer.status() == StatusCode::PARTIAL_CONTENT => {
                    self.tally.answers.fetch_add(1, Ordering::Relaxed);
                    self.listen(answer, &self.recordings.bytes[number][from..]).await;
                }
                Ok(answer) => self.tally.fail(format!("download, {}", answer.status())),
                Err(_) => self.tally.fail("download, no connection to the relay".to_owned()),
            }
            let think = rand::rng().random_range(Duration::ZERO..2 * THINK);
            tokio::time::sleep(think).await;
        }
    }

    /// Reads a response completely or in part, quickly or slowly, and compares every byte.
    async fn listen(&self, answer: reqwest::Response, expected: &[u8]) {
        let patience = match rand::rng().random_range(0..4) {
            0 => rand::rng().random_range(0..=expected.len()),
            _ => usize::MAX,
        };
        let slow = rand::rng().random_ratio(1, 8);
        let mut received = 0;
        let mut body = answer.bytes_stream();
        let counter = loop {
            match body.next().await {
                Some(Ok(chunk)) => {
                    if expected.get(received..received + chunk.len()) != Some(&chunk[..]) {
                        break &self.tally.wrong;
                    }
                    received += chunk.len();
                    self.tally.bytes.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                    if received >= patience {
                        break &self.tally.left;
                    }
                    if slow {
                        tokio::time::sleep(SIP).await;
                    }
                }
                Some(Err(_)) => break &self.tally.cut,
                None if received == expected.len() => break &self.tally.whole,
                None => break &self.tally.wrong,
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
