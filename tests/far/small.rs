//! Small requests one after the other, calm and beside a download.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use harness::client::{client_at, search};
use reqwest::Client;

use crate::{
    download,
    place::{End, SHORT, SHORT_CALL, Short},
};

/// How long small requests are asked without and with something beside them.
const EACH: Duration = Duration::from_secs(15);

/// How long the download goes on alone first: until it has filled whatever can be filled.
const FILL: Duration = Duration::from_secs(5);

/// How long small requests took.
#[derive(Debug, Clone)]
pub(crate) struct Times {
    pub(crate) calm: Vec<Duration>,
    pub(crate) beside: Vec<Duration>,
    /// Bytes per second of the download beside them.
    pub(crate) download: f64,
}

/// Searches, or for nginx gets a short file, for [`EACH`]; then the same beside a download that goes on and on.
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
