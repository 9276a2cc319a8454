//! Searches and deliveries are in the audit log, and can be erased from it.

use harness::{
    agent::{Agent, AgentOptions},
    client::{client, first_link, search, send},
    process::run,
    recordings::{CALL, one_recording},
    relay::Relay,
};

#[tokio::test]
async fn a_search_and_a_delivery_are_in_the_audit_log_until_the_call_is_erased() {
    let relay = Relay::start().await;
    let site = relay.add_site("acme", &[]).await;
    let dir = one_recording();
    let _agent = Agent::start(&relay, &site, AgentOptions::new(dir.path())).await;
    let client = client(&relay);
    let link = first_link(&search(&client, &site, CALL, &[("user", "robin")]).await);
    let part = send(client.get(&link).header("range", "bytes=100-299")).await;
    assert_eq!(part.bytes().await.unwrap().len(), 200);

    let record = relay.audit(2).await;
    let line = |kind: &str| record.iter().find(|line| line.contains(kind)).unwrap().clone();
    let search = line(",search,");
    assert!(search.contains(CALL) && search.contains(",robin,") && search.contains(",complete,"), "{search}");
    let delivery = line(",delivery,");
    assert!(
        delivery.contains(CALL)
            && delivery.contains(",robin,")
            && delivery.contains(",206,complete,,100,200,"),
        "{delivery}"
    );

    let copy = dir.path().join("copy.db").display().to_string();
    let database = relay.database();
    let (_, said, _) = run("audiovault-relay", &["audit", "erase", CALL, "--database", &database], &[]).await;
    assert!(said.starts_with("2 audit events"), "{said}");
    relay.audit(0).await;
    let (code, _, err) = run("audiovault-relay", &["backup", &copy, "--database", &database], &[]).await;
    assert_eq!(code, 0, "{err}");
    let bytes = std::fs::read(&copy).unwrap();
    assert!(!bytes.windows(CALL.len()).any(|window| window == CALL.as_bytes()));
}
