//! Several relays behind HAProxy, on one PostgreSQL server: each relay serves every site, and any one of them may
//! fail.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use harness::process::has_code;
use harness::{
    agent::{Agent, AgentOptions},
    client::{body, first_link, search, search_with, send},
    cluster::{Cluster, client},
    matrix,
    recordings::{CALL, noise, wav, write},
    relay::Site,
};
use reqwest::Client;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::{
    load::{Searches, keep_searching, play},
    setting::ms,
};

/// The call of a recording that is too large for the buffers on the way.
const LONG: &str = "1711441902.18";
/// Its size in bytes: four seconds at the rate at which listeners read.
const LONG_LEN: usize = 24 << 20;

/// A cluster with one site and its recordings.
pub(crate) struct Setting {
    pub(crate) cluster: Cluster,
    pub(crate) site: Site,
    pub(crate) client: Client,
    recordings: TempDir,
    long: Arc<Vec<u8>>,
}

impl Setting {
    pub(crate) async fn new(relays: usize) -> Option<Self> {
        Self::with(relays, &[]).await
    }

    /// Relays with more arguments.
    pub(crate) async fn with(relays: usize, extra: &[&str]) -> Option<Self> {
        Some(Self::on(Cluster::start_with(relays, extra).await?).await)
    }

    /// With a cluster that is running.
    pub(crate) async fn on(cluster: Cluster) -> Self {
        let site = cluster.relays[0].add_site("acme", &["shop"]).await;
        let recordings = tempfile::tempdir().unwrap();
        write(recordings.path(), format!("in-{CALL}.wav"), &wav(1.0, 1));
        let long = Arc::new(noise(LONG_LEN, 7));
        write(recordings.path(), format!("in-{LONG}.mp3"), &long);
        Self { cluster, site, client: client(), recordings, long }
    }

    /// A link to the long recording, with the address of one relay.
    pub(crate) async fn long_link(&self, relay: usize) -> String {
        let found = search(&self.client, &self.cluster.at(relay, &self.site), LONG, &[]).await;
        self.cluster.link_at(relay, &first_link(&found))
    }

    /// An agent that dials the load balancer.
    pub(crate) async fn agent(&self) -> Agent {
        self.agent_with(&[]).await
    }

    /// One with a second storage root, which it asks first.
    pub(crate) async fn agent_with(&self, paths: &[String]) -> Agent {
        let mut options = AgentOptions::new(self.recordings.path()).through(self.cluster.tunnel_url());
        options.paths.splice(..0, paths.iter().cloned());
        Agent::start(&self.cluster.relays[0], &self.site, options).await
    }
}

#[tokio::test]
async fn every_relay_serves_a_site_with_a_tunnel_to_one_relay() {
    let Some(setting) = Setting::new(3).await else { return };
    let (cluster, client) = (&setting.cluster, &setting.client);
    let agent = setting.agent().await;
    let holder = cluster.holder("acme").await;
    for relay in 0..3 {
        let site = cluster.at(relay, &setting.site);
        let link = first_link(&search(client, &site, CALL, &[]).await);
        assert!(link.starts_with(&format!("http://{}/acme/", cluster.address)), "{link}");
        let link = cluster.link_at(relay, &link);
        assert_eq!(body(send(client.get(&link)).await).await, (200, wav(1.0, 1)), "relay {relay}");
        let head = send(client.head(&link)).await;
        assert_eq!(
            (head.status().as_u16(), &head.headers()["content-length"]),
            (200, "16044".parse().as_ref().unwrap())
        );
        let etag = head.headers()["etag"].clone();
        let same = send(client.get(&link).header("if-none-match", &etag)).await;
        assert_eq!(body(same).await, (304, Vec::new()));
        let part = send(client.get(&link).header("range", "bytes=100-199").header("if-range", etag)).await;
        assert_eq!(part.headers()["content-range"], "bytes 100-199/16044");
        assert_eq!(body(part).await, (206, wav(1.0, 1)[100..200].to_vec()));
        let long = first_link(&search(client, &site, LONG, &[]).await);
        let (status, bytes) = body(send(client.get(cluster.link_at(relay, &long))).await).await;
        assert!(status == 200 && bytes == *setting.long, "relay {relay}");
        let wrong = Site { search_token: "wr0ng-and-long-enough".to_owned(), ..site.clone() };
        assert_eq!(search_with(client, &wrong, CALL, &[]).await.status(), 401);
    }
    // For each relay: two searches that found something, one that was refused, and five deliveries. Each is written
    // once, with the address of the client, no matter which relay was asked.
    let audit = cluster.relays[0].audit(3 * 8).await;
    assert!(audit.iter().all(|line| line.contains(",127.0.0.1,")), "{audit:#?}");
    assert_eq!(audit.iter().filter(|line| line.contains(",complete,")).count(), 3 * 7, "{audit:#?}");
    for (number, relay) in cluster.relays.iter().enumerate() {
        let asked = relay.process().log().iter().any(|line| has_code(line, "peer.request"));
        assert_eq!(asked, number == holder, "only the relay with the tunnel is asked");
    }
    drop(agent);
}

