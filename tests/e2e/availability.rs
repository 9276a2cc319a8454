//! Programs stop and start; sites come back by themselves.

use harness::{
    agent::{Agent, AgentOptions, CONNECTED},
    client::{body, client, first_link, search, search_with, send},
    recordings::{CALL, one_recording, wav},
    relay::{Relay, Site},
};

#[tokio::test]
async fn an_agent_that_was_killed_and_started_again_serves_again() {
    let relay = Relay::start().await;
    let site = relay.add_site("acme", &[]).await;
    let (dir, client) = (one_recording(), client(&relay));
    for _ in 0..3 {
        let agent = Agent::start(&relay, &site, AgentOptions::new(dir.path())).await;
        search(&client, &site, CALL, &[]).await;
        agent.process.kill().await;
        relay.wait_for_status("acme", |status| status["state"] == "down").await;
        assert_eq!(search_with(&client, &site, CALL, &[]).await.status(), 503);
    }
}

async fn a_killed_relay_comes_back(mut relay: Relay) {
    let site = relay.add_site("acme", &[]).await;
    let (dir, client) = (one_recording(), client(&relay));
    let agent = Agent::start(&relay, &site, AgentOptions::new(dir.path())).await;
    search(&client, &site, CALL, &[]).await;
    let mark = agent.process.mark();
    relay.kill().await;
    agent.process.wait_for_after(mark, "dialling again").await;
    relay.restart().await;
    agent.process.wait_for_code_after(mark, CONNECTED).await;
    let found = search(&client, &site, CALL, &[]).await;
    assert_eq!(body(send(client.get(first_link(&found))).await).await, (200, wav(1.0, 1)));
}

#[tokio::test]
async fn a_relay_that_was_killed_and_started_again_has_its_agents_back_over_ws() {
    a_killed_relay_comes_back(Relay::start().await).await;
}

#[tokio::test]
async fn a_relay_that_was_killed_and_started_again_has_its_agents_back_over_wss() {
    a_killed_relay_comes_back(Relay::start_tls().await).await;
}

#[tokio::test]
async fn two_agents_of_a_site_serve_together_and_links_reach_their_own_agent() {
    let relay = Relay::start().await;
    let site = relay.add_site("acme", &[]).await;
    let (dir, client) = (one_recording(), client(&relay));
    let first = Agent::start(&relay, &site, AgentOptions::new(dir.path())).await;
    let first_made = first_link(&search(&client, &site, CALL, &[]).await);
    let second = Agent::start(&relay, &site, AgentOptions::new(dir.path())).await;
    let status = relay.wait_for_status("acme", |status| status["sessions"][1].is_object()).await;
    assert_ne!(status["sessions"][0]["instance"], status["sessions"][1]["instance"]);
    assert_eq!(send(client.get(&first_made)).await.status(), 200);
    first.process.kill().await;
    relay.wait_for_status("acme", |status| status["sessions"][1].is_null()).await;
    search(&client, &site, CALL, &[]).await;
    assert_eq!(send(client.get(&first_made)).await.status(), 410, "no agent has its key any more");
    drop(second);
}

#[tokio::test]
async fn a_disabled_site_drops_its_tunnel_and_comes_back_when_enabled() {
    let relay = Relay::start().await;
    let site = relay.add_site("acme", &[]).await;
    let (dir, client) = (one_recording(), client(&relay));
    let agent = Agent::start(&relay, &site, AgentOptions::new(dir.path())).await;
    let link = first_link(&search(&client, &site, CALL, &[]).await);
    let mark = agent.process.mark();
    relay.site_command(&["disable", "acme"]).await;
    agent.process.wait_for_code_after(mark, "tunnel.ended").await;
    let status = relay.wait_for_status("acme", |status| status["state"] == "disabled").await;
    assert!(status["sessions"].as_array().unwrap().is_empty());
    assert_eq!(search_with(&client, &site, CALL, &[]).await.status(), 503);
    assert_eq!(send(client.get(&link)).await.status(), 503);
    let line = agent.process.wait_for_code_after(mark, "tunnel.refused").await;
    assert!(line.contains("403"), "{line}");
    relay.site_command(&["enable", "acme"]).await;
    agent.process.wait_for_code_after(mark, CONNECTED).await;
    assert_eq!(
        send(client.get(&link)).await.status(),
        200,
        "it is the same run of the agent, so its links are valid"
    );
}

