//! `/recordings/{token}/{name}`: one recording, whole or in part.

use std::{
    ffi::OsString,
    os::unix::ffi::OsStrExt,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use audiovault_protocol::{context::Audit, link::Revocation, signed_link::LinkError};
use axum::{
    body::Body,
    extract::{Path as UrlPath, Request, State, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header, request};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    AgentService,
    body::RecordingBody,
    conditions::{self, Validators, Verdict},
    disposition,
    failure::Failure,
    form::{Form, Kept},
    range::{self, Selection},
    search::link_name,
};
use crate::{
    deny::{Place, RevocableBody},
    limits::{Paced, Pacer},
    links::{OpenLinkError, Opened},
    record::{Denied, Known},
    vault::{
        media::split_name,
        open::{OpenError, OpenRecording},
    },
};

pub(crate) async fn recording(
    State(service): State<Arc<AgentService>>,
    path: Result<UrlPath<(String, String)>, PathRejection>,
    request: Request,
) -> Result<Response, Failure> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return Err(Failure::method("GET, HEAD"));
    }
    // An address that is no text was not made here.
    let UrlPath((token, name)) = path.map_err(|_| refused(LinkError::Forged.into()))?;
    let opened = service.links.open(&token).map_err(refused)?;
    let extension = extension(&opened.path);
    if name != link_name(&extension) {
        return Err(refused(LinkError::Forged.into()));
    }
    let (head, _) = request.into_parts();
    let file_name = opened.path.file_name().unwrap_or_default().to_owned();
    let mut audit = audit(&opened, service.recorded_names.of(&file_name.to_string_lossy()));
    let recording = Place {
        root: service.vault.root(opened.driver),
        path: opened.path.clone(),
        call_id: opened.call_id.clone(),
    };
    if recording.is_denied(&service.deny.rules().await) {
        let refused = Failure::new(StatusCode::GONE, "this recording is no longer offered");
        let mut response = with_audit(refused.into_response(), audit);
        response.extensions_mut().insert(Denied);
        return Ok(response);
    }
    let path = opened.path.clone();
    let Ok(place) = Arc::clone(&service.places).try_acquire_owned() else {
        return Ok(with_audit(full().into_response(), audit));
    };
    let kept = Kept { snapshots: Arc::clone(&service.snapshots), driver: opened.driver, path: path.clone() };
    let way = Way { pacer: service.pacer.clone(), place, kept };
    let served = service
        .vault
        .with_open(opened.driver, path, move |open| {
            let form = Form::of(&open, &extension, asks_for(&head, "original"));
            Serving { open, form, head, extension, file_name, way }.answer()
        })
        .await;
    let response = match served {
        Ok(Ok((response, bytes_per_second))) => {
            audit.bytes_per_second = bytes_per_second;
            revocable(response, service.deny.revocation(recording))
        }
        Ok(Err(failure)) => failure.into_response(),
        Err(error) => unopened(&error).into_response(),
    };
    Ok(with_audit(response, audit))
}

/// The answer to somebody whose link opens.
fn with_audit(mut response: Response, audit: Audit) -> Response {
    response.extensions_mut().insert(audit);
    response.extensions_mut().insert(Known);
    response
}

/// Has an answer end when its recording is denied, by whoever hands it out: its body, and the tunnel while the listener
/// pauses.
fn revocable(response: Response, revocation: Revocation) -> Response {
    let (mut head, body) = response.into_parts();
    head.extensions.insert(revocation.clone());
    Response::from_parts(head, Body::new(RevocableBody::new(body, revocation)))
}

/// How a download goes: at whose pace, in which place, and from where what is decoded goes on.
struct Way {
    pacer: Option<Arc<Pacer>>,
    place: OwnedSemaphorePermit,
    kept: Kept,
}

fn full() -> Failure {
    let detail = "the site serves as many downloads as it may; try again in a moment";
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, detail)
        .with(header::RETRY_AFTER, HeaderValue::from_static("2"))
}

fn refused(error: OpenLinkError) -> Failure {
    let status = match error {
        OpenLinkError::Link(LinkError::Forged | LinkError::TooLong) => StatusCode::FORBIDDEN,
        OpenLinkError::Link(LinkError::Expired | LinkError::OtherKey)
        | OpenLinkError::Withdrawn
        | OpenLinkError::UnknownRoot => StatusCode::GONE,
    };
    Failure::new(status, error)
}

