//! The deny list: recordings that the agent no longer serves, from the moment at which the file lists them.
//!
//! The file is checked for every request, and twice a second for running downloads. A file that cannot be used
//! changes nothing: the last good rules stay in force, and the log and the agent's problems report it.

#[cfg(test)]
mod tests;

use std::{
    borrow::Cow,
    fmt,
    fs::File,
    future::Future,
    io::{self, Read},
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, OnceLock, Weak},
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime},
};

use audiovault_agent_core::{
    call_id::CallIdRules,
    deny_rules::{DenyRules, RulesError},
};
use audiovault_common::{advice::Advice, error_chain::causes_in_one_line, file_watch::Stamp};
use audiovault_protocol::link::Revocation;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{status::Problems, storage::recording::Resolved};

/// How often the file is checked between requests: a running download ends within a second.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// The subject under which problems of the deny list are reported.
const SUBJECT: &str = "deny file";
/// Size limit of the file in bytes: far more than the maximum number of rules needs.
const MAX_LEN: u64 = 4 * 1024 * 1024;
/// How long a removed rule stays in force after the last change of the file. A program that rewrites the file may
/// leave it empty for a moment, and no denied recording may be served then.
const STOOD_STILL: Duration = Duration::from_secs(1);
/// The most versions that are kept of a file that changes all the time. A recording that one of them denies is
/// denied.
const MAX_RECENT: usize = 8;
/// A file younger than this may change again without a new modification time; the clock of FAT ticks every two
/// seconds.
const TICK: Duration = Duration::from_secs(2);

/// Why a deny list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DenyError {
    /// The file cannot be read.
    #[error("the deny file {} cannot be read", .0.display())]
    Unreadable(PathBuf, #[source] io::Error),
    /// The file contains a line that is not a rule.
    #[error("the deny file {} cannot be used", .0.display())]
    Rules(PathBuf, #[source] RulesError),
}

impl Advice for DenyError {
    fn advice(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Unreadable(..) => None,
            Self::Rules(_, error) => error.advice().map(Cow::from),
        }
    }
}

/// The deny list as it was when the configuration was checked.
#[derive(Debug, Clone)]
pub struct DenySettings {
    /// The path of the file.
    pub path: PathBuf,
    /// The rules for call ids in the file.
    pub call_ids: CallIdRules,
    /// The rules that were read from it.
    pub rules: Arc<DenyRules>,
}

impl DenySettings {
    /// The rules that were read then, as the rules in force.
    pub fn in_force(&self) -> InForce {
        InForce(vec![Arc::clone(&self.rules)])
    }
}

/// The rules that are in force at one moment.
#[derive(Debug, Clone, Default)]
pub struct InForce(Vec<Arc<DenyRules>>);

impl InForce {
    /// Whether the recording at `path` below `root` is denied, by this path or by its resolved path.
    pub fn deny(&self, root: &Path, path: &Path, resolved: Option<&Resolved>) -> bool {
        let named = |rules: &DenyRules| match resolved {
            Some(resolved) => rules.deny(root, &resolved.path) || rules.deny(&resolved.root, &resolved.path),
            None => false,
        };
        self.0.iter().any(|rules| rules.deny(root, path) || named(rules))
    }

    /// Whether a call is denied by its id.
    pub fn deny_call(&self, call_id: &str) -> bool {
        self.0.iter().any(|rules| rules.deny_call(call_id))
    }

    fn is(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().zip(&other.0).all(|(one, other)| Arc::ptr_eq(one, other))
    }
}

/// The recording of one link.
#[derive(Clone)]
pub(crate) struct Place {
    /// The root directory of the driver.
    pub(crate) root: PathBuf,
    /// The path below the root.
    pub(crate) path: PathBuf,
    /// The resolved path, once the file is open.
    pub(crate) resolved: Option<Resolved>,
    /// The call id of the search.
    pub(crate) call_id: String,
}

impl Place {
    pub(crate) fn is_denied(&self, rules: &InForce) -> bool {
        rules.deny_call(&self.call_id) || rules.deny(&self.root, &self.path, self.resolved.as_ref())
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The path contains telephone numbers.
        f.write_str("Place(…)")
    }
}

