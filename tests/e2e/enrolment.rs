//! A short code becomes a site key: operators make it, and the person who installs the agent trades it.

use harness::{
    agent::{Agent, AgentOptions},
    browser::{Browser, BrowserOptions},
    client::{client, client_at, search, send},
    operator::{Api, Operator},
    process::run,
    recordings::{CALL, one_recording},
    relay::{Relay, Site},
};
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};
use sqlx::{Connection, Executor, SqliteConnection};

use crate::dashboard::assert_no_barriers;

const WRONG: &str = "0000-0000-0000";
const REFUSED: &str =
    "the code is wrong, used or older than 15 minutes; ask the relay's operator for a new one";

/// Makes a code with the command line.
async fn enrol(relay: &Relay, site: &str) -> String {
    let made = relay.site_command(&["enroll", site]).await;
    made["code"].as_str().unwrap().to_owned()
}

/// Sends a code as an agent does.
async fn trade(client: &Client, relay: &Relay, code: &str) -> Response {
    send(client.post(format!("{}/enroll", relay.url())).json(&json!({ "code": code }))).await
}

/// Trades a code that must be right. Returns the site with its new key.
async fn traded(client: &Client, relay: &Relay, code: &str, site: &Site) -> Site {
    let response = trade(client, relay, code).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["cache-control"], "no-store");
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["site"], site.name.as_str());
    Site { site_key: answer["site_key"].as_str().unwrap().to_owned(), ..site.clone() }
}

