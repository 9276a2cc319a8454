use std::{collections::BTreeSet, time::Duration};

use audiovault_protocol::{
    http::context::{Audit, Client},
    identity::site::{KeyDigest, SiteId},
};

use super::*;
use crate::{
    model::audit::{Kind, Outcome},
    store::{
        AuditFilter, NewSite, Progress, TunnelOpened,
        fresh::{Fresh, operator},
    },
    tunnel::registry::Registry,
};

struct Place {
    database: Fresh,
    store: Store,
    registry: Arc<Registry>,
}

impl Place {
    async fn new() -> Self {
        Self::on(Fresh::new().await).await
    }

    async fn on(database: Fresh) -> Self {
        let store = database.open().await;
        let note = String::new();
        let aliases = BTreeSet::new();
        let new = NewSite { site: acme(), note, aliases, key: KeyDigest::from_bytes([1; 32]) };
        store.add_site(&operator(), &new).await.unwrap();
        Self { database, store, registry: Arc::default() }
    }

    fn journal(&self) -> JournalWriter {
        Journal::start(self.store.clone(), Arc::<Registry>::clone(&self.registry))
    }

    /// Another program that uses the same file.
    async fn connection(&self) -> sqlx::SqliteConnection {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(self.database.path("relay.db"));
        sqlx::ConnectOptions::connect(&options).await.unwrap()
    }

    async fn events(&self) -> Vec<AuditEvent> {
        self.store.audit(&AuditFilter::default(), 100).await.unwrap()
    }

    async fn wait_for_events(&self, wanted: impl Fn(&[AuditEvent]) -> bool) -> Vec<AuditEvent> {
        wait_for(async || Some(self.events().await).filter(|events| wanted(events))).await
    }
}

fn acme() -> SiteId {
    SiteId::parse("acme").unwrap()
}

async fn wait_for<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asked = async {
        loop {
            if let Some(found) = ask().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), asked).await.expect("it happens")
}

fn event(id: &str, call: &str) -> AuditEvent {
    let client = Client { address: Some("203.0.113.9".to_owned()), user_agent: Some("Firefox".to_owned()) };
    let mut event = AuditEvent::new(Kind::Delivery, id.to_owned(), acme(), &client);
    event.describe(&Audit { call_id: Some(call.to_owned()), ..Audit::default() });
    event.status = 200;
    event
}

fn closed(id: &str, call: &str) -> Record {
    let mut event = event(id, call);
    event.close(200, Outcome::Complete);
    Record::Audit(Box::new(event))
}

fn opened(session: &str, run: &str) -> Record {
    Record::TunnelOpened(Box::new(TunnelOpened {
        session: session.to_owned(),
        site: acme(),
        run: run.to_owned(),
        instance: "i".to_owned(),
        slot: 0,
        agent_version: "1.0.0".to_owned(),
        host: "pbx".to_owned(),
        address: "203.0.113.9".to_owned(),
        link_key: "00112233445566aa".to_owned().try_into().unwrap(),
        opened: Timestamp::now(),
    }))
}

#[tokio::test]
async fn a_delivery_is_on_record_while_it_goes_on_and_after_its_end() {
    let place = Place::new().await;
    let writer = place.journal();
    let delivery = writer.journal().deliver(event("r1", "1.2"), None);
    delivery.handed_over(1000);
    let [row] = &place.wait_for_events(|events| events.iter().any(|row| row.bytes == 1000)).await[..] else {
        panic!("one row")
    };
    assert_eq!((row.outcome, row.closed), (Outcome::Open, None));
    delivery.handed_over(500);
    delivery.ended(DeliveryEnd::Complete);
    drop(delivery);
    let rows = place.wait_for_events(|events| events.iter().all(|row| row.closed.is_some())).await;
    assert_eq!((rows[0].bytes, rows[0].outcome), (1500, Outcome::Complete));
}

