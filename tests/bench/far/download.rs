//! Downloads of whole files, several at a time.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use reqwest::Client;

use crate::far::place::LONG;

/// Downloads all of these at the same time, each on its own connection. Returns how long that took.
pub(crate) async fn all(urls: &[&str]) -> Duration {
    let begun = Instant::now();
    join_all(urls.iter().map(|url| whole(url))).await;
    begun.elapsed()
}

/// Downloads without end; `received` counts the bytes.
pub(crate) async fn on_and_on(url: &str, received: impl Fn(u64)) {
    loop {
        stream(url, &received).await;
    }
}

async fn whole(url: &str) {
    let bytes = Cell::new(0);
    stream(url, |more| bytes.set(bytes.get() + more)).await;
    assert_eq!(bytes.get(), LONG, "{url}");
}

async fn stream(url: &str, received: impl Fn(u64)) {
    let client = Client::builder().http1_only().build().expect("a client");
    let mut response = client.get(url).send().await.expect("an answer");
    assert_eq!((response.status().as_u16(), response.content_length()), (200, Some(LONG)), "{url}");
    while let Some(chunk) = response.chunk().await.expect("a whole file") {
        received(chunk.len() as u64);
    }
}