/// The problem details for a code that is refused.
async fn refused(response: Response, status: u16) -> String {
    assert_eq!(response.status(), status);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let problem: Value = response.json().await.unwrap();
    assert!(problem["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{problem}");
    problem["detail"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_code_read_over_the_phone_brings_an_agent_its_key_once() {
    let relay = Relay::start_tls().await;
    let site = relay.add_site("acme", &[]).await;
    let made = relay.site_command(&["enroll", "acme"]).await;
    let code = made["code"].as_str().unwrap();
    let command = format!("audiovault-agent install --relay '{}' --enroll {code}", relay.tunnel_url());
    assert_eq!(made["install_command"], command);
    let (client, typed) = (client(&relay), format!(" {} ", code.to_lowercase().replace('-', " ")));
    let enrolled = traded(&client, &relay, &typed, &site).await;
    assert_ne!(enrolled.site_key, site.site_key);
    assert_eq!(refused(trade(&client, &relay, code).await, 403).await, REFUSED);

    let dir = one_recording();
    let _agent = Agent::start(&relay, &enrolled, AgentOptions::new(dir.path())).await;
    relay.site_command(&["revoke-key", "acme"]).await;
    search(&client, &site, CALL, &[]).await;
    let detail = relay.status("acme").await;
    let record = &detail["enrolments"][0];
    assert_eq!(
        (&record["used_from"], &record["created_by"]),
        (&json!("127.0.0.1"), &Value::Null),
        "{detail}"
    );
    assert!(record["key"] == detail["keys"][1]["id"] && !record["used"].is_null(), "{detail}");
    relay.process().wait_for_code("enrolment.accepted").await;
    let log = relay.process().log().join("\n");
    for secret in [code, &code.replace('-', ""), &enrolled.site_key] {
        assert!(!log.contains(secret), "{log}");
    }
    let wrong = "audiovault_relay_refused_credentials_total{reason=\"wrong_code\"}";
    assert_eq!(relay.figure(wrong).await, 1.0);
}

#[tokio::test]
async fn old_replaced_and_made_up_codes_and_those_of_disabled_sites_are_refused_alike() {
    let relay = Relay::start().await;
    let site = relay.add_site("acme", &[]).await;
    let client = client(&relay);
    let replaced = enrol(&relay, "acme").await;
    let disabled = enrol(&relay, "acme").await;
    relay.site_command(&["disable", "acme"]).await;
    for code in [&replaced, &disabled, WRONG] {
        assert_eq!(refused(trade(&client, &relay, code).await, 403).await, REFUSED, "{code}");
    }
    relay.site_command(&["enable", "acme"]).await;
    traded(&client, &relay, &disabled, &site).await;
    relay.site_command(&["revoke-key", "acme"]).await;

    let old = enrol(&relay, "acme").await;
    let mut database = database(&relay).await;
    let age = "UPDATE enrolments SET expires_ms = expires_ms - 900000 WHERE used_ms IS NULL";
    assert_eq!(database.execute(age).await.unwrap().rows_affected(), 1);
    assert_eq!(refused(trade(&client, &relay, &old).await, 403).await, REFUSED);
    assert_eq!(
        relay.status("acme").await["enrolments"].as_array().unwrap().len(),
        1,
        "it is not shown again"
    );
}

async fn database(relay: &Relay) -> SqliteConnection {
    SqliteConnection::connect(&relay.database()).await.unwrap()
}

#[tokio::test]
async fn guesses_at_codes_throttle_only_the_client_that_guesses() {
    let relay = Relay::start().await;
    let site = relay.add_site("acme", &[]).await;
    let code = enrol(&relay, "acme").await;
    let guesser = client_at(66);
    let mut guessed = 0;
    let throttled = loop {
        let response = trade(&guesser, &relay, &format!("ABCD-EFGH-{guessed:04}")).await;
        if response.status() != StatusCode::FORBIDDEN {
            break response;
        }
        guessed += 1;
    };
    assert!((10..20).contains(&guessed), "{guessed} codes were checked");
    let after: u64 = throttled.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=6).contains(&after), "{after}");
    refused(throttled, 429).await;
    assert_eq!(trade(&guesser, &relay, &code).await.status(), 429, "a right code is not checked either");
    traded(&client_at(67), &relay, &code, &site).await;
}

#[tokio::test]
async fn a_site_with_two_keys_gets_advice_what_to_do() {
    let relay = Relay::start().await;
    let site = relay.add_site("acme", &[]).await;
    let (client, code) = (client(&relay), enrol(&relay, "acme").await);
    relay.site_command(&["rotate-key", "acme"]).await;
    let detail = refused(trade(&client, &relay, &code).await, 409).await;
    assert!(detail.contains("acme has two valid keys already") && detail.contains("revoke one"), "{detail}");
    let database = relay.database();
    let (exit, _, err) =
        run("audiovault-relay", &["site", "enroll", "acme", "--database", &database], &[]).await;
    assert!(exit == 1 && err.contains("two valid keys already: revoke") && err.lines().count() == 1, "{err}");
    relay.site_command(&["revoke-key", "acme"]).await;
    traded(&client, &relay, &code, &site).await;
}

#[tokio::test]
async fn malformed_enrolments_get_a_clear_error() {
    let relay = Relay::start().await;
    let (client, url) = (client(&relay), format!("{}/enroll", relay.url()));
    let (long, database) = ("0".repeat(600), relay.database());
    for (body, status, about) in [
        ("", 400, "XXXX-XXXX-XXXX"),
        ("[]", 400, "XXXX-XXXX-XXXX"),
        ("{}", 400, "missing field `code`"),
        (r#"{"code": 7}"#, 400, "expected a string"),
        (r#"{"code": "7K2M-QX4D"}"#, 400, "expected 12 letters and digits"),
        (&long, 413, "512"),
    ] {
        let detail = refused(send(client.post(&url).body(body.to_owned())).await, status).await;
        assert!(detail.contains(about) && !detail.contains("7K2M-QX4D\""), "{detail}");
    }
    for method in [Method::GET, Method::OPTIONS] {
        let request = client.request(method, &url).header("origin", "https://elsewhere.example");
        let response = send(request.header("access-control-request-method", "POST")).await;
        assert!(!response.headers().contains_key("access-control-allow-origin"));
        refused(response, 405).await;
    }
    for name in [&["add", "enroll"][..], &["add", "acme", "--alias", "enroll"]] {
        let arguments = [&["site"], name, &["--database", &database]].concat();
        let (exit, _, err) = run("audiovault-relay", &arguments, &[]).await;
        assert!(exit == 2 && err.contains("reserved"), "{err}");
    }
}

#[tokio::test]
async fn a_code_is_not_lost_while_the_database_cannot_be_written() {
    let relay = Relay::start().await;
    let site = relay.add_site("acme", &[]).await;
    let (client, code) = (client(&relay), enrol(&relay, "acme").await);
    let mut database = database(&relay).await;
    let lock = database.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let response = trade(&client, &relay, &code).await;
    assert!(response.headers().contains_key("retry-after"));
    let detail = refused(response, 503).await;
    assert!(detail.contains("with the same code"), "{detail}");
    lock.rollback().await.unwrap();
    traded(&client, &relay, &code, &site).await;
}

#[tokio::test]
async fn every_relay_on_the_database_takes_the_code_and_then_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (Relay::start_on(dir.path()).await, Relay::start_on(dir.path()).await);
    let site = one.add_site("acme", &[]).await;
    let (status, made) = Api::admin(&one).await.post("/api/v1/sites/acme/enrolment", &Value::Null).await;
    assert_eq!(status, 201, "{made}");
    let code = made["code"].as_str().unwrap();
    let enrolled = traded(&client(&other), &other, code, &site).await;
    assert_eq!(one.site_command(&["show", "acme"]).await["keys"].as_array().unwrap().len(), 2);
    let recordings = one_recording();
    Agent::start(&one, &enrolled, AgentOptions::new(recordings.path())).await;
    assert_eq!(refused(trade(&client(&one), &one, code).await, 403).await, REFUSED);
}

#[tokio::test]
async fn users_who_may_change_a_site_and_listen_may_enrol_its_agents() {
    let relay = Relay::start().await;
    relay.add_site("acme", &[]).await;
    for (role, status) in [("viewer", 403), ("operator", 201), ("admin", 201)] {
        let api = Api::with(&relay, role, &["--role", role, "--site", "acme", "--playback"]).await;
        let (answered, made) = api.post("/api/v1/sites/acme/enrolment", &Value::Null).await;
        assert_eq!(answered, status, "{role}: {made}");
        relay.add_user(role, &["--role", role, "--site", "acme", "--playback"]).await;
        let user = Operator::log_in(&relay, role).await;
        let offered = user.page("/sites/acme").await.contains("action=\"/sites/acme/enrolment\"");
        assert_eq!(offered, status == 201, "{role}");
        let page = user.post("/sites/acme/enrolment", &[]).await.status();
        assert_eq!(page, if status == 201 { 200 } else { 403 }, "{role}");
    }
    let line = relay.process().wait_for("what=\"enrolment code made\"").await;
    assert!(line.contains("actor=operator") && line.contains("site=acme"), "{line}");
    relay.site_command(&["rotate-key", "acme"]).await;
    let (status, problem) = Api::admin(&relay).await.post("/api/v1/sites/acme/enrolment", &Value::Null).await;
    assert_eq!(status, 409, "{problem}");
}

async fn assert_fits_a_phone(browser: &Browser, page: &str) {
    assert_no_barriers(browser, page).await;
    let fits = browser.run("return document.documentElement.scrollWidth <= innerWidth", vec![]).await;
    assert_eq!(fits, true, "{page} is wider than a phone");
}

#[tokio::test]
async fn an_operator_reads_a_code_from_a_telephone_in_spanish() {
    let relay = Relay::start().await;
    relay.add_site("acme", &[]).await;
    enrol(&relay, "acme").await;
    relay.add_user("maria", &["--role", "operator", "--playback"]).await;
    let options =
        BrowserOptions { languages: "es-MX,es", window: (390, 800), dark: true, ..Default::default() };
    let browser = Browser::start_with(options).await;
    browser.log_in(&relay, "maria").await;
    browser.open(&format!("{}/sites/acme", relay.admin_url())).await;
    assert_eq!(browser.read("#enrolment").await, "Alta de agentes");
    assert!(browser.read("#site-enrolments").await.contains("la línea de órdenes"));
    browser.run("document.getElementById('enrolment').scrollIntoView()", vec![]).await;
    assert_fits_a_phone(&browser, "phone-dark-enrolment").await;
    browser.click("form[action='/sites/acme/enrolment'] button").await;
    browser.find("#enrolment-code").await;
    assert_fits_a_phone(&browser, "phone-dark-enrolment-code").await;
    browser.close().await;
}

#[tokio::test]
async fn an_operator_enrols_an_agent_on_the_page_of_its_site() {
    let relay = Relay::start().await;
    let site = relay.add_site("acme", &[]).await;
    relay.add_user("maria", &["--role", "admin", "--playback"]).await;
    let browser = Browser::start().await;
    browser.log_in(&relay, "maria").await;
    let page = format!("{}/sites/acme", relay.admin_url());
    browser.open(&page).await;
    let button = "form[action='/sites/acme/enrolment'] button";
    browser.click(button).await;
    let code = browser.read("#enrolment-code").await;
    assert_eq!(code.len(), 14, "{code}");
    let command = browser.text("#install-command").await;
    assert!(command.ends_with(&format!("--relay '{}' --enroll {code}", relay.tunnel_url())), "{command}");
    browser.wait_until("document.querySelectorAll('.copy button').length === 2").await;
    browser.wait_until("/\\d/.test(document.querySelector('main time').textContent)").await;
    assert_no_barriers(&browser, "enrolment-code").await;

    browser.open(&page).await;
    let row = browser.read("#site-enrolments tbody tr").await;
    assert!(row.contains("maria") && !browser.text("body").await.contains(&code), "{row}");
    traded(&client(&relay), &relay, &code, &site).await;
    browser.open(&page).await;
    let row = browser.read("#site-enrolments tbody tr").await;
    assert!(row.contains("maria") && row.contains("127.0.0.1"), "{row}");
    let text = browser.text("section[aria-labelledby=enrolment]").await;
    assert!(text.contains("Two keys are valid already"), "{text}");
    assert!(browser.read_all(button).await.is_empty());
    browser.run("document.getElementById('enrolment').scrollIntoView()", vec![]).await;
    assert_no_barriers(&browser, "site-enrolled").await;
    browser.close().await;
}
