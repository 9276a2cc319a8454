//! The board of an operator with two thousand sites.

#![expect(clippy::print_stdout, reason = "the run prints its figures")]

use std::{fmt::Write, path::Path, time::Instant};

use harness::{
    agent::{Agent, AgentOptions},
    browser::Browser,
    recordings::one_recording,
    relay::{Relay, Site},
};

const SITES: usize = 2000;
const CITIES: [&str; 8] =
    ["Madrid", "Valencia", "Sevilla", "Zaragoza", "Málaga", "Murcia", "Palma", "Bilbao"];
/// A site that is not on the first pages.
const LATE: &str = "site-1994";
const LATE_STATE: &str = "document.querySelector(\"tbody tr:first-child[data-site='site-1994'] .state-up\")";

/// Imports the sites. Returns the secrets of [`LATE`].
async fn import(relay: &Relay, dir: &Path) -> Site {
    let mut table = "site,note,aliases\n".to_owned();
    for (number, city) in (1..=SITES).zip(CITIES.into_iter().cycle()) {
        writeln!(table, "site-{number:04},Branch {number} in {city},branch-{number}").unwrap();
    }
    let (file, secrets) = (dir.join("sites.csv"), dir.join("secrets.csv"));
    std::fs::write(&file, table).unwrap();
    let [file, to] = [&file, &secrets].map(|path| path.display().to_string());
    let imported = relay.site_command(&["import", &file, "--secrets", &to]).await;
    assert_eq!(imported["imported"], SITES);
    let secrets = std::fs::read_to_string(secrets).unwrap();
    let line = secrets.lines().find(|line| line.starts_with(LATE)).unwrap();
    let [name, site_key, search_token, search_url] =
        line.split(',').map(str::to_owned).collect::<Vec<_>>().try_into().unwrap();
    Site { name, site_key, search_token, search_url }
}

/// Waits until the board lists this many sites. Returns how long that took.
async fn listed(browser: &Browser, count: &str, since: Instant, what: &str) {
    let text = "document.querySelector('#board > p')?.textContent";
    browser.wait_until(&format!("{text}?.trim() === '{count}'")).await;
    println!("{what}: {} ms", since.elapsed().as_millis());
}

async fn first_row(browser: &Browser) -> String {
    browser.text("tbody tr:first-child th a").await
}

#[tokio::test]
async fn among_two_thousand_sites_one_is_found_and_followed() {
    let relay = Relay::start().await;
    relay.add_user("maria", &["--role", "admin"]).await;
    let (dir, recordings) = (tempfile::tempdir().unwrap(), one_recording());
    let site = import(&relay, dir.path()).await;
    relay.wait_for_status(LATE, |status| !status.is_null()).await;
    let browser = Browser::start().await;
    let since = Instant::now();
    browser.log_in(&relay, "maria").await;
    listed(&browser, "2,000 sites", since, "login and board of 2,000 sites").await;
    let loaded =
        "const [page] = performance.getEntriesByType('navigation'); return Math.round(page.duration)";
    println!("the board loads in {} ms", browser.run(loaded, vec![]).await);
    assert_eq!(browser.text("[data-total=never_seen]").await, "2,000");
    browser.click("a[rel=next]").await;
    browser.find("a[rel=prev]").await;
    assert_eq!(first_row(&browser).await, "site-0101");

    let since = Instant::now();
    browser.fill("#q", "valencia").await;
    listed(&browser, "250 sites", since, "typed search").await;
    assert_eq!(first_row(&browser).await, "site-0002");
    let since = Instant::now();
    browser.choose("#sort", "State").await;
    browser.wait_until("location.search === '?q=valencia&sort=state'").await;
    println!("sorted: {} ms", since.elapsed().as_millis());

    // A site connects while another page is shown, and belongs on this page from then on.
    let agent = Agent::start(&relay, &site, AgentOptions::new(recordings.path())).await;
    let since = Instant::now();
    browser.wait_until(LATE_STATE).await;
    println!("the first site that is up stands at the top: {} ms", since.elapsed().as_millis());
    browser.wait_until("document.querySelector('[data-total=never_seen]').textContent === '1,999'").await;
    let since = Instant::now();
    browser.click("nav.filters a[href*='state=up']").await;
    listed(&browser, "One site", since, "filter by state").await;
    assert!(browser.url().await.ends_with("/?q=valencia&state=up&sort=state"), "the search is kept");
    browser.find(&format!("tr[data-site={LATE}] .state-up")).await;
    agent.process.kill().await;
    browser.wait_until("document.querySelector('#board .empty')").await;
    browser.click("nav.filters a[aria-current]").await;
    listed(&browser, "250 sites", Instant::now(), "no filter").await;
    browser.find(&format!("tr[data-site={LATE}] .state-down")).await;
    browser.close().await;
}
