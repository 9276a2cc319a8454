//! The output of the demo.

use std::io::Write;

use serde_json::Value;

use crate::{Result, place::Place};

/// Shows the round trip in a place.
pub(crate) struct Transcript<'a> {
    place: &'a Place,
    client: reqwest::Client,
}

/// Prints a line; a closed terminal does not stop the demo.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

impl<'a> Transcript<'a> {
    pub(crate) fn new(place: &'a Place) -> Self {
        Self { place, client: reqwest::Client::new() }
    }

    pub(crate) fn introduce(&self) {
        let place = self.place;
        say("AudioVault Tunnel demo");
        say(&format!("  recordings  {}", place.recordings.display()));
        say("  agent       dialled the relay over one WebSocket; no port of its own is open");
        say(&format!("  relay       {}", place.url));
        say("");
    }

    /// Searches as QueueMetrics does. Returns the link of the first recording.
    pub(crate) async fn search(&self) -> Result<String> {
        let place = self.place;
        say(&format!("> POST {}/demo/search", place.url));
        say(&format!(">   token=…  callid={}", place.call));
        let form = [("token", place.token.as_str()), ("callid", &place.call)];
        let response = self.client.post(format!("{}/demo/search", place.url)).form(&form).send().await?;
        say(&format!("< {}", response.status()));
        let found: Value = response.json().await?;
        for line in serde_json::to_string_pretty(&found)?.lines() {
            say(&format!("<   {line}"));
        }
        say("");
        let link = found["files"][0]["url"].as_str().ok_or("the search found nothing")?;
        Ok(link.to_owned())
    }

    /// Downloads a range as a browser does when its user seeks, and compares it with the whole recording.
    pub(crate) async fn play(&self, link: &str) -> Result<()> {
        let whole = self.client.get(link).send().await?.error_for_status()?.bytes().await?;
        let (start, end) = (whole.len() / 2, whole.len() / 2 + 65_535);
        let range = format!("bytes={start}-{end}");
        say(&format!("> GET {link}"));
        say(&format!(">   Range: {range}"));
        let response = self.client.get(link).header("range", &range).send().await?;
        say(&format!("< {}", response.status()));
        for name in ["content-type", "content-range", "content-length", "etag", "cache-control"] {
            if let Some(value) = response.headers().get(name) {
                say(&format!("<   {name}: {}", value.to_str().unwrap_or("?")));
            }
        }
        let status = response.status();
        let part = response.bytes().await?;
        let same = whole.get(start..start + part.len()).is_some_and(|expected| expected == part);
        if status != 206 || !same {
            return Err("the range differs from that part of the whole download".into());
        }
        say(&format!("  {} bytes, the same as in a download of the whole recording", part.len()));
        say("");
        Ok(())
    }

    pub(crate) fn invite(&self, link: &str) {
        say("Listen, and seek, in a browser:");
        say(&format!("  {link}"));
        say("Search yourself:");
        let place = self.place;
        say(&format!("  curl -d token={} -d callid={} {}/demo/search", place.token, place.call, place.url));
        say("Ctrl-C ends the demo.");
    }
}
