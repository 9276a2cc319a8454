//! A search and a download as QueueMetrics makes them: through the relay's public address, back over a tunnel.
//!
//! If the site has no agent connected, the check has a tunnel of its own for its duration, which serves only the
//! searches of the check. The site looks connected for a moment; if other searches were served then, their links would
//! stop working when the check ends.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use audiovault_common::error_chain::in_one_line;
use audiovault_protocol::{
    frame::one_line,
    http::{
        context::RequestContext,
        parameters::{Field, Parameters},
        problem::Problem,
    },
    link::{AgentAnswer, AgentControl, AgentLink, LinkState, Respond},
    message::Goaway,
};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use serde::Deserialize;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use url::{Url, form_urlencoded};

use super::{
    configuration::Question,
    exchange::{self, ExchangeError},
    report::Verdict,
};
use crate::{
    http::{Current, ServiceBody, ServiceSettings},
    status::state::seconds,
    tunnel::{
        Run, TunnelConfig,
        connect::{Dialler, bearer},
    },
};

/// Bytes of the recording that are fetched: its header and the first sound.
const PART: usize = 1024;
/// How long a relay may take to accept the tunnel, and to close it.
const TUNNEL_TIMEOUT: Duration = Duration::from_secs(10);
const ASK_THE_OPERATOR: &str = "ask the relay's operator; its log says more";

/// What the round trip needs.
pub(super) struct RoundTrip<'a> {
    /// Dials the relay.
    pub(super) dialler: &'a Dialler,
    /// The relay's address.
    pub(super) relay: &'a Url,
    /// The settings of the tunnel, with the site key.
    pub(super) config: &'a TunnelConfig,
    /// The service for a tunnel of the check, if no agent is connected.
    pub(super) service: &'a ServiceSettings,
    /// The call and the token.
    pub(super) question: &'a Question,
}

#[derive(Deserialize)]
struct Found {
    #[serde(default)]
    files: Vec<File>,
}

#[derive(Deserialize)]
struct File {
    url: String,
}

