//! The deny list: recordings that the agent no longer serves, from the moment at which the file lists them.
//!
//! The file is checked for every request, and twice a second for running downloads. A file that cannot be used
//! changes nothing: the last good rules stay in force, and the log and the agent's problems report it.

mod body;
mod folding;
pub mod rules;
mod watched;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock, Weak},
    time::{Duration, Instant},
};

use audiovault_protocol::link::Revocation;
use parking_lot::Mutex;
use tokio::sync::watch;

use self::watched::Watched;
use crate::{
    status::problems::Problems,
    storage::{call_id::CallIdRules, resolved::Resolved},
};

pub(crate) use self::body::RevocableBody;
pub use self::{
    rules::{DenyRules, RulesError},
    watched::{DenyError, read},
};

/// How often the file is checked between requests: a running download ends within a second.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

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
    file: Mutex<Option<File>>,
    in_force: watch::Sender<InForce>,
    problems: Problems,
    watching: OnceLock<()>,
}

#[derive(Debug, Clone)]
struct File {
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
            File { settings, watched: Arc::new(tokio::sync::Mutex::new(watched)) }
        });
        if file.is_none() {
            self.0.in_force.send_replace(InForce::default());
        } else {
            self.0.watching.get_or_init(|| drop(tokio::spawn(watch(Arc::downgrade(&self.0)))));
        }
        // The new file has just been read without an error.
        self.0.problems.note(watched::SUBJECT, None);
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

impl Inner {
    fn file(&self) -> Option<File> {
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

/// Checks the file between requests, until the deny list is dropped.
async fn watch(deny: Weak<Inner>) {
    loop {
        tokio::time::sleep(POLL_INTERVAL).await;
        let Some(deny) = deny.upgrade() else { return };
        deny.look().await;
    }
}