/// The deny list that is in use. Cheap to clone; all clones share one state.
#[derive(Debug, Clone)]
pub struct Deny(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: Mutex<Option<DenyFile>>,
    in_force: watch::Sender<InForce>,
    problems: Problems,
    watching: OnceLock<()>,
}

#[derive(Debug, Clone)]
struct DenyFile {
    settings: DenySettings,
    /// Locked while the file is checked, so that a file on a dead disk blocks one thread and not all of them.
    watched: Arc<tokio::sync::Mutex<Watched>>,
}

impl Deny {
    /// Denies nothing until it is configured. Problems with the file are reported to `problems`.
    pub fn new(problems: Problems) -> Self {
        let in_force = watch::Sender::default();
        Self(Arc::new(Inner { file: Mutex::default(), in_force, problems, watching: OnceLock::new() }))
    }

    /// Uses this file from now on, or none; this applies to running downloads too. With a file, it must be called
    /// within a Tokio runtime.
    pub fn configure(&self, settings: Option<DenySettings>) {
        let mut file = self.0.file.lock();
        let same = |one: &DenySettings, other: &DenySettings| {
            one.path == other.path && one.call_ids == other.call_ids
        };
        match (&*file, &settings) {
            (None, None) => return,
            // Changes of the file itself are noticed anyway.
            (Some(before), Some(now)) if same(&before.settings, now) => return,
            (_, _) => {}
        }
        *file = settings.map(|settings| {
            let watched = Watched::new(&settings, self.0.problems.clone());
            self.0.in_force.send_replace(settings.in_force());
            DenyFile { settings, watched: Arc::new(tokio::sync::Mutex::new(watched)) }
        });
        if file.is_none() {
            self.0.in_force.send_replace(InForce::default());
        } else {
            self.0.watching.get_or_init(|| drop(tokio::spawn(watch(Arc::downgrade(&self.0)))));
        }
        // The new file has just been read without an error.
        self.0.problems.note(SUBJECT, None);
    }

    /// The rules in force now; checks the file first.
    pub async fn rules(&self) -> InForce {
        self.0.look().await;
        self.0.in_force.borrow().clone()
    }

    /// A revocation that takes effect as soon as this recording is denied.
    pub(crate) fn revocation(&self, place: Place) -> Revocation {
        let mut in_force = self.0.in_force.subscribe();
        Revocation::new(async move {
            let denied = in_force.wait_for(|rules| place.is_denied(rules)).await.is_ok();
            if !denied {
                // The watch has ended, so nothing can be denied any more.
                std::future::pending::<()>().await;
            }
        })
    }
}

/// A body that ends in an error as soon as its recording is denied, so that the transport cuts the response visibly.
#[derive(Debug)]
pub(crate) struct RevocableBody<B> {
    body: B,
    revocation: Revocation,
    over: bool,
}

impl<B> RevocableBody<B> {
    pub(crate) fn new(body: B, revocation: Revocation) -> Self {
        Self { body, revocation, over: false }
    }
}

