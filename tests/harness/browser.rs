//! A real browser: headless Chromium, controlled by ChromeDriver (Debian packages `chromium` and `chromium-driver`).

use std::{
    path::Path,
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use fantoccini::{Client, ClientBuilder, Locator, elements::Element, error::CmdError};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::process::{PATIENCE, Process, artefacts};

/// How often the page is polled for what a test waits for.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// The narrowest window that Chromium makes. It can still show pages as a narrower phone does.
const NARROWEST_WINDOW: u32 = 500;

/// Options of the browser.
#[derive(Debug, Clone)]
pub struct BrowserOptions {
    /// The languages that it prefers, as the value of `Accept-Language`.
    pub languages: &'static str,
    /// Width and height of the window in pixels.
    pub window: (u32, u32),
    /// Whether the user prefers dark pages.
    pub dark: bool,
    /// Whether pages may run JavaScript.
    pub javascript: bool,
}

impl Default for BrowserOptions {
    fn default() -> Self {
        Self { languages: "en", window: (1280, 900), dark: false, javascript: true }
    }
}

/// A browser with one window and a profile of its own.
#[derive(Debug)]
pub struct Browser {
    client: Client,
    _driver: Process,
    _profile: TempDir,
}

/// A port for a driver. A driver takes the same port for IPv6 and for IPv4, and ends if the second is taken. A port
/// that the kernel chooses for the first may be in use by a connection over IPv4, so this one is outside of the
/// kernel's range.
fn own_port() -> u16 {
    static COUNT: AtomicU16 = AtomicU16::new(0);
    let of_process = u16::try_from(std::process::id() % 3_000).unwrap_or_default();
    20_000 + of_process * 4 + COUNT.fetch_add(1, Ordering::Relaxed) % 4
}

impl Browser {
    /// Starts a browser with English as its language.
    pub async fn start() -> Self {
        Self::start_with(BrowserOptions::default()).await
    }

    /// Starts a browser.
    pub async fn start_with(options: BrowserOptions) -> Self {
        let port = own_port();
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={port}"));
        let driver = Process::watch(command);
        driver.wait_for("started successfully on port").await;
        let profile = tempfile::tempdir().expect("a temporary directory");
        let mut builder = ClientBuilder::rustls().expect("a client");
        builder.capabilities(capabilities(&options, profile.path()));
        let driver_url = format!("http://127.0.0.1:{port}");
        let connecting = builder.connect(&driver_url);
        let client = tokio::time::timeout(PATIENCE, connecting).await.expect("in time").expect("a browser");
        Self { client, _driver: driver, _profile: profile }
    }

    /// Opens an address.
    pub async fn open(&self, url: &str) {
        self.client.goto(url).await.expect("the page opens");
    }

    /// The address of the current page.
    pub async fn url(&self) -> String {
        self.client.current_url().await.expect("an address").to_string()
    }

    /// Waits for a page whose address ends with `end`.
    pub async fn arrives_at(&self, end: &str) {
        let arrived = async {
            while !self.url().await.ends_with(end) {
                tokio::time::sleep(ASK_EVERY).await;
            }
        };
        if tokio::time::timeout(PATIENCE, arrived).await.is_err() {
            panic!("{} does not end with {end}", self.url().await);
        }
    }

    /// Waits for an element. While the browser changes to another page, the driver responds with plain text, which is
    /// ignored.
    pub async fn find(&self, css: &str) -> Element {
        let begun = Instant::now();
        loop {
            let wait = self.client.wait().at_most(PATIENCE).every(ASK_EVERY);
            match wait.for_element(Locator::Css(css)).await {
                Ok(element) => return element,
                Err(CmdError::NotW3C(_)) if begun.elapsed() < PATIENCE => tokio::time::sleep(ASK_EVERY).await,
                Err(error) => panic!("{css} never came: {error}\n{}", self.text("body").await),
            }
        }
    }

    /// Waits for an element and clicks on it. Tries again if the page has replaced the element in between.
    pub async fn click(&self, css: &str) {
        let clicked = async {
            while let Err(error) = self.find(css).await.click().await {
                assert!(error.is_stale_element_reference(), "{css} cannot be clicked on: {error}");
            }
        };
        if tokio::time::timeout(PATIENCE, clicked).await.is_err() {
            panic!("{css} never stands still");
        }
    }

    /// Waits for a field and replaces its text.
    pub async fn fill(&self, css: &str, text: &str) {
        let field = self.find(css).await;
        field.clear().await.expect("it can be emptied");
        field.send_keys(text).await.expect("it can be written into");
    }

    /// Waits for a list and chooses an entry with the keyboard. ChromeDriver's own way of choosing sends fewer events
    /// to the page than a user does.
    pub async fn choose(&self, css: &str, entry: &str) {
        self.find(css).await.send_keys(entry).await.expect("it can be chosen from");
    }

    /// The text that an element shows.
    pub async fn text(&self, css: &str) -> String {
        let script = "return document.querySelector(arguments[0])?.innerText ?? ''";
        self.run(script, vec![json!(css)]).await.as_str().unwrap_or_default().to_owned()
    }

    /// Waits for an element and reads its text. Works also if the page may not run scripts.
    pub async fn read(&self, css: &str) -> String {
        self.find(css).await.text().await.expect("it has a text")
    }

    /// The texts of all elements that exist now.
    pub async fn read_all(&self, css: &str) -> Vec<String> {
        let mut texts = Vec::new();
        for element in self.client.find_all(Locator::Css(css)).await.expect("the page can be searched") {
            texts.push(element.text().await.expect("it has a text"));
        }
        texts
    }

    /// Runs the body of a function in the page.
    pub async fn run(&self, script: &str, arguments: Vec<Value>) -> Value {
        self.client.execute(script, arguments).await.expect("the script runs")
    }

    /// Waits until a JavaScript expression is true in the page.
    pub async fn wait_until(&self, expression: &str) {
        let asked = async {
            while self.run(&format!("return Boolean({expression})"), vec![]).await != json!(true) {
                tokio::time::sleep(ASK_EVERY).await;
            }
        };
        if tokio::time::timeout(PATIENCE, asked).await.is_err() {
            panic!("{expression} never came true\n{}", self.text("body").await);
        }
    }

    /// Stores a picture of the window with the artefacts of the run: `target/screenshots/<name>.png`.
    pub async fn screenshot(&self, name: &str) {
        let directory = artefacts("screenshots");
        std::fs::create_dir_all(&directory).expect("a directory");
        let picture = self.client.screenshot().await.expect("a picture");
        std::fs::write(directory.join(format!("{name}.png")), picture).expect("a file");
    }

    /// The problems that axe-core finds in the page, one line for each kind of violation.
    pub async fn violations(&self) -> Vec<String> {
        let axe = artefacts("npm/node_modules/axe-core/axe.min.js");
        let axe = std::fs::read_to_string(&axe).unwrap_or_else(|error| {
            panic!("{}: {error}; run tests/run once, which installs axe-core", axe.display())
        });
        let script = format!(
            "{axe}; const done = arguments[arguments.length - 1]; \
             axe.run(document, {{resultTypes: ['violations']}}).then(found => done(found.violations.map(one => \
             `${{one.id}}: ${{one.help}}: ${{one.nodes.map(node => node.html).join(' | ')}}`)), \
             error => done([String(error)]));"
        );
        let found = self.client.execute_async(&script, vec![]).await.expect("axe runs");
        serde_json::from_value(found).expect("a list of lines")
    }

    /// Closes the window.
    pub async fn close(self) {
        self.client.close().await.expect("the browser closes");
    }
}

fn capabilities(options: &BrowserOptions, profile: &Path) -> serde_json::Map<String, Value> {
    let (width, height) = options.window;
    let mut arguments: Vec<String> = [
        "--headless",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        "--autoplay-policy=no-user-gesture-required",
        "--ignore-certificate-errors",
        // Containers run as root, where Chromium's own sandbox does not work.
        "--no-sandbox",
    ]
    .map(str::to_owned)
    .into();
    arguments.push(format!("--window-size={width},{height}"));
    arguments.push(format!("--user-data-dir={}", profile.display()));
    if options.dark {
        arguments.push("--blink-settings=preferredColorScheme=0".to_owned());
    }
    let mut preferences = json!({ "intl.accept_languages": options.languages });
    if !options.javascript {
        preferences["profile.managed_default_content_settings.javascript"] = json!(2);
    }
    let mut chrome = json!({ "args": arguments, "prefs": preferences });
    if width < NARROWEST_WINDOW {
        chrome["mobileEmulation"] = json!({ "deviceMetrics": { "width": width, "height": height } });
    }
    let capabilities =
        json!({ "browserName": "chrome", "acceptInsecureCerts": true, "goog:chromeOptions": chrome });
    capabilities.as_object().cloned().unwrap_or_default()
}
