use std::{collections::HashMap, sync::Mutex};

use axum::{Router, extract::State, routing::post};
use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, StatusCode};
use sha2::Sha256;
use tokio::sync::Notify;

use super::*;
use crate::{
    cluster::{NodeHealth, NodeView},
    monitoring::board::{RelayView, Row, SiteView},
};

const HOLD: Duration = Duration::from_secs(60);
const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn snapshot(state: SiteState, journal: bool) -> Snapshot {
    let view = SiteView {
        site: SiteId::parse("acme").unwrap(),
        note: "Acme, Madrid".to_owned(),
        aliases: vec![],
        state,
        since: at(0),
        agents: vec![],
        rtt_ms: None,
        bytes_per_second: 0,
        open_streams: 0,
        searches_last_hour: 0,
        errors_last_hour: 0,
        refused_last_hour: Default::default(),
        access_changes: Vec::new(),
        recordings: None,
    };
    let relay = RelayView { database: true, journal, lost: 0, relays: Vec::new() };
    let rows = vec![Arc::new(Row { view, series: vec![], changed: 1 })];
    Snapshot { number: 1, generation: 1, rows, relay }
}

/// Shows one state after another, and returns what was announced, and when.
fn story(announced: &[(&str, &str)], steps: &[(i64, SiteState)]) -> Vec<(i64, Event)> {
    let announced: HashMap<_, _> =
        announced.iter().map(|(site, state)| (SiteId::parse(site).unwrap(), (*state).to_owned())).collect();
    let mut evaluate = Evaluator::new(announced, HOLD);
    let events_of = |(second, state): &(i64, SiteState)| {
        let alerts = evaluate.evaluate(&snapshot(*state, true), at(*second));
        alerts.into_iter().map(|alert| (*second, alert.event)).collect::<Vec<_>>()
    };
    steps.iter().flat_map(events_of).collect()
}

#[test]
fn of_several_relays_that_cannot_write_one_reports_the_failure_and_its_end() {
    let events_of = |first_is_here: bool| {
        let mut evaluate = Evaluator::new(HashMap::new(), HOLD);
        let mut events = Vec::new();
        for (second, journal) in [(0, true), (1, false), (100, false), (101, true), (200, true)] {
            let mut snapshot = snapshot(SiteState::Down, journal);
            let relay = |url: &str, here| NodeView {
                url: url.to_owned(),
                here,
                health: NodeHealth { database: true, journal },
            };
            let well =
                NodeView { health: NodeHealth { database: true, journal: true }, ..relay("http://a", false) };
            snapshot.relay.relays =
                vec![well, relay("http://b", first_is_here), relay("http://c", !first_is_here)];
            events.extend(evaluate.evaluate(&snapshot, at(second)).into_iter().map(|alert| alert.event));
        }
        events
    };
    assert_eq!(events_of(true), [Event::JournalFailing, Event::JournalRecovered]);
    assert_eq!(events_of(false), []);
}

#[test]
fn guessing_from_many_addresses_is_reported_at_once_and_once() {
    let mut evaluate =
        Evaluator::new(HashMap::from([(SiteId::parse("acme").unwrap(), "up".to_owned())]), HOLD);
    let mut events = Vec::new();
    for (second, guessing) in [(0, false), (1, true), (2, true), (70, false), (80, true)] {
        let mut snapshot = snapshot(SiteState::Up, true);
        let row = Arc::get_mut(&mut snapshot.rows[0]).unwrap();
        row.view.refused_last_hour.ceiling_since = guessing.then(|| at(1));
        events
            .extend(evaluate.evaluate(&snapshot, at(second)).into_iter().map(|alert| (second, alert.event)));
    }
    assert_eq!(events, [(1, Event::TokenGuessing), (80, Event::TokenGuessing)]);
}

#[test]
fn a_reconnect_is_no_alarm() {
    use SiteState::{Down, Up};
    let events = story(&[("acme", "up")], &[(0, Up), (1, Down), (50, Down), (55, Up), (120, Up)]);
    assert_eq!(events, []);
}

