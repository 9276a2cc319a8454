//! Unauthenticated clients do not learn from a relay which sites exist.

use std::time::{Duration, Instant, SystemTime};

use audiovault_protocol::identity::{
    signed_link::{LinkSecret, LinkSigner, LinkTarget},
    site::SiteId,
};
use harness::{
    agent::{Agent, AgentOptions},
    client::{client, client_at, first_link, search, search_with, send},
    matrix,
    recordings::{CALL, one_recording},
    relay::{Relay, Site},
};
use reqwest::{Client, Response};

/// How much later one of the responses may arrive than another: the reserve for a busy machine.
const ALIKE: Duration = Duration::from_millis(400);

/// Four sites to ask for: one that does not exist, and three that do.
const NAMES: [&str; 4] = ["nobody", "away", "disabled", "acme"];

struct Place {
    relay: Relay,
    acme: Site,
    agent: Agent,
    _dir: tempfile::TempDir,
}

impl Place {
    async fn new(extra: &[&str]) -> Self {
        let relay = Relay::start_with(extra, false).await;
        relay.add_site("away", &[]).await;
        relay.add_site("disabled", &[]).await;
        relay.site_command(&["disable", "disabled"]).await;
        let acme = relay.add_site("acme", &[]).await;
        let dir = one_recording();
        let agent = Agent::start(&relay, &acme, AgentOptions::new(dir.path())).await;
        relay.wait_for_status("disabled", |status| status["state"] == "disabled").await;
        Self { relay, acme, agent, _dir: dir }
    }
}

/// All that an unauthenticated client sees of a response, without the parts that differ in every response.
async fn seen(response: Response) -> String {
    let mut headers: Vec<_> = response
        .headers()
        .iter()
        .filter(|(name, _)| !["date", "x-request-id"].contains(&name.as_str()))
        .map(|(name, value)| format!("{name}: {value:?}"))
        .collect();
    headers.sort();
    let (status, body) = (response.status(), response.text().await.unwrap());
    let mut body: serde_json::Value = serde_json::from_str(&body).unwrap();
    body["request_id"].take();
    format!("{status}\n{}\n{body}", headers.join("\n"))
}

fn alike(answers: &[String]) {
    for (name, answer) in NAMES.iter().zip(answers) {
        assert_eq!(answer, &answers[0], "{name}");
    }
}

async fn ask(client: &Client, place: &Place, way: usize, name: &str) -> Response {
    let url = place.relay.url();
    let form = [("token", "not the right one at all"), ("callid", CALL), ("tenant", name)];
    send(match way {
        0 => client.post(format!("{url}/{name}/search")).form(&form[..2]),
        1 => client.post(format!("{url}/search")).form(&form),
        2 => client.get(format!("{url}/{name}/search?callid={CALL}")),
        3 => client.post(format!("{url}/{name}/search")).body("{"),
        _ => client.post(format!("{url}/{name}/search")).body("x".repeat(70_000)),
    })
    .await
}

#[tokio::test]
async fn a_search_without_a_right_token_does_not_reveal_which_sites_there_are() {
    let place = Place::new(&[]).await;
    let mut longest = Duration::ZERO;
    for way in 0..5 {
        let (mut answers, mut times) = (Vec::new(), Vec::new());
        for name in NAMES {
            let visitor = client_at(100 + u8::try_from(way).unwrap());
            let begun = Instant::now();
            answers.push(seen(ask(&visitor, &place, way, name).await).await);
            times.push(begun.elapsed());
        }
        alike(&answers);
        let apart = *times.iter().max().unwrap() - *times.iter().min().unwrap();
        assert!(apart < ALIKE, "{times:?}");
        longest = longest.max(apart);
    }
    // The throttling reveals nothing either.
    let mut statuses = Vec::new();
    for name in NAMES {
        let visitor = client_at(120);
        let mut of_name = Vec::new();
        for _ in 0..12 {
            of_name.push(ask(&visitor, &place, 0, name).await.status().as_u16());
        }
        statuses.push(format!("{of_name:?}"));
    }
    alike(&statuses);
    assert!(statuses[0].ends_with("401, 429, 429]"), "{statuses:?}");
    let promise = "the same answer for an unknown, offline or disabled site, and for a wrong token";
    let measured = format!("identical to the byte; times differ by at most {} ms", longest.as_millis());
    matrix::row("trust", "an unauthenticated client looks for sites", promise, measured);
}

#[tokio::test]
async fn a_made_up_link_does_not_reveal_which_sites_there_are() {
    let place = Place::new(&[]).await;
    let signer = LinkSigner::new(&LinkSecret::from_bytes([6; 32]));
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let target = LinkTarget {
        root: [0; 8],
        search_token: [0; 8],
        path: b"x.wav".to_vec(),
        call_id: String::new(),
        tenant: String::new(),
        user: String::new(),
    };
    let visitor = client_at(130);
    let url = place.relay.url();
    for (expires, damaged, status) in
        [(now + 3600, false, 410), (now - 1, false, 410), (now + 3600, true, 403)]
    {
        let mut answers = Vec::new();
        for name in NAMES {
            let mut token = signer.mint(&SiteId::parse(name).unwrap(), &target, expires, [1; 12]).unwrap();
            if damaged {
                token = token.replacen(|c: char| c.is_ascii_lowercase(), "A", 1);
            }
            let answer = send(visitor.get(format!("{url}/{name}/recordings/{token}/recording.wav"))).await;
            assert_eq!(answer.status(), status, "{name}");
            answers.push(seen(answer).await);
        }
        alike(&answers);
    }
}

#[tokio::test]
async fn a_client_with_the_right_token_learns_that_the_site_is_offline() {
    let place = Place::new(&[]).await;
    let queuemetrics = client(&place.relay);
    let link = first_link(&search(&queuemetrics, &place.acme, CALL, &[]).await);
    let listener = client_at(140);
    assert_eq!(send(listener.get(&link)).await.status(), 200);
    place.agent.process.kill().await;
    place.relay.wait_for_status("acme", |status| status["state"] == "down").await;
    let answer = search_with(&queuemetrics, &place.acme, CALL, &[]).await;
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
    assert!(answer.text().await.unwrap().contains("not connected"));
    assert_eq!(send(listener.get(&link)).await.status(), 503, "it opened before");
    // An unauthenticated client with the same link cannot prove anything to the relay, nor can one with the same
    // token from another address.
    assert_eq!(send(client_at(141).get(&link)).await.status(), 410);
    assert_eq!(search_with(&client_at(141), &place.acme, CALL, &[]).await.status(), 401);
}

#[tokio::test]
async fn searches_by_get_can_be_switched_off() {
    let place = Place::new(&["--search-by-get", "false"]).await;
    let queuemetrics = client(&place.relay);
    search(&queuemetrics, &place.acme, CALL, &[]).await;
    for path in ["/acme/search", "/nobody/search", "/search"] {
        let token = &place.acme.search_token;
        let url = format!("{}{path}?site=acme&token={token}&callid={CALL}", place.relay.url());
        let answer = send(queuemetrics.get(url)).await;
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["allow"]),
            (405, &"POST".parse().unwrap()),
            "{path}"
        );
    }
}
