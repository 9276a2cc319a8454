//! Tests that pass on every kind of database.

use audiovault_protocol::identity::site::{Alias, KeyDigest, SiteId};

use super::{
    fresh::{Fresh, operator},
    *,
};

pub(super) fn site(name: &str) -> SiteId {
    SiteId::parse(name).unwrap()
}

fn alias(name: &str) -> Alias {
    Alias::parse(name).unwrap()
}

fn key(seed: u8) -> KeyDigest {
    KeyDigest::from_bytes([seed; 32])
}

pub(super) fn new_site(name: &str, aliases: &[&str], seed: u8) -> NewSite {
    NewSite {
        site: site(name),
        note: format!("about {name}"),
        aliases: aliases.iter().map(|name| alias(name)).collect(),
        key: key(seed),
    }
}

fn ids<'a>(keys: impl Iterator<Item = &'a StoredKey>) -> Vec<String> {
    keys.map(|key| key.digest.short()).collect()
}

#[tokio::test]
async fn several_processes_may_open_a_fresh_database_at_once() {
    let database = Fresh::new().await;
    let opened = futures_util::future::join_all((0..4).map(|_| {
        tokio::spawn({
            let url = database.url().clone();
            async move { open(&url, IfMissing::Create).await }
        })
    }))
    .await;
    for store in opened {
        let store = store.unwrap().unwrap();
        assert_eq!(store.generation().await.unwrap(), 1);
    }
}

#[tokio::test]
async fn a_site_is_kept_with_its_note_aliases_and_key() {
    let database = Fresh::new().await;
    let store = database.open().await;
    store.add_site(&operator(), &new_site("zeta", &["Shop.Example.com", "b"], 1)).await.unwrap();
    store.add_site(&operator(), &new_site("acme", &[], 2)).await.unwrap();

    let all = store.list().await.unwrap();
    assert_eq!(all.iter().map(|s| s.site.as_str()).collect::<Vec<_>>(), ["acme", "zeta"]);
    let zeta = store.show(&site("zeta")).await.unwrap();
    assert_eq!(zeta.note, "about zeta");
    assert_eq!(zeta.aliases, [alias("b"), alias("shop.example.com")]);
    assert_eq!(ids(zeta.valid_keys()), [key(1).short()]);
    assert!(zeta.disabled.is_none());
}

#[tokio::test]
async fn sites_and_aliases_share_one_namespace() {
    let database = Fresh::new().await;
    let store = database.open().await;
    store.add_site(&operator(), &new_site("acme", &["shop"], 1)).await.unwrap();
    store.add_site(&operator(), &new_site("zeta", &[], 2)).await.unwrap();
    let before = store.generation().await.unwrap();

    for (attempt, name) in [
        (store.add_site(&operator(), &new_site("acme", &[], 3)).await, "acme"),
        (store.add_site(&operator(), &new_site("shop", &[], 3)).await, "shop"),
        (store.add_site(&operator(), &new_site("fresh", &["shop"], 3)).await, "shop"),
        (store.add_site(&operator(), &new_site("fresh", &["acme"], 3)).await, "acme"),
        (store.add_alias(&operator(), &site("zeta"), &alias("SHOP")).await, "shop"),
        (store.add_alias(&operator(), &site("zeta"), &alias("acme")).await, "acme"),
    ] {
        let error = attempt.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("the name {name} cannot be used here: choose another one"),
            "the response shows nothing about other customers"
        );
    }
    let error = store.add_site(&operator(), &new_site("own", &["own"], 3)).await.unwrap_err();
    assert!(matches!(error, StoreError::NameTaken(_)), "{error:?}");
    assert_eq!(store.generation().await.unwrap(), before, "nothing has changed");
    assert_eq!(store.list().await.unwrap().len(), 2);
}

