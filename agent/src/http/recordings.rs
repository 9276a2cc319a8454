//! `/recordings/{token}/{name}`: one recording, whole or in part, unchanged or decoded for a browser.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    AgentService,
    body::{RecordingBody, Source},
    errors,
    outcome::{Outcome, ServiceBody},
    search::link_name,
};
use crate::{
    audio::{decoding::Decoding, snapshots::Snapshots},
    http::links::{OpenLinkError, Opened},
    limits::Paced,
    storage::{
        RecordingStorage,
        blocking_pool::BlockingPool,
        deny_list::{Place, RevocableBody},
        open::{OpenError, OpenRecording},
        recording::Resolved,
        root_id::RootId,
    },
};
use audiovault_agent_core::{
    conditions::{self, Validators, Verdict},
    layout::{Layout, delivered_extension},
    media::{decoded_name, split_name},
    range::{self, Selection},
};
use audiovault_common::http_error::HttpError;
use audiovault_common::{advice::without_causes, error_chain::causes_in_one_line};
use audiovault_protocol::{
    http::{context::Audit, disposition::content_disposition},
    identity::signed_link::LinkError,
    recording::media::content_type,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, request::Parts, response};

/// Seconds until a client should retry when the storage does not respond: the agent itself tries as often.
const STALLED_RETRY: Duration = Duration::from_secs(15);
/// When to retry while as many downloads run as are allowed.
const FULL_RETRY: Duration = Duration::from_secs(2);

/// Distinguishes the entity tag of the decoded form from the file's. The number goes up when the same file begins to
/// decode into other bytes.
const DECODED: &str = "-pcm1\"";

/// Answers a request for the recording of a link.
pub(super) async fn recording(service: &AgentService, token: &str, name: &str, parts: Parts) -> Outcome {
    let opened = match open(service, token, name, &parts.method) {
        Ok(opened) => opened,
        Err(error) => return Err(error).into(),
    };
    let extension = extension(&opened.path);
    let file_name = opened.path.file_name().unwrap_or_default().to_owned();
    let mut audit = audit(&opened, service.recorded_names.of(&file_name.to_string_lossy()));
    let mut recording = Place {
        root: service.storage.root(opened.root),
        path: opened.path.clone(),
        resolved: None,
        call_id: opened.call_id.clone(),
    };
    let rules = service.deny.rules().await;
    if recording.is_denied(&rules) {
        return denied(audit);
    }
    let path = opened.path.clone();
    let Ok(place) = Arc::clone(&service.places).try_acquire_owned() else {
        return Outcome::of_known(Err(full()), audit);
    };
    let kept = Kept { snapshots: Arc::clone(&service.snapshots), root: opened.root, path: path.clone() };
    let pool = service.storage.pool(opened.root);
    let asked = DownloadRequest { head: parts, extension, file_name, kept, pool };
    let answer = match serve(&service.storage, asked).await {
        Ok(answer) => answer,
        Err(error) => return Outcome::of_known(Err(error), audit),
    };
    recording.resolved = answer.resolved;
    if recording.is_denied(&rules) {
        return denied(audit);
    }
    audit.bytes_per_second = answer.bytes_per_second;
    // The sender of the body checks the revocation, and so does the tunnel while the listener pauses.
    let revocation = service.deny.revocation(recording);
    let body = answer.body.map_or_else(ServiceBody::default, |body| {
        let paced = Paced::new(body.holding(place), service.pacer.clone());
        ServiceBody::of_recording(RevocableBody::new(paced, revocation.clone()))
    });
    let response = Response::from_parts(answer.head, body);
    Outcome { revocation: Some(revocation), ..Outcome::of_known(Ok(response), audit) }
}

/// Opens the link of a request.
fn open(service: &AgentService, token: &str, name: &str, method: &Method) -> Result<Opened, HttpError> {
    check_method(method)?;
    let opened = service.links.open(token).map_err(refused)?;
    if name != link_name(&extension(&opened.path)) {
        return Err(refused(LinkError::Forged.into()));
    }
    Ok(opened)
}

fn check_method(method: &Method) -> Result<(), HttpError> {
    if method == Method::GET || method == Method::HEAD { Ok(()) } else { Err(errors::method("GET, HEAD")) }
}

/// The answer to a request whose path cannot be that of a link.
pub(super) fn not_a_link(method: &Method) -> Outcome {
    let forged = || refused(LinkError::Forged.into());
    Err(check_method(method).err().unwrap_or_else(forged)).into()
}

/// Opens the recording and builds the response: at once if everything is in memory, otherwise on the blocking pool.
async fn serve(storage: &RecordingStorage, asked: DownloadRequest) -> Result<Answer, HttpError> {
    let root = asked.kept.root;
    let path = asked.kept.path.clone();
    let original = asks_for(&asked.head, "original");
    let cached = storage.open_cached(root, &path, &asked.extension).and_then(|open| {
        let form = Form::of(&open, &asked.extension, original);
        // To find where decoding begins, the file must be read.
        form.is_original().then_some((open, form))
    });
    let mut answer = match cached {
        Some((open, form)) => Serving { open, form, asked }.answer(),
        None => {
            let opened = storage.with_open(root, path, move |open| {
                let form = Form::of(&open, &asked.extension, original);
                let answer = Serving { open, form, asked }.answer()?;
                answer.read_first().map_err(|error| unopened(&OpenError::Unreadable(error)))
            });
            opened.await.unwrap_or_else(|error| Err(unopened(&error)))
        }
    }?;
    if let Some(body) = &mut answer.body {
        body.begun().await.map_err(|error| unopened(&OpenError::Unreadable(error)))?;
    }
    Ok(answer)
}

