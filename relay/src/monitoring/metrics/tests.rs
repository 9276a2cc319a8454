use std::{collections::BTreeSet, net::IpAddr, sync::atomic::Ordering, time::Instant};

use audiovault_protocol::identity::site::{KeyDigest, SiteId};
use tempfile::TempDir;

use super::*;
use crate::{
    limits::Subject,
    monitoring::board::{self, Board},
    sites::directory::DirectoryWatch,
    store::{DatabaseUrl, IfMissing, NewSite, fresh::operator, open},
};

async fn figures(directory: &TempDir, per_site: bool) -> Metrics {
    let url = DatabaseUrl::Sqlite(directory.path().join("relay.db"));
    let store = open(&url, IfMissing::Create).await.unwrap();
    let site = SiteId::parse("acme").unwrap();
    let key = KeyDigest::from_bytes([1; 32]);
    let new = NewSite { site: site.clone(), note: String::new(), aliases: BTreeSet::new(), key };
    store.add_site(&operator(), &new).await.unwrap();
    let sessions = Arc::new(Sessions::default());
    sessions.counters(&site).searches.fetch_add(7, Ordering::Relaxed);
    let writer = Journal::start(store.clone(), Arc::<Sessions>::clone(&sessions));
    let limits = Arc::new(Limits::new(&Default::default()));
    let board = Board::start(board::Sources {
        directory: Arc::new(DirectoryWatch::start(store.clone()).await.unwrap()),
        registry: Arc::clone(&sessions),
        limits: Arc::clone(&limits),
        journal: writer.journal(),
        store,
        cluster: None,
    })
    .await
    .unwrap();
    let http = HttpMetrics::default();
    http.answered("/{site}/search", 200, Duration::from_millis(3));
    limits.throttle.wrong(Subject::unknown(IpAddr::from([192, 0, 2, 1]).into()), Instant::now());
    let snapshots = board.snapshots();
    let journal = writer.journal();
    let gate = Arc::new(Gate::new(10, 10, Vec::new()));
    let sources = Sources { snapshots, sessions, journal, limits, gate, per_site };
    Metrics::new(&http, sources)
}

#[tokio::test]
async fn figures_have_the_names_that_operators_expect() {
    let directory = TempDir::new().unwrap();
    let text = figures(&directory, true).await.render(Format::OpenMetrics).unwrap();
    for line in [
        concat!("audiovault_relay_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        "audiovault_relay_sites{state=\"never_seen\"} 1.0",
        "audiovault_relay_searches_total 7",
        "audiovault_relay_delivered_bytes_total 0",
        "audiovault_relay_site_up{site=\"acme\"} 0.0",
        "audiovault_relay_site_searches_total{site=\"acme\"} 7",
        "audiovault_relay_http_requests_total{route=\"/{site}/search\",status=\"200\"} 1",
        "audiovault_relay_http_answer_seconds_bucket{le=\"0.005\",route=\"/{site}/search\"} 1",
        "audiovault_relay_journal_up 1.0",
        "audiovault_relay_connections_refused_total 0",
        "audiovault_relay_refused_credentials_total{reason=\"unknown_site\"} 1",
        "# EOF",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
    }
    assert!(
        text.contains("\nprocess_resident_memory_bytes ") && text.contains("\nprocess_cpu_seconds_total ")
    );
}

#[tokio::test]
async fn figures_of_single_sites_can_be_switched_off() {
    let directory = TempDir::new().unwrap();
    let text = figures(&directory, false).await.render(Format::Text).unwrap();
    assert!(!text.contains("acme") && text.contains("audiovault_relay_searches_total 7"), "{text}");
}

#[tokio::test]
async fn the_older_format_has_the_same_figures() {
    let directory = TempDir::new().unwrap();
    let metrics = figures(&directory, true).await;
    let [text, open_metrics] =
        [Format::Text, Format::OpenMetrics].map(|format| metrics.render(format).unwrap());
    let names = |text: &str| {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        samples.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&text), names(&open_metrics));
    for line in ["# TYPE audiovault_relay_build_info gauge", "# TYPE audiovault_relay_searches_total counter"]
    {
        assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
    }
    assert!(!text.contains("# EOF") && !text.contains("# UNIT"), "{text}");
}