impl<B: Body<Data = Bytes, Error = io::Error> + Unpin> Body for RevocableBody<B> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.over {
            return Poll::Ready(None);
        }
        if Pin::new(&mut self.revocation).poll(context).is_ready() {
            self.over = true;
            let error = io::Error::new(io::ErrorKind::PermissionDenied, "the recording is no longer offered");
            return Poll::Ready(Some(Err(error)));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Reads a deny list. Blocks.
///
/// # Errors
/// [`DenyError`].
pub fn read(path: &Path, call_ids: &CallIdRules) -> Result<DenyRules, DenyError> {
    parse(path, &text(path)?, call_ids)
}

impl Inner {
    fn file(&self) -> Option<DenyFile> {
        self.file.lock().clone()
    }

    async fn look(&self) {
        let Some(file) = self.file() else { return };
        let mut watched = Arc::clone(&file.watched).lock_owned().await;
        let looked = tokio::task::spawn_blocking(move || watched.look(Instant::now())).await;
        let now = self.file.lock();
        // A reload may have replaced the file since. If the task failed, nothing changes.
        if let (Ok(found), Some(now)) = (looked, &*now)
            && Arc::ptr_eq(&now.watched, &file.watched)
        {
            self.in_force.send_if_modified(|before| {
                let news = !before.is(&found);
                *before = found;
                news
            });
        }
    }
}

/// The state of a watched deny list.
#[derive(Debug)]
struct Watched {
    path: PathBuf,
    call_ids: CallIdRules,
    problems: Problems,
    /// The file's stamp when it was last read; `None` if the file must be read again in any case.
    known: Option<Stamp>,
    text: Option<String>,
    /// The last rules that stayed unchanged for [`STOOD_STILL`], and all rules that were read after them.
    rules: Vec<Arc<DenyRules>>,
    /// When the file last changed; `None` once it has stayed unchanged for [`STOOD_STILL`].
    changed: Option<Instant>,
    problem: Option<String>,
}

impl Watched {
    fn new(settings: &DenySettings, problems: Problems) -> Self {
        Self {
            path: settings.path.clone(),
            call_ids: settings.call_ids.clone(),
            problems,
            known: None,
            text: None,
            rules: vec![Arc::clone(&settings.rules)],
            changed: None,
            problem: None,
        }
    }

    /// The rules in force at `now`. Blocks.
    fn look(&mut self, now: Instant) -> InForce {
        let stamp = Stamp::of(&self.path);
        if self.known != Some(stamp) {
            match self.read_again(now) {
                Ok(()) => {
                    self.known = Some(stamp).filter(|stamp| stamp.is_older_than(TICK, SystemTime::now()));
                    self.well();
                }
                Err(error) => {
                    self.known = None;
                    self.report(&error);
                }
            }
        }
        if self.changed.is_some_and(|changed| now >= changed + STOOD_STILL) {
            self.changed = None;
            self.rules.drain(..self.rules.len() - 1);
        }
        InForce(self.rules.clone())
    }

    fn read_again(&mut self, now: Instant) -> Result<(), DenyError> {
        let text = text(&self.path)?;
        if self.text.as_ref() == Some(&text) {
            return Ok(());
        }
        let rules = parse(&self.path, &text, &self.call_ids)?;
        if self.text.is_some() {
            tracing::info!(
                file = %self.path.display(),
                rules = rules.count(),
                code = "deny_list.changed",
                "the deny file has changed"
            );
        }
        self.text = Some(text);
        self.rules.push(Arc::new(rules));
        if self.rules.len() > MAX_RECENT {
            // The first rules stay: they are the last that stayed unchanged for long enough.
            self.rules.remove(1);
        }
        self.changed = Some(now);
        Ok(())
    }

    fn report(&mut self, error: &DenyError) {
        let cause = causes_in_one_line(error).unwrap_or_default();
        let advice = error.advice().map(|advice| format!("; {advice}")).unwrap_or_default();
        let problem = format!("{error}, and the old rules stay active: {cause}{advice}");
        if self.problem.as_ref() != Some(&problem) {
            tracing::error!(code = "deny_list.failed", "{problem}");
            self.problems.note(SUBJECT, Some(problem.clone()));
            self.problem = Some(problem);
        }
    }

    fn well(&mut self) {
        if self.problem.take().is_some() {
            tracing::info!(
                file = %self.path.display(),
                code = "deny_list.recovered",
                "the deny file can be used again"
            );
            self.problems.note(SUBJECT, None);
        }
    }
}

/// Checks the file between requests, until the deny list is dropped.
async fn watch(deny: Weak<Inner>) {
    loop {
        tokio::time::sleep(POLL_INTERVAL).await;
        let Some(deny) = deny.upgrade() else { return };
        deny.look().await;
    }
}

fn text(path: &Path) -> Result<String, DenyError> {
    let read = || {
        let mut text = String::new();
        let len = File::open(path)?.take(MAX_LEN + 1).read_to_string(&mut text)? as u64;
        if len > MAX_LEN { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(text) }
    };
    read().map_err(|error| DenyError::Unreadable(path.to_owned(), error))
}

fn parse(path: &Path, text: &str, call_ids: &CallIdRules) -> Result<DenyRules, DenyError> {
    DenyRules::parse(text, call_ids).map_err(|error| DenyError::Rules(path.to_owned(), error))
}