#[tokio::test]
async fn aliases_come_and_go() {
    let database = Fresh::new().await;
    let store = database.open().await;
    let acme = site("acme");
    store.add_site(&operator(), &new_site("acme", &[], 1)).await.unwrap();
    store.add_alias(&operator(), &acme, &alias("shop")).await.unwrap();
    store.add_alias(&operator(), &acme, &alias("shop")).await.unwrap();
    assert_eq!(store.show(&acme).await.unwrap().aliases, [alias("shop")]);

    store.remove_alias(&operator(), &acme, &alias("shop")).await.unwrap();
    for unknown in ["shop", "acme"] {
        let error = store.remove_alias(&operator(), &acme, &alias(unknown)).await.unwrap_err();
        assert!(matches!(error, StoreError::UnknownAlias { .. }), "{error:?}");
    }
    let store = store.with_name_rest(Duration::ZERO);
    store.add_site(&operator(), &new_site("shop", &[], 2)).await.unwrap();
}

#[tokio::test]
async fn names_that_were_removed_rest_before_another_site_gets_them() {
    let database = Fresh::new().await;
    let store = database.open().await;
    let [acme, zeta] = ["acme", "zeta"].map(site);
    store.add_site(&operator(), &new_site("acme", &["shop", "bar"], 1)).await.unwrap();
    store.add_site(&operator(), &new_site("zeta", &[], 2)).await.unwrap();
    store.remove_alias(&operator(), &acme, &alias("shop")).await.unwrap();
    let taken = |result: Result<(), StoreError>, name: &str| {
        let error = result.unwrap_err().to_string();
        assert_eq!(error, format!("the name {name} cannot be used here: choose another one"));
    };
    taken(store.add_alias(&operator(), &zeta, &alias("shop")).await, "shop");
    store.add_alias(&operator(), &acme, &alias("shop")).await.expect("it was this site's own");
    store.remove(&operator(), &acme).await.unwrap();
    for name in ["acme", "shop", "bar"] {
        taken(store.add_site(&operator(), &new_site(name, &[], 3)).await, name);
        taken(store.add_alias(&operator(), &zeta, &alias(name)).await, name);
    }
    let rested = store.with_name_rest(Duration::ZERO);
    rested.add_site(&operator(), &new_site("acme", &["shop"], 3)).await.unwrap();
    rested.prune_resting_names(Timestamp::now()).await.unwrap();
}

#[tokio::test]
async fn a_key_is_rotated_with_an_overlap_of_two() {
    let database = Fresh::new().await;
    let store = database.open().await;
    let acme = site("acme");
    store.add_site(&operator(), &new_site("acme", &[], 1)).await.unwrap();

    assert!(store.rotate_key(&operator(), &acme, &key(2)).await.unwrap().is_empty());
    assert_eq!(ids(store.show(&acme).await.unwrap().valid_keys()), [key(1).short(), key(2).short()]);

    let dropped = store.rotate_key(&operator(), &acme, &key(3)).await.unwrap();
    assert_eq!(dropped.len(), 1);
    assert!(dropped[0].matches(&key(1)));
    assert_eq!(ids(store.show(&acme).await.unwrap().valid_keys()), [key(2).short(), key(3).short()]);

    let revoked = store.revoke_key(&operator(), &acme, None).await.unwrap();
    assert!(revoked.matches(&key(2)), "the older one");
    let kept = store.show(&acme).await.unwrap();
    assert_eq!(ids(kept.valid_keys()), [key(3).short()]);
    assert_eq!(kept.keys.len(), 3, "revoked keys are still shown");
}

#[tokio::test]
async fn a_key_is_revoked_by_its_id() {
    let database = Fresh::new().await;
    let store = database.open().await;
    let acme = site("acme");
    store.add_site(&operator(), &new_site("acme", &[], 1)).await.unwrap();
    store.rotate_key(&operator(), &acme, &key(2)).await.unwrap();

    let newest = key(2).short();
    assert!(store.revoke_key(&operator(), &acme, Some(&newest)).await.unwrap().matches(&key(2)));
    let error = store.revoke_key(&operator(), &acme, Some(&newest)).await.unwrap_err();
    assert!(matches!(error, StoreError::UnknownKey { .. }), "{error:?}");
    store.revoke_key(&operator(), &acme, None).await.unwrap();
    let error = store.revoke_key(&operator(), &acme, None).await.unwrap_err();
    assert!(matches!(error, StoreError::NoValidKey(_)), "{error:?}");
}

