//! What must be impossible, even with keys, links and tokens of others.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use audiovault_agent_core::secret::Secret;
use audiovault_protocol::{
    frame::Frame,
    identity::{enrolment::EnrolmentCode, signed_link::LinkSecret, site::SiteKey},
    message::{Hello, ResponseHead},
};
use bytes::Bytes;
use futures_util::future::join_all;
use harness::{
    agent::Agent,
    client::{client_at, first_link, search, search_with, send},
    matrix,
    operator::{Api, Operator},
    process::{installed, program, run_program},
    raw_peer::{RawPeer, hello, id},
    recordings::CALL,
    relay::{Relay, Site},
    usage::Processes,
};
use http::HeaderMap;
use reqwest::{Client, Method};
use serde_json::{Value, json};
use zeroize::ZeroizeOnDrop;

use crate::setting::{Setting, ms};

/// Time after which a revoked key must be disconnected.
const OUT_WITHIN: Duration = Duration::from_secs(3);

#[tokio::test]
async fn an_agent_of_one_site_cannot_answer_for_another() {
    let setting = Setting::new(Relay::start().await).await;
    let agent = setting.agent().await;
    let hostile = setting.relay.add_site("hostile", &[]).await;
    // It asks for the tunnel of acme with its own key under the name of acme, then with every claim that a HELLO can
    // make.
    let renamed = hostile.site_key.replace("avk_hostile_", "avk_acme_");
    let tunnel = format!("{}/tunnel", setting.relay.url());
    let refused = send(setting.client.get(tunnel).bearer_auth(renamed)).await;
    assert_eq!(refused.status(), 401);
    let mut claims = hello();
    (claims.host, claims.tenants) = ("acme".to_owned(), vec!["acme".to_owned()]);
    let mut peer = RawPeer::agent(&setting.relay, &hostile).await;
    peer.frame(Frame::Hello(Box::new(claims))).await;
    peer.wait_for(|frame| matches!(frame, Frame::Welcome(_)).then_some(())).await;

    // While the agent of acme is suspended, a search of acme waits for a response.
    let expected = search(&setting.client, &setting.site, CALL, &[]).await;
    agent.process.signal("STOP");
    let (found, closed) = tokio::join!(search(&setting.client, &setting.site, CALL, &[]), async {
        setting.relay.wait_for_status("acme", |status| status["sessions"][0]["open_streams"] == 1).await;
        for stream in 1..=20 {
            let mut headers = HeaderMap::new();
            headers.insert("content-type", "application/json".parse().unwrap());
            let head = ResponseHead { status: 200, headers, audit: None };
            peer.frame(Frame::Response(id(stream), Box::new(head))).await;
            peer.frame(Frame::Data(id(stream), Bytes::from_static(b"{\"files\":[]}"))).await;
            peer.frame(Frame::End(id(stream))).await;
        }
        let closed = peer.closed().await;
        agent.process.signal("CONT");
        closed
    });
    assert_eq!(closed.code, 4000, "{closed:?}");
    assert_eq!(found["files"][0]["filename"], expected["files"][0]["filename"]);
    let promise = "its tunnel ends; the other site's own agent answers the search";
    matrix::row("trust", "an agent answers a request to another site", promise, "as promised");
}

#[tokio::test]
async fn a_link_opens_only_at_the_site_that_made_it() {
    let setting = Setting::new(Relay::start().await).await;
    let agent = setting.agent().await;
    let other = setting.relay.add_site("other", &[]).await;
    // The other site has the same recordings, and even the same link key.
    let beside = Agent::start(&setting.relay, &other, setting.options()).await;
    let link = setting.short_link().await;
    let own = first_link(&search(&setting.client, &other, CALL, &[]).await);
    assert_eq!(send(setting.client.get(&own)).await.status(), 200);
    let moved = link.replacen("/acme/", "/other/", 1);
    assert_ne!(moved, link);
    assert_eq!(send(setting.client.get(&moved)).await.status(), 403);
    assert_eq!(send(setting.client.get(own.replacen("/other/", "/acme/", 1))).await.status(), 403);
    drop((agent, beside));
    let promise = "403, even if both agents have the same link key and the same files";
    matrix::row("trust", "a link is used at another site", promise, "as promised");
}

