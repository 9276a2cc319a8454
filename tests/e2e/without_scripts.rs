//! Operators whose browser runs no scripts: every page still works.

use harness::{
    agent::{Agent, AgentOptions},
    browser::{Browser, BrowserOptions},
    client::{client, first_link, search, send},
    recordings::{CALL, one_recording},
    relay::Relay,
};

/// A browser at a relay with an admin.
struct Place {
    browser: Browser,
    relay: Relay,
}

impl Place {
    async fn new() -> Self {
        let relay = Relay::start().await;
        relay.add_user("maria", &["--role", "admin", "--playback"]).await;
        for (site, alias) in [("acme", "acme-madrid"), ("umbrella", "umbrella-paris")] {
            relay.add_site(site, &[alias]).await;
            relay.wait_for_status(site, |status| !status.is_null()).await;
        }
        let options = BrowserOptions { javascript: false, ..BrowserOptions::default() };
        let browser = Browser::start_with(options).await;
        browser.log_in(&relay, "maria").await;
        Self { browser, relay }
    }

    async fn open(&self, path: &str) {
        self.browser.open(&format!("{}{path}", self.relay.admin_url())).await;
    }

    /// The sites on the board, in order.
    async fn sites(&self) -> Vec<String> {
        self.browser.read_all("tbody th a").await
    }
}

#[tokio::test]
async fn the_board_is_searched_sorted_and_filtered_without_scripts() {
    let place = Place::new().await;
    let browser = &place.browser;
    assert_eq!(place.sites().await, ["acme", "umbrella"]);
    browser.choose("#sort", "Latest change").await;
    browser.click("#board-search button").await;
    browser.find("#sort option[value=since][selected]").await;
    assert_eq!(place.sites().await, ["umbrella", "acme"]);
    browser.fill("#q", "madrid").await;
    browser.click("#board-search button").await;
    browser.find("#q[value=madrid]").await;
    assert_eq!(place.sites().await, ["acme"]);
    browser.click("#filters a[href*='state=down']").await;
    browser.find("#board .empty").await;
    browser.arrives_at("/?q=madrid&state=down&sort=since").await;
    browser.click("#filters a[aria-current]").await;
    browser.arrives_at("/?q=madrid&sort=since").await;
    browser.click("tbody th a").await;
    browser.find("#site-heading .state-never_seen").await;
    browser.arrives_at("/sites/acme").await;
    place.browser.close().await;
}

#[tokio::test]
async fn a_site_is_added_changed_and_removed_without_scripts() {
    let place = Place::new().await;
    let browser = &place.browser;
    browser.click("a[href='/sites/new']").await;
    browser.fill("#site", "Not_A_Name").await;
    browser.click("main form button[type=submit]").await;
    assert!(!browser.read("[role=alert]").await.is_empty());
    browser.fill("#site", "late").await;
    browser.fill("#note", "Late & <little>").await;
    browser.click("main form button[type=submit]").await;
    assert!(browser.read("#site-key").await.starts_with("avk_late_"));
    browser.click("a[href='/sites/late']").await;
    assert!(browser.read("main").await.contains("Late & <little>"));
    // Elements that need scripts say so; where scripts run, this content is text, not elements.
    browser.find("noscript p").await;
    assert!(browser.read_all(".copy button").await.is_empty());
    browser.fill("#alias", "latecomer").await;
    browser.click("form[action='/sites/late/aliases'] button").await;
    assert!(!browser.read(".flash[role=status]").await.is_empty());
    browser.click("form[action='/sites/late/aliases/latecomer/remove'] button").await;
    browser.click("form[action='/sites/late/enrolment'] button").await;
    assert_eq!(browser.read("#enrolment-code").await.len(), 14);
    browser.click("a[href='/sites/late']").await;
    browser.find("#site-enrolments tbody tr").await;
    browser.click("form[action='/sites/late/keys'] button").await;
    browser.click("a[href='/sites/late']").await;
    assert_eq!(browser.read_all("section[aria-labelledby=keys] code").await.len(), 2);
    browser.click("form[action='/sites/late/disable'] button").await;
    browser.find("#site-heading .state-disabled").await;
    browser.click("form[action='/sites/late/enable'] button").await;
    browser.find("#site-heading .state-never_seen").await;
    browser.click("details.danger summary").await;
    browser.click("form[action='/sites/late/remove'] button").await;
    browser.find("#board").await;
    assert_eq!(place.sites().await, ["acme", "umbrella"]);
    place.browser.close().await;
}

#[tokio::test]
async fn the_audit_is_filtered_and_the_session_ends_without_scripts() {
    let place = Place::new().await;
    let (browser, relay) = (&place.browser, &place.relay);
    let site = relay.add_site("pbx", &[]).await;
    let dir = one_recording();
    let _agent = Agent::start(relay, &site, AgentOptions::new(dir.path())).await;
    let client = client(relay);
    let link = first_link(&search(&client, &site, CALL, &[("user", "robin")]).await);
    search(&client, &site, "1711441902.18", &[("user", "alex")]).await;
    assert_eq!(send(client.get(&link)).await.bytes().await.unwrap().len(), 16_044);
    relay.audit(3).await;

    browser.click("nav.main a[href='/audit']").await;
    browser.arrives_at("/audit").await;
    assert_eq!(browser.read_all("tbody tr").await.len(), 3);
    browser.fill("#user", "robin").await;
    browser.click(".filter-form button").await;
    browser.find("#user[value=robin]").await;
    assert_eq!(browser.read_all("tbody tr").await.len(), 2);
    browser.choose("#kind", "Delivery").await;
    browser.click(".filter-form button").await;
    browser.find("#kind option[value=delivery][selected]").await;
    let rows = browser.read_all("tbody tr").await;
    assert!(rows.len() == 1 && rows[0].contains(CALL) && rows[0].contains("pbx"), "{rows:?}");
    browser.find("a[href='/audit.csv?kind=delivery&user=robin']").await;
    browser.fill("#site", "No Site").await;
    browser.click(".filter-form button").await;
    browser.find("[role=alert]").await;
    place.open("/audit?outcome=refused").await;
    browser.find(".empty").await;

    browser.click("details.menu > summary").await;
    browser.click("details.menu a[hreflang=es]").await;
    browser.find("html[lang=es]").await;
    browser.click("details.menu > summary").await;
    browser.click("form[action='/logout'] button").await;
    browser.find("#password").await;
    place.open("/audit").await;
    browser.find("#password").await;
    place.browser.close().await;
}
