//! Who may listen: links that were altered, have expired, or belong to another site do not open.

use harness::{
    agent::{Agent, AgentOptions},
    client::{client, client_at, first_link, search, send},
    process::run,
    recordings::{CALL, one_recording},
    relay::Relay,
};

#[tokio::test]
async fn links_that_were_altered_at_any_place_are_forbidden() {
    let relay = Relay::start().await;
    let site = relay.add_site("acme", &[]).await;
    let dir = one_recording();
    let _agent = Agent::start(&relay, &site, AgentOptions::new(dir.path())).await;
    let client = client(&relay);
    let link = first_link(&search(&client, &site, CALL, &[]).await);
    assert_eq!(send(client.get(&link)).await.status(), 200);
    let start = link.find("/recordings/").unwrap() + "/recordings/".len();
    let end = link.rfind('/').unwrap();
    // An address that has sent ten forged links is throttled, so each link comes from its own address.
    let mut visitors = (10..).map(client_at);
    for at in (start..end).step_by(7).chain([start, end - 1]) {
        let other = if &link[at..=at] == "A" { "B" } else { "A" };
        let forged = format!("{}{other}{}", &link[..at], &link[at + 1..]);
        let visitor = visitors.next().unwrap();
        assert_eq!(send(visitor.get(&forged)).await.status(), 403, "altered at {}", at - start);
    }
    for forged in [
        format!("{}.wav", &link[..end - 10]),
        format!("{}{}", &link[..start], "AAAA/recording.wav"),
        link.replace(".wav", ".mp3"),
        link.replace("recording.wav", "..%2f..%2fetc%2fpasswd"),
    ] {
        let status = send(client.get(&forged)).await.status().as_u16();
        assert!(matches!(status, 403 | 404), "{forged}: {status}");
    }
}

#[tokio::test]
async fn a_link_expires_and_the_relay_knows_without_the_agent() {
    let relay = Relay::start().await;
    let site = relay.add_site("acme", &[]).await;
    let dir = one_recording();
    let agent = Agent::start(&relay, &site, AgentOptions::new(dir.path()).with(&["--link-ttl", "1s"])).await;
    let client = client(&relay);
    let link = first_link(&search(&client, &site, CALL, &[]).await);
    // The test really has to wait for this time.
    tokio::time::sleep(std::time::Duration::from_millis(2100)).await;
    assert_eq!(send(client.get(&link)).await.status(), 410);
    agent.process.kill().await;
    assert_eq!(send(client.get(&link)).await.status(), 410);
}

#[tokio::test]
async fn a_link_of_one_site_does_not_open_at_another() {
    let relay = Relay::start().await;
    let (acme, other) = (relay.add_site("acme", &[]).await, relay.add_site("other", &[]).await);
    let dir = one_recording();
    let secret = dir.path().join("link.secret");
    std::fs::write(&secret, "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef").unwrap();
    // Even a link key that is shared by mistake does not help.
    let shared = ["--link-secret-file", secret.to_str().unwrap()];
    let _acme = Agent::start(&relay, &acme, AgentOptions::new(dir.path()).with(&shared)).await;
    let _other = Agent::start(&relay, &other, AgentOptions::new(dir.path()).with(&shared)).await;
    let client = client(&relay);
    let link = first_link(&search(&client, &acme, CALL, &[]).await);
    assert_eq!(send(client.get(&link)).await.status(), 200);
    assert_eq!(send(client.get(link.replace("/acme/", "/other/"))).await.status(), 403);
}

#[tokio::test]
async fn links_end_with_the_run_that_made_them_unless_the_secret_is_kept() {
    let relay = Relay::start().await;
    let site = relay.add_site("acme", &[]).await;
    let dir = one_recording();
    let secret = dir.path().join("link.secret");
    std::fs::write(&secret, "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef").unwrap();
    let kept = ["--link-secret-file", secret.to_str().unwrap()];
    let client = client(&relay);
    for (options, status) in [(&[][..], 410), (&kept[..], 200)] {
        let first = Agent::start(&relay, &site, AgentOptions::new(dir.path()).with(options)).await;
        let link = first_link(&search(&client, &site, CALL, &[]).await);
        first.process.kill().await;
        relay.wait_for_status("acme", |status| status["state"] == "down").await;
        assert_eq!(send(client.get(&link)).await.status(), 503, "no agent is connected");
        let second = Agent::start(&relay, &site, AgentOptions::new(dir.path()).with(options)).await;
        assert_eq!(send(client.get(&link)).await.status(), status);
        second.process.kill().await;
        relay.wait_for_status("acme", |status| status["state"] == "down").await;
    }
}

#[tokio::test]
async fn a_wrong_key_is_refused_before_any_upgrade() {
    let relay = Relay::start().await;
    let mut site = relay.add_site("acme", &[]).await;
    let other = relay.add_site("other", &[]).await;
    site.site_key = site.site_key.replace("avk_acme_", "avk_other_");
    let dir = one_recording();
    let refused = Agent::spawn(&relay, &site, AgentOptions::new(dir.path()));
    let line = refused.process.wait_for_code("tunnel.refused").await;
    assert!(line.contains("401"), "{line}");
    let seen = relay.wait_for_status("other", |status| status["sessions"].is_array()).await;
    assert!(seen["sessions"].as_array().unwrap().is_empty());
    let honest = Agent::start(&relay, &other, AgentOptions::new(dir.path())).await;
    drop(honest);
}

#[tokio::test]
async fn the_key_does_not_cross_a_network_in_the_clear_by_accident() {
    let dir = one_recording();
    let key = dir.path().join("site.key");
    std::fs::write(&key, "avk_acme_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa").unwrap();
    let path = format!("file:{}", dir.path().display());
    let arguments = [
        "tunnel",
        "--relay",
        "ws://relay.example.com",
        "--site-key-file",
        key.to_str().unwrap(),
        "--token",
        "a-long-token",
        "--path",
        &path,
    ];
    let (code, _, err) = run("audiovault-agent", &arguments, &[]).await;
    assert_eq!(code, 2);
    assert!(err.contains("--allow-plaintext"), "{err}");
}