#[tokio::test]
async fn the_board_of_every_relay_shows_all_sites_and_where_their_tunnels_are() {
    let Some(setting) = Setting::new(3).await else { return };
    let _agent = setting.agent().await;
    let holder = setting.cluster.holder("acme").await;
    search(&setting.client, &setting.cluster.at((holder + 1) % 3, &setting.site), CALL, &[]).await;
    for relay in &setting.cluster.relays {
        let seen = relay
            .wait_for_status("acme", |site| site["state"] == "up" && site["searches_last_hour"] == 1)
            .await;
        assert_eq!(seen["agents"].as_array().unwrap().len(), 1, "{seen}");
        assert_eq!(seen["sessions"][0]["relay"], *setting.cluster.nodes[holder]);
        assert_eq!(seen["recordings"]["readable"], true, "{seen}");
        let (status, board) = relay.admin("/metrics").await;
        assert!(status == 200 && board.contains("state=\"up\"} 1"), "{board}");
    }
}

#[tokio::test]
async fn every_relay_reports_a_site_without_an_agent_at_once() {
    let Some(setting) = Setting::new(2).await else { return };
    for relay in 0..2 {
        let site = setting.cluster.at(relay, &setting.site);
        let begun = Instant::now();
        assert_eq!(search_with(&setting.client, &site, CALL, &[]).await.status(), 401);
        assert!(begun.elapsed().as_secs() < 4, "{:?}", begun.elapsed());
    }
}

/// Searches while something happens to the cluster.
async fn searching_while(setting: &Setting, site: &Site, happens: impl Future<Output = ()>) -> Searches {
    let stop = AtomicBool::new(false);
    let happening = async {
        happens.await;
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(keep_searching(&setting.client, site, &stop), happening).0
}

#[tokio::test]
async fn a_relay_that_is_killed_under_load_loses_only_its_open_requests_and_recovers() {
    let Some(mut setting) = Setting::new(3).await else { return };
    let _agent = setting.agent().await;
    let holder = setting.cluster.holder("acme").await;
    let killed = setting.cluster.relays[holder].process.take().unwrap();
    // Through the load balancer, and through a relay that stays up: what is open there must not fail.
    let other = setting.cluster.at((holder + 1) % 3, &setting.site);
    let link = first_link(&search(&setting.client, &other, LONG, &[]).await);
    let link = setting.cluster.link_at((holder + 1) % 3, &link);
    let playing = play(setting.client.clone(), link, Arc::clone(&setting.long));
    let mut healed = Duration::ZERO;
    let killing = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        killed.kill().await;
        let begun = Instant::now();
        search(&setting.client, &other, CALL, &[]).await;
        healed = begun.elapsed();
        tokio::time::sleep(Duration::from_secs(3)).await;
    };
    let killing = async { tokio::join!(killing, playing) };
    let (elsewhere, through) = tokio::join!(
        searching_while(&setting, &other, async {
            killing.await;
        }),
        searching_while(&setting, &setting.site, tokio::time::sleep(Duration::from_secs(4))),
    );
    assert!(elsewhere.failures.is_empty(), "of {}: {:?}", elsewhere.asked, elsewhere.failures);
    assert!(through.failures.is_empty(), "of {}: {:?}", through.asked, through.failures);
    let promise = "no search fails at other relays or behind HAProxy, which asks another relay; playback there \
                   continues";
    let measured = format!(
        "0 of {} searches at other relays and 0 of {} behind HAProxy failed, slowest {} and {}; the first after {}",
        elsewhere.asked,
        through.asked,
        ms(elsewhere.slowest),
        ms(through.slowest),
        ms(healed),
    );
    matrix::row("cluster", "one relay of three killed", promise, measured);
}

#[tokio::test]
async fn a_relay_that_is_suspended_is_given_up_and_used_again() {
    let Some(setting) = Setting::new(2).await else { return };
    let _agent = setting.agent().await;
    let holder = setting.cluster.holder("acme").await;
    let other = setting.cluster.at(1 - holder, &setting.site);
    let paused = setting.cluster.relays[holder].process();
    let pausing = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        paused.signal("STOP");
        let process = setting.cluster.relays[1 - holder].process();
        process.wait_for_code("peer.disappeared").await;
        let mark = process.mark();
        paused.signal("CONT");
        process.wait_for_code_after(mark, "peer.appeared").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    let searches = searching_while(&setting, &other, pausing).await;
    assert!(searches.failures.is_empty(), "of {}: {:?}", searches.asked, searches.failures);
    let promise = "no search at another relay fails; the relay is used again once it renews its lease";
    let measured = format!("0 of {} searches failed, slowest {}", searches.asked, ms(searches.slowest));
    matrix::row("cluster", "a relay suspended until its lease expires, and resumed", promise, measured);
}

