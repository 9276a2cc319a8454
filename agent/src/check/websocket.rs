//! Evaluates the WebSocket upgrade and the site key from one response: a relay checks the key before it upgrades.

use audiovault_protocol::{
    frame::one_line, http::problem::Problem, identity::site::SiteId, message::SUBPROTOCOL,
};
use http::{HeaderMap, StatusCode, header};
use tokio_tungstenite::tungstenite::{Error as WsError, http::Response};

use super::report::{Step, Verdict};

/// Longest text of the other end that is repeated, in characters.
const MAX_WORDS: usize = 200;

const NO_WEBSOCKETS: &str = "let WebSocket upgrades pass the proxy, firewall or reverse proxy between this machine \
                             and the relay; docs/relay/proxy.md has the lines for nginx and Caddy";

const NO_RELAY: &str = "check that --relay is the relay's address; if it is, let WebSocket upgrades pass the proxy, \
                        firewall or reverse proxy between this machine and the relay; docs/relay/proxy.md has \
                        the lines for nginx and Caddy";

/// The response to the request for a tunnel.
#[derive(Debug)]
pub(super) enum Answer {
    /// The connection is a WebSocket now.
    Upgraded,
    /// An HTTP response instead.
    Http {
        /// Its HTTP status.
        status: StatusCode,
        /// The text of the problem, if it comes from a relay.
        words: Option<String>,
        /// The protocols that the server offers, if it says so.
        protocols: Option<String>,
    },
    /// A response that is neither.
    Garbled(String),
    /// The connection was closed.
    HungUp(String),
    /// No response came.
    Silence,
}

impl Answer {
    /// Reads the error of the WebSocket client.
    pub(super) fn of(error: WsError) -> Self {
        match error {
            WsError::Http(response) => Self::http(&response),
            WsError::Io(error) => Self::HungUp(error.to_string()),
            WsError::ConnectionClosed | WsError::AlreadyClosed => Self::HungUp("closed".to_owned()),
            WsError::Tls(_)
            | WsError::Capacity(_)
            | WsError::Protocol(_)
            | WsError::WriteBufferFull(_)
            | WsError::Utf8(_)
            | WsError::AttackAttempt
            | WsError::Url(_)
            | WsError::HttpFormat(_) => Self::Garbled(clipped(&error.to_string())),
        }
    }

    fn http(response: &Response<Option<Vec<u8>>>) -> Self {
        let body = response.body().as_deref().unwrap_or_default();
        let problem = serde_json::from_slice::<Problem>(body).ok();
        // Problem details are a standard. The relay's have a request id; those of other servers need not.
        let words = problem.filter(|problem| !problem.request_id.is_empty());
        Self::Http {
            status: response.status(),
            words: words.map(|problem| clipped(&problem.detail)),
            protocols: protocols(response.headers()),
        }
    }
}

fn protocols(headers: &HeaderMap) -> Option<String> {
    headers.get(header::SEC_WEBSOCKET_PROTOCOL)?.to_str().ok().map(clipped)
}

fn clipped(text: &str) -> String {
    one_line(text).chars().take(MAX_WORDS).collect()
}

/// The verdicts on the WebSocket and the site key.
pub(super) fn evaluate(answer: &Answer, site: &SiteId) -> (Verdict, Verdict) {
    let accepted = || Verdict::pass(format!("accepted for the site {site}"));
    let key_first = || Verdict::skipped("not tested: the relay checks the site key first");
    match answer {
        Answer::Upgraded => (Verdict::pass("the connection was upgraded"), accepted()),
        Answer::Http { status, words: Some(words), protocols } => match *status {
            StatusCode::UNAUTHORIZED => (key_first(), unknown(words, site)),
            StatusCode::FORBIDDEN => (key_first(), disabled(words, site)),
            // The relay has checked the key by then, and it was right.
            StatusCode::UPGRADE_REQUIRED => (no_upgrade(words, protocols.as_deref()), accepted()),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                let busy = Verdict::warn(format!("the relay is busy: {words}"), "try again in a minute");
                (busy, Verdict::after(Step::Websocket))
            }
            _ => {
                let refused = Verdict::fail(
                    format!("the relay refused with {status}: {words}"),
                    "ask the relay's operator; its log says more",
                );
                (refused, Verdict::after(Step::Websocket))
            }
        },
        Answer::Http { status, words: None, .. } => {
            let detail = format!(
                "{status}, and the response is not from a relay: a device in between answered, or no relay \
                 runs there"
            );
            (Verdict::fail(detail, NO_RELAY), Verdict::after(Step::Websocket))
        }
        Answer::Garbled(what) => {
            let detail =
                format!("the response to the upgrade is invalid ({what}): a device in between changed it");
            (Verdict::fail(detail, NO_WEBSOCKETS), Verdict::after(Step::Websocket))
        }
        Answer::HungUp(how) => {
            let detail =
                format!("the connection was closed instead of upgraded ({how}); ordinary requests work");
            (Verdict::fail(detail, NO_WEBSOCKETS), Verdict::after(Step::Websocket))
        }
        Answer::Silence => {
            let detail = "no response to the upgrade, but ordinary requests work";
            (Verdict::fail(detail, NO_WEBSOCKETS), Verdict::after(Step::Websocket))
        }
    }
}

