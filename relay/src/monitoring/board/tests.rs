use std::collections::BTreeSet;

use audiovault_protocol::{identity::site::KeyDigest, message::DriverStatus};
use jiff::Timestamp;

use super::*;
use crate::{
    audit::journal::{Journal, JournalWriter},
    limits::Limits,
    model::audit::{AuditEvent, Kind, Outcome},
    sites::directory::DirectoryWatch,
    store::{
        NewSite, Record, Store, TunnelOpened,
        fresh::{Fresh, operator},
    },
    tunnel::{registry::Registry, view::RecordingsView},
};

struct Place {
    _database: Fresh,
    store: Store,
    sources: Sources,
    _writer: JournalWriter,
}

impl Place {
    async fn new(sites: &[&str]) -> Self {
        let database = Fresh::new().await;
        let store = database.open().await;
        for name in sites {
            add(&store, name).await;
        }
        let registry = Arc::new(Registry::default());
        let writer = Journal::start(store.clone(), Arc::<Registry>::clone(&registry));
        let watch = Arc::new(DirectoryWatch::start(store.clone()).await.unwrap());
        let journal = writer.journal();
        let limits = Arc::new(Limits::new(&Default::default()));
        let sources =
            Sources { directory: watch, registry, limits, journal, store: store.clone(), cluster: None };
        Self { _database: database, store, sources, _writer: writer }
    }

    async fn builder(&self) -> BoardBuilder {
        BoardBuilder::new(self.sources.clone()).await.unwrap()
    }
}

async fn add(store: &Store, name: &str) {
    let key = KeyDigest::from_bytes(rand::random());
    let new = NewSite { site: site(name), note: String::new(), aliases: BTreeSet::new(), key };
    store.add_site(&operator(), &new).await.unwrap();
}

fn site(name: &str) -> SiteId {
    SiteId::parse(name).unwrap()
}

fn ago(seconds: i64) -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second() - seconds).unwrap()
}

#[tokio::test]
async fn a_site_without_an_agent_is_never_seen_until_one_was_there() {
    let place = Place::new(&["acme", "beta"]).await;
    let went_down = ago(3600);
    let opened = Record::TunnelOpened(Box::new(TunnelOpened {
        session: "s".to_owned(),
        site: site("beta"),
        run: "old".to_owned(),
        instance: "i".to_owned(),
        slot: 0,
        agent_version: "1.0.0".to_owned(),
        host: "pbx".to_owned(),
        address: "203.0.113.9".to_owned(),
        link_key: "00112233445566aa".to_owned().try_into().unwrap(),
        opened: ago(7200),
    }));
    let closed = Record::TunnelClosed {
        session: "s".to_owned(),
        site: site("beta"),
        back_soon: false,
        closed: went_down,
        reason: "gone".to_owned(),
    };
    place.store.write(&[opened, closed]).await.unwrap();
    let mut builder = place.builder().await;
    builder.build();
    let snapshot = builder.snapshot();
    let view = |name: &str| snapshot.site(&site(name)).unwrap().view.clone();
    assert_eq!(view("acme").state, SiteState::NeverSeen);
    assert_eq!((view("beta").state, view("beta").since), (SiteState::Down, went_down));
    let totals = Totals::of(snapshot.rows.iter().map(|row| &row.view));
    assert_eq!((totals.never_seen, totals.down, totals.sites()), (1, 1, 2));
}

#[tokio::test]
async fn only_changed_sites_are_sent() {
    let place = Place::new(&["acme", "beta"]).await;
    let mut builder = place.builder().await;
    assert_eq!(builder.build().sites.len(), 2);
    let quiet = builder.build();
    assert!(quiet.sites.is_empty() && quiet.number == builder.snapshot().number);
    place.store.set_disabled(&operator(), &site("acme"), true).await.unwrap();
    place.store.remove(&operator(), &site("beta")).await.unwrap();
    place.sources.directory.refresher().refresh().await.unwrap();
    let change = builder.build();
    let fields = |name: &str| change.sites.iter().find(|(id, _)| *id == site(name)).unwrap().1.as_ref();
    let names: Vec<_> = fields("acme").unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["since", "state"]);
    assert!(fields("beta").is_none(), "a removed site has no fields");
    let snapshot = builder.snapshot();
    assert_eq!(snapshot.site(&site("acme")).unwrap().changed, change.number);
}

#[tokio::test]
async fn the_last_hour_outlives_the_relay() {
    let place = Place::new(&["acme"]).await;
    let records: Vec<_> = [(4000, 200), (60, 200), (30, 504)]
        .into_iter()
        .map(|(seconds, status)| {
            let id = format!("r{seconds}");
            let mut event = AuditEvent::new(Kind::Search, id, site("acme"), &Default::default());
            event.opened = ago(seconds);
            event.close(status, Outcome::Complete);
            Record::Audit(Box::new(event))
        })
        .collect();
    place.store.write(&records).await.unwrap();
    let mut builder = place.builder().await;
    builder.build();
    let view = builder.snapshot().site(&site("acme")).unwrap().view.clone();
    assert_eq!((view.searches_last_hour, view.errors_last_hour), (2, 1));
}

