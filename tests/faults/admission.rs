//! Agents of one site that ask for more tunnels than allowed: agents of other sites still connect.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use audiovault_protocol::{frame::Frame, message::Hello};
use harness::{
    matrix,
    raw_peer::{RawPeer, hello},
    relay::{Relay, Site},
};
use tokio::{task::JoinSet, time::timeout};

use crate::setting::{Setting, ms};

/// Time in which an agent of another site must connect.
const IN_WITHIN: Duration = Duration::from_secs(5);
/// Connections on which the greedy key asks without a pause.
const CONNECTIONS: usize = 4;

/// Asks for tunnels with a key as often as possible, by plain requests and by proper handshakes. Returns how often it
/// asked.
fn ask_for_tunnels(relay: &Relay, site: &Site, tasks: &mut JoinSet<()>) -> Arc<AtomicUsize> {
    let requests = Arc::new(AtomicUsize::new(0));
    for _ in 0..CONNECTIONS {
        let (url, key) = (format!("{}/tunnel", relay.url()), site.site_key.clone());
        let counted = Arc::clone(&requests);
        tasks.spawn(async move {
            let client = reqwest::Client::new();
            while client.get(&url).bearer_auth(&key).send().await.is_ok() {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        let (address, site, counted) = (relay.address, site.clone(), Arc::clone(&requests));
        tasks.spawn(async move {
            loop {
                // A tunnel that is admitted is closed at once, to ask again.
                drop(RawPeer::try_agent(address, &site).await);
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    requests
}

#[tokio::test]
async fn a_key_that_asks_without_end_keeps_no_other_site_out() {
    let mut setting = Setting::new(Relay::start().await).await;
    let greedy = setting.relay.add_site("greedy", &[]).await;
    let mut tasks = JoinSet::new();
    let mut admitted = Vec::new();
    let mut requested = 0;
    // During normal operation, and after a restart.
    for _ in 0..2 {
        let requests = ask_for_tunnels(&setting.relay, &greedy, &mut tasks);
        // The greedy site takes all it can get before the other agent dials.
        while requests.load(Ordering::Relaxed) < 500 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let begun = Instant::now();
        let agent = timeout(IN_WITHIN, setting.agent()).await.expect("an agent of another site connects");
        admitted.push(begun.elapsed());
        setting.search().await;
        drop(agent);
        tasks.shutdown().await;
        requested += requests.load(Ordering::Relaxed);
        setting.relay.kill().await;
        setting.relay.restart().await;
    }
    let promise = "an agent of another site connects within 5 s, also after a restart of the relay";
    let measured =
        format!("connected after {} and {}, during {requested} requests", ms(admitted[0]), ms(admitted[1]));
    matrix::row("admission", "a site key that asks for tunnels as fast as it can", promise, measured);
}

#[tokio::test]
async fn a_site_has_as_many_agents_as_it_may_and_each_has_all_its_connections() {
    let relay = Relay::start_with(&["--max-site-agents", "2"], false).await;
    let setting = Setting::new(relay).await;
    let crowded = setting.relay.add_site("crowded", &[]).await;
    let connection = |number: u64, slot: u16| Hello { instance: format!("{number:016x}"), slot, ..hello() };
    let mut peers = Vec::new();
    for (number, slot) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
        peers.push(RawPeer::greeted_as(&setting.relay, &crowded, connection(number, slot)).await);
    }
    let mark = setting.relay.process().mark();
    let mut third = RawPeer::agent(&setting.relay, &crowded).await;
    third.frame(Frame::Hello(Box::new(connection(2, 0)))).await;
    let closed = third.closed().await;
    assert!(closed.code == 4006 && closed.reason.contains("2 agents"), "{closed:?}");
    setting.relay.process().wait_for_after(mark, "--max-site-agents").await;
    // One of the two goes away with all its connections, and another one takes its place.
    drop(peers);
    setting
        .relay
        .wait_for_status("crowded", |status| status["sessions"].as_array().unwrap().is_empty())
        .await;
    let _peer = RawPeer::greeted_as(&setting.relay, &crowded, connection(2, 0)).await;
    let promise = "a tunnel of the agent over the limit is closed with 4006, the others stay";
    matrix::row("admission", "more agents of one site than allowed", promise, "closed with 4006");
}

#[tokio::test]
async fn a_site_has_as_many_tunnels_as_it_may_and_an_agent_that_comes_again_takes_its_own_place() {
    let relay = Relay::start_with(&["--max-site-tunnels", "3"], false).await;
    let setting = Setting::new(relay).await;
    let greedy = setting.relay.add_site("greedy", &[]).await;
    let agent = |number: u64| Hello { instance: format!("{number:016x}"), ..hello() };
    let mut peers = Vec::new();
    for number in 0..3 {
        peers.push(RawPeer::greeted_as(&setting.relay, &greedy, agent(number)).await);
    }
    let mark = setting.relay.process().mark();
    let mut fourth = RawPeer::agent(&setting.relay, &greedy).await;
    fourth.frame(Frame::Hello(Box::new(agent(3)))).await;
    let closed = fourth.closed().await;
    assert!(closed.code == 4006 && closed.reason.contains("3 tunnels"), "{closed:?}");
    setting.relay.process().wait_for_after(mark, "--max-site-tunnels").await;
    // The same connection of the same agent, after its network connection died unnoticed.
    peers.push(RawPeer::greeted_as(&setting.relay, &greedy, agent(0)).await);
    let status = setting.relay.wait_for_status("greedy", |status| {
        status["sessions"].as_array().is_some_and(|sessions| sessions.len() == 3)
    });
    status.await;
    let agent = setting.agent().await;
    setting.search().await;
    drop(agent);
    let promise = "the tunnel over the limit is closed with 4006, others stay, other sites are served";
    matrix::row("admission", "more tunnels of one site than allowed", promise, "closed with 4006");
}
