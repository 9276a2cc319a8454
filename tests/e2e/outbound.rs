//! How the agent connects: through proxies, to names whose address changes, and past addresses that do not respond.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Instant};

use harness::{
    address::free_address,
    agent::{Agent, AgentOptions, CONNECTED},
    client::{body, client, first_link, search},
    names::{NameServer, Names},
    process::skip,
    proxy_server::{CREDENTIALS, ProxyServer},
    recordings::{CALL, one_recording, wav},
    relay::{Relay, Site},
};
use reqwest::{Certificate, Client};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

const NAME: &str = "relay.example.test";

/// A search and a download of the whole recording.
async fn serves(client: &Client, site: &Site) {
    let found = search(client, site, CALL, &[]).await;
    let response = client.get(first_link(&found)).send().await.unwrap();
    assert_eq!(body(response).await, (200, wav(1.0, 1)));
}

/// A client that knows the address of the relay's name, which other programs may not know.
fn knowing_client(relay: &Relay) -> Client {
    let pem = std::fs::read(&relay.certificate().unwrap().certificate).unwrap();
    let builder = Client::builder().tls_certs_only([Certificate::from_pem(&pem).unwrap()]);
    builder.resolve(NAME, relay.address).build().unwrap()
}

fn credentials(dir: &TempDir, text: &str) -> String {
    let file: PathBuf = dir.path().join("proxy");
    std::fs::write(&file, text).unwrap();
    file.display().to_string()
}

fn by_name(relay: &Relay) -> String {
    format!("wss://{NAME}:{}", relay.address.port())
}

async fn a_tunnel_goes_through(scheme: &str, proxy: &ProxyServer) {
    let relay = Relay::start_tls().await;
    let site = relay.add_site("acme", &[]).await;
    let (dir, secrets) = (one_recording(), TempDir::new().unwrap());
    let (proxy_url, file) = (format!("{scheme}://{}", proxy.address), credentials(&secrets, CREDENTIALS));
    let options =
        AgentOptions::new(dir.path()).with(&["--proxy", &proxy_url, "--proxy-credentials-file", &file]);
    let agent = Agent::start(&relay, &site, options).await;
    serves(&client(&relay), &site).await;
    // What is in the proxy's log went through the proxy.
    proxy.process.wait_for(&relay.address.ip().to_string()).await;
    assert!(!agent.process.log().concat().contains("s3cr3t"), "{:#?}", agent.process.log());
}

#[tokio::test]
async fn an_http_proxy_that_wants_a_password_gets_it_and_carries_the_tunnel() {
    let Some(proxy) = ProxyServer::http(None).await else { return };
    a_tunnel_goes_through("http", &proxy).await;
    let log = proxy.process.log().concat();
    assert!(log.contains("CONNECT 127."), "{log}");
}

#[tokio::test]
async fn a_socks_proxy_that_wants_a_password_gets_it_and_carries_the_tunnel() {
    let Some(proxy) = ProxyServer::socks(None).await else { return };
    a_tunnel_goes_through("socks5", &proxy).await;
}

#[tokio::test]
async fn a_proxy_that_wants_another_password_is_named_with_its_own_words_and_never_the_password() {
    let relay = Relay::start_tls().await;
    let site = relay.add_site("acme", &[]).await;
    let (dir, secrets) = (one_recording(), TempDir::new().unwrap());
    let wrong = credentials(&secrets, "maria:wr0ng");
    let refused = async |proxy_url: &str, extra: &[&str]| {
        let options = AgentOptions::new(dir.path()).with(&["--proxy", proxy_url]).with(extra);
        let agent = Agent::spawn(&relay, &site, options);
        let line = agent.process.wait_for_code("tunnel.refused").await;
        assert!(line.contains(&format!("cannot connect through the proxy {proxy_url}")), "{line}");
        assert!(!agent.process.log().concat().contains("wr0ng"), "{:#?}", agent.process.log());
        line
    };
    let with_wrong = ["--proxy-credentials-file", &wrong];
    if let Some(proxy) = ProxyServer::http(None).await {
        let url = format!("http://{}", proxy.address);
        let line = refused(&url, &[]).await;
        assert!(
            line.contains("requires a user and a password (407 Proxy Authentication Required)"),
            "{line}"
        );
        let line = refused(&url, &with_wrong).await;
        assert!(line.contains("does not accept the user and password (401 Unauthorized)"), "{line}");
    }
    if let Some(proxy) = ProxyServer::socks(None).await {
        let url = format!("socks5h://{}", proxy.address);
        let line = refused(&url, &[]).await;
        assert!(
            line.contains("requires a user and a password (SOCKS: no acceptable auth methods)"),
            "{line}"
        );
        let line = refused(&url, &with_wrong).await;
        assert!(line.contains("does not accept the user and password (SOCKS:"), "{line}");
    }
}

#[tokio::test]
async fn hosts_of_no_proxy_are_reached_without_the_proxy() {
    let relay = Relay::start_tls().await;
    let site = relay.add_site("acme", &[]).await;
    let dir = one_recording();
    // Nothing listens there, so a connection through it fails.
    let nowhere = format!("http://{}", free_address());
    let options = || AgentOptions::new(dir.path()).with(&["--proxy", &nowhere]);
    let lost = Agent::spawn(&relay, &site, options());
    let line = lost.process.wait_for("dialling again").await;
    assert!(line.contains("cannot reach the proxy"), "{line}");
    drop(lost);
    let agent = Agent::start(&relay, &site, options().variable("NO_PROXY", "example.com, 127.0.0.0/8")).await;
    serves(&client(&relay), &site).await;
    drop(agent);
    let options = AgentOptions::new(dir.path()).with(&["--proxy", "none"]).variable("HTTPS_PROXY", nowhere);
    Agent::start(&relay, &site, options).await;
}

