//! `audiovault-agent check` about the network between a site and its relay: each fault is created for real, and must
//! be reported by its name.

use std::{sync::Arc, time::Duration};

use harness::{
    address::free_address,
    agent::{AgentOptions, Trust, secret},
    authority::Authority,
    middlebox::Middlebox,
    names::{NameServer, Names},
    nginx::Nginx,
    preflight::{check, table},
    process::installed,
    proxy_server::{CREDENTIALS, ProxyServer},
    recordings::one_recording,
    relay::Relay,
};
use tempfile::TempDir;

const NAME: &str = "relay.example.test";

#[tokio::test]
async fn a_name_that_does_not_exist_is_reported() {
    let relay = Relay::start_named(NAME).await;
    let Some(server) = NameServer::start(NAME, relay.address.ip()).await else { return };
    let Some(names) = Names::new("", Some(&server)) else { return };
    let (site, dir, names) = (relay.add_site("acme", &[]).await, one_recording(), Arc::new(names));
    let port = relay.address.port();
    let dialling =
        |name: &str| AgentOptions::new(dir.path()).through(format!("wss://{name}:{port}")).believing(&names);
    let report = check(&relay, &site, &dialling(NAME)).await;
    report.is_well();
    let ip = relay.address.ip();
    assert_eq!(report.said("name_service"), format!("{NAME} is {ip}"));

    let report = check(&relay, &site, &dialling("rellay.example.test")).await;
    let said = ["cannot find the address of rellay.example.test", "no such name", "check"];
    report.fails_at("name_service", &said);
    for step in ["tcp", "proxy", "tls", "time", "websocket", "site_key", "round_trip"] {
        assert_eq!(report.said(step), "name service has to work first");
    }
}

#[tokio::test]
async fn a_port_without_a_listener_is_reported() {
    let relay = Relay::start_tls().await;
    let (site, dir, closed) = (relay.add_site("acme", &[]).await, one_recording(), free_address());
    let options = AgentOptions::new(dir.path()).through(format!("wss://{closed}"));
    let report = check(&relay, &site, &options).await;
    report.fails_at("tcp", &[&format!("{closed} refuses the connection"), "check address, port", "firewall"]);
}

/// A proxy without credentials, with wrong ones, and with the right ones.
async fn a_proxy_wants_credentials(scheme: &str, proxy: &ProxyServer) {
    let relay = Relay::start_tls().await;
    let (site, dir, secrets) = (relay.add_site("acme", &[]).await, one_recording(), TempDir::new().unwrap());
    let url = format!("{scheme}://{}", proxy.address);
    let options = || AgentOptions::new(dir.path()).with(&["--proxy", &url]);
    let with = |credentials: &str| {
        let file = secret(secrets.path(), "proxy", credentials);
        options().with(&["--proxy-credentials-file", &file])
    };
    let report = check(&relay, &site, &options()).await;
    report.fails_at("proxy", &[&url, "requires a user and a password", "→ write USER:PASSWORD into a file"]);
    assert_eq!(report.said("tls"), "proxy has to work first");
    let report = check(&relay, &site, &with("maria:s3cr3t-of-yesterday")).await;
    report.fails_at("proxy", &["does not accept the user and password", "→ correct them in the file"]);
    let report = check(&relay, &site, &with(CREDENTIALS)).await;
    report.is_well();
    assert_eq!(report.said("proxy"), format!("{url} connects to {}", relay.address));
}

#[tokio::test]
async fn an_http_proxy_that_wants_credentials_is_reported_and_passed_with_the_right_ones() {
    let Some(proxy) = ProxyServer::http(None).await else { return };
    a_proxy_wants_credentials("http", &proxy).await;
}

#[tokio::test]
async fn a_socks_proxy_that_wants_credentials_is_reported_and_passed_with_the_right_ones() {
    let Some(proxy) = ProxyServer::socks(None).await else { return };
    a_proxy_wants_credentials("socks5h", &proxy).await;
}

#[tokio::test]
async fn a_certificate_of_an_unknown_issuer_is_reported_with_the_name_of_the_issuer() {
    let own = Authority::new("Acme Telephony Root");
    let other = Authority::new("Another Authority");
    let relay = Relay::start_signed(&own, None).await;
    let (site, dir) = (relay.add_site("acme", &[]).await, one_recording());
    let machine = AgentOptions::new(dir.path()).trusting(Trust::Machine(other.file()));
    let report = check(&relay, &site, &machine).await;
    report.fails_at("tls", &["signed by 'Acme Telephony Root', not by a public authority", "--cacert"]);

    let options = AgentOptions::new(dir.path()).trusting(Trust::File(own.file()));
    let report = check(&relay, &site, &options).await;
    report.is_well();
    let said = report.said("tls");
    assert!(said.contains(&format!("--cacert {} trusts it", own.file().display())), "{said}");
}