impl RoundTrip<'_> {
    /// Searches and downloads: through the connected agent of this site or, if there is none, through a tunnel of its
    /// own. A running agent gets an ordinary request and is not disturbed.
    pub(super) async fn make(&self) -> Verdict {
        // The name is unguessable, and the relay's audit log says who searched.
        let user = format!("audiovault-agent check {:016x}", rand::random::<u64>());
        let first = match self.search(&user).await {
            Ok(answer) => answer,
            Err(error) => return broken("the search", &error),
        };
        if first.status() != StatusCode::SERVICE_UNAVAILABLE {
            return self.evaluate(&first, "the connected agent").await;
        }
        let service = self.service.clone();
        let tunnel = match OwnTunnel::open(self.dialler, self.config, service, &user).await {
            Ok(tunnel) => tunnel,
            Err(verdict) => return verdict,
        };
        let verdict = match self.search(&user).await {
            Ok(answer) => self.evaluate(&answer, "the check's own tunnel").await,
            Err(error) => broken("the search", &error),
        };
        tunnel.close().await;
        verdict
    }

    async fn search(&self, user: &str) -> Result<Response<Bytes>, ExchangeError> {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("token", self.question.token.reveal()).append_pair("user", user);
        match &self.question.sample {
            Some(sample) => form.append_pair("callid", sample.call_id.as_str()),
            // A call that does not exist.
            None => form.append_pair("callid", &format!("{}.4000000000", seconds(SystemTime::now()))),
        };
        if let Some(tenant) = &self.question.tenant {
            form.append_pair("tenant", tenant);
        }
        let mut request = Request::new(Bytes::from(form.finish()));
        *request.method_mut() = Method::POST;
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(header::CONTENT_TYPE, kind);
        let length = HeaderValue::from(request.body().len());
        request.headers_mut().insert(header::CONTENT_LENGTH, length);
        // With the site key, the relay says that no agent is connected; without it, it says 401 as for a wrong token.
        if let Some(bearer) = bearer(&self.config.site_key) {
            request.headers_mut().insert(header::AUTHORIZATION, bearer);
        }
        exchange::ask(self.dialler.outbound(), &search_url(self.relay, self.config), request).await
    }

    async fn evaluate(&self, answer: &Response<Bytes>, through: &str) -> Verdict {
        let begun = Instant::now();
        if answer.status() != StatusCode::OK {
            return refused(answer, through);
        }
        let Ok(found) = serde_json::from_slice::<Found>(answer.body()) else {
            return Verdict::fail(
                "the response to the search is not from a relay",
                "compare --relay with the address that QueueMetrics uses for searches",
            );
        };
        let Some(sample) = &self.question.sample else {
            return Verdict::pass(format!(
                "a search through {through} works; there is no recording to fetch"
            ));
        };
        let Some(file) = found.files.first() else {
            return Verdict::fail(
                format!("{through} does not find the call {}", sample.call_id.as_str()),
                "compare the configuration of that agent with this one, and restart it; all agents of a site \
                 must have the same recordings",
            );
        };
        match self.fetch(file).await {
            Ok(bytes) => Verdict::pass(format!(
                "the call {} was found, and the first {bytes} bytes of its recording arrived in {} ms, \
                 through {through}",
                sample.call_id.as_str(),
                begun.elapsed().as_millis()
            )),
            Err(verdict) => verdict,
        }
    }

    /// Fetches the beginning of a recording and returns the number of bytes received.
    async fn fetch(&self, file: &File) -> Result<usize, Verdict> {
        let odd = || {
            Verdict::fail(
                "the search returned a link that is not a valid address",
                "ask the relay's operator to correct --public-url",
            )
        };
        let url = Url::parse(&file.url).map_err(|_| odd())?;
        let mut request = Request::new(Bytes::new());
        let range = HeaderValue::from_str(&format!("bytes=0-{}", PART - 1)).map_err(|_| odd())?;
        request.headers_mut().insert(header::RANGE, range);
        let elsewhere = url.host() != self.relay.host();
        match exchange::ask(self.dialler.outbound(), &url, request).await {
            Ok(answer) if answer.status().is_success() => Ok(answer.body().len()),
            Ok(answer) => Err(refused(&answer, "the link")),
            // The path of the link is a secret, so the text names only the host.
            Err(ExchangeError::Reach(error)) if elsewhere => Err(Verdict::warn(
                format!(
                    "the call was found, but the host of its link cannot be reached from here: {}",
                    one_line(&in_one_line(&error))
                ),
                "only browsers need to reach that host, this machine does not; try a link in a browser",
            )),
            Err(error) => Err(broken("the download", &error)),
        }
    }
}

/// A tunnel that serves the check.
#[derive(Debug)]
struct OwnTunnel {
    control: AgentControl,
    task: AbortOnDropHandle<()>,
}

impl OwnTunnel {
    /// Connects as a separate agent, so it replaces no other. Only searches on behalf of `user` are served.
    ///
    /// # Errors
    /// The verdict on what went wrong.
    async fn open(
        dialler: &Dialler,
        config: &TunnelConfig,
        service: ServiceSettings,
        user: &str,
    ) -> Result<Self, Verdict> {
        let current = Current::new(service);
        let hello = Run::begin().hello(0, config, &current.load());
        let dialled = dialler.dial().await;
        let (socket, traffic) = dialled.map_err(|error| Verdict::failed(&error, ASK_THE_OPERATOR))?;
        let (link, control) = AgentLink::new(hello, ForOne { service: current, user: user.into() });
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            link.run(socket, traffic).await;
        }));
        let mut state = control.state();
        let welcomed = state.wait_for(|state| matches!(state, LinkState::Welcomed(_)));
        if !matches!(timeout(TUNNEL_TIMEOUT, welcomed).await, Ok(Ok(_))) {
            return Err(Verdict::fail("the relay did not accept the tunnel", "its log says why"));
        }
        Ok(Self { control, task })
    }

    /// Sends GOAWAY and waits until the relay has closed the tunnel.
    async fn close(self) {
        let reason = "the check is over".to_owned();
        self.control.go_away(Goaway { reason, reconnect_after_ms: [0, 0] });
        // After the timeout, dropping the task ends it.
        let _ = timeout(TUNNEL_TIMEOUT, self.task).await;
    }
}

