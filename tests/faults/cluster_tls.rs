//! Relays that prove their identity before they exchange data.

use std::fs;

use harness::{certificate::Certificate, client::search_with, cluster::Cluster, matrix, recordings::CALL};

use crate::cluster::Setting;

#[tokio::test]
async fn relays_use_tls_and_accept_only_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let Some(cluster) = Cluster::start_with_tls(2, dir.path()).await else { return };
    let setting = Setting::on(cluster).await;
    let _agent = setting.agent().await;
    let holder = setting.cluster.holder("acme").await;
    let elsewhere = setting.cluster.at(1 - holder, &setting.site);
    let search = async || search_with(&setting.client, &elsewhere, CALL, &[]).await.status();
    assert_eq!(search().await, 200);

    let node = &setting.cluster.nodes[holder];
    let authority = fs::read(dir.path().join("cert.pem")).unwrap();
    let unknown = reqwest::Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(&authority).unwrap()])
        .build()
        .unwrap();
    unknown
        .post(format!("{node}/parts"))
        .send()
        .await
        .expect_err("a client without a certificate is refused");
    let plain = setting.client.post(format!("{}/parts", node.replace("https", "http"))).send().await;
    assert!(plain.is_err(), "{plain:?}");

    // Another certificate, from another issuer.
    let names: Vec<String> = setting.cluster.nodes.iter().map(|node| host(node)).collect();
    Certificate::make(dir.path(), &names.iter().map(String::as_str).collect::<Vec<_>>());
    for relay in &setting.cluster.relays {
        relay.process().wait_for_code("tls.reloaded").await;
        relay.process().wait_for_code("peer.certificate_changed").await;
    }
    assert_eq!(search().await, 200);
    let promise = "clients without a certificate are refused; a new certificate is used without a restart";
    matrix::row(
        "cluster",
        "TLS between relays, with a renewed certificate",
        promise,
        "2 of 2 searches answered",
    );
}

/// The host in the address of a relay.
fn host(node: &str) -> String {
    let address = node.strip_prefix("https://").and_then(|address| address.rsplit_once(':'));
    address.unwrap().0.to_owned()
}
