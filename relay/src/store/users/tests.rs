use std::{sync::Arc, time::Duration};

use audiovault_protocol::identity::site::SiteKey;

use super::*;
use crate::{
    admin::auth::{Auth, Credential, LoginError, Password, Passwords},
    limits::{Limits, LimitsConfig},
    model::{
        account::Permission,
        secret::{Secret, TOKEN_LIFE},
    },
    store::{
        NewSite, NewToken,
        fresh::{Fresh, operator},
    },
};

async fn store() -> (Fresh, Store) {
    store_on(Fresh::new().await).await
}

async fn store_on(database: Fresh) -> (Fresh, Store) {
    let store = database.open().await;
    for site in ["acme", "umbrella"] {
        let site = SiteId::parse(site).unwrap();
        let key = SiteKey::from_secret(site.clone(), rand::random()).digest();
        let new = NewSite { site, note: String::new(), aliases: BTreeSet::new(), key };
        store.add_site(&operator(), &new).await.unwrap();
    }
    (database, store)
}

fn named(text: &str) -> Name {
    text.parse().unwrap()
}

fn limited(sites: &[&str]) -> Rights {
    let sites = sites.iter().map(|site| SiteId::parse(site).unwrap()).collect();
    Rights { role: Role::Viewer, scope: Scope::Sites(sites), playback: false }
}

const PASSWORD: &str = "correct horse battery";

async fn add(store: &Store, name: &str, rights: Rights) {
    let password =
        Passwords::default().hash(Password::new(PASSWORD.to_owned(), name).unwrap()).await.unwrap();
    store.add_user(&operator(), &NewUser { name: named(name), rights, password }).await.unwrap();
}

async fn log_in(auth: &Auth, name: &str) -> Credential {
    let client = "192.0.2.1".parse().unwrap();
    let session = auth.log_in(name, Password::claimed(PASSWORD.to_owned()), client).await.unwrap();
    Credential::Session(session.secret.digest())
}

