//! A relay is replaced by a new version under load.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use harness::{agent::CONNECTED, matrix, process::PATIENCE, relay::Relay};
use tokio::task::JoinSet;

use crate::{
    load::{keep_searching, play},
    setting::{Setting, ms},
};

/// Listeners during this time.
const LISTENERS: usize = 3;
/// How often the relay is replaced.
const RESTARTS: usize = 3;

#[tokio::test]
async fn a_relay_is_replaced_under_load_and_no_search_fails_and_playback_continues() {
    let mut setting = Setting::new(Relay::start_activated(&[]).await).await;
    let long = Arc::new(setting.with_long());
    let agent = setting.agent().await;
    let link = setting.long_link().await;
    let mut players = JoinSet::new();
    let stop = AtomicBool::new(false);
    let (client, site) = (setting.client.clone(), setting.site.clone());
    let replacing = async {
        for _ in 0..RESTARTS {
            for _ in 0..LISTENERS {
                players.spawn(play(setting.client.clone(), link.clone(), Arc::clone(&long)));
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            let mark = agent.process.mark();
            let mut before = setting.relay.process.take().unwrap();
            setting.relay.restart().await;
            before.terminate();
            agent.process.wait_for_code_after(mark, CONNECTED).await;
            assert!(before.wait().await.success());
        }
        while let Some(played) = tokio::time::timeout(PATIENCE, players.join_next()).await.unwrap() {
            played.unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    };
    let (searches, ()) = tokio::join!(keep_searching(&client, &site, &stop), replacing);
    assert!(searches.failures.is_empty(), "of {}: {:?}", searches.asked, searches.failures);
    assert!(searches.asked > 100, "{}", searches.asked);
    setting.nothing_is_left().await;
    let promise = "no search fails, playback continues, through an inherited socket";
    let measured = format!(
        "0 of {} searches failed, slowest {}; {} of {} recordings complete and identical",
        searches.asked,
        ms(searches.slowest),
        RESTARTS * LISTENERS,
        RESTARTS * LISTENERS,
    );
    matrix::row("relay", "replaced under load, three times", promise, measured);
}
