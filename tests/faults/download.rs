//! Downloads continue when their tunnel ends, or they are cut. A wrong byte is never delivered.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use harness::{
    agent::CONNECTED,
    bad_link::{BadLink, Line},
    matrix,
    recordings::{noise, write},
    relay::Relay,
};

use crate::setting::{LONG, LONG_LEN, Setting, ms};

/// What a listener received of a download.
pub(crate) struct Received {
    pub(crate) bytes: Vec<u8>,
    /// The error that ended it.
    pub(crate) error: Option<String>,
    /// The longest time without a byte.
    pub(crate) pause: Duration,
}

/// Listens to the end; after the given number of bytes something happens.
pub(crate) async fn listen(response: reqwest::Response, after: usize, fault: impl AsyncFnOnce()) -> Received {
    let mut received = Received { bytes: Vec::new(), error: None, pause: Duration::ZERO };
    let mut fault = Some(fault);
    let mut body = response.bytes_stream();
    loop {
        let since = Instant::now();
        let Some(chunk) = body.next().await else { break };
        received.pause = received.pause.max(since.elapsed());
        match chunk {
            Ok(chunk) => received.bytes.extend_from_slice(&chunk),
            Err(error) => {
                received.error = Some(format!("{error:?}"));
                break;
            }
        }
        if received.bytes.len() >= after
            && let Some(fault) = fault.take()
        {
            fault().await;
        }
    }
    received
}

#[tokio::test]
async fn a_download_continues_after_a_pause_when_the_connection_is_cut() {
    let setting = Setting::new(Relay::start_tls().await).await;
    let long = setting.with_long();
    let line = BadLink::to(&setting.relay).await;
    let _agent = setting.agent_behind(&line).await;
    let response = setting.client.get(setting.long_link().await).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let received = listen(response, LONG_LEN / 10, async || line.cut()).await;
    assert!(received.error.is_none(), "{:?}", received.error);
    assert!(received.bytes == long, "{} bytes", received.bytes.len());
    setting.relay.process().wait_for_code("download.continued").await;
    setting.nothing_is_left().await;
    let promise = "the download continues by itself, byte for byte";
    matrix::row(
        "download",
        "connection cut",
        promise,
        format!("complete and identical, a pause of {}", ms(received.pause)),
    );
}

#[tokio::test]
async fn a_range_of_a_recording_continues_within_its_own_bounds() {
    let setting = Setting::new(Relay::start().await).await;
    let long = setting.with_long();
    let line = BadLink::to(&setting.relay).await;
    let _agent = setting.agent_behind(&line).await;
    let (from, to) = (1_000_003, 40_000_001);
    let request = setting.client.get(setting.long_link().await).header("range", format!("bytes={from}-{to}"));
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 206);
    let received = listen(response, 3_000_000, async || line.cut()).await;
    assert!(received.error.is_none(), "{:?}", received.error);
    assert!(received.bytes == long[from..=to], "{} bytes", received.bytes.len());
    setting.relay.process().wait_for_code("download.continued").await;
    let audit = setting.relay.audit(2).await;
    assert!(audit.iter().any(|row| row.contains(",complete,")), "{audit:?}");
    setting.nothing_is_left().await;
    let promise = "continues where it was, ends where the range ends, is one delivery in the audit log";
    matrix::row(
        "download",
        "connection cut during a range request",
        promise,
        format!("complete and identical, {}", ms(received.pause)),
    );
}

#[tokio::test]
async fn a_download_continues_with_the_agent_that_was_started_after_a_kill() {
    let setting = Setting::new(Relay::start().await).await;
    let long = setting.with_long();
    let agent = setting.agent().await;
    let response = setting.client.get(setting.long_link().await).send().await.unwrap();
    let mut second = None;
    let received = listen(response, LONG_LEN / 10, async || {
        agent.process.kill().await;
        second = Some(setting.agent().await);
    })
    .await;
    assert!(received.error.is_none(), "{:?}", received.error);
    assert!(received.bytes == long, "{} bytes", received.bytes.len());
    setting.nothing_is_left().await;
    let promise = "the download continues through the next agent that has the link key";
    matrix::row("download", "agent killed, another started", promise, "complete and identical");
}

#[tokio::test]
async fn a_recording_that_was_replaced_meanwhile_is_cut_and_never_mixed() {
    let setting = Setting::new(Relay::start().await).await;
    let long = setting.with_long();
    let line = BadLink::to(&setting.relay).await;
    let agent = setting.agent_behind(&line).await;
    let response = setting.client.get(setting.long_link().await).send().await.unwrap();
    let received = listen(response, LONG_LEN / 10, async || {
        line.set(Line::Dead);
        line.cut();
        let file = format!("in-{LONG}.mp3");
        std::fs::remove_file(setting.recordings.path().join(&file)).unwrap();
        write(setting.recordings.path(), file, &noise(LONG_LEN, 8));
        line.set(Line::Sound);
    })
    .await;
    assert!(received.error.is_some(), "{} bytes", received.bytes.len());
    assert!(received.bytes.len() < LONG_LEN && long.starts_with(&received.bytes), "{}", received.bytes.len());
    setting.relay.process().wait_for_code("download.recording_changed").await;
    agent.process.wait_for_code(CONNECTED).await;
    setting.nothing_is_left().await;
    let promise = "the download is cut; the bytes before that are right";
    matrix::row(
        "download",
        "connection cut, recording replaced",
        promise,
        "cut, every byte from the first recording",
    );
}
