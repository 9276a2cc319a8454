use std::{collections::BTreeSet, time::Duration};

use audiovault_protocol::identity::{
    signed_link::LinkKeyId,
    site::{KeyDigest, SiteId},
};

use super::*;
use crate::{
    model::operator_events::OperatorEvent,
    store::{
        NewSite, OperatorFilter,
        fresh::{Fresh, operator},
    },
};

fn acme() -> SiteId {
    SiteId::parse("acme").unwrap()
}

async fn with_site(database: &Fresh) -> Store {
    let store = Store { name_rest: Duration::ZERO, ..database.open().await };
    let key = KeyDigest::from_bytes([1; 32]);
    let new = NewSite { site: acme(), note: String::new(), aliases: BTreeSet::new(), key };
    store.add_site(&operator(), &new).await.unwrap();
    store
}

/// One tunnel of an agent.
fn opened(instance: &str, slot: u16, address: &str) -> Record {
    Record::TunnelOpened(Box::new(TunnelOpened {
        session: format!("{instance}-{slot}-{address}"),
        site: acme(),
        run: "run".to_owned(),
        instance: instance.to_owned(),
        slot,
        agent_version: "1.0.0".to_owned(),
        host: format!("host-of-{instance}"),
        address: address.to_owned(),
        link_key: LinkKeyId::try_from("00112233445566aa".to_owned()).unwrap(),
        opened: Timestamp::now(),
    }))
}

fn closed(instance: &str, slot: u16, address: &str) -> Record {
    Record::TunnelClosed {
        session: format!("{instance}-{slot}-{address}"),
        site: acme(),
        back_soon: false,
        closed: Timestamp::now(),
        reason: "gone".to_owned(),
    }
}

/// The recorded events about agents, the oldest first.
async fn events(store: &Store) -> Vec<OperatorEvent> {
    let filter = OperatorFilter {
        one_of: vec![Action::AgentAdded, Action::AgentNewAddress],
        ..OperatorFilter::default()
    };
    let mut events = store.operator_events(&filter, 1000).await.unwrap();
    events.reverse();
    events
}

#[tokio::test]
async fn a_second_agent_is_an_event_but_a_second_tunnel_or_a_restart_is_not() {
    let database = Fresh::new().await;
    let store = with_site(&database).await;
    let home = "192.0.2.1";
    store.write(&[opened("one", 0, home), opened("one", 1, home)]).await.unwrap();
    store.write(&[closed("one", 0, home), closed("one", 1, home)]).await.unwrap();
    // The agent was restarted, and one of its tunnels breaks.
    store.write(&[opened("two", 0, home), closed("two", 0, home), opened("two", 1, home)]).await.unwrap();
    assert!(events(&store).await.is_empty());

    store.write(&[opened("three", 0, home)]).await.unwrap();
    let added = events(&store).await;
    let [event] = added.as_slice() else { panic!("{added:?}") };
    assert_eq!((event.action, event.actor_kind), (Action::AgentAdded, ActorKind::Agent));
    assert_eq!((event.actor.as_str(), event.address.as_deref()), ("host-of-three", Some(home)));
    let after = event.after.as_ref().unwrap();
    assert_eq!((after["instance"].as_str(), after["agents_before"].as_i64()), (Some("three"), Some(1)));
    // Further tunnels of the agent are not events, and neither is one that comes back.
    store.write(&[opened("three", 1, home), closed("three", 0, home)]).await.unwrap();
    store.write(&[opened("three", 0, home)]).await.unwrap();
    assert_eq!(events(&store).await.len(), 1);
}

#[tokio::test]
async fn an_address_that_is_new_to_a_site_is_an_event_once() {
    let database = Fresh::new().await;
    let store = with_site(&database).await;
    let first = "2001:db8:0:1::1";
    store.write(&[opened("one", 0, first), opened("one", 1, "2001:db8:0:1::2")]).await.unwrap();
    assert!(events(&store).await.is_empty(), "the first network of a site is what it is");
    store.write(&[opened("one", 2, "203.0.113.9")]).await.unwrap();
    store.write(&[opened("one", 0, "203.0.113.9"), opened("one", 0, first)]).await.unwrap();
    let events = events(&store).await;
    let [event] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((event.action, event.address.as_deref()), (Action::AgentNewAddress, Some("203.0.113.9")));
}

#[tokio::test]
async fn records_that_are_written_twice_are_events_once() {
    let database = Fresh::new().await;
    let store = with_site(&database).await;
    let records = [opened("one", 0, "192.0.2.1"), opened("two", 0, "192.0.2.2")];
    store.write(&records).await.unwrap();
    store.write(&records).await.unwrap();
    let actions: Vec<_> = events(&store).await.iter().map(|event| event.action).collect();
    assert_eq!(actions, [Action::AgentNewAddress, Action::AgentAdded]);
}

#[tokio::test]
async fn an_agent_that_starts_again_and_again_fills_nothing() {
    let database = Fresh::new().await;
    let store = with_site(&database).await;
    let mut records = vec![opened("home", 0, "192.0.2.1")];
    records.extend((0..1_100).map(|n| opened(&format!("i{n}"), 0, &format!("10.0.{}.{}", n / 200, n % 200))));
    store.write(&records).await.unwrap();
    let count = |events: &[OperatorEvent], action| events.iter().filter(|e| e.action == action).count();
    let all = events(&store).await;
    assert_eq!(count(&all, Action::AgentAdded), 10);
    assert_eq!(count(&all, Action::AgentNewAddress), 10);
    let networks = sqlx::query(COUNT_NETWORKS).bind("acme").fetch_one(&store.pool).await.unwrap();
    assert_eq!(networks.try_get::<i64, _>(0).unwrap(), MAX_NETWORKS);
}

#[tokio::test]
async fn a_site_that_was_removed_meanwhile_leaves_no_event() {
    let database = Fresh::new().await;
    let store = with_site(&database).await;
    store.write(&[opened("one", 0, "192.0.2.1")]).await.unwrap();
    store.remove(&operator(), &acme()).await.unwrap();
    store.write(&[opened("two", 0, "192.0.2.9")]).await.unwrap();
    assert!(events(&store).await.is_empty());
}

#[tokio::test]
async fn the_latest_change_of_each_kind_is_shown_without_those_of_an_earlier_site_of_that_name() {
    let database = Fresh::new().await;
    let store = with_site(&database).await;
    store.write(&[opened("one", 0, "192.0.2.1")]).await.unwrap();
    store.write(&[opened("two", 0, "192.0.2.2"), opened("three", 0, "192.0.2.3")]).await.unwrap();
    store.rotate_key(&operator(), &acme(), &KeyDigest::from_bytes([2; 32])).await.unwrap();
    let changes = store.access_changes(Timestamp::UNIX_EPOCH).await.unwrap();
    let shown: Vec<_> = changes.iter().map(|change| (change.action, change.actor.as_str())).collect();
    assert_eq!(
        shown,
        [
            (Action::KeyAdded, "maria"),
            (Action::AgentAdded, "host-of-three"),
            (Action::AgentNewAddress, "host-of-three"),
        ]
    );
    store.remove(&operator(), &acme()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    with_site(&database).await;
    let again = store.access_changes(Timestamp::UNIX_EPOCH).await.unwrap();
    assert!(again.is_empty(), "{again:?}");
}