#[tokio::test]
async fn a_delivery_that_the_listener_left_and_one_that_the_site_broke_off_are_distinguished() {
    let place = Place::new().await;
    let writer = place.journal();
    let journal = writer.journal();
    let left = journal.deliver(event("left", "1.2"), None);
    left.handed_over(10);
    drop(left);
    let cut = journal.deliver(event("cut", "1.2"), None);
    cut.ended(DeliveryEnd::Cut);
    drop(cut);
    writer.close().await;
    let rows = place.events().await;
    let outcome = |id: &str| rows.iter().find(|row| row.request_id == id).unwrap().outcome;
    assert_eq!((outcome("left"), outcome("cut")), (Outcome::Left, Outcome::Cut));
}

#[tokio::test]
async fn deliveries_that_are_over_at_once_are_on_record_whole_without_those_of_an_erased_call() {
    let place = Place::new().await;
    let early: Vec<AuditEvent> = (0..40).map(|n| event(&format!("early-{n}"), "1711441902.1")).collect();
    place.store.erase_call(&operator(), "1711441902.1").await.unwrap();
    let writer = place.journal();
    let journal = writer.journal();
    for n in 0..40 {
        let delivery = journal.deliver(event(&format!("r{n}"), "1711441902.2"), None);
        delivery.handed_over(n);
        delivery.ended(DeliveryEnd::Complete);
    }
    early.into_iter().for_each(|event| journal.record(Record::Audit(Box::new(event))));
    writer.close().await;
    let rows = place.events().await;
    assert!(rows.iter().all(|row| row.outcome == Outcome::Complete && row.closed.is_some()));
    let mut bytes: Vec<u64> = rows.iter().map(|row| row.bytes).collect();
    bytes.sort_unstable();
    assert_eq!(bytes, (0..40).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_locked_database_loses_nothing_and_is_reported() {
    let place = Place::on(Fresh::file()).await;
    let writer = place.journal();
    let journal = writer.journal();
    let mut other = place.connection().await;
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    journal.record(closed("r1", "1.2"));
    let health = wait_for(async || Some(journal.health()).filter(|health| !health.is_well())).await;
    assert!(health.waiting > 0 && health.error.unwrap().contains("locked"));
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    place.wait_for_events(|events| events.len() == 1).await;
    wait_for(async || Some(()).filter(|()| journal.health().is_well())).await;
    assert_eq!(journal.health().lost, 0);
}

#[tokio::test]
async fn what_waits_on_disk_outlives_the_relay_and_is_written_once() {
    let place = Place::on(Fresh::file()).await;
    let mut other = place.connection().await;
    let dir = tempfile::tempdir().unwrap();
    let start = || {
        let spool = Spool::open(dir.path(), MAX_SPOOL_LEN).unwrap();
        Journal::start_with(place.store.clone(), Arc::<Registry>::clone(&place.registry), Some(spool))
    };
    let waiting = async |journal: &Journal, count| {
        wait_for(async || Some(()).filter(|()| journal.shared.spooled.load(Ordering::Relaxed) == count))
            .await;
    };
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let writer = start();
    writer.journal().record(closed("r1", "1.2"));
    waiting(&writer.journal(), 1).await;
    writer.journal().record(closed("r2", "1.2"));
    waiting(&writer.journal(), 2).await;
    assert_eq!((writer.journal().health().waiting, writer.journal().health().lost), (2, 0));
    // Killed: it reports to no other part that it ends.
    writer.task.abort();
    wait_for(async || Some(()).filter(|()| writer.task.is_finished())).await;
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    let writer = start();
    writer.journal().record(closed("r3", "1.2"));
    place.wait_for_events(|events| events.len() == 3).await;
    waiting(&writer.journal(), 0).await;
    writer.close().await;
    assert_eq!(Spool::open(dir.path(), MAX_SPOOL_LEN).unwrap().records(), 0);
}

#[tokio::test]
async fn a_busy_relay_that_is_killed_loses_nothing_that_is_in_the_spool() {
    let place = Place::on(Fresh::file()).await;
    let dir = tempfile::tempdir().unwrap();
    let start = || {
        let spool = Spool::open(dir.path(), MAX_SPOOL_LEN).unwrap();
        Journal::start_with(place.store.clone(), Arc::<Registry>::clone(&place.registry), Some(spool))
    };
    let mut recorded = 0;
    for _ in 0..3 {
        let writer = start();
        let journal = writer.journal();
        let mut open = Vec::new();
        // Events that come shortly after others wait in the spool.
        wait_for(async || {
            let delivery = journal.deliver(event(&format!("r{recorded}"), "1.2"), None);
            recorded += 1;
            delivery.handed_over(7);
            delivery.ended(DeliveryEnd::Complete);
            // Every second one has not ended when it is kept.
            open.extend((recorded % 2 == 0).then_some(delivery));
            Some(()).filter(|()| recorded % 20 == 0 && journal.shared.spooled.load(Ordering::Relaxed) > 0)
        })
        .await;
        drop(open);
        wait_for(async || {
            let queue = journal.lock();
            Some(()).filter(|()| queue.waiting.is_empty() && queue.in_hand == 0)
        })
        .await;
        // Killed: it reports to no other part that it ends.
        writer.task.abort();
        wait_for(async || Some(()).filter(|()| writer.task.is_finished())).await;
    }
    let writer = start();
    let journal = writer.journal();
    let rows = wait_for(async || {
        let rows = place.store.audit(&AuditFilter::default(), 10_000).await.unwrap();
        Some(rows).filter(|rows| rows.len() == recorded)
    })
    .await;
    assert!(rows.iter().all(|row| [0, 7].contains(&row.bytes)), "{rows:?}");
    wait_for(async || Some(()).filter(|()| journal.shared.spooled.load(Ordering::Relaxed) == 0)).await;
    writer.close().await;
    assert_eq!(Spool::open(dir.path(), MAX_SPOOL_LEN).unwrap().records(), 0);
}

#[tokio::test]
async fn a_delivery_that_ends_while_it_is_kept_is_on_record_whole() {
    let place = Place::on(Fresh::file()).await;
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path(), MAX_SPOOL_LEN).unwrap();
    let writer =
        Journal::start_with(place.store.clone(), Arc::<Registry>::clone(&place.registry), Some(spool));
    let journal = writer.journal();
    let mut deliveries = Vec::new();
    wait_for(async || {
        deliveries.push(journal.deliver(event(&format!("r{}", deliveries.len()), "1.2"), None));
        Some(()).filter(|()| journal.shared.spooled.load(Ordering::Relaxed) > 2)
    })
    .await;
    let count = deliveries.len();
    for delivery in deliveries {
        delivery.handed_over(7);
        delivery.ended(DeliveryEnd::Complete);
    }
    let is_whole = |row: &AuditEvent| row.outcome == Outcome::Complete && row.bytes == 7;
    place.wait_for_events(|rows| rows.len() == count && rows.iter().all(is_whole)).await;
    assert_eq!(journal.health().lost, 0);
}

#[tokio::test]
async fn events_are_written_without_a_spool_that_cannot_be_written() {
    let place = Place::on(Fresh::file()).await;
    let dir = tempfile::tempdir().unwrap();
    // It has no room for an event.
    let spool = Spool::open(dir.path(), 10).unwrap();
    let writer =
        Journal::start_with(place.store.clone(), Arc::<Registry>::clone(&place.registry), Some(spool));
    for n in 0..50 {
        writer.journal().record(closed(&format!("r{n}"), "1.2"));
        place.wait_for_events(|rows| rows.len() == n + 1).await;
    }
    assert_eq!(writer.journal().health().lost, 0);
}

#[tokio::test]
async fn too_much_that_waits_loses_the_oldest_and_is_counted() {
    let queue = Mutex::default();
    let news = Notify::new();
    let shared = Shared {
        queue,
        lost: AtomicU64::new(0),
        spooled: AtomicU64::new(0),
        news,
        unauthenticated: Mutex::default(),
    };
    let journal = Journal { shared: Arc::new(shared), run: "run".into() };
    for number in 0..MAX_WAITING + 3 {
        journal.record(closed(&number.to_string(), "1.2"));
    }
    let health = journal.health();
    assert_eq!((health.waiting, health.lost), (MAX_WAITING, 3));
}

#[tokio::test]
async fn records_of_a_site_that_is_gone_do_not_hold_up_the_others() {
    let place = Place::new().await;
    let writer = place.journal();
    place.store.remove(&operator(), &acme()).await.unwrap();
    writer.journal().record(opened("s1", writer.journal().run()));
    writer.journal().record(closed("r1", "1.2"));
    place.wait_for_events(|events| events.len() == 1).await;
}

#[tokio::test]
async fn records_stay_in_order_where_one_is_refused_and_another_has_to_wait() {
    let place = Place::on(Fresh::file()).await;
    place.store.write(&[opened("s1", "old")]).await.unwrap();
    let mut other = place.connection().await;
    sqlx::query("CREATE UNIQUE INDEX one ON tunnels (host)").execute(&mut other).await.unwrap();
    let wait = "CREATE TRIGGER wait BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'wait'); END";
    sqlx::query(wait).execute(&mut other).await.unwrap();
    let writer = place.journal();
    let journal = writer.journal();
    journal.record(opened("s2", journal.run()));
    journal.record(Record::Audit(Box::new(event("r1", "1.2"))));
    let request_id = "r1".to_owned();
    let closed = Some(Timestamp::now());
    journal.record(Record::Progress(Progress { request_id, bytes: 9, closed, outcome: Outcome::Complete }));
    wait_for(async || Some(()).filter(|()| !journal.health().is_well())).await;
    sqlx::query("DROP TRIGGER wait").execute(&mut other).await.unwrap();
    wait_for(async || Some(()).filter(|()| journal.health().is_well())).await;
    let rows = place.events().await;
    assert_eq!((rows[0].outcome, rows[0].bytes, journal.health().lost), (Outcome::Complete, 9, 1));
}

#[tokio::test]
async fn tunnels_of_a_relay_that_was_killed_end_with_its_last_sign_of_life() {
    let place = Place::new().await;
    let died = Timestamp::from_second(Timestamp::now().as_second() - 60).unwrap();
    place
        .store
        .write(&[Record::Alive { run: "old".to_owned(), at: died }, opened("s1", "old")])
        .await
        .unwrap();
    let writer = place.journal();
    let since = Timestamp::from_second(0).unwrap();
    let tunnel = wait_for(async || {
        let tunnels = place.store.tunnels(&acme(), since, 10).await.unwrap();
        tunnels.into_iter().find(|tunnel| tunnel.closed.is_some())
    })
    .await;
    assert_eq!(tunnel.closed, Some(died));
    assert_eq!(tunnel.reason.as_deref(), Some("the relay stopped without notice"));
    writer.close().await;
}

#[tokio::test]
async fn tunnels_of_a_relay_that_runs_beside_this_one_stay_open() {
    let place = Place::new().await;
    let alive = Record::Alive { run: "other".to_owned(), at: Timestamp::now() };
    let stopped = Record::Alive { run: "stopped".to_owned(), at: Timestamp::now() };
    let records = [alive, stopped, opened("s1", "other"), opened("s2", "stopped")];
    place.store.write(&records).await.unwrap();
    place.store.stop_run("stopped").await.unwrap();
    assert_eq!(place.store.others_alive("own").await.unwrap(), 1);
    let writer = place.journal();
    let since = Timestamp::from_second(0).unwrap();
    let open = wait_for(async || {
        let tunnels = place.store.tunnels(&acme(), since, 10).await.unwrap();
        let open: Vec<_> = tunnels.into_iter().filter(|tunnel| tunnel.closed.is_none()).collect();
        Some(open).filter(|open| open.len() < 2)
    })
    .await;
    assert_eq!(open.iter().map(|tunnel| tunnel.session.as_str()).collect::<Vec<_>>(), ["s1"]);
    assert_eq!(place.store.open_tunnels("other").await.unwrap(), [("s1".to_owned(), acme())]);
    // A tunnel of a relay that was taken for dead is open again when its relay says so.
    let closed = Record::TunnelClosed {
        session: "s1".to_owned(),
        site: acme(),
        back_soon: false,
        closed: Timestamp::now(),
        reason: "taken for dead".to_owned(),
    };
    place.store.write(&[closed]).await.unwrap();
    assert!(place.store.open_tunnels("other").await.unwrap().is_empty());
    place.store.write(&[opened("s1", "other")]).await.unwrap();
    assert_eq!(place.store.open_tunnels("other").await.unwrap().len(), 1);
    writer.close().await;
}

#[tokio::test]
async fn traffic_adds_up_over_runs() {
    let place = Place::new().await;
    let since = Timestamp::now();
    for _ in 0..2 {
        let writer = place.journal();
        place.registry.counters(&acme()).searches.fetch_add(3, Ordering::Relaxed);
        writer.close().await;
    }
    // The registry of the second run is the same here, so its first three are counted again.
    let traffic = place.store.traffic(&acme(), since).await.unwrap();
    assert_eq!(traffic.searches, 3 + 6);
}

#[tokio::test]
async fn an_erased_call_leaves_no_trace_in_any_file_and_does_not_come_back() {
    let place = Place::new().await;
    let call = "1711441902.4711";
    let writer = place.journal();
    writer.journal().record(closed("r1", call));
    writer.journal().record(closed("r2", "1711441902.1"));
    place.wait_for_events(|events| events.len() == 2).await;
    let late = event("r3", call);
    assert_eq!(place.store.erase_call(&operator(), "1711441902_4711").await.unwrap(), 1);
    writer.journal().record(Record::Audit(Box::new(late)));
    writer.close().await;
    assert_eq!(place.events().await.len(), 1);
    for entry in std::fs::read_dir(place.database.path("")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let found = bytes.windows(call.len()).any(|window| window == call.as_bytes());
        assert!(!found, "{} still names the call", path.display());
    }
}

#[tokio::test]
async fn a_call_is_erased_with_and_without_its_server_and_by_its_recording() {
    let place = Place::new().await;
    let mut by_name = event("by-name", "1772705400.9");
    by_name.recording = Some("in-600-pbx1-1772705472_1.wav".to_owned());
    let records = [
        event("bare", "1772705472.1"),
        event("pbx1", "PBX1-1772705472_1"),
        event("pbx2", "pbx2-1772705472.1"),
        event("longer", "1772705472.10"),
        event("other-leg", "1772705400.9"),
        by_name,
    ];
    let write = async |records: &[AuditEvent]| {
        let records: Vec<_> = records.iter().map(|event| Record::Audit(Box::new(event.clone()))).collect();
        place.store.write(&records).await.unwrap();
    };
    let left = async || {
        let mut ids: Vec<_> = place.events().await.into_iter().map(|event| event.request_id).collect();
        ids.sort();
        ids
    };
    write(&records).await;
    assert_eq!(place.store.erase_call(&operator(), "pbx1-1772705472.1").await.unwrap(), 3);
    assert_eq!(left().await, ["longer", "other-leg", "pbx2"]);
    // Events that come late.
    write(&records[..3]).await;
    assert_eq!(left().await, ["longer", "other-leg", "pbx2"]);
    assert_eq!(place.store.erase_call(&operator(), "1772705472.1").await.unwrap(), 1);
    write(&records[..3]).await;
    assert_eq!(left().await, ["longer", "other-leg"]);
}

#[tokio::test]
async fn many_events_are_written_once_and_without_those_of_a_call_that_was_erased_meanwhile() {
    let place = Place::new().await;
    let write = async |events: &[AuditEvent]| {
        let records: Vec<_> = events.iter().map(|event| Record::Audit(Box::new(event.clone()))).collect();
        place.store.write(&records).await.unwrap();
        place.store.audit(&AuditFilter::default(), 1000).await.unwrap().len()
    };
    let named = |part: &str| -> Vec<AuditEvent> {
        (0..150).map(|n| event(&format!("{part}-{n}"), &format!("1711441902.{}", n % 50))).collect()
    };
    let before = named("a");
    assert_eq!(write(&before[..100]).await, 100);
    assert_eq!(write(&before).await, 150);
    let late = named("b");
    assert_eq!(place.store.erase_call(&operator(), "1711441902.7").await.unwrap(), 3);
    assert_eq!(write(&before).await, 147);
    assert_eq!(write(&late).await, 147 + 147);
    tokio::time::sleep(Duration::from_millis(2)).await;
    // What is asked about the call after the erasure is on record.
    assert_eq!(write(&named("c")).await, 147 + 147 + 150);
}

#[tokio::test]
async fn old_addresses_become_pseudonyms_and_older_events_go() {
    let place = Place::new().await;
    let day = |days: i64| Timestamp::from_second(Timestamp::now().as_second() - days * 86_400).unwrap();
    let records: Vec<_> = [("new", 1), ("old", 200), ("old2", 201), ("ancient", 400)]
        .map(|(id, days)| {
            let mut event = event(id, "1.2");
            event.opened = day(days);
            Record::Audit(Box::new(event))
        })
        .into();
    place.store.write(&records).await.unwrap();
    assert_eq!(place.store.pseudonymise_audit(day(183)).await.unwrap(), 3);
    assert_eq!(place.store.prune_audit(day(365)).await.unwrap(), 1);
    let rows = place.events().await;
    let client = |id: &str| rows.iter().find(|row| row.request_id == id).unwrap().client.clone().unwrap();
    assert_eq!(client("new"), "203.0.113.9");
    assert!(client("old").starts_with('~') && client("old") == client("old2"), "{rows:?}");
    assert_eq!(place.store.pseudonymise_audit(day(183)).await.unwrap(), 0);
}

#[tokio::test]
async fn a_user_of_one_site_sees_no_other_and_no_earlier_site_of_that_name() {
    let place = Place::new().await;
    let mut before = event("before", "1.2");
    before.opened = Timestamp::from_second(1_700_000_000).unwrap();
    let mut elsewhere = event("elsewhere", "1.2");
    elsewhere.site = SiteId::parse("other").unwrap();
    let records = [before, elsewhere, event("now", "1.2")].map(|event| Record::Audit(Box::new(event)));
    place.store.write(&records).await.unwrap();
    let within = |sites: Vec<SiteId>| AuditFilter { within: Some(sites), ..AuditFilter::default() };
    let seen = place.store.audit(&within(vec![acme()]), 10).await.unwrap();
    assert_eq!(seen.iter().map(|row| row.request_id.as_str()).collect::<Vec<_>>(), ["now"]);
    assert!(place.store.audit(&within(vec![]), 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_list_goes_on_where_a_page_ended() {
    let place = Place::new().await;
    let now = Timestamp::now();
    let records: Vec<_> = (0..7)
        .map(|number| {
            let mut event = event(&format!("r{number}"), "1.2");
            event.opened = now;
            Record::Audit(Box::new(event))
        })
        .collect();
    place.store.write(&records).await.unwrap();
    let mut filter = AuditFilter { call_id: Some("1_2".to_owned()), ..AuditFilter::default() };
    let mut seen = BTreeSet::new();
    loop {
        let page = place.store.audit(&filter, 3).await.unwrap();
        let Some(last) = page.last() else { break };
        filter.after = Some(crate::store::Cursor::at(last));
        seen.extend(page.into_iter().map(|row| row.request_id));
    }
    assert_eq!(seen.len(), 7);
}

#[tokio::test]
async fn unauthenticated_clients_have_a_few_rows_and_a_count() {
    let place = Place::new().await;
    let writer = place.journal();
    for n in 0..1500 {
        let mut forged = event(&format!("f{n}"), "");
        forged.close(403, Outcome::Refused);
        writer.journal().record_unauthenticated(forged);
    }
    writer.journal().record(Record::Audit(Box::new(event("good", "1711441902.17"))));
    writer.close().await;
    let events = place.events().await;
    let of = |kind: Kind| events.iter().filter(move |event| event.kind == kind);
    assert_eq!(of(Kind::Delivery).count(), 11, "ten of the unauthenticated clients, and the other one");
    let suppressed: Vec<_> = of(Kind::Suppressed).collect();
    assert_eq!(suppressed.len(), 1);
    assert_eq!((suppressed[0].found, suppressed[0].outcome), (Some(1490), Outcome::Refused));
}
