//! A webhook gets a message when a site goes down and comes back.

use axum::{Router, extract::State, routing::post};
use harness::{
    agent::{Agent, AgentOptions},
    process::PATIENCE,
    recordings::one_recording,
    relay::Relay,
};
use serde_json::Value;
use tokio::sync::mpsc;

/// An address that receives messages, and the messages.
async fn receiver() -> (String, mpsc::UnboundedReceiver<Value>) {
    let (sender, messages) = mpsc::unbounded_channel();
    let take = async |State(sender): State<mpsc::UnboundedSender<Value>>, body: String| {
        sender.send(serde_json::from_str(&body).unwrap()).unwrap();
    };
    let router = Router::new().route("/hook", post(take)).with_state(sender);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, messages)
}

/// The next message whose type begins with this text, and its site.
async fn next(messages: &mut mpsc::UnboundedReceiver<Value>, kind: &str) -> (String, String) {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    loop {
        let message = tokio::time::timeout(PATIENCE, messages.recv()).await.unwrap().unwrap();
        if text(&message["type"]).starts_with(kind) {
            return (text(&message["type"]), text(&message["data"]["site"]));
        }
    }
}

#[tokio::test]
async fn a_site_that_goes_and_comes_is_reported_to_the_webhook_also_across_a_restart_of_the_relay() {
    let (url, mut messages) = receiver().await;
    let secrets = tempfile::tempdir().unwrap();
    let secret = secrets.path().join("secret");
    std::fs::write(&secret, "a secret of enough bytes\n").unwrap();
    let secret = secret.display().to_string();
    let extra = ["--alert-webhook", &url, "--alert-secret-file", &secret, "--alert-hold", "1s"];
    let mut relay = Relay::start_with(&extra, false).await;
    let site = relay.add_site("acme", &[]).await;
    let message = next(&mut messages, "operator.").await;
    assert_eq!(message, ("operator.site.added".to_owned(), "acme".to_owned()), "by the command line");
    let dir = one_recording();
    let agent = Agent::start(&relay, &site, AgentOptions::new(dir.path())).await;
    assert_eq!(next(&mut messages, "site.").await, ("site.up".to_owned(), "acme".to_owned()));
    let second = Agent::start(&relay, &site, AgentOptions::new(dir.path())).await;
    assert_eq!(
        next(&mut messages, "operator.agent.").await,
        ("operator.agent.added".to_owned(), "acme".to_owned())
    );
    drop(second);
    agent.process.kill().await;
    relay.kill().await;
    relay.restart().await;
    assert_eq!(next(&mut messages, "site.").await, ("site.down".to_owned(), "acme".to_owned()));
    let _agent = Agent::start(&relay, &site, AgentOptions::new(dir.path())).await;
    assert_eq!(next(&mut messages, "site.").await, ("site.up".to_owned(), "acme".to_owned()));
}
