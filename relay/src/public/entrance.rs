//! What happens to every public request, whatever its route: its host is checked, its client is found and limited, it
//! gets an id, its line in the log and its place in the metrics. Query strings, tokens and names of recordings are in
//! neither of them.

use std::{sync::Arc, time::Instant};

use audiovault_common::{
    about::Purpose,
    http_error::HttpError,
    request_id::{X_REQUEST_ID, new_id},
};
use audiovault_protocol::{
    admission::connection::{Connection, Serve},
    http::{headers::make_private, problem::Problem},
    identity::site::SiteId,
};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header, request::Parts};
use http_body::Body;
use hyper::{body::Incoming, upgrade::OnUpgrade};
use tracing::{Instrument, field};

use super::{
    PublicState,
    body::PublicBody,
    context::RequestContext,
    cors::{AllowOrigin, Cors},
    enrolment,
    paths::{Paths, Route},
    recordings, search, tunnel,
};
use crate::{
    model::ABOUT,
    net::{
        client::{self, Scheme},
        host,
    },
};

/// The public side of a relay, as the service of its listeners. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PublicSide(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Arc<PublicState>,
    paths: Paths,
    cors: Cors,
}

impl PublicSide {
    /// The public side with this state. Pages of the origins `allow_origin` may read its responses.
    pub fn new(state: Arc<PublicState>, allow_origin: &AllowOrigin) -> Self {
        let paths = Paths::new(&state.public_url, state.directory.clone());
        Self(Arc::new(Inner { state, paths, cors: Cors::new(allow_origin) }))
    }
}

impl Serve<Incoming> for PublicSide {
    type Body = PublicBody;

    fn serve(
        &self,
        connection: &Connection,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<PublicBody>> + Send {
        self.0.serve(connection, request)
    }
}

/// The response of a route.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) response: Response<PublicBody>,
    /// The site that the request was for, for the log.
    pub(super) site: Option<SiteId>,
}

impl Inner {
    async fn serve(&self, connection: &Connection, request: Request<Incoming>) -> Response<PublicBody> {
        if let Err(error) = host::check(request.version(), request.uri(), request.headers()) {
            let problem = Problem::new(StatusCode::BAD_REQUEST, error.to_string()).for_request(&new_id());
            return problem.into_response().map(PublicBody::from);
        }
        let start = Instant::now();
        let state = &self.state;
        let (mut parts, body) = request.into_parts();
        let upgrade = parts.extensions.remove::<OnUpgrade>();
        let found = client::find(connection, &parts.headers, &state.trusted_proxies);
        let context = RequestContext::new(found.address, &parts.headers, connection.clone());
        let route = self.paths.route(&parts.uri, &parts.headers);
        let label = route.label();
        let is_for_pages = route.is_for_pages();
        let is_recording = matches!(route, Route::Recording(_));

        let answered = match state.limits.requests.enter(context.client_key()) {
            Ok(permit) => {
                let span = tracing::info_span!("request", id = context.id, site = field::Empty);
                let answered = self.answer(&context, route, &parts, body, upgrade).instrument(span).await;
                answered.map(|Answer { response, site }| Answer {
                    response: response.map(|body| body.holding(permit)),
                    site,
                })
            }
            Err(busy) => Err(busy.into()),
        };
        let Answer { mut response, site } = answered.unwrap_or_else(|error| {
            let site = error.site().cloned();
            Answer { response: error.into_document(&context.id), site }
        });
        if is_recording {
            make_private(response.headers_mut());
        }
        if parts.method == Method::HEAD {
            response = without_content(response);
        }
        if is_for_pages {
            response = self.cors.share(&parts, response).await;
        }
        self.close_if_needed(&parts, &mut response);
        let took = start.elapsed();
        state.metrics.answered(label, response.status().as_u16(), took);
        tracing::info!(
            request_id = context.id,
            method = %parts.method,
            route = label,
            site = site.as_ref().map_or("-", SiteId::as_str),
            status = response.status().as_u16(),
            client = %context.address,
            ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            code = "request.answered",
            "request"
        );
        // Sent over TLS only: over plain HTTP, anyone on the network path could have added it (RFC 6797, section 7.2).
        if let Some(hsts) = state.hsts.as_ref().filter(|_| found.scheme == Scheme::Https) {
            response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
        if let Ok(id) = HeaderValue::try_from(context.id) {
            response.headers_mut().insert(X_REQUEST_ID, id);
        }
        response
    }

    async fn answer(
        &self,
        context: &RequestContext,
        route: Route<'_>,
        parts: &Parts,
        body: Incoming,
        upgrade: Option<OnUpgrade>,
    ) -> Result<Answer, HttpError> {
        let state = &self.state;
        if parts.method == Method::OPTIONS && route.is_for_pages() {
            // A preflight; its response is that of CORS alone.
            return Ok(Answer { response: Response::default(), site: None });
        }
        match route {
            Route::LandingPage => {
                require_get(&parts.method)?;
                let page = ABOUT.landing(Purpose::Relay, state.shown_version, &parts.headers);
                Ok(Answer { response: page.map(|page| Bytes::from(page).into()), site: None })
            }
            Route::Tunnel => {
                require_get(&parts.method)?;
                tunnel::accept(state, context, parts, upgrade).await
            }
            Route::Enrolment if parts.method != Method::POST => Err(method_not_allowed("POST")),
            Route::Enrolment => enrolment::trade(state, context, body).await,
            Route::Search(site) => search::search(state, context, site, parts, body).await,
            Route::Recording(path) => {
                require_get(&parts.method)?;
                recordings::deliver(state, context, &path, parts).await
            }
            Route::Nothing => Err(HttpError::new(StatusCode::NOT_FOUND, "there is nothing at this address")),
        }
    }

    /// The rest of a body that is too large is not read, and a relay that drains closes its connections. A client that
    /// kept this connection would find it closed at its next request, so the response says that it is closed.
    fn close_if_needed(&self, parts: &Parts, response: &mut Response<PublicBody>) {
        let is_cut = response.status() == StatusCode::PAYLOAD_TOO_LARGE;
        let stays = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if (is_cut || self.state.is_draining()) && parts.version <= Version::HTTP_11 && !stays {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

/// Names the site in the span of the request that is handled now.
pub(super) fn enter_site(site: &SiteId) {
    tracing::Span::current().record("site", site.as_str());
}

fn require_get(method: &Method) -> Result<(), HttpError> {
    match *method {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(method_not_allowed("GET,HEAD")),
    }
}

/// A method that a route does not have, with the methods that it has.
pub(super) fn method_not_allowed(allowed: &'static str) -> HttpError {
    HttpError::method_not_allowed("this address does not accept that method", allowed)
}

/// The response to HEAD: that to GET without its content, of which it says the length (RFC 9110, section 9.3.2).
fn without_content(response: Response<PublicBody>) -> Response<PublicBody> {
    let mut response = response;
    if let (Some(len), false) =
        (response.body().size_hint().exact(), response.headers().contains_key(header::CONTENT_LENGTH))
    {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(len));
    }
    response.map(PublicBody::without_content)
}