#[tokio::test]
async fn a_key_rotates_without_a_gap_and_a_revoked_key_is_out() {
    let relay = Relay::start().await;
    let old = relay.add_site("acme", &[]).await;
    let (dir, client) = (one_recording(), client(&relay));
    let agent = Agent::start(&relay, &old, AgentOptions::new(dir.path())).await;
    let rotated = relay.site_command(&["rotate-key", "acme"]).await;
    let mut new = old.clone();
    new.site_key = rotated["site_key"].as_str().unwrap().to_owned();
    let second = Agent::spawn(&relay, &new, AgentOptions::new(dir.path()));
    second.process.wait_for_code(CONNECTED).await;
    search(&client, &old, CALL, &[]).await;
    let mark = agent.process.mark();
    relay.site_command(&["revoke-key", "acme"]).await;
    let line = agent.process.wait_for_code_after(mark, "tunnel.ended").await;
    assert!(line.contains("4002"), "{line}");
    let refused = agent.process.wait_for_code_after(mark, "tunnel.refused").await;
    assert!(refused.contains("401"), "{refused}");
    search(&client, &old, CALL, &[]).await;
}

#[tokio::test]
async fn a_site_added_by_another_process_is_there_at_once_and_a_removed_one_is_gone() {
    let relay = Relay::start().await;
    let client = client(&relay);
    let site = relay.add_site("late", &["latecomer"]).await;
    relay.wait_for_status("late", |status| status["state"] == "never_seen").await;
    let dir = one_recording();
    let agent = Agent::start(&relay, &site, AgentOptions::new(dir.path())).await;
    search(&client, &site, CALL, &[]).await;
    drop(agent);
    let mark = relay.process().mark();
    relay.site_command(&["remove", "late"]).await;
    relay.process().wait_for_code_after(mark, "sites.changed").await;
    relay.wait_for_status("late", serde_json::Value::is_null).await;
    assert_eq!(search_with(&client, &site, CALL, &[]).await.status(), 401);
}

#[tokio::test]
async fn searches_are_spread_over_the_agents_of_a_site_and_a_shared_secret_lets_any_open_a_link() {
    let relay = Relay::start().await;
    let site = relay.add_site("acme", &[]).await;
    let (dir, client) = (one_recording(), client(&relay));
    let secret = dir.path().join("link.secret");
    let options = || AgentOptions::new(dir.path()).with(&["--link-secret-file", secret.to_str().unwrap()]);
    let first = Agent::start(&relay, &site, options()).await;
    let second = Agent::start(&relay, &site, options()).await;
    relay.wait_for_status("acme", |status| status["sessions"][1].is_object()).await;
    let mut link = String::new();
    for _ in 0..6 {
        link = first_link(&search(&client, &site, CALL, &[]).await);
    }
    let searches =
        |agent: &Agent| agent.process.log().iter().filter(|line| line.contains("kind=\"search\"")).count();
    first.process.wait_for_times("kind=\"search\"", 3).await;
    second.process.wait_for_times("kind=\"search\"", 3).await;
    assert_eq!((searches(&first), searches(&second)), (3, 3), "one by one, in turns");
    for gone in [first, second] {
        gone.process.kill().await;
        let _another = Agent::start(&relay, &site, options()).await;
        assert_eq!(body(send(client.get(&link)).await).await, (200, wav(1.0, 1)));
    }
}

#[tokio::test]
async fn one_agent_serves_through_two_connections_to_each_of_two_relays_and_either_may_die() {
    let database = tempfile::tempdir().unwrap();
    let mut relays = [Relay::start_on(database.path()).await, Relay::start_on(database.path()).await];
    let site = relays[0].add_site("acme", &[]).await;
    let at = |relay: &Relay| Site { search_url: format!("{}/acme/search", relay.url()), ..site.clone() };
    let (here, there) = (at(&relays[0]), at(&relays[1]));
    let (dir, client) = (one_recording(), client(&relays[0]));
    let both = relays.iter().map(Relay::tunnel_url).collect::<Vec<_>>().join(",");
    let options = AgentOptions::new(dir.path()).through(both).with(&["--connections", "2"]);
    let agent = Agent::start(&relays[0], &here, options).await;
    for relay in &relays {
        relay.wait_for_status("acme", |status| status["sessions"][1].is_object()).await;
    }
    for (dies, site) in [(0, &there), (1, &here)] {
        let link = first_link(&search(&client, site, CALL, &[]).await);
        let mark = agent.process.mark();
        relays[dies].kill().await;
        agent.process.wait_for_after(mark, "dialling again").await;
        assert_eq!(body(send(client.get(&link)).await).await, (200, wav(1.0, 1)));
        search(&client, site, CALL, &[]).await;
        relays[dies].restart().await;
        relays[dies].wait_for_status("acme", |status| status["sessions"][1].is_object()).await;
    }
}