/// All operations in the API's own description that change something: method and path, with its parameters filled in.
async fn changes(api: &Api) -> Vec<(Method, String)> {
    let (status, description) = api.get("/api/openapi.json").await;
    assert_eq!(status, 200);
    let mut changes = Vec::new();
    for (path, operations) in description["paths"].as_object().unwrap() {
        let filled = path.replace("{site}", "acme").replace("{key}", "00000000").replace(['{', '}'], "");
        for (method, _) in operations.as_object().unwrap() {
            if let Ok(method) = Method::from_bytes(method.to_uppercase().as_bytes()) {
                changes.push((method, filled.clone()));
            }
        }
    }
    changes.retain(|(method, _)| !method.is_safe() && *method != Method::TRACE);
    changes
}

/// The body of a change that needs one.
fn body_of(method: &Method, path: &str) -> Option<Value> {
    match (method.as_str(), path) {
        ("POST", "/api/v1/sites") => Some(json!({"site": "fresh"})),
        ("POST", "/api/v1/tokens") => Some(json!({"name": "fresh", "role": "admin"})),
        ("POST", "/api/v1/users") => {
            Some(json!({"name": "fresh", "password": "long enough for everybody", "role": "admin"}))
        }
        (_, path) if path.ends_with("/password") => Some(json!({"password": "long enough for everybody"})),
        ("PUT", path) if path.starts_with("/api/v1/users/") => Some(json!({"role": "admin"})),
        _ => None,
    }
}

/// The forms that change something.
const FORMS: [&str; 14] = [
    "/sites/new",
    "/sites/acme/keys",
    "/sites/acme/keys/00000000/revoke",
    "/sites/acme/enrolment",
    "/sites/acme/aliases",
    "/sites/acme/aliases/other/remove",
    "/sites/acme/disable",
    "/sites/acme/enable",
    "/sites/acme/remove",
    "/audit/erase",
    "/users",
    "/users/root/password",
    "/users/root/remove",
    "/tokens",
];

#[tokio::test]
async fn a_viewer_cannot_change_anything() {
    let setting = Setting::new(Relay::start().await).await;
    setting.relay.add_user("root", &["--role", "admin"]).await;
    setting.relay.add_user("maria", &["--role", "viewer"]).await;
    let viewer = Api::with(&setting.relay, "viewing", &["--role", "viewer"]).await;
    let changes = changes(&viewer).await;
    assert!(changes.len() >= 5, "{changes:?}");
    for (method, path) in &changes {
        let (status, answer) = viewer.call(method.clone(), path, body_of(method, path).as_ref()).await;
        assert_eq!(status, 403, "{method} {path}: {answer}");
    }
    let maria = Operator::log_in(&setting.relay, "maria").await;
    for form in FORMS {
        assert_eq!(maria.post(form, &[]).await.status(), 403, "{form}");
    }
    // A viewer can still look, and nothing has changed.
    assert_eq!(setting.relay.status("acme").await["disabled"], Value::Null);
    assert_eq!(viewer.get("/api/v1/sites/acme").await.0, 200);
    let promise = "403 for every change, by the API and by the pages";
    let measured = format!("{} of {} refused", changes.len() + FORMS.len(), changes.len() + FORMS.len());
    matrix::row("trust", "a viewer tries to change something", promise, measured);
}

/// Revokes the key of a connected agent by a command. Returns how long its tunnel stayed open.
async fn out_after(command: &[&str]) -> Duration {
    let setting = Setting::new(Relay::start().await).await;
    let agent = setting.agent().await;
    setting.relay.site_command(&["rotate-key", "acme"]).await;
    setting.search().await;
    let mark = agent.process.mark();
    let given = Instant::now();
    setting.relay.site_command(command).await;
    agent.process.wait_for_code_after(mark, "tunnel.ended").await;
    let lived = given.elapsed();
    agent.process.wait_for_code_after(mark, "tunnel.refused").await;
    assert_eq!(setting.search_status().await, 503);
    lived
}

#[tokio::test]
async fn a_key_that_was_revoked_or_whose_site_was_disabled_is_out_within_three_seconds() {
    let (revoked, disabled) =
        tokio::join!(out_after(&["revoke-key", "acme"]), out_after(&["disable", "acme"]));
    assert!(revoked < OUT_WITHIN && disabled < OUT_WITHIN, "{revoked:?}, {disabled:?}");
    let promise = format!("disconnected within {}, and refused afterwards", ms(OUT_WITHIN));
    let measured =
        format!("revoked: {}; disabled: {}, including the time of the command", ms(revoked), ms(disabled));
    matrix::row("trust", "a site key is revoked, or its site is disabled", &promise, measured);
}

