//! A client that has used its quota at one relay gets no more from the others.

use std::time::{Duration, Instant};

use harness::{
    client::{first_link, search, search_with, send},
    matrix,
    recordings::{CALL, noise},
    relay::Site,
    stalling::Stalling,
};
use reqwest::Response;
use serde_json::{Value, json};

use crate::{cluster::Setting, setting::ms};

/// Guesses that one relay accepts at once.
const GUESSES: usize = 10;
/// Pause between guesses at the other relay: after five seconds it would accept the tenth.
const PAUSE: Duration = Duration::from_millis(500);

/// Guesses at one relay until it checks no more, then at the other one. Returns how many the other one checked.
async fn guess(ask: impl AsyncFn(usize) -> Response) -> usize {
    for guess in 0.. {
        let refused = ask(0).await.status();
        assert!(refused.is_client_error(), "guess {guess}: {refused}");
        if refused == 429 {
            assert!(guess >= GUESSES, "only {guess}");
            break;
        }
        // On a busy machine this takes so long that some guesses are allowed again.
        assert!(guess < 3 * GUESSES, "no relay counts");
    }
    let mut looked_at = 0;
    loop {
        let refused = ask(1).await;
        if refused.status() == 429 {
            assert!(refused.headers().contains_key("retry-after"), "{refused:?}");
            return looked_at;
        }
        looked_at += 1;
        assert!(looked_at < GUESSES, "the other relay knows of no guess");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Makes both relays hold a tunnel of the site.
async fn both_hold(setting: &Setting) {
    let both = |status: &Value| {
        setting.cluster.nodes.iter().all(|node| {
            status["sessions"]
                .as_array()
                .is_some_and(|all| all.iter().any(|session| session["relay"] == **node))
        })
    };
    for relay in &setting.cluster.relays {
        relay.wait_for_status("acme", both).await;
    }
}

#[tokio::test]
async fn guesses_at_one_relay_are_guesses_at_all() {
    let Some(setting) = Setting::new(2).await else { return };
    let codes = guess(async |relay| {
        let address = setting.cluster.relays[relay].address;
        let code = json!({ "code": "AAAA-BBBB-CCCC" });
        send(setting.client.post(format!("http://{address}/enroll")).json(&code)).await
    });
    let codes = codes.await;

    let _agents = (setting.agent().await, setting.agent().await);
    both_hold(&setting).await;
    let wrong = Site { search_token: "wr0ng-and-long-enough".to_owned(), ..setting.site.clone() };
    let tokens = guess(async |relay| {
        search_with(&setting.client, &setting.cluster.at(relay, &wrong), CALL, &[]).await
    });
    let tokens = tokens.await;
    let promise = "one second later they count at all relays";
    let measured = format!(
        "after {GUESSES} at one relay, one every {}: another relay checks {codes} codes and {tokens} tokens",
        ms(PAUSE)
    );
    matrix::row("cluster", "guesses at one relay, then at another", promise, measured);
}

#[tokio::test]
async fn a_client_has_half_of_a_site_and_not_half_at_each_relay() {
    let Some(setting) = Setting::with(2, &["--max-site-requests", "4"]).await else { return };
    let _agents = (setting.agent().await, setting.agent().await);
    both_hold(&setting).await;
    let link = setting.long_link(0).await;
    // Players that have paused.
    let paused = [send(setting.client.get(&link)).await, send(setting.client.get(&link)).await];
    assert!(paused.iter().all(|response| response.status() == 200));
    let elsewhere = setting.cluster.at(1, &setting.site);
    let until = async |wanted: u16| {
        let since = Instant::now();
        loop {
            let status = search_with(&setting.client, &elsewhere, CALL, &[]).await.status();
            if status == wanted {
                return since.elapsed();
            }
            assert!(status == 200 || status == 429, "{status}");
            assert!(since.elapsed() < Duration::from_secs(30), "still {status}");
        }
    };
    let refused = until(429).await;
    drop(paused);
    let let_in = until(200).await;
    let promise = "all relays together allow a client half of a site's requests, with a delay of one second";
    let measured =
        format!("refused by another relay after {}, accepted again after {}", ms(refused), ms(let_in));
    matrix::row("cluster", "a client that has used its quota at one relay", promise, measured);
}

#[tokio::test]
async fn a_request_that_another_relay_forwards_counts_once() {
    let Some(mount) = Stalling::mount(&[("in-1.mp3".to_owned(), noise(1000, 1))]) else { return };
    let Some(setting) = Setting::with(2, &["--max-site-requests", "8"]).await else { return };
    let _agent = setting.agent_with(&[format!("file:{}", mount.place().display())]).await;
    let holder = setting.cluster.holder("acme").await;
    let elsewhere = setting.cluster.at(1 - holder, &setting.site);
    let link = first_link(&search(&setting.client, &elsewhere, CALL, &[]).await);
    let link = setting.cluster.link_at(1 - holder, &link);
    // Of the four requests that one client may have, two wait ten seconds for the storage.
    mount.stall();
    let slow = || search_with(&setting.client, &elsewhere, CALL, &[]);
    let meanwhile = async {
        let since = Instant::now();
        while since.elapsed() < Duration::from_secs(4) {
            assert_eq!(send(setting.client.get(&link)).await.status(), 200);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let (one, other, ()) = tokio::join!(slow(), slow(), meanwhile);
    assert!(one.status() == 200 && other.status() == 200, "{one:?} {other:?}");
    mount.go_on();
}
