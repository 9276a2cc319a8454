//! Operators at a real browser.

use harness::{browser::Browser, relay::Relay};

#[tokio::test]
async fn the_landing_page_has_no_barriers() {
    let relay = Relay::start().await;
    let browser = Browser::start().await;
    browser.open(&relay.url()).await;
    assert!(browser.text("h1").await.contains("AudioVault relay"));
    assert_eq!(browser.violations().await, Vec::<String>::new());
    browser.screenshot("landing").await;
    browser.close().await;
}
