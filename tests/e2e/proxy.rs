//! The relay behind nginx, configured as in docs/relay/proxy.md: tunnels, searches, ranges and streams arrive
//! complete, and the log has the address of the client.

use std::{net::IpAddr, time::Duration};

use harness::{
    agent::{Agent, AgentOptions},
    client::{body, client, first_link, search, send},
    nginx::{self, Nginx},
    recordings::{CALL, noise, one_recording, write},
    relay::{Relay, Site},
};
use reqwest::{Client, header::RANGE};

#[tokio::test]
async fn everything_comes_through_nginx_and_the_client_is_known() {
    let relay = Relay::start_with(&["--trusted-proxy", nginx::SOURCE], false).await;
    let Some(nginx) = Nginx::start(relay.address).await else { return };
    let through = |url: &str| url.replacen(&relay.address.to_string(), &nginx.address.to_string(), 1);
    let site = relay.add_site("acme", &[]).await;
    let dir = one_recording();
    // More than all socket buffers on the way can hold.
    let content = noise(96 * 1024 * 1024, 1);
    write(dir.path(), "in-1711441902.99.wav", &content);
    // The tunnel of the agent also goes through the proxy.
    let options = AgentOptions::new(dir.path()).through(format!("ws://{}", nginx.address));
    let _agent = Agent::start(&relay, &site, options).await;
    let site = Site { search_url: through(&site.search_url), ..site };

    let client = client(&relay);
    let link = through(&first_link(&search(&client, &site, "1711441902.99", &[]).await));
    assert!(body(send(client.get(&link)).await).await == (200, content.clone()), "a whole recording");
    let part = send(client.get(&link).header(RANGE, "bytes=1000000-1999999")).await;
    assert_eq!(part.headers()["content-range"], format!("bytes 1000000-1999999/{}", content.len()));
    assert!(body(part).await == (206, content[1_000_000..2_000_000].to_vec()), "a part of it");

    // The proxy buffers nothing: a listener who pauses stops the agent.
    let mut paused = send(client.get(&link)).await;
    paused.chunk().await.unwrap().unwrap();
    relay.wait_for_status("acme", |status| status["sessions"][0]["open_streams"] == 1).await;
    let received = async || relay.status("acme").await["sessions"][0]["bytes_received"].as_u64().unwrap();
    let mut before = received().await;
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = received().await;
        if now - before < 64 * 1024 {
            break;
        }
        before = now;
    }
    assert_eq!(relay.status("acme").await["sessions"][0]["open_streams"], 1, "not all of it was sent");
    let mut bytes = Vec::new();
    while let Some(chunk) = paused.chunk().await.unwrap() {
        bytes.extend_from_slice(&chunk);
    }
    assert!(bytes.len() < content.len() && content.ends_with(&bytes), "the rest arrives when it is read");

    search(&client, &site, CALL, &[]).await;

    // A client, with or without the proxy, is known by its real address, not by one that it makes up.
    let visitor = Client::builder().local_address(IpAddr::from([127, 0, 0, 77])).build().unwrap();
    for address in [nginx.address, relay.address] {
        let mark = relay.process().mark();
        let forged = visitor.get(format!("http://{address}/")).header("x-forwarded-for", "192.0.2.1");
        let id = send(forged).await.headers()["x-request-id"].to_str().unwrap().to_owned();
        let line = relay.process().wait_for_after(mark, &id).await;
        assert!(line.contains("client=127.0.0.77"), "{line}");
    }
}
