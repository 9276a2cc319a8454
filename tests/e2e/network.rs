//! Networks between a site and its relay: address translation, firewalls, and addresses that change.

use harness::process::has_code;
use harness::{
    agent::{Agent, AgentOptions, CONNECTED},
    client::{body, client, first_link, search, send},
    network::{Network, ROUTER},
    process::PATIENCE,
    recordings::{CALL, noise, one_recording, write},
    relay::Relay,
};
use tokio::net::TcpStream;

/// How many packets the router and the site have refused.
fn refused(network: &Network) -> u64 {
    let count = |side: &str| {
        let said = network.sh(&format!("ip netns exec ${side} nft list counter inet wall refused"));
        let mut words = said.split_whitespace().skip_while(|word| *word != "packets");
        words.nth(1).unwrap().parse::<u64>().unwrap()
    };
    count("nat") + count("site")
}

#[tokio::test]
async fn an_agent_behind_translation_with_every_inbound_packet_dropped_serves() {
    let Some(network) = Network::enter() else { return };
    let relay = Relay::start_at(Network::relay_address()).await;
    let site = relay.add_site("acme", &[]).await;
    let dir = one_recording();
    let long = noise(3_000_000, 4);
    write(dir.path(), "in-1711441902.18.mp3", &long);
    let options = AgentOptions::new(dir.path()).inside(network.site());
    let _agent = Agent::start(&relay, &site, options).await;
    let client = client(&relay);
    let link = first_link(&search(&client, &site, "1711441902.18", &[]).await);
    assert_eq!(body(send(client.get(&link)).await).await, (200, long));

    let status = relay.status("acme").await;
    assert_eq!(status["sessions"][0]["address"], ROUTER, "the relay sees only the router");
    // No incoming connection is accepted, on any port.
    let before = refused(&network);
    for port in [80, 443, 4040, relay.address.port()] {
        let attempt = TcpStream::connect((ROUTER, port));
        let connected = tokio::time::timeout(std::time::Duration::from_millis(300), attempt).await;
        assert!(!matches!(connected, Ok(Ok(_))), "port {port} is open");
    }
    assert!(refused(&network) >= before + 4, "each attempt was dropped");
    search(&client, &site, CALL, &[]).await;
}

#[tokio::test]
async fn an_agent_whose_address_changes_comes_back_from_the_new_one() {
    let Some(network) = Network::enter() else { return };
    let relay = Relay::start_at(Network::relay_address()).await;
    let site = relay.add_site("acme", &[]).await;
    let dir = one_recording();
    let options = AgentOptions::new(dir.path()).inside(network.site());
    let agent = Agent::start(&relay, &site, options).await;
    let client = client(&relay);
    search(&client, &site, CALL, &[]).await;
    let mark = agent.process.mark();
    network.sh("ip -n $site addr del 192.168.77.2/24 dev wire
         ip -n $site addr add 192.168.77.3/24 dev wire
         ip -n $site route add default via 192.168.77.1");
    // The kernel reports nothing to the agent; the keep-alive gives up the old tunnel after 45 s of silence.
    tokio::time::timeout(2 * PATIENCE, async {
        while !agent.process.log().iter().skip(mark).any(|line| has_code(line, CONNECTED)) {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    })
    .await
    .unwrap();
    search(&client, &site, CALL, &[]).await;
    let flows = network.sh("ip netns exec $site ss -Htn state established '( dport = :443 )'");
    assert!(flows.contains("192.168.77.3"), "{flows}");
}
