use std::{collections::BTreeSet, time::Duration};

use tokio::time::{Instant, timeout};

use super::*;
use crate::store::{
    NewSite,
    fresh::{Fresh, operator},
};

/// The time within which changes by another process must take effect.
const PROMISED: Duration = Duration::from_secs(3);

fn site(name: &str) -> SiteId {
    SiteId::parse(name).unwrap()
}

fn key(name: &str, seed: u8) -> SiteKey {
    SiteKey::from_secret(site(name), [seed; 32])
}

fn new_site(name: &str, aliases: &[&str]) -> NewSite {
    NewSite {
        site: site(name),
        note: String::new(),
        aliases: aliases.iter().map(|name| Alias::parse(name).unwrap()).collect::<BTreeSet<_>>(),
        key: key(name, 1).digest(),
    }
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + 2 * PROMISED;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_site_answers_to_its_name_and_its_aliases_in_any_case() {
    let database = Fresh::new().await;
    let store = database.open().await;
    store.add_site(&operator(), &new_site("acme", &["Shop.example.com"])).await.unwrap();
    let directory = Directory::new(store.load().await.unwrap());
    for name in ["acme", "ACME", "shop.example.com", "SHOP.Example.Com"] {
        assert_eq!(directory.find(name), Some(site("acme")), "{name}");
    }
    for name in ["", "shop", "example.com", "acme ", "äcme"] {
        assert_eq!(directory.find(name), None, "{name:?}");
    }
}

#[tokio::test]
async fn a_key_opens_its_own_site_alone() {
    let database = Fresh::new().await;
    let store = database.open().await;
    store.add_site(&operator(), &new_site("acme", &[])).await.unwrap();
    let zeta = NewSite { key: key("zeta", 9).digest(), ..new_site("zeta", &[]) };
    store.add_site(&operator(), &zeta).await.unwrap();
    let directory = Directory::new(store.load().await.unwrap());

    let digest = directory.verify_key(&key("acme", 1)).unwrap();
    assert_eq!(directory.standing(&site("acme"), &digest), Ok(()));
    for wrong in [key("acme", 2), key("acme", 9), key("nobody", 1)] {
        assert_eq!(directory.verify_key(&wrong).unwrap_err(), KeyRefused::Unknown);
    }
}

#[tokio::test]
async fn both_keys_of_a_rotation_open_until_one_is_revoked() {
    let database = Fresh::new().await;
    let store = database.open().await;
    let acme = site("acme");
    store.add_site(&operator(), &new_site("acme", &[])).await.unwrap();
    store.rotate_key(&operator(), &acme, &key("acme", 2).digest()).await.unwrap();
    let both = Directory::new(store.load().await.unwrap());
    both.verify_key(&key("acme", 1)).unwrap();
    both.verify_key(&key("acme", 2)).unwrap();

    store.revoke_key(&operator(), &acme, None).await.unwrap();
    let one = Directory::new(store.load().await.unwrap());
    assert_eq!(one.verify_key(&key("acme", 1)).unwrap_err(), KeyRefused::Unknown);
    one.verify_key(&key("acme", 2)).unwrap();
}

#[tokio::test]
async fn only_who_holds_the_key_learns_that_a_site_is_disabled() {
    let database = Fresh::new().await;
    let store = database.open().await;
    store.add_site(&operator(), &new_site("acme", &[])).await.unwrap();
    store.set_disabled(&operator(), &site("acme"), true).await.unwrap();
    let directory = Directory::new(store.load().await.unwrap());
    assert_eq!(directory.verify_key(&key("acme", 1)).unwrap_err(), KeyRefused::Disabled);
    assert_eq!(directory.verify_key(&key("acme", 2)).unwrap_err(), KeyRefused::Unknown);
    assert_eq!(directory.find("acme"), Some(site("acme")));
    assert!(directory.site(&site("acme")).unwrap().disabled.is_some());
}

#[tokio::test]
async fn what_another_process_changes_arrives_within_three_seconds() {
    let database = Fresh::new().await;
    let watch = DirectoryWatch::start(database.open().await).await.unwrap();
    let mut pictures = watch.subscribe();
    assert_eq!(watch.current().sites().len(), 0);

    let other = database.open().await;
    other.add_site(&operator(), &new_site("acme", &[])).await.unwrap();
    timeout(PROMISED, pictures.wait_for(|picture| picture.find("acme").is_some()))
        .await
        .expect("the new site within the promised time")
        .unwrap();
    other.set_disabled(&operator(), &site("acme"), true).await.unwrap();
    timeout(
        PROMISED,
        pictures.wait_for(|picture| picture.verify_key(&key("acme", 1)).err() == Some(KeyRefused::Disabled)),
    )
    .await
    .expect("its disabling within the promised time")
    .unwrap();
}

#[tokio::test]
async fn without_its_database_the_relay_goes_on_with_what_it_knows() {
    let database = Fresh::file();
    let store = database.open().await;
    store.add_site(&operator(), &new_site("acme", &[])).await.unwrap();
    let watch = DirectoryWatch::start(store).await.unwrap();
    assert!(watch.healthy());

    let away = database.path("away.db");
    std::fs::rename(database.path("relay.db"), &away).unwrap();
    eventually("the loss is noticed", || !watch.healthy()).await;
    watch.current().verify_key(&key("acme", 1)).unwrap();

    std::fs::rename(&away, database.path("relay.db")).unwrap();
    eventually("the return is noticed", || watch.healthy()).await;
}

#[tokio::test]
async fn a_relay_does_not_start_on_a_database_that_fails() {
    let database = Fresh::new().await;
    let store = database.open().await;
    store.close().await;
    assert!(DirectoryWatch::start(store).await.is_err());
}
