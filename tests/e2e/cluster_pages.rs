//! Operators of several relays: every relay shows all sites, and a login at one relay is valid at all.

use harness::{
    agent::{Agent, AgentOptions},
    browser::Browser,
    client::search,
    cluster::{Cluster, client},
    operator::Operator,
    recordings::{CALL, one_recording},
};

use crate::dashboard::assert_no_barriers;

#[tokio::test]
async fn any_relay_shows_all_sites_and_knows_who_is_logged_in() {
    let Some(cluster) = Cluster::start(2).await else { return };
    let (site, recordings) = (cluster.relays[0].add_site("acme", &[]).await, one_recording());
    cluster.relays[0].add_user("maria", &["--role", "admin"]).await;
    let options = AgentOptions::new(recordings.path()).through(cluster.tunnel_url());
    let agent = Agent::start(&cluster.relays[0], &site, options).await;
    let holder = cluster.holder("acme").await;
    let other = &cluster.relays[1 - holder];

    let browser = Browser::start().await;
    browser.log_in(other, "maria").await;
    browser.find("tr[data-site='acme'] .state-up").await;
    search(&client(), &cluster.at(1 - holder, &site), CALL, &[]).await;
    search(&client(), &cluster.at(holder, &site), CALL, &[]).await;
    browser
        .wait_until("document.querySelector(\"[data-site=acme] [data-field=searches_last_hour]\").textContent.trim() === '2'")
        .await;
    let health = browser.read("#relay-health").await;
    assert!(health.contains("2 relays") && health.contains(&cluster.nodes[holder]), "{health}");
    assert_no_barriers(&browser, "board-cluster").await;
    browser.open(&format!("{}/sites/acme", other.admin_url())).await;
    let page = browser.read("main").await;
    assert!(page.contains(&cluster.nodes[holder]), "{page}");
    assert_no_barriers(&browser, "site-cluster").await;

    // All relays share users and their sessions.
    let here = Operator::log_in(other, "maria").await;
    let mut there = Operator::logged_out(&cluster.relays[holder]);
    there.cookie.clone_from(&here.cookie);
    assert!(there.page("/").await.contains("acme"));

    drop(agent);
    browser.open(&other.admin_url()).await;
    browser.find("tr[data-site='acme'] .state-down").await;
    browser.close().await;
}
