//! Host names: each site has its own below the relay's name, with a wildcard certificate, and so have the operators.

use harness::{
    agent::{Agent, AgentOptions},
    client::{body, first_link, names, search},
    process::run,
    recordings::{CALL, one_recording, wav},
    relay::{self, Relay, Site},
};
use reqwest::{Certificate, Client, Version};
use tempfile::TempDir;

const NAME: &str = "relay.example.test";

/// A client that resolves the relay's name and the names of two of its sites.
fn client(relay: &Relay, version: Version) -> Client {
    let pem = std::fs::read(&relay.certificate().unwrap().certificate).unwrap();
    let mut builder = Client::builder().tls_certs_only([Certificate::from_pem(&pem).unwrap()]);
    for host in ["", "acme.", "MADRID.", "nobody."] {
        builder = builder.resolve(&format!("{host}{NAME}").to_ascii_lowercase(), relay.address);
    }
    if version == Version::HTTP_11 { builder.http1_only() } else { builder }.build().unwrap()
}

#[tokio::test]
async fn a_site_has_a_host_name_of_its_own_over_http_1_and_http_2() {
    let relay = Relay::start_named(NAME).await;
    let site = relay.add_site("acme", &["madrid"]).await;
    let dir = one_recording();
    let _agent = Agent::start(&relay, &site, AgentOptions::new(dir.path())).await;
    let port = relay.address.port();
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let client = client(&relay, version);
        for host in ["acme", "MADRID"] {
            let own = Site { search_url: format!("https://{host}.{NAME}:{port}/search"), ..site.clone() };
            let found = search(&client, &own, CALL, &[]).await;
            assert_eq!(names(&found), [format!("in-{CALL}.wav")]);
            // The link has the relay's own host name; it also works with the host name of the site.
            let link = first_link(&found);
            let link_there = link.replacen(
                &format!("https://{NAME}:{port}/acme/"),
                &format!("https://{host}.{NAME}:{port}/"),
                1,
            );
            assert_ne!(link, link_there);
            for link in [link, link_there] {
                let response = client.get(link).send().await.unwrap();
                assert_eq!(response.version(), version);
                assert_eq!(body(response).await, (200, wav(1.0, 1)));
            }
            // So does the address with the site in its path.
            let path =
                Site { search_url: format!("https://{host}.{NAME}:{port}/acme/search"), ..site.clone() };
            search(&client, &path, CALL, &[]).await;
        }
        let unknown =
            client.get(format!("https://nobody.{NAME}:{port}/search?callid={CALL}")).send().await.unwrap();
        assert_eq!(unknown.status(), 401, "the same as for an existing site");
    }
}

#[tokio::test]
async fn operators_come_over_tls_by_their_own_name_and_health_checks_by_address() {
    let dir = TempDir::new().unwrap();
    let admin = harness::address::free_address();
    let name = "admin.example.test";
    let tls = relay::Certificate::make(dir.path(), &[name, &admin.ip().to_string()]);
    let (bind, cert, key) = (admin.to_string(), tls.certificate.to_str().unwrap(), tls.key.to_str().unwrap());
    let own = ["--admin-tls-cert", cert, "--admin-tls-key", key, "--admin-host", name];
    let _relay = Relay::start_with(&[&["--admin-bind", &bind][..], &own].concat(), false).await;
    let pem = Certificate::from_pem(&std::fs::read(cert).unwrap()).unwrap();
    let client = Client::builder().tls_certs_only([pem]).resolve(name, admin).build().unwrap();
    let status = async |url: String| client.get(url).send().await.unwrap().status().as_u16();
    let port = admin.port();
    assert_eq!(status(format!("https://{name}:{port}/healthz")).await, 200);
    assert_ne!(status(format!("https://{name}:{port}/api/v1/sites")).await, 421);
    assert_eq!(status(format!("https://{admin}/readyz")).await, 200);
    assert_ne!(
        status(format!("https://{admin}/api/v1/sites")).await,
        421,
        "loopback, as through an SSH tunnel"
    );
    let url = format!("https://{admin}/readyz");
    let (code, _, err) = run("audiovault-relay", &["health", "--url", &url], &[]).await;
    assert_eq!(code, 0, "a container's own health check: {err}");
}
