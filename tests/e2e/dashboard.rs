//! Operators with a real browser.

use harness::{
    agent::{Agent, AgentOptions},
    browser::{Browser, BrowserOptions},
    recordings::{CALL, wav, write},
    relay::{Relay, Site},
};
use tempfile::TempDir;

/// A relay with an admin called maria.
async fn relay() -> Relay {
    let relay = Relay::start().await;
    relay.add_user("maria", &["--role", "admin", "--playback"]).await;
    relay
}

/// Checks that axe-core finds no problem, and stores a picture of the page.
pub(crate) async fn assert_no_barriers(browser: &Browser, page: &str) {
    assert_eq!(browser.violations().await, Vec::<String>::new(), "{page}");
    browser.screenshot(page).await;
}

/// Adds a site with the form, as an operator does.
async fn add_site(browser: &Browser, relay: &Relay) -> Site {
    browser.click("a[href='/sites/new']").await;
    browser.fill("#site", "acme-madrid").await;
    browser.fill("#note", "Acme, Madrid").await;
    assert_no_barriers(browser, "site-new").await;
    browser.click("main form button[type=submit]").await;
    browser.find("#site-key").await;
    assert_no_barriers(browser, "site-added").await;
    Site {
        name: "acme-madrid".to_owned(),
        site_key: browser.text("#site-key").await,
        search_token: browser.text("#search-token").await,
        search_url: format!("{}/acme-madrid/search", relay.url()),
    }
}

/// A recording of half a minute, so that a listener can skip.
fn long_recording() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), format!("in-100-34911223344-20240326-{CALL}.wav"), &wav(120.0, 1));
    dir
}

#[tokio::test]
async fn an_operator_sees_a_site_added_up_listened_to_and_down() {
    let relay = relay().await;
    let browser = Browser::start().await;
    browser.log_in(&relay, "maria").await;
    assert_no_barriers(&browser, "board-empty").await;
    let site = add_site(&browser, &relay).await;
    browser.open(&relay.admin_url()).await;
    browser.find("tr[data-site='acme-madrid'] .state-never_seen").await;
    let dir = long_recording();
    let agent = Agent::start(&relay, &site, AgentOptions::new(dir.path())).await;
    browser.find("tr[data-site='acme-madrid'] .state-up").await;
    browser.wait_until("document.querySelector('[data-total=up]').textContent === '1'").await;
    assert_no_barriers(&browser, "board").await;

    browser.click("tr[data-site='acme-madrid'] a").await;
    browser.find("#site-heading .state-up").await;
    browser.fill("#try-call", CALL).await;
    browser.fill("#try-token", &site.search_token).await;
    let mark = relay.process().mark();
    browser.click("#try-form button").await;
    browser.find(".player audio").await;
    browser.wait_until("document.querySelector('audio').readyState >= 1").await;
    let player = "const player = document.querySelector('audio');";
    browser
        .run(&format!("{player} player.muted = true; player.currentTime = 90; player.play();"), vec![])
        .await;
    browser.wait_until("document.querySelector('audio').currentTime > 90.2").await;
    browser.run("const s = document.querySelector('.player select'); s.value = '2'; s.dispatchEvent(new Event('change'));", vec![]).await;
    browser.wait_until("document.querySelector('audio').playbackRate === 2").await;
    let line = relay.process().wait_for_after(mark, "status=206").await;
    assert!(line.contains("recordings"), "{line}");
    assert_no_barriers(&browser, "site").await;

    browser.open(&relay.admin_url()).await;
    browser.find("tr[data-site='acme-madrid'] .state-up").await;
    agent.process.kill().await;
    browser.find("tr[data-site='acme-madrid'] .state-down").await;
    browser.open(&format!("{}/audit?call_id={CALL}", relay.admin_url())).await;
    browser.wait_until("document.querySelectorAll('tbody tr').length >= 2").await;
    assert_no_barriers(&browser, "audit").await;
    browser.close().await;
}

#[tokio::test]
async fn the_pages_use_the_language_of_the_browser_and_can_be_switched() {
    let relay = relay().await;
    let options =
        BrowserOptions { languages: "es-MX,es", window: (390, 800), dark: true, ..Default::default() };
    let browser = Browser::start_with(options).await;
    browser.log_in(&relay, "maria").await;
    assert_eq!(browser.run("return document.documentElement.lang", vec![]).await, "es");
    assert_no_barriers(&browser, "board-phone-dark-spanish").await;
    browser.click("details.menu summary").await;
    browser.click("a[hreflang=en]").await;
    browser.wait_until("document.documentElement.lang === 'en'").await;
    for page in ["/users", "/tokens", "/audit", "/operator-events", "/sites/new", "/password"] {
        browser.open(&format!("{}{page}", relay.admin_url())).await;
        let name = format!("phone-dark{}", page.replace('/', "-"));
        assert_no_barriers(&browser, &name).await;
        let wide = browser.run("return document.documentElement.scrollWidth <= innerWidth", vec![]).await;
        assert_eq!(wide, true, "{page} is wider than a phone");
    }
    browser.close().await;
}

#[tokio::test]
async fn the_landing_page_is_accessible() {
    let relay = Relay::start().await;
    let browser = Browser::start().await;
    browser.open(&relay.url()).await;
    assert!(browser.text("h1").await.contains("AudioVault"));
    assert_no_barriers(&browser, "landing").await;
    browser.close().await;
}
