//! The server behind a mount stops answering, and every thread that asks it waits in the kernel. Everything on other
//! storage continues.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use harness::process::has_code;
use harness::{
    agent::{Agent, CONNECTED},
    client::{body, first_link, names, search, send},
    matrix,
    process::{PATIENCE, Process},
    recordings::{CALL, noise, wav},
    relay::Relay,
    stalling::Stalling,
};
use reqwest::Response;
use serde_json::Value;
use tokio::sync::oneshot;

use crate::{
    download::listen,
    setting::{LONG, LONG_LEN, Setting, ms},
};

/// The first column of the matrix.
const PART: &str = "recordings";
/// What an agent says about storage that it does not ask any more.
const DOES_NOT_ANSWER: &str = "does not answer";
/// Tunnels of the agent, for all requests.
const TUNNELS: usize = 4;
/// The longest time of a search: the deadline of the relay.
const DEADLINE: Duration = Duration::from_secs(15);
/// Threads that an agent keeps after the waiting ones: periodic checks of files and roots take another one each time.
const A_FEW: usize = 8;
/// A request that is faster than this did not wait for the hanging storage.
const AT_ONCE: Duration = Duration::from_secs(3);

/// What an agent uses of its machine.
#[derive(Debug, Clone, Copy)]
struct Held {
    threads: usize,
    descriptors: usize,
}

impl Held {
    fn by(process: &Process) -> Self {
        let process = procfs::process::Process::new(i32::try_from(process.id()).unwrap()).unwrap();
        let threads = usize::try_from(process.stat().unwrap().num_threads).unwrap();
        Self { threads, descriptors: process.fd_count().unwrap() }
    }
}

/// A site with storage across a network, asked first, and with some local storage.
struct Place {
    setting: Setting,
    agent: Agent,
    mounts: Vec<Stalling>,
    /// A link to the long recording of each mount.
    links: Vec<String>,
    /// A link to the short recording, which is on local storage.
    elsewhere: String,
    long: Vec<u8>,
    /// What the agent used before anything hung.
    before: Held,
}

impl Place {
    /// `None`, listed as skipped, if mounting is impossible here.
    async fn with_mounts(count: usize) -> Option<Self> {
        let long = noise(LONG_LEN, 7);
        // Each has its own call.
        let file = |mount: usize| (format!("in-{LONG}{mount}.mp3"), long.clone());
        let mounts: Vec<_> = (0..count).map_while(|mount| Stalling::mount(&[file(mount)])).collect();
        if mounts.len() < count {
            return None;
        }
        let limits = ["--max-site-requests", "1000"];
        let setting = Setting::new(Relay::start_with(&limits, false).await).await;
        let mut options = setting.options().with(&["--connections", "4", "--max-streams", "1000"]);
        let roots = mounts.iter().map(|mount| format!("file:{}", mount.place().display()));
        options.paths = roots.chain(options.paths).collect();
        let agent = Agent::start(&setting.relay, &setting.site, options).await;
        let all = |status: &Value| status["sessions"].as_array().is_some_and(|all| all.len() == TUNNELS);
        setting.relay.wait_for_status("acme", all).await;
        let elsewhere = setting.short_link().await;
        let mut links = Vec::new();
        for mount in 0..count {
            links.push(first_link(
                &search(&setting.client, &setting.site, &format!("{LONG}{mount}"), &[]).await,
            ));
        }
        let before = Held::by(&agent.process);
        Some(Self { setting, agent, mounts, links, elsewhere, long, before })
    }

    async fn download(&self, mount: usize) -> Response {
        let response = send(self.setting.client.get(&self.links[mount])).await;
        if response.status() != 200 {
            let (status, said) = body(response).await;
            panic!("{status}: {}", String::from_utf8_lossy(&said));
        }
        response
    }

    /// Searches for a recording on local storage. Returns how long it took, and whether the result is complete.
    async fn search_elsewhere(&self) -> (Duration, bool) {
        let asked = Instant::now();
        let found = search(&self.setting.client, &self.setting.site, CALL, &[]).await;
        assert_eq!(names(&found).len(), 1, "{found}");
        (asked.elapsed(), found["complete"] == true)
    }