#[tokio::test]
async fn an_operator_of_one_site_takes_no_other_customers_names() {
    let setting = Setting::new(Relay::start().await).await;
    for site in ["umbrella", "leaver"] {
        setting.relay.add_site(site, &["tenant-of-umbrella"][..usize::from(site == "umbrella")]).await;
    }
    setting.relay.site_command(&["remove", "leaver"]).await;
    setting.relay.wait_for_status("umbrella", |status| !status.is_null()).await;
    let rights = ["--role", "operator", "--site", "acme", "--playback"];
    let limited = Api::with(&setting.relay, "limited", &rights).await;
    let mut answers = Vec::new();
    // Another site, its alias, a site that was removed, and a name that is free.
    for name in ["umbrella", "tenant-of-umbrella", "leaver", "next-customer"] {
        let path = format!("/api/v1/sites/acme/aliases/{name}");
        let (status, answer) = limited.call(Method::PUT, &path, None).await;
        let detail = answer["detail"].as_str().unwrap().replacen(name, "NAME", 1);
        assert!(!detail.contains("umbrella"), "{detail}");
        answers.push((status, detail));
    }
    assert_eq!(answers[0].0, 409, "{answers:?}");
    assert!(answers.iter().all(|answer| *answer == answers[0]), "taken, reserved or free: {answers:?}");
    let own = limited.call(Method::PUT, "/api/v1/sites/acme/aliases/acme.sales", None).await;
    assert_eq!(own.0, 204, "{}", own.1);
    let promise = "409 with the same text if the name is taken, reserved or free; names that begin with the \
                   site's own name and a dot are accepted";
    let measured =
        format!("{} of {} refused with the same text, no name revealed", answers.len(), answers.len());
    matrix::row("trust", "an operator of one site claims other customers' names", promise, measured);
}

#[tokio::test]
async fn an_operator_who_may_not_listen_gets_no_key_for_an_agent() {
    let setting = Setting::new(Relay::start().await).await;
    let deaf = Api::with(&setting.relay, "deaf", &["--role", "admin"]).await;
    for path in ["/api/v1/sites/acme/keys", "/api/v1/sites/acme/enrolment"] {
        assert_eq!(deaf.post(path, &Value::Null).await.0, 403, "{path}");
    }
    assert_eq!(deaf.post("/api/v1/sites", &json!({"site": "fresh"})).await.0, 403);
    assert_eq!(
        deaf.post("/api/v1/sites/acme/disable", &Value::Null).await.0,
        204,
        "other changes are allowed"
    );
    let hearing = Api::with(&setting.relay, "hearing", &["--role", "operator", "--playback"]).await;
    assert_eq!(hearing.post("/api/v1/sites/acme/keys", &Value::Null).await.0, 201);
    let promise = "403 for keys, enrolment codes and new sites; every new key is in the operators' events";
    let of_key = hearing.get("/api/v1/operator-events?site=acme&action=site.key_added").await.1;
    assert_eq!(of_key["events"][0]["actor"], "hearing", "{of_key}");
    matrix::row("trust", "an operator without the right to listen makes a key", promise, "as promised");
}

#[tokio::test]
async fn a_new_agent_with_a_key_of_the_site_is_on_the_board_and_in_the_operators_events() {
    let setting = Setting::new(Relay::start().await).await;
    let _agent = setting.agent().await;
    let api = Api::with(&setting.relay, "hearing", &["--role", "operator", "--playback"]).await;
    let (status, minted) = api.post("/api/v1/sites/acme/keys", &Value::Null).await;
    assert_eq!(status, 201, "{minted}");
    let site_key = minted["site_key"].as_str().unwrap().to_owned();
    let stolen = Site { site_key, ..setting.site.clone() };
    let source = IpAddr::from([127, 0, 0, 9]);
    let begun = Instant::now();
    let mut peer = RawPeer::agent_from(source, &setting.relay, &stolen).await;
    let claims = Hello { instance: "00000000000000ff".to_owned(), host: "pbx".to_owned(), ..hello() };
    peer.frame(Frame::Hello(Box::new(claims))).await;
    peer.wait_for(|frame| matches!(frame, Frame::Welcome(_)).then_some(())).await;
    let seen = setting.relay.wait_for_status("acme", |site| {
        site["access_changes"].as_array().is_some_and(|changes| changes.len() == 3)
    });
    let seen = seen.await;
    let took = begun.elapsed();
    let changes = seen["access_changes"].as_array().unwrap();
    let change = |action: &str| changes.iter().find(|seen| seen["action"] == action).unwrap();
    for action in ["agent.added", "agent.new_address"] {
        assert_eq!(
            (&change(action)["actor"], &change(action)["address"]),
            (&json!("pbx"), &json!("127.0.0.9"))
        );
        let recorded = api.get(&format!("/api/v1/operator-events?site=acme&action={action}")).await.1;
        let [event] = recorded["events"].as_array().unwrap().as_slice() else { panic!("{recorded}") };
        assert_eq!((&event["actor_kind"], &event["after"]["agents_before"]), (&json!("agent"), &json!(1)));
    }
    assert_eq!(change("site.key_added")["actor"], "hearing");
    let promise =
        "the key, the second agent and its address are on the board and in the operators' events within 10 s";
    matrix::row("trust", "an operator makes a site key and runs an agent with it", promise, ms(took));
}

