//! Messages between relays over a network where an attacker reads and changes them.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::UNIX_EPOCH,
};

use audiovault_relay::cluster::{ClusterKey, Stamp};
use harness::{
    address::free_address,
    client::{first_link, search, search_with, send},
    cluster::{Cluster, KEY, Place},
    matrix,
    recordings::CALL,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::cluster::Setting;

/// The run id of a relay, as another relay logged it.
async fn run_of(cluster: &Cluster, relay: usize) -> String {
    let other = &cluster.relays[1 - relay];
    let line = other.process().wait_for_code("peer.appeared").await;
    line.split_once("run=").unwrap().1.split(' ').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_request_between_relays_that_is_replayed_is_refused() {
    let Some(setting) = Setting::new(2).await else { return };
    let _agent = setting.agent().await;
    let (key, run) = (KEY.parse::<ClusterKey>().unwrap(), run_of(&setting.cluster, 0).await);
    let question = r#"{"site":"acme"}"#;
    let stamp = |number: u64, to: &str| Stamp {
        time: UNIX_EPOCH.elapsed().unwrap().as_secs(),
        from: "a-relay-that-was-overheard".to_owned(),
        number,
        to: to.to_owned(),
    };
    let ask = async |stamp: &Stamp, node: usize| {
        let url = format!("{}/sessions", setting.cluster.nodes[node]);
        let proof = key.prove(stamp, "/sessions", question.as_bytes());
        send(setting.client.post(url).header("audiovault-proof", proof).body(question)).await
    };
    let request = stamp(1, &run);
    let answer = ask(&request, 0).await;
    assert_eq!(answer.status(), 200);
    let proof = answer.headers()["audiovault-answer-proof"].clone();
    assert!(key.proves_answer(&request, &[b"200", b"", b"", b""], proof.as_bytes()));
    assert_eq!(ask(&request, 0).await.status(), 401, "the same request again");
    assert_eq!(ask(&request, 1).await.status(), 421, "the same request to another relay");
    assert_eq!(ask(&stamp(2, &run), 0).await.status(), 200, "the next request");
    let promise = "a request is answered once, by the relay that it is for";
    matrix::row("cluster", "a request between relays is replayed", promise, "401, and 421 at another relay");
}

/// Forwards connections from a listener to an address. While `changes` is set, it changes the responses.
async fn pass(listener: TcpListener, to: SocketAddr, changes: Arc<AtomicBool>) {
    while let Ok((asker, _)) = listener.accept().await {
        let changes = Arc::clone(&changes);
        tokio::spawn(async move {
            let Ok(relay) = TcpStream::connect(to).await else { return };
            let (mut from_asker, mut to_asker) = asker.into_split();
            let (mut from_relay, mut to_relay) = relay.into_split();
            let questions = async {
                let _ = tokio::io::copy(&mut from_asker, &mut to_relay).await;
                let _ = to_relay.shutdown().await;
            };
            let answers = async {
                let mut piece = vec![0; 1 << 20];
                while let Ok(len @ 1..) = from_relay.read(&mut piece).await {
                    if changes.load(Ordering::SeqCst) {
                        // The name of a file in the response to a search, and a sample of sound.
                        for (word, other) in [(&b"in-17"[..], b"IN-17"), (&b"RIFF"[..], b"RIFX!")] {
                            for at in 0..len.saturating_sub(word.len()) {
                                if piece[at..].starts_with(word) {
                                    piece[at..at + word.len()].copy_from_slice(&other[..word.len()]);
                                }
                            }
                        }
                    }
                    if to_asker.write_all(&piece[..len]).await.is_err() {
                        return;
                    }
                }
                let _ = to_asker.shutdown().await;
            };
            tokio::join!(questions, answers);
        });
    }
}

#[tokio::test]
async fn an_answer_that_is_changed_between_relays_is_not_passed_on() {
    let changes = Arc::new(AtomicBool::new(false));
    let mut places = Vec::new();
    for _ in 0..2 {
        let (listener, bind) = (TcpListener::bind(free_address()).await.unwrap(), free_address());
        places.push(Place { url: format!("http://{}", listener.local_addr().unwrap()), bind: Some(bind) });
        tokio::spawn(pass(listener, bind, Arc::clone(&changes)));
    }
    let Some(cluster) = Cluster::start_behind(places).await else { return };
    let setting = Setting::on(cluster).await;
    let _agent = setting.agent().await;
    let elsewhere = 1 - setting.cluster.holder("acme").await;
    let site = setting.cluster.at(elsewhere, &setting.site);
    let link =
        setting.cluster.link_at(elsewhere, &first_link(&search(&setting.client, &site, CALL, &[]).await));
    assert_eq!(send(setting.client.get(&link)).await.bytes().await.unwrap().len(), 16_044);

    changes.store(true, Ordering::SeqCst);
    let asker = setting.cluster.relays[elsewhere].process();
    let mark = asker.mark();
    assert_eq!(search_with(&setting.client, &site, CALL, &[]).await.status(), 503);
    asker.wait_for_code_after(mark, "peer.response_modified").await;
    let mark = asker.mark();
    let received = send(setting.client.get(&link)).await.bytes().await;
    assert!(received.is_err(), "a changed recording must not end as if it were complete");
    asker.wait_for_code_after(mark, "peer.response_modified").await;
    changes.store(false, Ordering::SeqCst);
    search(&setting.client, &site, CALL, &[]).await;
    let promise = "no client gets a changed search response, and a download ends with an error";
    matrix::row("cluster", "responses changed on the way between relays", promise, "503, and a cut download");
}