#[test]
fn a_site_that_stays_away_is_announced_once_and_so_is_its_return() {
    use SiteState::{Degraded, Down, Up};
    let steps = [
        (0, Down),
        (59, Down),
        (60, Down),
        (61, Down),
        (100, Up),
        (160, Up),
        (200, Degraded),
        (260, Degraded),
    ];
    let events = story(&[("acme", "up")], &steps);
    assert_eq!(events, [(60, Event::SiteDown), (160, Event::SiteUp), (260, Event::SiteDegraded)]);
}

#[test]
fn a_site_that_was_lost_while_the_relay_was_away_is_announced() {
    let events = story(&[("acme", "up")], &[(0, SiteState::Down), (60, SiteState::Down)]);
    assert_eq!(events, [(60, Event::SiteDown)]);
}

#[test]
fn a_disabled_or_unknown_site_is_no_alarm() {
    use SiteState::{Disabled, Down, NeverSeen};
    assert_eq!(story(&[("acme", "up")], &[(0, Down), (30, Disabled), (90, Disabled)]), []);
    assert_eq!(story(&[], &[(0, NeverSeen), (90, NeverSeen), (200, Down), (300, Down)]), []);
}

#[test]
fn an_audit_that_cannot_be_written_is_an_alarm() {
    let mut evaluate = Evaluator::new(HashMap::new(), HOLD);
    let mut events = Vec::new();
    for (second, well) in [(0, true), (1, false), (61, false), (62, true), (122, true)] {
        let alerts = evaluate.evaluate(&snapshot(SiteState::NeverSeen, well), at(second));
        events.extend(alerts.into_iter().map(|alert| (second, alert.event)));
    }
    assert_eq!(events, [(61, Event::JournalFailing), (122, Event::JournalRecovered)]);
}

#[derive(Default)]
struct Receiver {
    attempts: Mutex<Vec<(HeaderMap, String)>>,
    taken: Notify,
}

/// Refuses twice before it takes a message.
async fn receive(State(receiver): State<Arc<Receiver>>, headers: HeaderMap, body: String) -> StatusCode {
    let mut attempts = receiver.attempts.lock().unwrap();
    attempts.push((headers, body));
    if attempts.len() < 3 {
        return StatusCode::INTERNAL_SERVER_ERROR;
    }
    receiver.taken.notify_one();
    StatusCode::NO_CONTENT
}

#[tokio::test]
async fn a_refused_message_comes_again_with_the_same_id_and_a_signature_that_holds() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let receiver = Arc::new(Receiver::default());
    let router = Router::new().route("/hook", post(receive)).with_state(Arc::clone(&receiver));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let (sender, waiting) = mpsc::channel(1);
    tokio::spawn(Webhook::new(url, SECRET).unwrap().impatient().run(waiting));
    let data = AlertData { site: None, note: None, previous: None, since: at(0), problem: None };
    sender.send(Message::Alert(Alert::new(Event::JournalFailing, data))).await.unwrap();
    tokio::time::timeout(Duration::from_secs(60), receiver.taken.notified()).await.unwrap();

    let attempts = receiver.attempts.lock().unwrap();
    let ids: Vec<_> = attempts.iter().map(|(headers, _)| &headers["webhook-id"]).collect();
    assert!(ids.len() == 3 && ids.iter().all(|id| *id == ids[0]));
    let (headers, body) = &attempts[2];
    let text = |name: &str| headers[name].to_str().unwrap().to_owned();
    let key = BASE64.decode(SECRET.strip_prefix("whsec_").unwrap().as_bytes()).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    mac.update(format!("{}.{}.{body}", text("webhook-id"), text("webhook-timestamp")).as_bytes());
    assert_eq!(text("webhook-signature"), format!("v1,{}", BASE64.encode(&mac.finalize().into_bytes())));
    let message: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(message["type"], "journal.failing");
}

#[test]
fn a_webhook_keeps_its_secrets_to_itself() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let url: url::Url = "https://hooks.example.com/T0K3N".parse().unwrap();
    let shown = format!("{:?}", Webhook::new(url.clone(), SECRET).unwrap());
    assert!(!shown.contains("T0K3N") && !shown.contains("MDEy"), "{shown}");
    assert!(matches!(Webhook::new(url, "short"), Err(WebhookError::Secret)));
    let other = Webhook::new("ftp://a".parse().unwrap(), SECRET);
    assert!(matches!(other, Err(WebhookError::Url)));
}