/// One password hash needs 19 MiB.
const ROOM_FOR_HASHES: u64 = 40 << 20;
/// How long memory may stay allocated after the last hash.
const BACK_WITHIN: Duration = Duration::from_secs(10);

#[tokio::test]
async fn logins_from_everywhere_leave_no_memory_behind() {
    const ATTEMPTS: usize = 200;
    const ADDRESSES: u8 = 50;
    let relay = Relay::start_with(&["--trusted-proxy", "127.0.0.0/8"], false).await;
    relay.add_user("maria", &["--role", "admin"]).await;
    let visitor = Operator::logged_out(&relay);
    assert_eq!(visitor.get("/login").await.status(), 200);
    let resident = || Processes(vec![relay.process().id()]).resident();
    let before = resident();
    let mut most = 0;
    let attempts = async {
        for n in 0..ATTEMPTS {
            let address = format!("192.0.2.{}", n % usize::from(ADDRESSES));
            let form = [("name", format!("user{n}")), ("password", "wrong horse battery".to_owned())];
            let login =
                visitor.request(Method::POST, "/login").header("x-forwarded-for", address).form(&form);
            assert_eq!(login.send().await.unwrap().status(), 401);
            most = most.max(resident());
        }
    };
    attempts.await;
    let ended = Instant::now();
    let grown = most.saturating_sub(before);
    assert!(grown <= ROOM_FOR_HASHES, "{} MiB more", grown >> 20);
    // The largest amount that the pages, the database and the log may have allocated during this time.
    let rest = 8 << 20;
    while resident() > before + rest {
        assert!(ended.elapsed() < BACK_WITHIN, "{} MiB stay", (resident() - before) >> 20);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let promise = "at most 40 MiB more memory, freed within 10 s";
    let measured = format!("{} MiB more; freed after {}", grown >> 20, ms(ended.elapsed()));
    matrix::row("trust", "200 logins from 50 addresses", promise, measured);
}

/// How many guesses were checked; all others must have been throttled.
fn looked_at(statuses: &[u16]) -> usize {
    let looked_at = statuses.iter().filter(|status| **status == 401).count();
    let throttled = statuses.iter().filter(|status| **status == 429).count();
    assert_eq!(looked_at + throttled, statuses.len(), "{statuses:?}");
    looked_at
}

#[tokio::test]
async fn guesses_at_search_tokens_are_throttled() {
    const GUESSES: usize = 200;
    let setting = Setting::new(Relay::start().await).await;
    let _agent = setting.agent().await;
    setting.search().await;
    let guesser = client_at(66);
    let guess = |n: usize| {
        let site = Site { search_token: format!("guess-{n:030}"), ..setting.site.clone() };
        let guesser = &guesser;
        async move { search_with(guesser, &site, CALL, &[]).await.status().as_u16() }
    };
    let statuses = join_all((0..GUESSES).map(guess)).await;
    let looked_at = looked_at(&statuses);
    assert!((1..=20).contains(&looked_at), "{looked_at}");
    // QueueMetrics continues, from any address.
    setting.search().await;
    let promise = "about ten guesses at once, then one every 6 s; the right token is always answered";
    let measured = format!("{looked_at} of {GUESSES} checked, the others 429");
    matrix::row("trust", "search tokens are guessed", promise, measured);
}

/// Guesses a token from each of the addresses, through a proxy that forwards them. Returns how many guesses were
/// checked.
async fn guess_from(setting: &Setting, addresses: &[IpAddr]) -> usize {
    let guess = async |n: usize, address: &IpAddr| {
        let token = format!("guess-{n:030}");
        let form = [("token", token.as_str()), ("call_id", CALL)];
        let request = setting.client.post(&setting.site.search_url).form(&form);
        send(request.header("x-forwarded-for", address.to_string())).await.status().as_u16()
    };
    let mut statuses = Vec::new();
    // A site has at most 256 requests at a time.
    for (round, at_once) in addresses.chunks(100).enumerate() {
        let guesses = at_once.iter().enumerate().map(|(n, address)| guess(round * 100 + n, address));
        statuses.extend(join_all(guesses).await);
    }
    looked_at(&statuses)
}

#[tokio::test]
async fn guesses_from_all_networks_of_one_ipv6_customer_count_together() {
    let setting = Setting::new(Relay::start_with(&["--trusted-proxy", "127.0.0.0/8"], false).await).await;
    let _agent = setting.agent().await;
    setting.search().await;
    // Each from its own network of 64 bits, and of 56 bits, all in one network of 48 bits.
    let of_customer = |n: u16| IpAddr::from([0x2001, 0xdb8, 0, n << 8, 0, 0, 0, 1]);
    let addresses: Vec<_> = (0..200).map(of_customer).collect();
    let begun = Instant::now();
    let looked_at = guess_from(&setting, &addresses).await;
    // One more every second and a half.
    let most = 41 + usize::try_from(begun.elapsed().as_millis() / 1_500).unwrap();
    assert!((1..=most).contains(&looked_at), "{looked_at} of at most {most}");
    setting.search().await;
    let promise = "forty guesses at once, then one every 1.5 s; the right token is always answered";
    let measured = format!("{looked_at} of {} checked, the others 429", addresses.len());
    matrix::row("trust", "search tokens are guessed from every /64 of an IPv6 /48", promise, measured);
}

#[tokio::test]
async fn guesses_from_many_addresses_meet_a_ceiling_that_the_board_shows() {
    let setting = Setting::new(Relay::start_with(&["--trusted-proxy", "127.0.0.0/8"], false).await).await;
    let _agent = setting.agent().await;
    setting.search().await;
    let addresses: Vec<_> =
        (0..300_u32).map(|n| IpAddr::from((0x0a00_0000 + n * 997).to_be_bytes())).collect();
    let begun = Instant::now();
    let looked_at = guess_from(&setting, &addresses).await;
    let most = 101 + usize::try_from(begun.elapsed().as_millis() / 600).unwrap();
    assert!((1..=most).contains(&looked_at), "{looked_at} of at most {most}");
    setting.search().await;
    let shown =
        setting.relay.wait_for_status("acme", |site| !site["refused_last_hour"]["ceiling_since"].is_null());
    shown.await;
    let promise = "a hundred guesses at once, then a hundred per minute, shown on the board; a client \
                   whose token was right before is answered";
    let measured = format!("{looked_at} of {} checked, the others 429", addresses.len());
    matrix::row("trust", "search tokens are guessed from 300 addresses", promise, measured);
}

#[tokio::test]
async fn guesses_at_search_tokens_in_a_dialect_are_throttled() {
    const GUESSES: usize = 120;
    let setting = Setting::new(Relay::start().await).await;
    let dialect = concat!(env!("CARGO_MANIFEST_DIR"), "/../agent/dialect.example.toml");
    let options = setting.options().with(&["--dialect", dialect]);
    let _agent = Agent::start(&setting.relay, &setting.site, options).await;
    let ask = |client: &Client, token: &str| {
        let form = [("apikey", token), ("uid", CALL)];
        let request = client.post(&setting.site.search_url).form(&form);
        async move { send(request).await.status().as_u16() }
    };
    assert_eq!(ask(&setting.client, &setting.site.search_token).await, 200);
    // A client that guesses from the address of QueueMetrics.
    let tokens: Vec<String> = (0..GUESSES).map(|n| format!("guess-{n:030}")).collect();
    let statuses = join_all(tokens.iter().map(|token| ask(&setting.client, token))).await;
    let looked_at = looked_at(&statuses);
    assert!((1..=11).contains(&looked_at), "{looked_at}");
    assert_eq!(ask(&setting.client, &setting.site.search_token).await, 200);
    let promise = "ten guesses at once, then one every 6 s; the right token is always answered";
    let measured = format!("{looked_at} of {GUESSES} checked, the others 429");
    matrix::row("trust", "search tokens are guessed at a site with a dialect file", promise, measured);
}

#[tokio::test]
async fn forged_links_are_throttled_and_links_that_opened_continue() {
    const FORGED: usize = 200;
    let setting = Setting::new(Relay::start().await).await;
    let _agent = setting.agent().await;
    let link = setting.short_link().await;
    assert_eq!(send(setting.client.get(&link)).await.status(), 200);
    let mut looked_at = 0;
    for n in 0..FORGED {
        // The relay cannot see that the seal is broken; only the agent can.
        let end = link.rfind('/').unwrap();
        let forged = format!("{}{n:04}{}", &link[..end - 4], &link[end..]);
        match send(setting.client.get(&forged)).await.status().as_u16() {
            403 => looked_at += 1,
            status => assert_eq!(status, 429),
        }
    }
    assert!((10..20).contains(&looked_at), "{looked_at}");
    assert_eq!(send(setting.client.get(&link)).await.status(), 200);
    let promise = "ten guesses at once, then one every 6 s; links that opened before always open";
    let measured = format!("{looked_at} of {FORGED} checked, the others 429");
    matrix::row("trust", "links are forged", promise, measured);
}

#[test]
fn secrets_are_wiped_when_they_are_dropped() {
    fn wiped<T: ZeroizeOnDrop>() {}
    wiped::<SiteKey>();
    wiped::<EnrolmentCode>();
    wiped::<LinkSecret>();
    wiped::<Secret>();
}

/// Instructions to judge a guess a thousand times.
async fn instructions(judge: &str, secret: &str, guess: &str) -> u64 {
    assert_eq!(secret.len(), guess.len(), "a guess has the length of the secret");
    let file = tempfile::NamedTempFile::with_prefix_in("judged", std::env::temp_dir()).unwrap();
    std::fs::write(file.path(), format!("{secret}\n{guess}\n")).unwrap();
    let words = ["--tool=callgrind", "--callgrind-out-file=/dev/null"].map(str::to_owned);
    let judged = [
        program("bench").display().to_string(),
        "judge".to_owned(),
        judge.to_owned(),
        file.path().display().to_string(),
    ];
    let (code, _, said) = run_program("valgrind".as_ref(), &[&words[..], &judged].concat(), &[]).await;
    assert_eq!(code, 0, "{said}");
    let count = said.lines().find_map(|line| line.split_once("Collected : ")).unwrap().1;
    count.trim().parse().unwrap()
}

/// Guesses at a secret of which nothing, one half, or all but one character are right. The last character is always
/// right, because its bits are used to check the spelling of a key.
fn guesses(secret: &str, from: usize) -> Vec<String> {
    let (secret, last) = secret.split_at(secret.len() - 1);
    let at = |wrong_from: usize| {
        let (right, rest) = secret.split_at(wrong_from);
        let wrong = rest.chars().map(|letter| if letter == 'b' { 'c' } else { 'b' });
        right.chars().chain(wrong).chain(last.chars()).collect()
    };
    vec![at(from), at((from + secret.len()) / 2), at(secret.len() - 1)]
}

#[tokio::test]
async fn the_time_for_a_wrong_guess_reveals_nothing_of_the_secret() {
    if !installed("valgrind") {
        return;
    }
    let relay = Relay::start().await;
    let site = relay.add_site("acme", &[]).await;
    let mut measured = Vec::new();
    for (judge, secret, from) in [
        ("search-token", &site.search_token, 0),
        ("site-key", &site.site_key, "avk_acme_".len()),
        ("naive", &site.search_token, 0),
    ] {
        let guesses = guesses(secret, from);
        let counts = join_all(guesses.iter().map(|guess| instructions(judge, secret, guess))).await;
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        let spread = most - least;
        if judge == "naive" {
            assert!(spread > 10_000, "a comparison that is not constant must show: {counts:?}");
        } else {
            assert!(spread < 1_000, "more than one instruction of difference per guess: {judge}: {counts:?}");
        }
        measured.push(format!("{judge}: {spread}"));
    }
    let promise = "the same number of instructions for every wrong guess, even if a part of it is right";
    let measured = format!("difference in instructions for 1,000 guesses: {}", measured.join(", "));
    matrix::row("trust", "tokens are guessed by timing", promise, measured);
}