#[tokio::test]
async fn a_firewall_that_opens_tls_is_reported_by_name_trusted_or_not() {
    let (own, firewall) = (Authority::new("Acme Telephony Root"), Authority::new("Acme Firewall CA"));
    let relay = Relay::start_signed(&own, Some(NAME)).await;
    let middlebox = Middlebox::before(&relay, NAME, &firewall).await;
    let Some(names) = Names::new(&format!("{} {NAME}\n", middlebox.address.ip()), None) else { return };
    let (site, dir, names) = (relay.add_site("acme", &[]).await, one_recording(), Arc::new(names));
    let url = format!("wss://{NAME}:{}", relay.address.port());
    let trusting =
        |trust| AgentOptions::new(dir.path()).through(url.clone()).believing(&names).trusting(trust);

    // The agent and the machine do not trust the firewall.
    let report = check(&relay, &site, &trusting(Trust::File(own.file()))).await;
    let opens =
        ["'Acme Firewall CA'", "a device between here and the relay decrypts TLS", "without decryption"];
    let said = report.fails_at("tls", &opens);
    assert!(said.contains(&format!("neither in --cacert {}", own.file().display())), "{said}");

    // The machine trusts it, as machines do that a company has set up: it works, and the firewall reads everything.
    let machine = trusting(Trust::Machine(firewall.file()));
    let report = check(&relay, &site, &machine).await;
    report.warns_at("tls", &opens);
    assert!(report.said("tls").contains("can read the site key, the search tokens and every recording"));
    let (code, said) = table(&relay, &site, &machine).await;
    assert!(code == 1 && said.contains("WARN     TLS "), "{said}");
    assert!(said.contains("It works, with warnings. 11 PASS, 1 WARN, 0 FAIL, 0 SKIPPED"), "{said}");

    // The operator trusts it, and still gets the name of the issuer.
    let report = check(&relay, &site, &trusting(Trust::File(firewall.file()))).await;
    report.is_well();
    assert!(report.said("tls").contains("signed by 'Acme Firewall CA', not by a public authority"));
}

#[tokio::test]
async fn a_proxy_that_strips_the_upgrade_and_a_server_that_is_no_relay_are_reported() {
    let relay = Relay::start().await;
    let (site, dir) = (relay.add_site("acme", &[]).await, one_recording());
    // A common first configuration, without the headers for the upgrade.
    let bare = Nginx::start_with(&format!("proxy_pass http://{};", relay.address)).await;
    let Some(bare) = bare else { return };
    let options = AgentOptions::new(dir.path()).through(format!("ws://{}", bare.address));
    let report = check(&relay, &site, &options).await;
    report
        .fails_at("websocket", &["strips the Upgrade header", "docs/relay/proxy.md has the lines for nginx"]);
    assert_eq!(report.states()[10], ("site_key", "PASS"), "the relay has judged it");

    let Some(other) = Nginx::start_with("return 200;").await else { return };
    let options = AgentOptions::new(dir.path()).through(format!("ws://{}", other.address));
    let report = check(&relay, &site, &options).await;
    report.fails_at(
        "websocket",
        &["200 OK, and the response is not from a relay", "or no relay runs there", "check that --relay is"],
    );
    assert_eq!(report.said("site_key"), "WebSocket has to work first");
}

#[tokio::test]
async fn a_clock_that_is_a_day_off_is_reported_as_the_cause() {
    if !installed("faketime") {
        return;
    }
    let authority = Authority::new("Acme Telephony Root");
    let lasting = Relay::start_signed(&authority, None).await;
    // Its certificate is valid, but not at the time of the clock.
    let authority = authority.for_short(Duration::from_hours(12));
    let short = Relay::start_signed(&authority, None).await;
    let dir = one_recording();
    let (site, other) = (short.add_site("acme", &[]).await, lasting.add_site("acme", &[]).await);
    for (off, difference, invalid) in [
        ("-1d", "1day behind the relay's", "its certificate is not valid yet"),
        ("+1d", "1day ahead of the relay's", "its certificate has expired"),
    ] {
        let starter = ["env", "FAKETIME_DONT_FAKE_MONOTONIC=1", "faketime", "-f", off];
        let options = AgentOptions::new(dir.path()).started_by(&starter);
        let report = check(&short, &site, &options).await;
        let words = [invalid, "but only by this machine's clock", difference, "set this machine's clock"];
        assert!(words.iter().all(|words| report.said("tls").contains(words)), "{report:?}");
        assert!(report.said("time").contains(difference), "{report:?}");
        let report = check(&lasting, &other, &options).await;
        assert!(report.said("time").contains(difference), "{report:?}");
        let state = |id| report.states().into_iter().find(|(step, _)| *step == id);
        assert_eq!((report.code, state("time")), (3, Some(("time", "FAIL"))), "{report:?}");
    }
}
