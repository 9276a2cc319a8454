//! What programs do through the API, besides the requests that schemathesis makes up.

use harness::{
    agent::{Agent, AgentOptions},
    client::{client, first_link, search, send},
    operator::Api,
    process::{PATIENCE, run},
    recordings::{CALL, one_recording},
    relay::Relay,
};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Two sites; a recording of each was searched for and delivered.
struct Served {
    relay: Relay,
    _agents: [Agent; 2],
    _recordings: TempDir,
}

async fn served() -> Served {
    let relay = Relay::start().await;
    let recordings = one_recording();
    let client = client(&relay);
    let mut agents = Vec::new();
    for name in ["acme", "umbrella"] {
        let site = relay.add_site(name, &[]).await;
        agents.push(Agent::start(&relay, &site, AgentOptions::new(recordings.path())).await);
        let link = first_link(&search(&client, &site, CALL, &[("user", "robin")]).await);
        send(client.get(&link)).await.bytes().await.unwrap();
    }
    relay.audit(4).await;
    let agents = agents.try_into().unwrap();
    Served { relay, _agents: agents, _recordings: recordings }
}

/// This many events; none of them is still running.
async fn events(api: &Api, query: &str, count: usize) -> Vec<Value> {
    let (status, answer) = api.get(&format!("/api/v1/audit?{query}")).await;
    assert_eq!(status, 200, "{answer}");
    let events = answer["events"].as_array().unwrap();
    assert_eq!(events.len(), count, "{query}: {answer}");
    assert!(events.iter().all(|event| event["outcome"] != "open"), "{answer}");
    events.clone()
}

#[tokio::test]
async fn a_program_reads_the_audit_page_by_page_narrowed_and_as_csv() {
    let served = served().await;
    let api = Api::admin(&served.relay).await;
    let all = events(&api, "", 4).await;
    let delivery =
        events(&api, "site=umbrella&kind=delivery&outcome=complete&user=robin", 1).await[0].clone();
    assert_eq!((&delivery["site"], &delivery["call_id"]), (&json!("umbrella"), &json!(CALL)));
    assert_eq!(delivery["bytes"], delivery["size"], "{delivery}");
    assert_eq!(events(&api, &format!("call_id={}", CALL.replace('.', "_")), 4).await, all);
    assert!(events(&api, "until=2020-01-01T00:00:00Z", 0).await.is_empty());

    let (mut paged, mut next) = (Vec::new(), json!(""));
    while let Some(after) = next.as_str() {
        let after = if after.is_empty() { String::new() } else { format!("&after={after}") };
        let (_, page) = api.get(&format!("/api/v1/audit?limit=3{after}")).await;
        paged.extend(page["events"].as_array().unwrap().clone());
        next = page["next"].clone();
    }
    assert_eq!(paged, all, "the pages together are the whole list");

    let csv = api.request(Method::GET, "/api/v1/audit.csv?site=acme").send().await.unwrap();
    assert!(csv.headers()["content-type"].to_str().unwrap().starts_with("text/csv"));
    let csv = csv.text().await.unwrap();
    let database = served.relay.database();
    let export = ["audit", "export", "--site", "acme", "--database", &database];
    assert_eq!(csv, run("audiovault-relay", &export, &[]).await.1, "the command line prints the same");

    for (query, status, about) in [
        ("sit=acme", 400, "sit"),
        ("kind=listen", 400, "listen"),
        ("after=then", 400, "not a position in the audit log"),
        ("from=yesterday", 400, ""),
        ("limit=0", 422, "1 to 1000"),
    ] {
        let (given, problem) = api.get(&format!("/api/v1/audit?{query}")).await;
        assert_eq!(given, status, "{query}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(about), "{problem}");
    }
}

#[tokio::test]
async fn the_audit_of_other_sites_does_not_exist_and_is_erased_by_those_who_see_all() {
    let served = served().await;
    let all = Api::admin(&served.relay).await;
    events(&all, "", 4).await;
    let limited = Api::with(&served.relay, "limited", &["--role", "admin", "--site", "acme"]).await;
    let own = events(&limited, "", 2).await;
    assert!(own.iter().all(|event| event["site"] == "acme"), "{own:?}");
    assert!(events(&limited, "site=umbrella", 0).await.is_empty());
    let csv = limited.request(Method::GET, "/api/v1/audit.csv").send().await.unwrap().text().await.unwrap();
    assert!(csv.contains("acme") && !csv.contains("umbrella"), "{csv}");
    let call = format!("/api/v1/audit/calls/{CALL}");
    assert_eq!(limited.call(Method::DELETE, &call, None).await.0, 403, "the call may be another site's");
    assert_eq!(all.call(Method::DELETE, &call, None).await, (200, json!({"erased": 4})));
    assert_eq!(all.call(Method::DELETE, &call, None).await, (200, json!({"erased": 0})));
    assert!(events(&all, "", 0).await.is_empty());
}

#[tokio::test]
async fn a_program_watches_a_site_come_up() {
    let relay = Relay::start().await;
    let site = relay.add_site("acme", &[]).await;
    relay.wait_for_status("acme", |status| !status.is_null()).await;
    let api = Api::admin(&relay).await;
    let mut watched = api.request(Method::GET, "/api/v1/events").send().await.unwrap();
    assert_eq!(watched.headers()["content-type"], "text/event-stream");
    let recordings = one_recording();
    let _agent = Agent::start(&relay, &site, AgentOptions::new(recordings.path())).await;
    let mut received = String::new();
    let up = async {
        while !received.contains(r#""state":"up""#) {
            let chunk = watched.chunk().await.unwrap().expect("the relay continues to send");
            received.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    };
    tokio::time::timeout(PATIENCE, up).await.unwrap();
    assert!(received.contains("event: board") && received.contains(r#""site":"acme""#), "{received}");
}