fn unopened(error: &OpenError) -> Failure {
    let status = match error {
        OpenError::Gone(_) => StatusCode::NOT_FOUND,
        OpenError::Unreadable(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    Failure::new(status, error).because(cause)
}

fn audit(opened: &Opened, recording: String) -> Audit {
    Audit {
        call_id: Some(opened.call_id.clone()),
        tenant: opened.tenant.clone(),
        user: opened.user.clone(),
        recording: Some(recording),
        ..Audit::default()
    }
}

/// The extension of a recording in lower case, as its link carries it.
fn extension(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().as_bytes();
    let extension = split_name(name).map_or(&b""[..], |(_, extension)| extension);
    String::from_utf8_lossy(extension).to_ascii_lowercase()
}

/// One answer in the making. Everything here blocks, in one hop to the blocking pool: opening, judging, and reading
/// the first chunk.
struct Serving {
    way: Way,
    open: OpenRecording,
    form: Form,
    head: request::Parts,
    extension: String,
    file_name: OsString,
}

type Answered = Result<(Response, Option<u32>), Failure>;

impl Serving {
    fn answer(self) -> Answered {
        let now = SystemTime::now();
        let settled = self.open.is_settled(now);
        let modified = settled.then(|| whole_seconds(self.open.modified)).flatten();
        let validators = Validators { etag: self.form.etag(&self.open, now), modified };
        let headers = self.headers(&validators);
        let bytes_per_second = self.form.bytes_per_second;
        let response = match conditions::judge(&self.head.headers, &validators) {
            Verdict::Failed => Err(Failure::new(
                StatusCode::PRECONDITION_FAILED,
                "the recording is not, or no longer, the one that the request expects",
            )),
            Verdict::NotModified => Ok(not_modified(headers)),
            Verdict::Proceed { range } => self.deliver(range, headers),
        };
        response.map(|response| (response, bytes_per_second))
    }

    fn headers(&self, validators: &Validators) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let name = self.form.name(&self.file_name);
        let disposition = disposition::content_disposition(&name, asks_for(&self.head, "download"));
        headers.insert(header::CONTENT_DISPOSITION, disposition);
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        let etag = validators.etag.as_deref().and_then(|etag| HeaderValue::from_str(etag).ok());
        let modified = validators.modified.map(httpdate::fmt_http_date);
        let modified = modified.and_then(|date| HeaderValue::try_from(date).ok());
        let media = HeaderValue::try_from(self.form.content_type(&self.extension)).ok();
        for (name, value) in
            [(header::ETAG, etag), (header::LAST_MODIFIED, modified), (header::CONTENT_TYPE, media)]
        {
            if let Some(value) = value {
                headers.insert(name, value);
            }
        }
        headers
    }

    fn deliver(self, range: bool, mut headers: HeaderMap) -> Result<Response, Failure> {
        let size = self.form.size;
        // Ranges are defined for GET alone (RFC 9110, section 14.2).
        let range = self.head.headers.get(header::RANGE).filter(|_| range && self.head.method == Method::GET);
        let selection = range
            .and_then(|range| range.to_str().ok())
            .map_or(Selection::Whole, |range| range::select(range, size));
        let (status, first, len) = match selection {
            Selection::Whole => (StatusCode::OK, 0, size),
            Selection::Part { first, last } => {
                headers.insert(header::CONTENT_RANGE, content_range(&format!("{first}-{last}/{size}")));
                (StatusCode::PARTIAL_CONTENT, first, last - first + 1)
            }
            Selection::Unsatisfiable => {
                let detail = format!("the recording has {size} bytes, and the range lies beyond them");
                return Err(Failure::new(StatusCode::RANGE_NOT_SATISFIABLE, detail)
                    .with(header::CONTENT_RANGE, content_range(&format!("*/{size}"))));
            }
        };
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(len));
        let body = if self.head.method == Method::HEAD {
            Body::empty()
        } else {
            let failed = |error| unopened(&OpenError::Unreadable(error));
            let source = self.form.source(self.open, first, &self.way.kept).map_err(failed)?;
            let body = RecordingBody::start(source, len).map_err(failed)?;
            Body::new(Paced::new(body.holding(self.way.place), self.way.pacer))
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

/// 304 carries the validators, not what describes a body (RFC 9110, section 15.4.5).
fn not_modified(mut headers: HeaderMap) -> Response {
    for name in [header::CONTENT_TYPE, header::CONTENT_DISPOSITION, header::ACCEPT_RANGES] {
        headers.remove(name);
    }
    (StatusCode::NOT_MODIFIED, headers).into_response()
}

fn content_range(range: &str) -> HeaderValue {
    // Digits and punctuation only.
    HeaderValue::try_from(format!("bytes {range}")).unwrap_or_else(|_| HeaderValue::from_static("bytes */0"))
}

/// Whether the address says yes to something. It says nothing about what may be delivered, which the link alone does.
fn asks_for(head: &request::Parts, what: &str) -> bool {
    url::form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes())
        .any(|(name, value)| name == what && matches!(&*value, "1" | "true" | "yes"))
}

/// A time as HTTP dates tell it; none before 1970 or after 9999, which they cannot tell.
fn whole_seconds(time: SystemTime) -> Option<SystemTime> {
    const YEAR_10000: u64 = 253_402_300_800;
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    (seconds < YEAR_10000).then(|| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}
