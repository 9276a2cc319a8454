//! A peer that supports only a later version of the protocol.

use harness::{
    agent::{Agent, AgentOptions},
    client::send,
    matrix,
    relay::Relay,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::setting::Setting;

/// The response of a relay of the far future to an agent of today.
const TOO_OLD: &str = "HTTP/1.1 426 Upgrade Required\r\ncontent-type: application/problem+json\r\n\
    connection: close\r\nsec-websocket-protocol: audiovault-tunnel.v9\r\ncontent-length: 108\r\n\r\n\
    {\"status\":426,\"title\":\"Upgrade Required\",\"detail\":\"this relay speaks version 9 and later; update the agent\"}";

#[tokio::test]
async fn an_agent_of_a_later_version_learns_which_of_the_two_is_older() {
    let setting = Setting::new(Relay::start().await).await;
    let request = setting.client.get(format!("{}/tunnel", setting.relay.url()));
    let request = request
        .bearer_auth(&setting.site.site_key)
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-protocol", "audiovault-tunnel.v9");
    let answer = send(request).await;
    assert_eq!(answer.status(), 426);
    assert_eq!(answer.headers()["sec-websocket-protocol"], "audiovault-tunnel.v1");
    let said = answer.text().await.unwrap();
    assert!(said.contains("no protocol version in common; update the older of the two"), "{said}");
    let promise = "426 with the version of the relay, before the upgrade to a WebSocket";
    matrix::row("versions", "an agent that supports only a later version", promise, "as promised");
}

#[tokio::test]
async fn a_relay_of_a_later_version_is_logged_and_asked_again() {
    let setting = Setting::new(Relay::start().await).await;
    let later = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = AgentOptions::new(setting.recordings.path());
    let options = options.through(format!("ws://{}", later.local_addr().unwrap()));
    let agent = Agent::spawn(&setting.relay, &setting.site, options);
    let (mut stream, _) = later.accept().await.unwrap();
    let mut request = vec![0; 4096];
    let _ = stream.read(&mut request).await.unwrap();
    stream.write_all(TOO_OLD.as_bytes()).await.unwrap();
    let line = agent.process.wait_for_code("tunnel.refused").await;
    assert!(line.contains("426") && line.contains("update the agent"), "{line}");
    let promise = "one line in the log with the text of the relay, then rare new attempts";
    matrix::row("versions", "a relay that supports only a later version", promise, "as promised");
}
