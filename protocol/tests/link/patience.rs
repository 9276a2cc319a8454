//! Tests of listeners that read slowly.

use std::time::Duration;

use http_body_util::BodyExt;

use super::{get, tunnel};

#[tokio::test(start_paused = true)]
async fn a_listener_who_takes_little_and_seldom_gets_all_bytes() {
    let tunnel = tunnel().await;
    let mut body = tunnel.caller.call(get("/bytes/2000000")).await.unwrap().response.into_body();
    let mut received = 0;
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_secs(50 * 60)).await;
        received += body.frame().await.unwrap().unwrap().into_data().unwrap().len();
    }
    received += body.collect().await.unwrap().to_bytes().len();
    assert_eq!(received, 2_000_000);
}