fn denied(audit: Audit) -> Outcome {
    let refused = HttpError::new(StatusCode::GONE, "this recording is no longer offered");
    Outcome { denied: true, ..Outcome::of_known(Err(refused), audit) }
}

/// The request, and the saved states from which decoding can continue.
struct DownloadRequest {
    head: Parts,
    extension: String,
    file_name: OsString,
    kept: Kept,
    pool: BlockingPool,
}

/// A response before its common headers are added.
struct Answer {
    head: response::Parts,
    /// `None` if the response has no content.
    body: Option<RecordingBody>,
    bytes_per_second: Option<u32>,
    /// Where the recording lies.
    resolved: Option<Resolved>,
}

impl Answer {
    /// Reads the first chunk of the body. Blocks, so it runs in the blocking task that opened the file.
    fn read_first(mut self) -> io::Result<Self> {
        self.body.as_mut().map_or(Ok(()), RecordingBody::read_first)?;
        Ok(self)
    }
}

fn full() -> HttpError {
    let detail = "the site has reached its limit of downloads; try again in a moment";
    HttpError::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(FULL_RETRY)
}

fn refused(error: OpenLinkError) -> HttpError {
    let status = match error {
        OpenLinkError::Link(LinkError::Forged | LinkError::TooLong) => StatusCode::FORBIDDEN,
        OpenLinkError::Link(LinkError::Expired | LinkError::OtherKey)
        | OpenLinkError::Withdrawn
        | OpenLinkError::UnknownRoot => StatusCode::GONE,
    };
    HttpError::new(status, error.to_string())
}

fn unopened(error: &OpenError) -> HttpError {
    let status = match error {
        OpenError::Gone(_) => StatusCode::NOT_FOUND,
        OpenError::Unreadable(_) => StatusCode::INTERNAL_SERVER_ERROR,
        OpenError::Stalled => StatusCode::SERVICE_UNAVAILABLE,
    };
    let cause = causes_in_one_line(error).unwrap_or_default();
    let failure = HttpError::new(status, without_causes(error)).because(cause);
    match error {
        OpenError::Stalled => failure.retry_after(STALLED_RETRY),
        OpenError::Gone(_) | OpenError::Unreadable(_) => failure,
    }
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

/// The extension of the recording in lower case, as in the name at the end of its link.
fn extension(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().as_bytes();
    let extension = split_name(name).map_or(&b""[..], |(_, extension)| extension);
    String::from_utf8_lossy(extension).to_ascii_lowercase()
}

/// The parts from which a response is built.
struct Serving {
    open: OpenRecording,
    form: Form,
    asked: DownloadRequest,
}

impl Serving {
    fn answer(self) -> Result<Answer, HttpError> {
        let now = SystemTime::now();
        let settled = self.open.is_settled(now);
        let modified = settled.then(|| whole_seconds(self.open.modified)).flatten();
        let validators = Validators { etag: self.form.etag(&self.open, now), modified };
        let headers = self.headers(&validators);
        let bytes_per_second = self.form.bytes_per_second;
        let resolved = self.open.resolved.clone();
        let answered = match conditions::evaluate(&self.asked.head.headers, &validators) {
            Verdict::Failed => Err(HttpError::new(
                StatusCode::PRECONDITION_FAILED,
                "the recording has changed, or is not the one that the request expects",
            )),
            Verdict::NotModified => Ok((not_modified(headers), None)),
            Verdict::Proceed { range } => self.deliver(range, headers),
        };
        answered.map(|(head, body)| Answer { head, body, bytes_per_second, resolved })
    }

    fn headers(&self, validators: &Validators) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let name = self.form.name(&self.asked.file_name);
        let disposition = content_disposition(&name, asks_for(&self.asked.head, "download"));
        headers.insert(header::CONTENT_DISPOSITION, disposition);
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        let etag = validators.etag.as_deref().and_then(|etag| HeaderValue::from_str(etag).ok());
        let modified = validators.modified.map(httpdate::fmt_http_date);
        let modified = modified.and_then(|date| HeaderValue::try_from(date).ok());
        let media = HeaderValue::try_from(self.form.content_type(&self.asked.extension)).ok();
        for (name, value) in
            [(header::ETAG, etag), (header::LAST_MODIFIED, modified), (header::CONTENT_TYPE, media)]
        {
            if let Some(value) = value {
                headers.insert(name, value);
            }
        }
        headers
    }

    fn deliver(
        self,
        range: bool,
        mut headers: HeaderMap,
    ) -> Result<(response::Parts, Option<RecordingBody>), HttpError> {
        let asked = &self.asked;
        let size = self.form.size;
        // Ranges are defined for GET alone (RFC 9110, section 14.2).
        let range =
            asked.head.headers.get(header::RANGE).filter(|_| range && asked.head.method == Method::GET);
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
                let detail = format!("the recording has {size} bytes, and the range begins after its end");
                return Err(HttpError::new(StatusCode::RANGE_NOT_SATISFIABLE, detail)
                    .with(header::CONTENT_RANGE, content_range(&format!("*/{size}"))));
            }
        };
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(len));
        let body = (asked.head.method != Method::HEAD).then(|| {
            RecordingBody::new(self.form.source(self.open, first, &asked.kept), len, asked.pool.clone())
        });
        Ok((head_of(status, headers), body))
    }
}