#[tokio::test]
async fn the_environments_proxy_carries_the_tunnel() {
    let relay = Relay::start_named(NAME).await;
    let Some(names) = Names::new(&format!("{} {NAME}\n", relay.address.ip()), None) else { return };
    let names = Arc::new(names);
    let Some(proxy) = ProxyServer::http(Some(&names)).await else { return };
    let site = relay.add_site("acme", &[]).await;
    let dir = one_recording();
    let options = AgentOptions::new(dir.path())
        .through(by_name(&relay))
        .believing(&names)
        .variable("HTTPS_PROXY", format!("http://{CREDENTIALS}@{}", proxy.address));
    Agent::start(&relay, &site, options).await;
    proxy.process.wait_for(&format!("CONNECT {NAME}:{}", relay.address.port())).await;
}

#[tokio::test]
async fn a_name_that_only_the_socks_proxy_knows_is_resolved_there() {
    let relay = Relay::start_named(NAME).await;
    let there = Names::new(&format!("{} {NAME}\n", relay.address.ip()), None);
    let (Some(there), Some(here)) = (there, Names::new("", None)) else { return };
    let Some(proxy) = ProxyServer::socks(Some(&there)).await else { return };
    let (here, site) = (Arc::new(here), relay.add_site("acme", &[]).await);
    let (dir, secrets) = (one_recording(), TempDir::new().unwrap());
    let file = credentials(&secrets, CREDENTIALS);
    let options = |scheme: &str| {
        let proxy_url = format!("{scheme}://{}", proxy.address);
        AgentOptions::new(dir.path()).through(by_name(&relay)).believing(&here).with(&[
            "--proxy",
            &proxy_url,
            "--proxy-credentials-file",
            &file,
        ])
    };
    let lost = Agent::spawn(&relay, &site, options("socks5"));
    let line = lost.process.wait_for("dialling again").await;
    assert!(line.contains(&format!("cannot find the address of {NAME}")), "{line}");
    drop(lost);
    let _agent = Agent::start(&relay, &site, options("socks5h")).await;
    serves(&knowing_client(&relay), &site).await;
}

#[tokio::test]
async fn a_relay_that_moves_in_the_dns_is_found_at_its_new_address() {
    let mut relay = Relay::start_named(NAME).await;
    let Some(server) = NameServer::start(NAME, relay.address.ip()).await else { return };
    let Some(names) = Names::new("", Some(&server)) else { return };
    let site = relay.add_site("acme", &[]).await;
    let dir = one_recording();
    let options = AgentOptions::new(dir.path()).through(by_name(&relay)).believing(&Arc::new(names));
    let agent = Agent::start(&relay, &site, options).await;
    serves(&knowing_client(&relay), &site).await;
    let (mark, asked) = (agent.process.mark(), server.process.mark());
    relay.kill().await;
    agent.process.wait_for_code_after(mark, "tunnel.dial_failed").await;
    // The earlier response may be cached for an hour, but is not.
    server.process.wait_for_after(asked, &format!("query[A] {NAME}")).await;
    relay.address = SocketAddr::new(free_address().ip(), relay.address.port());
    relay.restart().await;
    server.moves_to(relay.address.ip()).await;
    agent.process.wait_for_code_after(mark, CONNECTED).await;
    serves(&knowing_client(&relay), &site).await;
}

/// A listener that accepts no connection: its queue is full, and the kernel drops new ones.
async fn black_hole(address: SocketAddr) -> Option<(TcpListener, Vec<TcpStream>)> {
    let socket = TcpSocket::new_v6().ok()?;
    socket.bind(address).ok()?;
    let listener = socket.listen(0).ok()?;
    let mut held = Vec::new();
    let moment = std::time::Duration::from_millis(200);
    while let Ok(connected) = tokio::time::timeout(moment, TcpStream::connect(address)).await {
        held.push(connected.unwrap());
    }
    Some((listener, held))
}

#[tokio::test]
async fn an_ipv6_address_that_swallows_everything_delays_no_connection() {
    let relay = Relay::start_named(NAME).await;
    let hosts = format!("::1 {NAME}\n{} {NAME}\n", relay.address.ip());
    let Some(names) = Names::new(&hosts, None) else { return };
    let Some(_hole) = black_hole(format!("[::1]:{}", relay.address.port()).parse().unwrap()).await else {
        return skip("a test with an IPv6 address: this machine has none");
    };
    let site = relay.add_site("acme", &[]).await;
    let dir = one_recording();
    let options = AgentOptions::new(dir.path()).through(by_name(&relay)).believing(&Arc::new(names));
    let begun = Instant::now();
    let agent = Agent::start(&relay, &site, options).await;
    // The first attempt has succeeded: if it had waited for IPv6, it would have ended after ten seconds without a
    // tunnel.
    assert!(!agent.process.log().concat().contains("dialling again"), "{:#?}", agent.process.log());
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
    serves(&knowing_client(&relay), &site).await;
}