/// The address at which QueueMetrics searches, on the host that the agent dials.
fn search_url(relay: &Url, config: &TunnelConfig) -> Url {
    let mut url = relay.clone();
    let scheme = if matches!(url.scheme(), "wss" | "https") { "https" } else { "http" };
    // `ws` and `wss` are schemes of the same kind (https://url.spec.whatwg.org/#special-scheme), so this cannot fail.
    let _ = url.set_scheme(scheme);
    let base = url.path().trim_end_matches('/').trim_end_matches("/tunnel").to_owned();
    url.set_path(&format!("{base}/{}/search", config.site_key.site()));
    url
}

/// The service, limited to searches on behalf of one user. Recordings need a link, which only a search gives.
#[derive(Debug, Clone)]
struct ForOne {
    service: Current,
    user: Arc<str>,
}

impl ForOne {
    fn serves(&self, request: &Request<Bytes>) -> bool {
        if request.uri().path().starts_with("/recordings/") {
            return true;
        }
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let parameters = Parameters::read(request.uri().query(), kind, request.body()).unwrap_or_default();
        parameters.value(Field::User) == Some(&*self.user)
    }
}

impl Respond for ForOne {
    type Body = ServiceBody;

    async fn respond(&self, context: RequestContext, request: Request<Bytes>) -> AgentAnswer<ServiceBody> {
        if self.serves(&request) {
            return self.service.respond(context, request).await;
        }
        let detail =
            "the site has no connected agent, only a check of its own; start its agent, then try again";
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(10);
        AgentAnswer::new(problem.into_response().map(ServiceBody::from))
    }
}

fn broken(what: &str, error: &ExchangeError) -> Verdict {
    let verdict = Verdict::failed(error, "check the network between this machine and the relay");
    Verdict { detail: format!("{what} got no response: {}", verdict.detail), ..verdict }
}

fn refused(answer: &Response<Bytes>, through: &str) -> Verdict {
    let status = answer.status();
    let problem = serde_json::from_slice::<Problem>(answer.body()).ok();
    let words = problem
        .map_or_else(|| "the response is not from a relay".to_owned(), |problem| one_line(&problem.detail));
    let detail = format!("{through}: {status}, {words}");
    let advice = match status {
        StatusCode::UNAUTHORIZED => {
            "give the connected agent the same search token, and restart it; if no agent is connected, try \
             again"
        }
        // The agent sets the expiry of a link by its clock, and the relay checks it by its own.
        StatusCode::GONE => {
            "set the clock of the machine on which that agent runs; the row \"time\" is about this machine's \
             clock"
        }
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => "try again in a minute",
        _ => ASK_THE_OPERATOR,
    };
    Verdict::fail(detail, advice)
}

#[cfg(test)]
mod tests {
    use audiovault_protocol::identity::site::{SiteId, SiteKey};

    use super::*;
    use crate::net::NetworkSettings;

    #[test]
    fn a_search_goes_where_queuemetrics_searches() {
        let search = |relay: &str| {
            let relay = Url::parse(relay).unwrap();
            let site_key = SiteKey::from_secret(SiteId::parse("acme").unwrap(), [7; 32]);
            let config = TunnelConfig {
                relays: vec![relay.clone()],
                connections: 1,
                site_key,
                network: NetworkSettings::default(),
                max_streams: 1,
            };
            search_url(&relay, &config).to_string()
        };
        assert_eq!(search("wss://relay.example"), "https://relay.example/acme/search");
        assert_eq!(search("https://relay.example:8443/base/"), "https://relay.example:8443/base/acme/search");
        assert_eq!(search("ws://127.0.0.1:1/tunnel"), "http://127.0.0.1:1/acme/search");
    }
}
