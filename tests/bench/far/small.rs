//! Small requests one after the other, without load and during a download.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use harness::client::{client_at, search};
use reqwest::Client;

use crate::far::{
    download,
    place::{End, SHORT, SHORT_CALL, Short},
};

/// How long small requests are sent without and with other load.
const EACH: Duration = Duration::from_secs(15);

/// How long the download runs alone first: until it has filled all queues.
const FILL: Duration = Duration::from_secs(5);

/// How long small requests took.
#[derive(Debug, Clone)]
pub(crate) struct Times {
    pub(crate) calm: Vec<Duration>,
    pub(crate) beside: Vec<Duration>,
    /// Bytes per second of the download at the same time.
    pub(crate) download: f64,
}

/// For [`EACH`], searches, or gets a short file from nginx; then the same during an endless download.
pub(crate) async fn calm_and_beside_a_download(end: &End) -> Times {
    let client = client_for(end);
    let calm = ask(&client, end).await;
    let received = Cell::new(0);
    let measured = async {
        tokio::time::sleep(FILL).await;
        let (begun, before) = (Instant::now(), received.get());
        let times = ask(&client, end).await;
        let bytes: u64 = received.get() - before;
        (times, bytes as f64 / begun.elapsed().as_secs_f64())
    };
    let (beside, download) = tokio::select! {
        () = download::on_and_on(end.long(0), |more| received.set(received.get() + more)) => unreachable!("it has no end"),
        measured = measured => measured,
    };
    Times { calm, beside, download }
}

/// A client that keeps its connection, as QueueMetrics does.
fn client_for(end: &End) -> Client {
    match end.short {
        Short::File(_) => Client::builder().http1_only().build().expect("a client"),
        Short::Search(_) => client_at(3),
    }
}

async fn ask(client: &Client, end: &End) -> Vec<Duration> {
    let (until, mut times) = (Instant::now() + EACH, Vec::new());
    while Instant::now() < until {
        let begun = Instant::now();
        match &end.short {
            Short::File(url) => {
                let response = client.get(url).send().await.expect("an answer");
                assert_eq!(response.status(), 200);
                assert_eq!(response.bytes().await.expect("a whole file").len() as u64, SHORT);
            }
            Short::Search(site) => {
                let found = search(client, site, SHORT_CALL, &[]).await;
                assert_eq!(found["files"].as_array().map(Vec::len), Some(1), "{found}");
            }
        }
        times.push(begun.elapsed());
    }
    times
}