fn unknown(words: &str, site: &SiteId) -> Verdict {
    Verdict::fail(
        format!("refused for the site {site} (401): {words}"),
        "compare relay and key: the key may belong to another relay, or was revoked; the relay's operator \
         makes a new key with audiovault-relay site rotate-key, or an enrolment code with site enroll",
    )
}

fn disabled(words: &str, site: &SiteId) -> Verdict {
    Verdict::fail(
        format!("the site {site} is disabled (403): {words}"),
        "ask the relay's operator to enable it with audiovault-relay site enable",
    )
}

/// The server wants an upgrade. If it speaks this protocol, it has not received the Upgrade header.
fn no_upgrade(words: &str, protocols: Option<&str>) -> Verdict {
    let knows = protocols.is_some_and(|list| list.split(',').any(|known| known.trim() == SUBPROTOCOL));
    match protocols {
        Some(_) if knows => Verdict::fail(
            "the relay received the request without its upgrade (426): a device in between strips the \
             Upgrade header",
            NO_WEBSOCKETS,
        ),
        Some(theirs) => Verdict::fail(
            format!("the relay speaks {theirs}, but this agent speaks {SUBPROTOCOL} (426)"),
            "upgrade the older of the two",
        ),
        None => Verdict::fail(format!("refused (426): {words}"), NO_WEBSOCKETS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::report::State;

    fn judged(status: u16, words: Option<&str>, protocols: Option<&str>) -> (Verdict, Verdict) {
        let answer = Answer::Http {
            status: StatusCode::from_u16(status).unwrap(),
            words: words.map(str::to_owned),
            protocols: protocols.map(str::to_owned),
        };
        evaluate(&answer, &SiteId::parse("acme").unwrap())
    }

    #[test]
    fn the_relays_refusals_are_about_the_key() {
        for (status, said) in [(401, "refused for the site acme"), (403, "the site acme is disabled")] {
            let (upgrade, key) = judged(status, Some("no"), None);
            assert_eq!((upgrade.state, key.state), (State::Skipped, State::Fail));
            assert!(key.detail.contains(said), "{}", key.detail);
        }
    }

    #[test]
    fn another_server_with_the_same_answer_is_distinguished_from_the_relay() {
        for status in [200, 401, 403, 404, 426, 502] {
            let (upgrade, key) = judged(status, None, None);
            assert_eq!((upgrade.state, key.state), (State::Fail, State::Skipped), "{status}");
            assert!(upgrade.detail.contains("the response is not from a relay"), "{}", upgrade.detail);
        }
    }

    #[test]
    fn an_upgrade_that_was_lost_on_the_way_is_distinguished_from_another_protocol() {
        let (lost, key) = judged(426, Some("agents connect here by WebSocket"), Some(SUBPROTOCOL));
        assert!(lost.detail.contains("strips the Upgrade header"), "{}", lost.detail);
        assert_eq!(key.state, State::Pass, "the relay judges the key first");
        let (other, _) = judged(426, Some("no common version"), Some("audiovault-tunnel.v9"));
        assert!(other.detail.contains("speaks audiovault-tunnel.v9"), "{}", other.detail);
    }

    #[test]
    fn a_busy_relay_is_no_failure() {
        let (upgrade, key) = judged(503, Some("shutting down"), None);
        assert_eq!((upgrade.state, key.state), (State::Warn, State::Skipped));
    }
}