#[tokio::test]
async fn disabling_keeps_its_first_time_and_removing_frees_the_names() {
    let database = Fresh::new().await;
    let store = database.open().await;
    let acme = site("acme");
    store.add_site(&operator(), &new_site("acme", &["shop"], 1)).await.unwrap();

    store.set_disabled(&operator(), &acme, true).await.unwrap();
    let since = store.show(&acme).await.unwrap().disabled.unwrap();
    store.set_disabled(&operator(), &acme, true).await.unwrap();
    assert_eq!(store.show(&acme).await.unwrap().disabled, Some(since));
    store.set_disabled(&operator(), &acme, false).await.unwrap();
    assert_eq!(store.show(&acme).await.unwrap().disabled, None);

    store.remove(&operator(), &acme).await.unwrap();
    let store = store.with_name_rest(Duration::ZERO);
    store.add_site(&operator(), &new_site("shop", &["acme"], 1)).await.unwrap();
    assert_eq!(store.show(&site("shop")).await.unwrap().keys.len(), 1);
}

#[tokio::test]
async fn every_operation_on_an_unknown_site_says_so() {
    let database = Fresh::new().await;
    let store = database.open().await;
    let unknown = site("nobody");
    let before = store.generation().await.unwrap();
    for error in [
        store.show(&unknown).await.unwrap_err(),
        store.rotate_key(&operator(), &unknown, &key(1)).await.unwrap_err(),
        store.revoke_key(&operator(), &unknown, None).await.unwrap_err(),
        store.set_disabled(&operator(), &unknown, true).await.unwrap_err(),
        store.set_disabled(&operator(), &unknown, false).await.unwrap_err(),
        store.remove(&operator(), &unknown).await.unwrap_err(),
        store.add_alias(&operator(), &unknown, &alias("a")).await.unwrap_err(),
        store.remove_alias(&operator(), &unknown, &alias("a")).await.unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::UnknownSite(_)), "{error:?}");
    }
    assert_eq!(store.generation().await.unwrap(), before);
}

#[tokio::test]
async fn every_change_counts_for_every_process() {
    let database = Fresh::new().await;
    let relay = database.open().await;
    let command = database.open().await;
    let acme = site("acme");
    let mut last = relay.generation().await.unwrap();
    for step in 0..9 {
        match step {
            0 => command.add_site(&operator(), &new_site("acme", &[], 1)).await.unwrap(),
            1 => drop(command.rotate_key(&operator(), &acme, &key(2)).await.unwrap()),
            2 => drop(command.revoke_key(&operator(), &acme, None).await.unwrap()),
            3 => command.set_disabled(&operator(), &acme, true).await.unwrap(),
            4 => command.set_disabled(&operator(), &acme, false).await.unwrap(),
            5 => command.add_alias(&operator(), &acme, &alias("shop")).await.unwrap(),
            6 => command.remove_alias(&operator(), &acme, &alias("shop")).await.unwrap(),
            7 => command.set_public_url("https://relay.example.com").await.unwrap(),
            _ => command.remove(&operator(), &acme).await.unwrap(),
        }
        let now = relay.generation().await.unwrap();
        assert_eq!(now, last + 1, "step {step}");
        assert_eq!(relay.load().await.unwrap().generation, now);
        last = now;
    }
    let url = relay.public_url().await.unwrap();
    assert_eq!(url.as_deref(), Some("https://relay.example.com"));
}

#[tokio::test]
async fn concurrent_writers_queue_up_instead_of_failing() {
    let database = Fresh::new().await;
    let one = database.open().await;
    let other = database.open().await;
    let writes = (0..20_u8).map(|n| {
        let store = if n % 2 == 0 { &one } else { &other };
        async move { store.add_site(&operator(), &new_site(&format!("site-{n}"), &[], n)).await }
    });
    for result in futures_util::future::join_all(writes).await {
        result.unwrap();
    }
    assert_eq!(one.list().await.unwrap().len(), 20);
}