#[tokio::test]
async fn requests_between_relays_need_the_key_of_the_cluster() {
    let Some(setting) = Setting::new(2).await else { return };
    let _agent = setting.agent().await;
    let [node, public] =
        [&setting.cluster.nodes[0], &format!("http://{}", setting.cluster.relays[0].address)];
    let forged = format!("{} {}", 1_800_000_000, "00".repeat(32));
    for path in ["/call", "/parts", "/sessions"] {
        let bare = send(setting.client.post(format!("{node}{path}")).body("{}")).await;
        let signed =
            setting.client.post(format!("{node}{path}")).header("audiovault-proof", &forged).body("{}");
        assert_eq!(
            (bare.status(), send(signed).await.status()),
            (401.try_into().unwrap(), 401.try_into().unwrap())
        );
        assert_eq!(send(setting.client.post(format!("{public}{path}")).body("{}")).await.status(), 404);
    }
    for path in ["/", "/search", "/acme/search", "/tunnel", "/healthz", "/metrics"] {
        let asked = send(setting.client.get(format!("{node}{path}"))).await;
        assert_eq!(asked.status(), 404, "{path} is not for relays");
    }
    matrix::row(
        "cluster",
        "an unauthenticated client at the port for relays",
        "every request is refused",
        "401 and 404",
    );
}

#[tokio::test]
async fn a_relay_that_joins_gets_its_share_of_the_agents_and_then_no_agent_moves() {
    let Some(mut setting) = Setting::new(2).await else { return };
    setting.cluster.relays[1].kill().await;
    let mut agents = Vec::new();
    for _ in 0..3 {
        let options = AgentOptions::new(setting.recordings.path()).through(setting.cluster.tunnel_url());
        let options = options.with(&["--connections", "4"]);
        agents.push(Agent::start(&setting.cluster.relays[0], &setting.site, options).await);
    }
    let tunnels = async |relay: usize| setting.cluster.relays[relay].figure("audiovault_relay_tunnels").await;
    while tunnels(0).await < 12.0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut joining = setting.cluster.relays.remove(1);
    let begun = Instant::now();
    let spread = async {
        joining.restart().await;
        // Six each would be even; a difference of two is not worth a move.
        while joining.figure("audiovault_relay_tunnels").await < 4.0 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let searches = searching_while(&setting, &setting.site, spread).await;
    let spread = begun.elapsed();
    assert!(searches.failures.is_empty(), "of {}: {:?}", searches.asked, searches.failures);
    let moves = || {
        let log = setting.cluster.relays[0].process().log();
        log.iter().filter(|line| has_code(line, "cluster.rebalancing")).count()
    };
    // Two rounds without a move mean rest; a move whose agent returns to the same relay may be repeated.
    let mut before = 0;
    while moves() != before {
        before = moves();
        tokio::time::sleep(Duration::from_secs(11)).await;
    }
    assert!((4..=8).contains(&before), "{before} moves");
    let promise = "a few agents move at a time, no search fails, then no agent moves";
    let measured = format!(
        "4 of 12 tunnels moved within {} s, 0 of {} searches failed",
        spread.as_secs(),
        searches.asked
    );
    matrix::row("cluster", "a relay joins", promise, measured);
}

#[tokio::test]
async fn all_relays_are_replaced_one_after_the_other_and_no_search_fails() {
    let Some(mut setting) = Setting::new(3).await else { return };
    let _agents = [setting.agent().await, setting.agent().await];
    let link = first_link(&search(&setting.client, &setting.site, LONG, &[]).await);
    let mut relays = std::mem::take(&mut setting.cluster.relays);
    let mut players = JoinSet::new();
    let replacing = async {
        for relay in &mut relays {
            players.spawn(play(setting.client.clone(), link.clone(), Arc::clone(&setting.long)));
            tokio::time::sleep(Duration::from_secs(1)).await;
            let mut before = relay.process.take().unwrap();
            before.terminate();
            assert!(before.wait().await.success());
            relay.restart().await;
            // The load balancer sees that the relay is ready.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        while let Some(played) = players.join_next().await {
            played.unwrap();
        }
    };
    let searches = searching_while(&setting, &setting.site, replacing).await;
    assert!(searches.failures.is_empty(), "of {}: {:?}", searches.asked, searches.failures);
    let promise = "no search fails, playback continues";
    let measured = format!(
        "0 of {} searches failed, slowest {}; 3 of 3 recordings complete and identical",
        searches.asked,
        ms(searches.slowest)
    );
    matrix::row("cluster", "all three relays replaced, one after the other", promise, measured);
}
