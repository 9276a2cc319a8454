//! Trades an enrolment code for a site key (`PROTOCOL.md`, section 10).

use std::borrow::Cow;

use audiovault_agent_core::secret::Secret;
use audiovault_common::advice::Advice;
use audiovault_protocol::{
    frame::one_line,
    http::problem::Problem,
    identity::{
        enrolment::{ENROLMENT_PATH, EnrolmentAnswer, EnrolmentCode, EnrolmentRequest},
        site::SiteId,
    },
};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;
use url::Url;

use crate::net::{NetworkSettings, Outbound, ReachError, STAGE_TIMEOUT, Target, TrustError};

/// Longest response that is read, in bytes: a site and a key, or a problem.
const MAX_ANSWER_LEN: usize = 16 * 1024;

/// An enrolment code, and the relay that accepts it.
#[derive(Debug)]
pub struct Enrolment {
    relay: Url,
    network: NetworkSettings,
    code: EnrolmentCode,
}

/// Why the code was not traded for a key.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The relay's address is invalid.
    #[error("{0} is not the address of a relay")]
    Relay(Url),
    /// The certificate authorities cannot be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The relay could not be reached; the code can still be used.
    #[error("the relay was not reached, so the code is still valid")]
    Reach(#[from] ReachError),
    /// The relay refused the code.
    #[error("the relay refused the code with {0}: {1}")]
    Refused(StatusCode, String),
    /// The response did not arrive, or is not from a relay.
    #[error("the relay's response cannot be used, and the code may be used up")]
    Answer(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The relay did not respond in time.
    #[error("the relay does not respond")]
    Timeout,
}

impl Advice for EnrolError {
    fn advice(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Relay(_) | Self::Refused(..) => None,
            Self::Trust(error) => error.advice(),
            Self::Reach(error) => error.advice(),
            Self::Answer(_) => Some("ask for a new code".into()),
            Self::Timeout => Some("the code may be used up".into()),
        }
    }
}

impl Enrolment {
    /// Stores the parameters; nothing is sent yet.
    pub fn new(relay: Url, network: NetworkSettings, code: EnrolmentCode) -> Self {
        Self { relay, network, code }
    }

    /// Trades the code, once. Returns the site and its new key.
    pub(super) async fn trade(self) -> Result<(SiteId, Secret), EnrolError> {
        let target = Target::of(&self.relay).ok_or_else(|| EnrolError::Relay(self.relay.clone()))?;
        let reached = Outbound::new(&self.network)?.reach(&target).await?;
        let asked = self.ask(TokioIo::new(reached.stream), &target);
        let response =
            tokio::time::timeout(STAGE_TIMEOUT, asked).await.map_err(|_| EnrolError::Timeout)??;
        let status = response.status();
        let body = response.into_body();
        if status != StatusCode::OK {
            let silent = || status.canonical_reason().unwrap_or("no reason given").to_owned();
            let problem = serde_json::from_slice::<Problem>(&body).ok();
            let detail = problem.map_or_else(silent, |problem| one_line(&problem.detail));
            return Err(EnrolError::Refused(status, detail));
        }
        let answer: EnrolmentAnswer = serde_json::from_slice(&body).map_err(unusable)?;
        Ok((answer.site, Secret::new(answer.site_key.reveal())))
    }

    async fn ask<I>(&self, stream: I, target: &Target) -> Result<Response<Bytes>, EnrolError>
    where
        I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let (mut sender, connection) = http1::handshake(stream).await.map_err(unusable)?;
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let base = self.relay.path().trim_end_matches('/').trim_end_matches("/tunnel");
        let body = serde_json::to_vec(&EnrolmentRequest { code: self.code.clone() }).map_err(unusable)?;
        let request = Request::post(format!("{base}{ENROLMENT_PATH}"))
            .header(header::HOST, target.to_string())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("audiovault-agent/", env!("CARGO_PKG_VERSION")));
        let request = request.body(Full::new(Bytes::from(body))).map_err(unusable)?;
        let (head, body) = sender.send_request(request).await.map_err(unusable)?.into_parts();
        let body = Limited::new(body, MAX_ANSWER_LEN).collect().await.map_err(EnrolError::Answer)?;
        Ok(Response::from_parts(head, body.to_bytes()))
    }
}

fn unusable(error: impl std::error::Error + Send + Sync + 'static) -> EnrolError {
    EnrolError::Answer(Box::new(error))
}