/// One form of an open recording.
#[derive(Debug)]
struct Form {
    /// Size in bytes.
    size: u64,
    /// Bytes per second of sound, if known.
    bytes_per_second: Option<u32>,
    decoded: Option<Layout>,
}

impl Form {
    /// The form that browsers can play, or the file itself if `original` is true.
    fn of(open: &OpenRecording, extension: &str, original: bool) -> Self {
        let info = open.content_info(extension);
        let decoded = info.decoded.filter(|_| !original);
        let bytes_per_second = match (decoded, info.decoded) {
            (Some(layout), _) => Some(layout.bytes_per_second()),
            (None, Some(layout)) => Some(layout.source_bytes_per_second()),
            (None, None) => info.wav.map(|header| header.bytes_per_second),
        };
        Self { size: decoded.map_or(open.size, |layout| layout.size()), bytes_per_second, decoded }
    }

    /// A strong validator: the decoded bytes stay the same as long as the file does.
    fn etag(&self, open: &OpenRecording, now: SystemTime) -> Option<String> {
        let etag = open.etag(now)?;
        Some(if self.decoded.is_some() { etag.trim_end_matches('"').to_owned() + DECODED } else { etag })
    }

    /// The media type for the file's extension, which is in lower case.
    fn content_type(&self, extension: &str) -> String {
        content_type(if self.decoded.is_some() { delivered_extension(extension) } else { extension })
    }

    /// The file name under which the recording is delivered.
    fn name(&self, file_name: &OsStr) -> String {
        let decoded = self.decoded.map(|_| decoded_name(file_name));
        decoded.as_deref().unwrap_or(file_name).to_string_lossy().into_owned()
    }

    /// Whether the file itself is delivered.
    fn is_original(&self) -> bool {
        self.decoded.is_none()
    }

    /// The source of its bytes, starting at `first`.
    fn source(&self, open: OpenRecording, first: u64, kept: &Kept) -> Source {
        let Some(layout) = self.decoded else { return Source::File(open.file, first) };
        // A file that may change within one tick of its clock cannot be distinguished from its earlier content.
        let settled = layout.codec().has_memory() && open.is_settled(SystemTime::now());
        let states = settled.then(|| {
            let content = Content {
                root: kept.root,
                path: kept.path.clone(),
                size: open.size,
                modified: open.modified,
            };
            kept.snapshots.of(content, &layout)
        });
        Source::Decoding(Box::new(Decoding::new(open.file, layout, first, states)))
    }
}

/// One content of one file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Content {
    root: RootId,
    /// The path below the root.
    path: PathBuf,
    /// Size in bytes.
    size: u64,
    /// Modification time, old enough to distinguish one content from the next.
    modified: SystemTime,
}

/// Saved states of earlier decoding, and where the recording lies.
#[derive(Debug)]
struct Kept {
    snapshots: Arc<Snapshots<Content>>,
    root: RootId,
    path: PathBuf,
}

fn head_of(status: StatusCode, headers: HeaderMap) -> response::Parts {
    let (mut head, ()) = Response::new(()).into_parts();
    (head.status, head.headers) = (status, headers);
    head
}

/// A 304 carries the validators, but not the headers that describe a body (RFC 9110, section 15.4.5).
fn not_modified(mut headers: HeaderMap) -> response::Parts {
    for name in [header::CONTENT_TYPE, header::CONTENT_DISPOSITION, header::ACCEPT_RANGES] {
        headers.remove(name);
    }
    head_of(StatusCode::NOT_MODIFIED, headers)
}

fn content_range(range: &str) -> HeaderValue {
    // The text has digits and punctuation only, so this cannot fail.
    HeaderValue::try_from(format!("bytes {range}")).unwrap_or_else(|_| HeaderValue::from_static("bytes */0"))
}

/// Whether the query sets `what` to yes. The query never decides what may be delivered; the link alone does.
fn asks_for(head: &Parts, what: &str) -> bool {
    url::form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes())
        .any(|(name, value)| name == what && matches!(&*value, "1" | "true" | "yes"))
}

/// The time in whole seconds, as in an HTTP date. `None` before 1970 and after 9999, which HTTP dates cannot express.
fn whole_seconds(time: SystemTime) -> Option<SystemTime> {
    const YEAR_10000: u64 = 253_402_300_800;
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    (seconds < YEAR_10000).then(|| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}