#[test]
fn several_agents_at_the_same_recordings_do_not_double_them() {
    let driver = |pattern: &str, recordings, newest, readable| DriverStatus {
        pattern: pattern.to_owned(),
        readable,
        problem: (!readable).then(|| "is the NAS mounted?".to_owned()),
        recordings: Some(recordings),
        newest: Some(newest),
    };
    let drivers =
        [driver("file:/a", 10, 100, true), driver("file:/a", 12, 90, true), driver("file:/b", 5, 80, false)];
    let view = RecordingsView::of(&drivers).unwrap();
    assert_eq!((view.count, view.newest.unwrap().as_second()), (Some(17), 100));
    assert!(!view.readable && view.problem.unwrap().contains("NAS"));
    assert_eq!(RecordingsView::of(&[]), None);
}

/// The next event of a watcher's stream, as the browser gets it.
async fn next_event(response: &mut axum::body::BodyDataStream) -> String {
    use futures_util::StreamExt;
    let chunk = timeout(Duration::from_secs(60), response.next()).await.unwrap();
    String::from_utf8(chunk.unwrap().unwrap().to_vec()).unwrap()
}

fn stream(board: &Board, sight: live::Sight, seen: Option<u64>) -> axum::body::BodyDataStream {
    use axum::response::{IntoResponse, Sse};
    Sse::new(live::watch(board, sight, seen)).into_response().into_body().into_data_stream()
}

#[tokio::test]
async fn at_two_thousand_sites_a_change_of_state_is_sent_in_less_than_a_kilobyte() {
    let place = Place::new(&[]).await;
    let sites: Vec<_> = (0..2000)
        .map(|number| {
            let key = KeyDigest::from_bytes(rand::random());
            let site = site(&format!("site-{number}"));
            NewSite { site, note: "A customer, somewhere".to_owned(), aliases: BTreeSet::new(), key }
        })
        .collect();
    place.store.add_sites(&operator(), &sites).await.unwrap();
    place.sources.directory.refresher().refresh().await.unwrap();
    let board = Board::start(place.sources.clone()).await.unwrap();
    let seen = board.current().number;
    let mut all = stream(&board, Arc::new(|_| true), Some(seen));
    let mut other = stream(&board, Arc::new(|seen| *seen == site("site-1")), Some(seen));
    next_event(&mut all).await;
    next_event(&mut other).await;
    place.store.set_disabled(&operator(), &site("site-77"), true).await.unwrap();
    let event = next_event(&mut all).await;
    assert!(event.contains("\"site\":\"site-77\"") && event.contains("\"disabled\":1"), "{event}");
    assert!(event.len() < 1024, "{} bytes: {event}", event.len());
    place.store.set_disabled(&operator(), &site("site-1"), true).await.unwrap();
    let event = next_event(&mut other).await;
    assert!(event.contains("site-1") && !event.contains("site-77"), "{event}");
}

#[tokio::test]
async fn a_browser_that_comes_again_gets_what_it_missed() {
    let place = Place::new(&["acme", "beta"]).await;
    let board = Board::start(place.sources.clone()).await.unwrap();
    let seen = board.current().number;
    let mut snapshots = board.snapshots();
    place.store.set_disabled(&operator(), &site("acme"), true).await.unwrap();
    snapshots.wait_for(|snapshot| snapshot.number > seen).await.unwrap();
    let event = next_event(&mut stream(&board, Arc::new(|_| true), Some(seen))).await;
    assert!(event.contains("acme") && !event.contains("beta"), "{event}");
    // The numbers of another run mean nothing here: everything is sent.
    let event = next_event(&mut stream(&board, Arc::new(|_| true), Some(u64::MAX))).await;
    assert!(event.contains("acme") && event.contains("beta"), "{event}");
}

#[tokio::test]
async fn what_was_changed_is_in_the_picture_that_is_shown_next() {
    let place = Place::new(&["acme"]).await;
    let board = Board::start(place.sources.clone()).await.unwrap();
    place.store.set_disabled(&operator(), &site("acme"), true).await.unwrap();
    add(&place.store, "beta").await;
    place.sources.directory.refresher().refresh().await.unwrap();
    let snapshot = board.up_to_date().await;
    let state = |name: &str| snapshot.site(&site(name)).unwrap().view.state;
    assert_eq!((state("acme"), state("beta")), (SiteState::Disabled, SiteState::NeverSeen));
}
