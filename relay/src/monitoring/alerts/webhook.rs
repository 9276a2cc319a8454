//! Sends alerts, signed according to the Standard Webhooks specification (version 1, symmetric): the receiver computes
//! HMAC-SHA-256 over `<webhook-id>.<webhook-timestamp>.<body>` and compares it with `webhook-signature`.

use std::time::Duration;

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff};
use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use reqwest::{Client, redirect::Policy};
use sha2::Sha256;
use tokio::sync::mpsc;
use url::Url;
use zeroize::Zeroizing;

use super::Message;

/// How long the receiver may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The pause after the first failed attempt. Pauses grow from here...
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// ...up to this one.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// How long one alert is retried: after a day it is of no use any more.
const RETRY_WINDOW: Duration = Duration::from_secs(86_400);
/// The shortest secret that is accepted, in bytes.
const MIN_SECRET_LEN: usize = 16;
/// The prefix of secrets that are written in base64.
const SECRET_PREFIX: &str = "whsec_";

/// Why a webhook cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// The scheme of the address is not HTTP or HTTPS.
    #[error("expected an address that starts with https:// or http://")]
    Url,
    /// The secret is too easy to guess.
    #[error(
        "the secret must have at least {MIN_SECRET_LEN} bytes: create one with `openssl rand -base64 32`"
    )]
    Secret,
    /// No HTTP client can be made.
    #[error("cannot create an HTTP client: check the certificates of this machine")]
    Client(#[from] reqwest::Error),
}

/// The receiver of alerts.
#[derive(Clone)]
pub struct Webhook {
    url: Url,
    secret: Zeroizing<Vec<u8>>,
    client: Client,
    first_pause: Duration,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Addresses of webhooks often hold a token.
        f.debug_struct("Webhook").field("host", &self.url.host_str()).finish_non_exhaustive()
    }
}

impl Webhook {
    /// A webhook with the secret that the receiver knows too: `whsec_` and base64, or any text.
    ///
    /// # Errors
    /// [`WebhookError`].
    pub fn new(url: Url, secret: &str) -> Result<Self, WebhookError> {
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(WebhookError::Url);
        }
        let secret = secret.trim();
        let bytes = secret.strip_prefix(SECRET_PREFIX).and_then(|text| BASE64.decode(text.as_bytes()).ok());
        let secret = Zeroizing::new(bytes.unwrap_or_else(|| secret.as_bytes().to_vec()));
        if secret.len() < MIN_SECRET_LEN {
            return Err(WebhookError::Secret);
        }
        let agent = concat!("audiovault-relay/", env!("CARGO_PKG_VERSION"));
        // A redirect could send the signed message to a receiver that no operator has configured.
        let client = Client::builder().timeout(TIMEOUT).redirect(Policy::none()).user_agent(agent).build()?;
        Ok(Self { url, secret, client, first_pause: FIRST_PAUSE })
    }

    /// Waits less between attempts.
    #[cfg(test)]
    pub(super) fn impatient(self) -> Self {
        Self { first_pause: Duration::from_millis(10), ..self }
    }

    /// Sends alerts in order, each until it was accepted or a day has passed.
    pub(super) async fn run(self, mut waiting: mpsc::Receiver<Message>) {
        while let Some(alert) = waiting.recv().await {
            self.deliver(&alert).await;
        }
    }

    async fn deliver(&self, alert: &Message) {
        // Texts, times and enumerations always serialize.
        let body = serde_json::to_string(alert).unwrap_or_default();
        let mut pauses = self.pauses();
        loop {
            let error = match self.attempt(alert.id(), &body).await {
                Ok(()) => {
                    return tracing::info!(
                        id = alert.id(),
                        code = "alert.delivered",
                        "an alert was delivered"
                    );
                }
                Err(error) => error,
            };
            let Some(pause) = pauses.next_backoff() else {
                return tracing::error!(
                    id = alert.id(),
                    %error,
                    code = "alert.given_up",
                    "gave up on an alert after a day"
                );
            };
            tracing::warn!(
                id = alert.id(),
                %error,
                again_in = ?pause,
                code = "alert.refused",
                "the webhook did not accept an alert"
            );
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt(&self, id: &str, body: &str) -> Result<(), reqwest::Error> {
        let timestamp = Timestamp::now().as_second().to_string();
        let request = self
            .client
            .post(self.url.clone())
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", &timestamp)
            .header("webhook-signature", self.signature(id, &timestamp, body))
            .body(body.to_owned());
        // The address may hold a token: it does not belong in the log.
        let answer = request.send().await.map_err(reqwest::Error::without_url)?;
        answer.error_for_status().map(drop).map_err(reqwest::Error::without_url)
    }

    fn signature(&self, id: &str, timestamp: &str, body: &str) -> String {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.secret) else {
            // HMAC takes keys of any length.
            return String::new();
        };
        for part in [id, ".", timestamp, ".", body] {
            mac.update(part.as_bytes());
        }
        format!("v1,{}", BASE64.encode(&mac.finalize().into_bytes()))
    }

    fn pauses(&self) -> ExponentialBackoff {
        ExponentialBackoffBuilder::new()
            .with_initial_interval(self.first_pause)
            .with_max_interval(LONGEST_PAUSE)
            .with_multiplier(2.0)
            .with_max_elapsed_time(Some(RETRY_WINDOW))
            .build()
    }
}
