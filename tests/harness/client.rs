//! The requests of QueueMetrics and of its users' browsers for recordings.

use std::net::IpAddr;

use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;

use crate::{
    relay::{Relay, Site},
    secrets,
};

/// A client that trusts the relay's certificate and speaks HTTP/1.1, like QueueMetrics. If the relay has a name, the
/// client resolves it to the relay's address.
pub fn client(relay: &Relay) -> Client {
    let mut builder = Client::builder().http1_only();
    if let Some(name) = relay.name() {
        builder = builder.resolve(name, relay.address);
    }
    if let Some(tls) = relay.certificate() {
        let pem = std::fs::read(&tls.authority).expect("the certificate");
        let certificate = reqwest::Certificate::from_pem(&pem).expect("a certificate");
        builder = builder.tls_certs_only([certificate]);
    }
    builder.build().expect("a client")
}

/// A client over plain HTTP with a loopback address of its own, so that no limit takes it for another client.
pub fn client_at(last: u8) -> Client {
    let address = IpAddr::from([127, 0, 0, last]);
    Client::builder().http1_only().local_address(address).build().expect("a client")
}

/// Searches with further parameters. Returns the whole response.
pub async fn search_with(client: &Client, site: &Site, call: &str, more: &[(&str, &str)]) -> Response {
    let mut form = vec![("token", site.search_token.as_str()), ("callid", call)];
    form.extend(more);
    client.post(&site.search_url).form(&form).send().await.expect("the relay answers")
}

/// Searches with further parameters. Returns the parsed response, which must be a success.
pub async fn search(client: &Client, site: &Site, call: &str, more: &[(&str, &str)]) -> Value {
    let response = search_with(client, site, call, more).await;
    let (status, text) = (response.status(), response.text().await.expect("text"));
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).expect("JSON")
}

/// The names of the files that a search found, in order.
pub fn names(found: &Value) -> Vec<String> {
    let files = found["files"].as_array().expect("files");
    files.iter().map(|file| file["filename"].as_str().expect("a name").to_owned()).collect()
}

/// The link of the first file that a search found.
pub fn first_link(found: &Value) -> String {
    let link = found["files"][0]["url"].as_str().unwrap_or_else(|| panic!("a link in {found}"));
    // The second-last part of the link is the link token: anyone who has it may listen, so it is a secret.
    link.split('/').nth_back(1).into_iter().for_each(secrets::remember);
    link.to_owned()
}

/// Sends a request, which must get a response.
pub async fn send(request: RequestBuilder) -> Response {
    request.send().await.expect("the relay answers")
}

/// Status and body of a response, for comparison.
pub async fn body(response: Response) -> (u16, Vec<u8>) {
    let status = response.status().as_u16();
    (status, response.bytes().await.expect("a whole body").to_vec())
}
