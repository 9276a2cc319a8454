//! QueueMetrics and its browsers, as far as recordings are concerned.

use std::net::IpAddr;

use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;

use crate::{
    relay::{Relay, Site},
    secrets,
};

/// A client that trusts the relay's certificate, finds it by its name, if it has one, and speaks HTTP/1.1, like
/// QueueMetrics.
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

/// A client with a loopback address of its own, so that no limit takes it for another one; over plain HTTP.
pub fn client_at(last: u8) -> Client {
    let address = IpAddr::from([127, 0, 0, last]);
    Client::builder().http1_only().local_address(address).build().expect("a client")
}

/// Asks for recordings with further parameters; the whole answer.
pub async fn search_with(client: &Client, site: &Site, call: &str, more: &[(&str, &str)]) -> Response {
    let mut form = vec![("token", site.search_token.as_str()), ("callid", call)];
    form.extend(more);
    client.post(&site.search_url).form(&form).send().await.expect("the relay answers")
}

/// Asks for recordings; the parsed answer, which must be a success.
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
    // Whoever has the token before the name may listen.
    link.split('/').nth_back(1).into_iter().for_each(secrets::remember);
    link.to_owned()
}

/// Sends a request that must be answered.
pub async fn send(request: RequestBuilder) -> Response {
    request.send().await.expect("the relay answers")
}

/// A response as one compares it: status and body.
pub async fn body(response: Response) -> (u16, Vec<u8>) {
    let status = response.status().as_u16();
    (status, response.bytes().await.expect("a whole body").to_vec())
}
