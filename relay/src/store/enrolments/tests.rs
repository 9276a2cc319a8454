use audiovault_protocol::identity::enrolment::{CODE_LIFETIME, EnrolmentCode};

use super::*;
use crate::store::{
    NewSite,
    fresh::{Fresh, operator},
};

const SECOND: std::time::Duration = std::time::Duration::from_secs(1);

/// A store with the site acme, which has one key, at a fixed time.
struct Place {
    store: Store,
    site: SiteId,
    now: Timestamp,
    _database: Fresh,
}

impl Place {
    async fn new() -> Self {
        let database = Fresh::new().await;
        let store = database.open().await;
        let site = SiteId::parse("acme").unwrap();
        let new = NewSite { site: site.clone(), note: String::new(), aliases: [].into(), key: key(1) };
        store.add_site(&operator(), &new).await.unwrap();
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        Self { store, site, now, _database: database }
    }

    async fn add(&self, number: u64) -> Result<(), StoreError> {
        let name = Some("maria".parse().unwrap());
        let expires = self.now + CODE_LIFETIME;
        let new = NewCode { digest: digest(number), created_by: name, created: self.now, expires };
        self.store.add_code(&operator(), &self.site, &new).await
    }

    async fn trade(&self, number: u64, seed: u8, now: Timestamp) -> Result<SiteId, StoreError> {
        let from = "192.0.2.7".parse().unwrap();
        let trade = Trade { digest: digest(number), key: key(seed), from, now };
        self.store.trade_code(&operator(), &trade).await
    }

    async fn refused(&self, number: u64, now: Timestamp) {
        let generation = self.store.generation().await.unwrap();
        let error = self.trade(number, 99, now).await.unwrap_err();
        assert!(matches!(error, StoreError::CodeRefused), "{error:?}");
        assert_eq!(self.store.generation().await.unwrap(), generation, "nothing has changed");
    }

    async fn valid_keys(&self) -> Vec<String> {
        let stored = self.store.show(&self.site).await.unwrap();
        stored.valid_keys().map(|key| key.digest.short()).collect()
    }
}

fn key(seed: u8) -> KeyDigest {
    KeyDigest::from_bytes([seed; 32])
}

fn digest(number: u64) -> CodeDigest {
    EnrolmentCode::from_random(number).digest()
}

#[tokio::test]
async fn a_code_is_traded_once_for_a_key_and_the_record_shows_it() {
    let place = Place::new().await;
    place.add(1).await.unwrap();
    place.refused(2, place.now).await;
    let before = place.store.generation().await.unwrap();
    assert_eq!(place.trade(1, 2, place.now).await.unwrap(), place.site);
    assert_eq!(place.store.generation().await.unwrap(), before + 1, "relays look for the key");
    assert_eq!(place.valid_keys().await, [key(1).short(), key(2).short()]);
    place.refused(1, place.now).await;
    let record = place.store.enrolments(&place.site, place.now, 10).await.unwrap();
    assert_eq!(
        record,
        [EnrolmentRecord {
            created: place.now,
            created_by: Some("maria".parse().unwrap()),
            expires: place.now + CODE_LIFETIME,
            used: Some(place.now),
            used_from: Some("192.0.2.7".to_owned()),
            key: Some(key(2).short()),
        }]
    );
}

#[tokio::test]
async fn of_many_who_present_a_code_at_once_one_has_it() {
    let place = Place::new().await;
    place.add(1).await.unwrap();
    let trades = (2..10).map(|seed| place.trade(1, seed, place.now));
    let traded = futures_util::future::join_all(trades).await;
    assert_eq!(traded.iter().filter(|result| result.is_ok()).count(), 1);
    let refused = |result: &Result<_, _>| matches!(result, Err(StoreError::CodeRefused));
    assert_eq!(traded.iter().filter(|result| refused(result)).count(), 7);
    assert_eq!(place.valid_keys().await.len(), 2);
}

#[tokio::test]
async fn a_code_ends_after_a_quarter_of_an_hour_and_is_forgotten() {
    let place = Place::new().await;
    place.add(1).await.unwrap();
    let end = place.now + CODE_LIFETIME;
    place.refused(1, end).await;
    let shown = async |now| place.store.enrolments(&place.site, now, 10).await.unwrap().len();
    assert_eq!((shown(place.now).await, shown(end).await), (1, 0));
    place.store.prune_codes(end, place.now).await.unwrap();
    assert_eq!(shown(place.now).await, 0);

    place.add(2).await.unwrap();
    let last_moment = end - SECOND;
    place.trade(2, 2, last_moment).await.unwrap();
    place.store.prune_codes(end, last_moment).await.unwrap();
    assert_eq!(shown(end).await, 1, "what was used stays on record");
    place.store.prune_codes(end, end).await.unwrap();
    assert_eq!(shown(end).await, 0);
}

#[tokio::test]
async fn a_new_code_takes_the_place_of_the_one_before() {
    let place = Place::new().await;
    place.add(1).await.unwrap();
    place.add(2).await.unwrap();
    place.refused(1, place.now).await;
    place.trade(2, 2, place.now).await.unwrap();
}

#[tokio::test]
async fn a_disabled_site_gets_neither_codes_nor_keys() {
    let place = Place::new().await;
    place.add(1).await.unwrap();
    place.store.set_disabled(&operator(), &place.site, true).await.unwrap();
    place.refused(1, place.now).await;
    let error = place.add(2).await.unwrap_err();
    assert!(matches!(error, StoreError::SiteDisabled(_)), "{error:?}");
    place.store.set_disabled(&operator(), &place.site, false).await.unwrap();
    place.trade(1, 2, place.now).await.unwrap();
}

#[tokio::test]
async fn a_third_key_has_to_wait_until_one_is_revoked() {
    let place = Place::new().await;
    place.add(1).await.unwrap();
    place.store.rotate_key(&operator(), &place.site, &key(2)).await.unwrap();
    let error = place.trade(1, 3, place.now).await.unwrap_err();
    assert!(matches!(error, StoreError::NoRoomForKey(_)), "{error:?}");
    let error = place.add(2).await.unwrap_err();
    assert!(matches!(error, StoreError::NoRoomForKey(_)), "{error:?}");
    place.store.revoke_key(&operator(), &place.site, None).await.unwrap();
    place.trade(1, 3, place.now).await.unwrap();
    assert_eq!(place.valid_keys().await, [key(2).short(), key(3).short()]);
}

#[tokio::test]
async fn codes_go_with_their_site() {
    let place = Place::new().await;
    place.add(1).await.unwrap();
    place.store.remove(&operator(), &place.site).await.unwrap();
    place.refused(1, place.now).await;
    let error = place.add(2).await.unwrap_err();
    assert!(matches!(error, StoreError::UnknownSite(_)), "{error:?}");
}