    /// Listens to a recording on local storage. Returns how long it took.
    async fn listen_elsewhere(&self) -> Duration {
        let asked = Instant::now();
        let (status, bytes) = body(send(self.setting.client.get(&self.elsewhere)).await).await;
        let said = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]);
        assert_eq!(status, 200, "{said} {:?}", Held::by(&self.agent.process));
        assert!(bytes == wav(1.0, 1), "{said}");
        asked.elapsed()
    }

    /// Searches for a recording on the mount. Returns the response, and how long it took.
    async fn search_mount(&self) -> (Value, Duration) {
        let asked = Instant::now();
        let found = search(&self.setting.client, &self.setting.site, &format!("{LONG}0"), &[]).await;
        (found, asked.elapsed())
    }

    /// Waits until no search and no download is open.
    async fn is_idle(&self) {
        let idle = |status: &Value| {
            let mut sessions = status["sessions"].as_array().unwrap().iter();
            sessions.all(|session| session["open_streams"] == 0)
        };
        self.setting.relay.wait_for_status("acme", idle).await;
    }

    /// Lets the mounts continue. Returns how long it takes until results are complete again.
    async fn go_on(&self) -> Duration {
        let since = Instant::now();
        self.mounts.iter().for_each(Stalling::go_on);
        let well = async { while !self.search_elsewhere().await.1 {} };
        tokio::time::timeout(PATIENCE, well).await.unwrap();
        since.elapsed()
    }

    /// Waits until the agent uses no more than before anything hung, still in its first tunnels.
    async fn is_as_before(&self) {
        let given_back = async {
            loop {
                let now = Held::by(&self.agent.process);
                let threads = self.before.threads + A_FEW;
                if now.threads <= threads && now.descriptors <= self.before.descriptors {
                    return;
                }
                // Idle threads end after 10 s.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let given_back = tokio::time::timeout(PATIENCE, given_back).await;
        assert!(given_back.is_ok(), "{:?} now, before {:?}", Held::by(&self.agent.process), self.before);
        let log = self.agent.process.log();
        assert_eq!(log.iter().filter(|line| has_code(line, CONNECTED)).count(), TUNNELS, "{log:#?}");
    }
}

/// How a site with a hanging mount answers during that time.
async fn in_the_meantime(place: &Place) -> String {
    let (first, complete) = place.search_elsewhere().await;
    assert!(first < DEADLINE && !complete, "{first:?}");
    let listened = place.listen_elsewhere().await;
    assert!(listened < AT_ONCE, "{listened:?}");
    let (found, took) = place.search_mount().await;
    assert!(took < DEADLINE && names(&found).is_empty() && found["complete"] == false, "{found} {took:?}");
    place.agent.process.wait_for(DOES_NOT_ANSWER).await;
    let reported = |status: &Value| status.to_string().contains(DOES_NOT_ANSWER);
    place.setting.relay.wait_for_status("acme", reported).await;
    // Storage that is known to hang is not waited for.
    let (later, complete) = place.search_elsewhere().await;
    assert!(later < AT_ONCE && !complete, "{later:?}");
    let (found, took) = place.search_mount().await;
    assert!(took < AT_ONCE && found["complete"] == false, "{found} {took:?}");
    let refused = send(place.setting.client.get(&place.links[0])).await;
    assert!(refused.status() == 503 && refused.headers().contains_key("retry-after"), "{refused:?}");
    let said = refused.text().await.unwrap();
    assert!(said.contains(DOES_NOT_ANSWER), "{said}");
    format!("other searches after {} at most, then {}", ms(first), ms(later))
}

#[tokio::test]
async fn a_mount_that_hangs_is_reported_and_other_requests_do_not_wait_for_it() {
    let Some(place) = Place::with_mounts(1).await else { return };
    let response = place.download(0).await;
    let (stall, stalled) = oneshot::channel();
    let listener = async {
        let received = listen(response, LONG_LEN / 10, async || {
            place.mounts[0].stall();
            stall.send(Instant::now()).unwrap();
        });
        let received = received.await;
        (received, Instant::now())
    };
    let meantime = async {
        let since = stalled.await.unwrap();
        (in_the_meantime(&place).await, since)
    };
    let ((received, ended), (meantime, since)) = tokio::join!(listener, meantime);
    let len = received.bytes.len();
    let cut = ended - since;
    assert!(received.error.is_some() && len < LONG_LEN, "{len} bytes looked complete");
    assert!(place.long.starts_with(&received.bytes), "a wrong byte among {len}");
    assert!(cut < Duration::from_secs(45), "{cut:?}");

    let recovered = place.go_on().await;
    assert!(body(place.download(0).await).await == (200, place.long.clone()));
    place.is_as_before().await;
    let promise = "other searches, other downloads and the tunnel continue; searches report incomplete results; \
                   a download from the mount is cut after 30 s of silence, others get 503; works again by itself";
    let measured = format!("{meantime}; cut after {}, normal after {}", ms(cut), ms(recovered));
    matrix::row(PART, "mount hangs, like a dead NFS server", promise, measured);
}

#[tokio::test]
async fn a_listener_who_leaves_a_mount_that_hangs_delays_no_other_request() {
    let Some(place) = Place::with_mounts(1).await else { return };
    let mut response = place.download(0).await;
    response.chunk().await.unwrap().unwrap();
    // A listener who pauses: the agent has read ahead and waits, with the file open.
    place.mounts[0].quiet(Duration::from_secs(1)).await;
    place.mounts[0].stall();
    drop(response);
    place.is_idle().await;
    let took = place.listen_elsewhere().await;
    assert!(took < AT_ONCE, "{took:?}");
    assert!(place.search_elsewhere().await.0 < DEADLINE);
    place.go_on().await;
    place.is_as_before().await;
    let promise = "closing the file delays no other request";
    matrix::row(
        PART,
        "mount hangs, its listener leaves",
        promise,
        format!("another download took {}", ms(took)),
    );
}

/// Mounts, each of which uses as many threads as it may.
const MOUNTS: usize = 5;
/// Listeners of each.
const LISTENERS: usize = 60;
/// Searches and downloads for each while it hangs.
const MORE: usize = 80;

#[tokio::test]
async fn many_requests_to_mounts_that_hang_take_no_thread_from_others() {
    let Some(place) = Place::with_mounts(MOUNTS).await else { return };
    let downloads = (0..MOUNTS * LISTENERS).map(|n| place.download(n % MOUNTS));
    let listeners = join_all(downloads).await;
    for mount in &place.mounts {
        mount.quiet(Duration::from_secs(1)).await;
        mount.stall();
    }
    // They continue to listen, so that all wait for data that does not arrive, and then leave.
    let listening = listeners.into_iter().map(|response| {
        tokio::time::timeout(Duration::from_secs(5), listen(response, usize::MAX, async || {}))
    });
    assert!(join_all(listening).await.iter().all(Result::is_err));
    place.is_idle().await;
    let more = (0..MOUNTS * MORE).map(async |n| {
        let answer = send(place.setting.client.get(&place.links[n % MOUNTS])).await;
        assert!(matches!(answer.status().as_u16(), 503 | 504), "{answer:?}");
    });
    let crowd = async {
        join_all(more).await;
    };
    let others = async {
        let mut slowest = Duration::ZERO;
        for _ in 0..20 {
            slowest = slowest.max(place.listen_elsewhere().await);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        (slowest, Held::by(&place.agent.process))
    };
    let ((), (slowest, held)) = tokio::join!(crowd, others);
    assert!(slowest < AT_ONCE, "{slowest:?}, {held:?}");
    let recovered = place.go_on().await;
    place.is_as_before().await;
    let promise =
        "waiting threads are bounded for each root; other downloads continue; everything is released";
    let measured = format!(
        "slowest other download {}, {} threads, normal after {}",
        ms(slowest),
        held.threads,
        ms(recovered)
    );
    matrix::row(PART, "five mounts hang, 700 listeners", promise, measured);
}
