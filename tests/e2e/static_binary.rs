//! The static agent on an empty machine: no C library, no time zones, no certificate authorities.

use std::process::Command;

use harness::{
    bare_root::{BareRoot, RECORDINGS, static_agent},
    client::{body, first_link, names, search},
    mariadb::MariaDb,
    names::NameServer,
    recordings::{wav, write},
    relay::Relay,
};
use reqwest::{Certificate, Client};

const NAME: &str = "relay.example.test";
/// The call began at 23:30 UTC on 25 March 2024; in Madrid that was the 26th.
const CALL: &str = "1711409400.17";

fn client(relay: &Relay) -> Client {
    let pem = std::fs::read(&relay.certificate().unwrap().certificate).unwrap();
    let builder = Client::builder().tls_certs_only([Certificate::from_pem(&pem).unwrap()]);
    builder.resolve(NAME, relay.address).build().unwrap()
}

/// An agent on an empty machine that resolves the relay's name with `file` there.
async fn serves_from_a_bare_root(relay: &Relay, root: &BareRoot, file: (&str, &str)) {
    let site = relay.add_site("acme", &[]).await;
    let (recording, content) = (format!("in-{CALL}.wav"), wav(30.0, 7));
    write(&root.path().join(RECORDINGS.trim_start_matches('/')), format!("2024/03/26/{recording}"), &content);
    root.file(file.0, file.1);
    let where_it_lies =
        format!("path = 'file:{RECORDINGS}/%YY/%MM/%DD'\ntimezone = 'Europe/Madrid'\nlook-back = '1m'\n");
    let _agent = root.start_agent(relay, &site, NAME, &where_it_lies).await;
    let client = client(relay);
    let found = search(&client, &site, CALL, &[]).await;
    assert_eq!(names(&found), [recording.as_str()]);
    let (status, bytes) = body(client.get(first_link(&found)).send().await.unwrap()).await;
    assert!(status == 200 && bytes == content, "{status}, {} bytes", bytes.len());
    let mut there = vec![
        "/audiovault-agent".to_owned(),
        "/etc/audiovault/agent.toml".to_owned(),
        "/etc/audiovault/relay.pem".to_owned(),
        "/etc/audiovault/search-token".to_owned(),
        "/etc/audiovault/site-key".to_owned(),
        file.0.to_owned(),
        format!("{RECORDINGS}/2024/03/26/{recording}"),
    ];
    there.sort();
    assert_eq!(root.files(), there, "nothing else is there");
}

#[tokio::test]
async fn a_bare_machine_with_a_hosts_file_connects_by_name_and_serves() {
    let Some(root) = BareRoot::new() else { return };
    let relay = Relay::start_named(NAME).await;
    let hosts = format!("{} {NAME}\n", relay.address.ip());
    serves_from_a_bare_root(&relay, &root, ("/etc/hosts", &hosts)).await;
}

#[tokio::test]
async fn a_bare_machine_with_a_name_server_connects_by_name_and_serves() {
    let Some(root) = BareRoot::new() else { return };
    let relay = Relay::start_named(NAME).await;
    let Some(server) = NameServer::start(NAME, relay.address.ip()).await else { return };
    serves_from_a_bare_root(&relay, &root, ("/etc/resolv.conf", &server.resolv_conf())).await;
}

#[tokio::test]
async fn a_bare_machine_asks_a_database_by_name() {
    let Some(root) = BareRoot::new() else { return };
    let Some(records) = MariaDb::start().await else { return };
    let relay = Relay::start_named(NAME).await;
    let site = relay.add_site("acme", &[]).await;
    let leg = "1711409500.18";
    records.leg(CALL, CALL, "").await;
    records.leg(leg, CALL, "").await;
    write(&root.path().join(RECORDINGS.trim_start_matches('/')), format!("in-{leg}.wav"), &wav(0.1, 7));
    root.file("/etc/hosts", &format!("{} {NAME}\n127.0.0.1 records.example.test\n", relay.address.ip()));
    let cdr = records.url_at("records.example.test");
    let more = format!("path = 'file:{RECORDINGS}'\ncdr = '{cdr}'\n");
    let _agent = root.start_agent(&relay, &site, NAME, &more).await;
    let found = search(&client(&relay), &site, CALL, &[]).await;
    assert_eq!((names(&found), &found["complete"]), (vec![format!("in-{leg}.wav")], &true.into()));
}

#[tokio::test]
async fn a_bare_machine_trusts_the_certificate_authorities_that_are_built_in() {
    let Some(root) = BareRoot::new() else { return };
    let relay = Relay::start_named(NAME).await;
    let site = relay.add_site("acme", &[]).await;
    root.file("/etc/hosts", &format!("{} {NAME}\n", relay.address.ip()));
    root.file("/key", &site.site_key);
    root.file("/token", &site.search_token);
    let url = format!("wss://{NAME}:{}", relay.address.port());
    let secrets = ["--site-key-file", "/key", "--token-file", "/token"];
    let agent = root.run(&[&["tunnel", "--relay", &url, "--path", "file:/"], &secrets[..]].concat());
    agent.wait_for_code("tls.built_in_authorities").await;
    // They have not signed the relay's certificate, which is self-signed.
    let line = agent.wait_for_code("tunnel.dial_failed").await;
    assert!(line.contains("which this machine does not trust"), "{line}");
}

#[test]
fn the_static_agent_needs_no_library() {
    if BareRoot::new().is_none() {
        return;
    }
    let said = Command::new("ldd").arg(static_agent()).output().unwrap();
    let said = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
    assert!(said.contains("statically linked") || said.contains("not a dynamic executable"), "{said}");
}
