//! What operators do on pages, by the API and on the command line is in the operators' events.

use harness::{
    operator::{Api, Operator, PASSWORD},
    process::run,
    relay::Relay,
};
use reqwest::Method;
use serde_json::{Value, json};

async fn events(api: &Api, query: &str) -> Vec<Value> {
    let (status, answer) = api.get(&format!("/api/v1/operator-events?{query}")).await;
    assert_eq!(status, 200, "{answer}");
    answer["events"].as_array().unwrap().clone()
}

#[tokio::test]
async fn changes_by_page_program_and_command_line_are_events_that_nothing_erases() {
    let relay = Relay::start().await;
    relay.add_user("maria", &["--role", "admin", "--playback"]).await;
    let maria = Operator::log_in(&relay, "maria").await;
    let api = Api::admin(&relay).await;
    assert_eq!(maria.post("/sites/new", &[("site", "acme"), ("note", "Acme")]).await.status(), 200);
    assert_eq!(api.post("/api/v1/sites/acme/keys", &Value::Null).await.0, 201);
    relay.site_command(&["disable", "acme"]).await;
    let of_site = events(&api, "site=acme").await;
    let listed: Vec<_> = of_site
        .iter()
        .map(|event| (event["action"].as_str().unwrap(), event["actor_kind"].as_str().unwrap()))
        .collect();
    let expected = [("site.disabled", "command_line"), ("site.key_added", "token"), ("site.added", "user")];
    assert_eq!(listed, expected);
    assert_eq!((&of_site[2]["actor"], &of_site[2]["address"]), (&json!("maria"), &json!("127.0.0.1")));
    assert_eq!(of_site[2]["after"]["note"], "Acme");
    assert_eq!((&of_site[0]["address"], &of_site[0]["before"]), (&Value::Null, &json!({"disabled": false})));

    assert_eq!(maria.get("/audit").await.status(), 200);
    assert_eq!(api.request(Method::GET, "/api/v1/audit.csv?site=acme").send().await.unwrap().status(), 200);
    let erased = api.call(Method::DELETE, "/api/v1/audit/calls/1711441902.1?reason=asked", None).await;
    assert_eq!(erased, (200, json!({"erased": 0})));
    let database = relay.database();
    let (code, ..) = run("audiovault-relay", &["audit", "export", "--database", &database], &[]).await;
    assert_eq!(code, 0);
    let exported = events(&api, "action=audit.exported").await;
    assert_eq!((exported.len(), &exported[1]["site"]), (2, &json!("acme")), "{exported:?}");
    assert_eq!(events(&api, "action=audit.read&actor=maria").await.len(), 1);
    assert_eq!(events(&api, "action=audit.erased").await[0]["reason"], "asked");

    let page = maria.page("/operator-events?site=acme").await;
    assert!(page.contains("Site added") && page.contains("command line"), "{page}");
    let csv = api.request(Method::GET, "/api/v1/operator-events.csv").send().await.unwrap();
    let csv = csv.text().await.unwrap();
    let printed = run("audiovault-relay", &["audit", "operators", "--database", &database], &[]).await.1;
    assert!(printed.ends_with(csv.split_once('\n').unwrap().1), "the command line prints the same");
    assert!(!csv.contains(PASSWORD) && !csv.contains("avk_") && !csv.contains("avt_"), "{csv}");

    for method in [Method::DELETE, Method::PUT, Method::POST] {
        let (status, _) = api.call(method, "/api/v1/operator-events", None).await;
        assert_eq!(status, 405, "no request changes the events");
    }
    let short = ["serve", "--public-url", "http://relay.example.com", "--database", &database];
    let short = [&short[..], &["--operator-events-keep", "1day"]].concat();
    let (code, _, said) = run("audiovault-relay", &short, &[]).await;
    assert!(code == 2 && said.contains("90days"), "retention cannot be used to erase: {said}");
}

#[tokio::test]
async fn a_user_of_one_site_sees_only_the_events_of_that_site() {
    let relay = Relay::start().await;
    for site in ["acme", "umbrella"] {
        relay.add_site(site, &[]).await;
        relay.wait_for_status(site, |status| !status.is_null()).await;
    }
    let limited = Api::with(&relay, "limited", &["--site", "acme"]).await;
    let seen = events(&limited, "").await;
    assert!(!seen.is_empty() && seen.iter().all(|event| event["site"] == "acme"), "{seen:?}");
    let csv = limited.request(Method::GET, "/api/v1/operator-events.csv").send().await.unwrap();
    assert!(!csv.text().await.unwrap().contains("umbrella"));
}
