use std::{collections::BTreeSet, time::Duration};

use audiovault_protocol::identity::{
    enrolment::EnrolmentCode,
    site::{Alias, KeyDigest},
};
use serde_json::json;

use super::*;
use crate::{
    model::{
        account::{PasswordHash, Rights, Role, Scope},
        secret::{Secret, TOKEN_LIFE},
    },
    store::{
        AuditFilter, NewCode, NewSite, NewToken, NewUser, Trade,
        fresh::{Fresh, operator},
    },
};

fn acme() -> SiteId {
    SiteId::parse("acme").unwrap()
}

fn new_site(name: &str) -> NewSite {
    let key = KeyDigest::from_bytes([name.as_bytes()[0]; 32]);
    NewSite {
        site: SiteId::parse(name).unwrap(),
        note: "Acme, Madrid".to_owned(),
        aliases: BTreeSet::new(),
        key,
    }
}

async fn all(store: &Store) -> Vec<OperatorEvent> {
    let mut events = store.operator_events(&OperatorFilter::default(), 1000).await.unwrap();
    events.reverse();
    events
}

async fn actions(store: &Store) -> Vec<&'static str> {
    all(store).await.iter().map(|event| event.action.as_str()).collect()
}

#[test]
fn a_filter_by_personal_data_leaves_no_copy_of_it() {
    let filter = AuditFilter {
        call_id: Some("1711441902.1".to_owned()),
        client: Some("203.0.113.9".to_owned()),
        ..AuditFilter::default()
    };
    let after = filter.entry(Action::AuditRead).after.unwrap();
    assert_eq!(after, serde_json::json!({ "call_id": "(given)", "client": "(given)" }));
}

#[tokio::test]
async fn every_change_of_a_site_leaves_a_record_of_who_what_and_whence() {
    let database = Fresh::new().await;
    let store = database.open().await;
    let actor = operator();
    let alias = Alias::parse("shop").unwrap();
    store.add_site(&actor, &new_site("acme")).await.unwrap();
    store.add_alias(&actor, &acme(), &alias).await.unwrap();
    store.remove_alias(&actor, &acme(), &alias).await.unwrap();
    store.rotate_key(&actor, &acme(), &KeyDigest::from_bytes([2; 32])).await.unwrap();
    store.revoke_key(&actor, &acme(), None).await.unwrap();
    store.set_disabled(&actor, &acme(), true).await.unwrap();
    store.set_disabled(&actor, &acme(), false).await.unwrap();
    let code = EnrolmentCode::from_random(7);
    let now = Timestamp::now();
    let new = NewCode {
        digest: code.digest(),
        created_by: None,
        created: now,
        expires: now + Duration::from_secs(60),
    };
    store.add_code(&actor, &acme(), &new).await.unwrap();
    let key = KeyDigest::from_bytes([3; 32]);
    let from = actor.address.unwrap();
    store.trade_code(&actor, &Trade { digest: code.digest(), key, from, now }).await.unwrap();
    store.remove(&actor, &acme()).await.unwrap();
    let events = all(&store).await;
    assert_eq!(
        events.iter().map(|event| event.action.as_str()).collect::<Vec<_>>(),
        [
            "site.added",
            "site.alias_added",
            "site.alias_removed",
            "site.key_added",
            "site.key_revoked",
            "site.disabled",
            "site.enabled",
            "site.code_made",
            "site.key_enrolled",
            "site.removed"
        ]
    );
    for event in &events {
        assert_eq!((event.actor.as_str(), event.address.as_deref()), ("maria", Some("192.0.2.7")));
        assert_eq!((event.actor_kind.as_str(), event.site.clone()), ("user", Some(acme())));
    }
    assert_eq!(events[4].before, Some(json!({ "valid_keys": ["61616161", "02020202"] })));
    assert_eq!(events[4].after, Some(json!({ "valid_keys": ["02020202"] })));
    let ids: Vec<_> = events.iter().map(|event| u64::from_str_radix(&event.id, 16).unwrap()).collect();
    assert_eq!(ids, (1..=10).collect::<Vec<_>>(), "a gap is an event that was deleted");
    assert_eq!(events[9].before.as_ref().unwrap()["note"], "Acme, Madrid", "{:?}", events[9]);
}