#[tokio::test]
async fn a_user_logs_in_and_every_change_ends_the_session() {
    let (_dir, store) = store().await;
    let auth = Auth::new(store.clone(), Arc::new(Limits::new(&LimitsConfig::default())));
    add(&store, "root", Rights::everything()).await;
    add(&store, "maria", limited(&["acme"])).await;
    let via = log_in(&auth, " Maria ").await;
    let maria = auth.principal(via.clone(), operator().address.unwrap()).await.unwrap().unwrap();
    assert_eq!((maria.name.as_str(), &maria.rights), ("maria", &limited(&["acme"])));
    assert!(maria.may_see(&SiteId::parse("acme").unwrap()) && !maria.may(Permission::ChangeSites));
    store.change_user(&operator(), &named("maria"), &limited(&["acme", "umbrella"])).await.unwrap();
    assert!(auth.principal(via, operator().address.unwrap()).await.unwrap().is_none());

    let via = log_in(&auth, "maria").await;
    let password = Passwords::default().hash(Password::claimed("another one".to_owned())).await.unwrap();
    store.set_password(&operator(), &named("maria"), &password).await.unwrap();
    assert!(auth.principal(via, operator().address.unwrap()).await.unwrap().is_none());
    let refused = auth
        .log_in("maria", Password::claimed(PASSWORD.to_owned()), "192.0.2.1".parse().unwrap())
        .await
        .err();
    assert!(matches!(refused, Some(LoginError::Wrong)));

    let via = log_in(&auth, "root").await;
    let root = auth.principal(via.clone(), operator().address.unwrap()).await.unwrap().unwrap();
    auth.log_out(&root).await.unwrap();
    assert!(auth.principal(via, operator().address.unwrap()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_site_that_is_removed_leaves_every_scope_for_good() {
    let (_dir, store) = store().await;
    let acme = SiteId::parse("acme").unwrap();
    add(&store, "maria", limited(&["acme"])).await;
    let secret = Secret::mint();
    let token = token("ci", &secret, limited(&["acme"]));
    store.add_token(&operator(), &token).await.unwrap();
    store.remove(&operator(), &acme).await.unwrap();
    let key = SiteKey::from_secret(acme.clone(), rand::random()).digest();
    let again = NewSite { site: acme, note: String::new(), aliases: BTreeSet::new(), key };
    let store = store.with_name_rest(Duration::ZERO);
    store.add_site(&operator(), &again).await.unwrap();
    assert_eq!(store.user(&named("maria")).await.unwrap().rights, limited(&[]));
    assert_eq!(store.users().await.unwrap()[0].rights, limited(&[]));
    assert_eq!(store.tokens().await.unwrap()[0].rights, limited(&[]));
}

#[tokio::test]
async fn the_last_user_who_manages_users_stays() {
    let (_dir, store) = store().await;
    add(&store, "root", Rights::everything()).await;
    let root = named("root");
    for refused in [
        store.remove_user(&operator(), &root).await,
        store.change_user(&operator(), &root, &limited(&["acme"])).await,
        store.change_user(&operator(), &root, &Rights { role: Role::Operator, ..Rights::everything() }).await,
    ] {
        assert!(matches!(refused, Err(StoreError::LastManager(_))), "{refused:?}");
    }
    assert_eq!(store.user(&root).await.unwrap().rights, Rights::everything());
    add(&store, "second", Rights::everything()).await;
    store.remove_user(&operator(), &root).await.unwrap();
    assert!(matches!(store.remove_user(&operator(), &root).await, Err(StoreError::UnknownUser(_))));
}

#[tokio::test]
async fn what_is_wrong_is_refused_and_leaves_no_trace() {
    let (_dir, store) = store().await;
    add(&store, "maria", limited(&["acme"])).await;
    let password = PasswordHash::stored(String::new());
    let twice = NewUser { name: named("maria"), rights: limited(&[]), password: password.clone() };
    assert!(matches!(store.add_user(&operator(), &twice).await, Err(StoreError::UserExists(_))));
    let nowhere = NewUser { name: named("jose"), rights: limited(&["nowhere"]), password };
    assert!(matches!(store.add_user(&operator(), &nowhere).await, Err(StoreError::UnknownSite(_))));
    assert!(matches!(store.user(&named("jose")).await, Err(StoreError::UnknownUser(_))));
    assert_eq!(store.users().await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_set_up_link_makes_one_user() {
    let (_dir, store) = store().await;
    let url = crate::admin::auth::offer_setup(&store, "http://127.0.0.1:8090").await.unwrap().unwrap();
    let link = Secret::parse(url.rsplit('/').next().unwrap()).unwrap().digest();
    assert!(store.setup_link_works(&link).await.unwrap());
    assert!(!store.setup_link_works(&Secret::mint().digest()).await.unwrap());
    let password = PasswordHash::stored(String::new());
    let first = NewUser { name: named("root"), rights: Rights::everything(), password };
    let other = store.add_first_user(&operator(), &first, &Secret::mint().digest()).await;
    assert!(matches!(other, Err(StoreError::SetupLinkEnded)));
    store.add_first_user(&operator(), &first, &link).await.unwrap();
    assert!(!store.setup_link_works(&link).await.unwrap());
    let second = NewUser { name: named("second"), ..first };
    assert!(matches!(
        store.add_first_user(&operator(), &second, &link).await,
        Err(StoreError::SetupLinkEnded)
    ));
    assert!(crate::admin::auth::offer_setup(&store, "http://127.0.0.1:8090").await.unwrap().is_none());
}

fn token(name: &str, secret: &Secret, rights: Rights) -> NewToken {
    let expires = Timestamp::now() + TOKEN_LIFE;
    NewToken { name: named(name), digest: secret.digest(), rights, expires, owner: None }
}

#[tokio::test]
async fn a_token_can_do_no_more_than_its_owner_and_ends_with_them() {
    let (_dir, store) = store().await;
    let auth = Auth::new(store.clone(), Arc::new(Limits::new(&LimitsConfig::default())));
    add(&store, "root", Rights::everything()).await;
    add(&store, "maria", Rights::everything()).await;
    let secret = Secret::mint();
    let owner = Some(named("maria"));
    let new = NewToken { owner: owner.clone(), ..token("ci", &secret, Rights::everything()) };
    store.add_token(&operator(), &new).await.unwrap();
    let ask = async || {
        auth.principal(Credential::Token(secret.digest()), operator().address.unwrap()).await.unwrap()
    };
    let holder = ask().await.unwrap();
    assert_eq!((&holder.rights, &holder.owner), (&Rights::everything(), &owner));
    assert_eq!(holder.actor().owner.as_deref(), Some("maria"));
    store.change_user(&operator(), &named("maria"), &limited(&["acme"])).await.unwrap();
    assert_eq!(ask().await.unwrap().rights, limited(&["acme"]));
    store.remove_user(&operator(), &named("maria")).await.unwrap();
    assert!(ask().await.is_none());
    assert!(store.tokens().await.unwrap().is_empty());
    let orphan = NewToken { owner, ..token("other", &Secret::mint(), Rights::everything()) };
    let refused = store.add_token(&operator(), &orphan).await;
    assert!(matches!(refused, Err(StoreError::UnknownUser(_))), "{refused:?}");
}

#[tokio::test]
async fn a_token_works_until_it_ends_or_is_removed() {
    let (_dir, store) = store().await;
    let auth = Auth::new(store.clone(), Arc::new(Limits::new(&LimitsConfig::default())));
    let now = Timestamp::now();
    let mint = async |name: &str, expires| {
        let secret = Secret::mint();
        let new = NewToken { expires, ..token(name, &secret, limited(&["acme"])) };
        store.add_token(&operator(), &new).await.unwrap();
        Credential::Token(secret.digest())
    };
    let lasting = mint("ci", now + TOKEN_LIFE).await;
    let ended = mint("old", now - Duration::from_secs(1)).await;
    assert_eq!(
        auth.principal(lasting.clone(), operator().address.unwrap()).await.unwrap().unwrap().name.as_str(),
        "ci"
    );
    assert!(auth.principal(ended, operator().address.unwrap()).await.unwrap().is_none());
    store.remove_token(&operator(), &named("ci")).await.unwrap();
    assert!(auth.principal(lasting, operator().address.unwrap()).await.unwrap().is_none());
    assert!(matches!(store.remove_token(&operator(), &named("ci")).await, Err(StoreError::UnknownToken(_))));
}

#[tokio::test]
async fn a_locked_database_delays_no_request_and_uses_are_noted_when_it_is_free() {
    // No client can lock out a whole server.
    let (_dir, store) = store_on(Fresh::file()).await;
    let auth = Auth::new(store.clone(), Arc::new(Limits::new(&LimitsConfig::default())));
    add(&store, "maria", limited(&["acme"])).await;
    let session = log_in(&auth, "maria").await;
    let ago = Timestamp::now() - Duration::from_secs(600);
    let Credential::Session(digest) = &session else { panic!("a session") };
    store.touch_session(digest, ago).await.unwrap();
    let secret = Secret::mint();
    let token = token("ci", &secret, limited(&["acme"]));
    store.add_token(&operator(), &token).await.unwrap();
    let seen = async || store.session(digest).await.unwrap().unwrap().times.seen;
    let used = async || store.tokens().await.unwrap()[0].last_used;

    let actor = operator();
    let lock = store.locked(&actor).await.unwrap();
    let ask = async || {
        for via in [session.clone(), Credential::Token(secret.digest())] {
            let asked = tokio::time::timeout(
                Duration::from_secs(2),
                auth.principal(via, operator().address.unwrap()),
            );
            asked.await.expect("it does not wait for the lock").unwrap().expect("the session goes on");
        }
    };
    ask().await;
    assert_eq!((seen().await.as_millisecond(), used().await), (ago.as_millisecond(), None));
    drop(lock);
    let noted = async {
        while seen().await.as_millisecond() == ago.as_millisecond() || used().await.is_none() {
            ask().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), noted).await.unwrap();
}