#[tokio::test]
async fn every_change_of_users_and_tokens_leaves_a_record_without_their_secrets() {
    let database = Fresh::new().await;
    let store = database.open().await;
    let actor = operator();
    let name = "jose".parse().unwrap();
    let hash = || PasswordHash::stored("$argon2id$kept".to_owned());
    let everything =
        NewUser { name: "root".parse().unwrap(), rights: Rights::everything(), password: hash() };
    store.add_user(&actor, &everything).await.unwrap();
    let new = NewUser { name, rights: Rights::everything(), password: hash() };
    store.add_user(&actor, &new).await.unwrap();
    let viewer = Rights { role: Role::Viewer, scope: Scope::All, playback: false };
    store.change_user(&actor, &new.name, &viewer).await.unwrap();
    store.set_password(&actor, &new.name, &hash()).await.unwrap();
    let digest = Secret::mint().digest();
    store.add_session(&actor, &digest, &new.name, Timestamp::now()).await.unwrap();
    store.remove_user(&actor, &new.name).await.unwrap();
    let token = NewToken {
        name: "ci".parse().unwrap(),
        digest: digest.clone(),
        rights: viewer,
        expires: Timestamp::now() + TOKEN_LIFE,
        owner: None,
    };
    store.add_token(&actor, &token).await.unwrap();
    store.remove_token(&actor, &token.name).await.unwrap();
    let expected = [
        "user.added",
        "user.added",
        "user.changed",
        "user.password_set",
        "user.logged_in",
        "user.removed",
        "token.added",
        "token.removed",
    ];
    assert_eq!(actions(&store).await, expected);
    let events = all(&store).await;
    assert_eq!(
        events[2].before,
        Some(json!({ "role": "admin", "sites": Value::Null, "playback": true })),
        "{:?}",
        events[2]
    );
    let text = serde_json::to_string(&events).unwrap();
    assert!(!text.contains("argon2id") && !text.contains(digest.as_str()), "{text}");
}

#[tokio::test]
async fn a_refused_change_leaves_no_record_and_an_erasure_names_no_call() {
    let database = Fresh::new().await;
    let store = database.open().await;
    store.add_site(&operator(), &new_site("acme")).await.unwrap();
    store.add_site(&operator(), &new_site("acme")).await.unwrap_err();
    store.set_disabled(&operator(), &SiteId::parse("nowhere").unwrap(), true).await.unwrap_err();
    assert_eq!(actions(&store).await, ["site.added"]);
    store.erase_call(&operator().because("asked by the customer"), "1711441902.1").await.unwrap();
    let erased = all(&store).await.pop().unwrap();
    assert_eq!(erased.reason.as_deref(), Some("asked by the customer"));
    assert!(!serde_json::to_string(&erased).unwrap().contains("1711441902"), "{erased:?}");
}

#[tokio::test]
async fn a_read_is_recorded_once_in_a_while_and_an_export_every_time() {
    let database = Fresh::new().await;
    let store = database.open().await;
    let read = AuditFilter::default().entry(Action::AuditRead);
    let export = AuditFilter::default().entry(Action::AuditExported);
    for _ in 0..3 {
        store.record(&operator(), &read).await.unwrap();
        store.record(&operator(), &export).await.unwrap();
    }
    let other = Entry { site: Some(acme()), ..read.clone() };
    store.record(&operator(), &other).await.unwrap();
    store.record(&Actor { name: "jose".to_owned(), ..operator() }, &read).await.unwrap();
    let expected =
        ["audit.read", "audit.exported", "audit.exported", "audit.exported", "audit.read", "audit.read"];
    assert_eq!(actions(&store).await, expected);
}

#[tokio::test]
async fn who_sees_some_sites_sees_the_events_of_those_alone() {
    let database = Fresh::new().await;
    let store = database.open().await;
    for name in ["acme", "zeta"] {
        store.add_site(&operator(), &new_site(name)).await.unwrap();
    }
    store.record(&operator(), &AuditFilter::default().entry(Action::AuditExported)).await.unwrap();
    let filter = OperatorFilter { within: Some(vec![acme()]), ..Default::default() };
    let seen = store.operator_events(&filter, 10).await.unwrap();
    assert_eq!(seen.iter().map(|event| event.site.clone()).collect::<Vec<_>>(), [Some(acme())]);
    store.remove(&operator(), &acme()).await.unwrap();
    let store = store.with_name_rest(Duration::ZERO);
    // A site that is added in the same millisecond in which another was removed counts as the same site.
    while Timestamp::now().as_millisecond() <= all(&store).await.last().unwrap().at.as_millisecond() {}
    store.add_site(&operator(), &new_site("acme")).await.unwrap();
    let seen = store.operator_events(&filter, 10).await.unwrap();
    assert_eq!(seen.len(), 1, "what was before the site is another customer's: {seen:?}");
}

#[tokio::test]
async fn an_event_is_handed_to_the_webhook_once_by_all_relays() {
    let database = Fresh::new().await;
    let here = database.open().await;
    let there = database.open().await;
    for name in ["acme", "zeta"] {
        here.add_site(&operator(), &new_site(name)).await.unwrap();
    }
    let since = Timestamp::now() - Duration::from_secs(60);
    let (one, other) =
        tokio::join!(here.claim_operator_events(since, 10), there.claim_operator_events(since, 10));
    let mut claimed: Vec<_> =
        one.unwrap().into_iter().chain(other.unwrap()).filter_map(|event| event.site).collect();
    claimed.sort();
    assert_eq!(claimed, [acme(), SiteId::parse("zeta").unwrap()]);
    assert!(here.claim_operator_events(since, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn only_age_ends_an_event() {
    let database = Fresh::new().await;
    let store = database.open().await;
    store.add_site(&operator(), &new_site("acme")).await.unwrap();
    let at = all(&store).await[0].at;
    assert_eq!(store.prune_operator_events(at).await.unwrap(), 0);
    assert_eq!(store.prune_operator_events(at + Duration::from_millis(1)).await.unwrap(), 1);
    assert!(all(&store).await.is_empty());
}
