//! The deny file: recordings that are no longer offered, from the moment that it says so.
//!
//! The file is looked at for every request, and twice a second for downloads that are under way. What cannot be used
//! changes nothing: the last good rules stay in force, and the log and the agent's problems say so.

mod body;
mod folding;
pub mod rules;
mod watched;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    time::{Duration, Instant},
};

use audiovault_protocol::link::Revocation;
use tokio::sync::watch;

use self::watched::Watched;
use crate::{
    problems::Problems,
    vault::{call_id::CallIdRules, resolved::Resolved},
};

pub(crate) use self::body::RevocableBody;
pub use self::{
    rules::{DenyRules, RulesError},
    watched::{DenyError, read},
};

/// How often the file is looked at when nobody asks for anything: a running download ends within a second.
const EVERY: Duration = Duration::from_millis(500);

/// The deny file as it was when the configuration was checked.
#[derive(Debug, Clone)]
pub struct DenySettings {
    /// The file.
    pub path: PathBuf,
    /// What is a call id in it.
    pub call_ids: CallIdRules,
    /// What it said.
    pub rules: Arc<DenyRules>,
}

impl DenySettings {
    /// What it denied then.
    pub fn in_force(&self) -> InForce {
        InForce(vec![Arc::clone(&self.rules)])
    }
}

/// The rules that hold at one moment.
#[derive(Debug, Clone, Default)]
pub struct InForce(Vec<Arc<DenyRules>>);

impl InForce {
    /// Whether the recording at `path` beneath `root` is denied, under this name or without the links on its way.
    pub fn deny(&self, root: &Path, path: &Path, resolved: Option<&Resolved>) -> bool {
        let named = |rules: &DenyRules| match resolved {
            Some(resolved) => rules.deny(root, &resolved.path) || rules.deny(&resolved.root, &resolved.path),
            None => false,
        };
        self.0.iter().any(|rules| rules.deny(root, path) || named(rules))
    }

    /// Whether a call is denied as such, by its id.
    pub fn deny_call(&self, call_id: &str) -> bool {
        self.0.iter().any(|rules| rules.deny_call(call_id))
    }

    fn is(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().zip(&other.0).all(|(one, other)| Arc::ptr_eq(one, other))
    }
}

/// One recording as a link names it.
#[derive(Clone)]
pub(crate) struct Place {
    /// The directory that the driver opens.
    pub(crate) root: PathBuf,
    /// Where the recording lies beneath it.
    pub(crate) path: PathBuf,
    /// Where it was opened, once it is.
    pub(crate) resolved: Option<Resolved>,
    /// The call that was searched for.
    pub(crate) call_id: String,
}

impl Place {
    pub(crate) fn is_denied(&self, rules: &InForce) -> bool {
        rules.deny_call(&self.call_id) || rules.deny(&self.root, &self.path, self.resolved.as_ref())
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The path holds telephone numbers.
        f.write_str("Place(…)")
    }
}

/// Knows what is denied. Cheap to clone; all clones are one.
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
    /// Held by whoever looks at the file, so that a file on a dead disk costs one thread and not all of them.
    watched: Arc<tokio::sync::Mutex<Watched>>,
}

impl Deny {
    /// Denies nothing until it is configured to. What is wrong with the file is noted among the problems.
    pub fn new(problems: Problems) -> Self {
        let in_force = watch::Sender::default();
        Self(Arc::new(Inner { file: Mutex::default(), in_force, problems, watching: OnceLock::new() }))
    }

    /// Goes by this file from now on, or by none; running downloads too. Must be called within a runtime if there is
    /// one.
    pub fn configure(&self, settings: Option<DenySettings>) {
        let mut file = self.0.file.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |one: &DenySettings, other: &DenySettings| {
            one.path == other.path && one.call_ids == other.call_ids
        };
        match (&*file, &settings) {
            (None, None) => return,
            // Changes of the file itself are followed anyway.
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
        // The new file has just been read well.
        self.0.problems.note(watched::SUBJECT, None);
    }

    /// What is denied now.
    pub async fn rules(&self) -> InForce {
        self.0.look().await;
        self.0.in_force.borrow().clone()
    }

    /// Takes a delivery of this recording back as soon as it is denied.
    pub(crate) fn revocation(&self, place: Place) -> Revocation {
        let mut in_force = self.0.in_force.subscribe();
        Revocation::new(async move {
            let denied = in_force.wait_for(|rules| place.is_denied(rules)).await.is_ok();
            if !denied {
                // Nobody follows the file any more, so nothing is denied any more.
                std::future::pending::<()>().await;
            }
        })
    }
}

impl Inner {
    fn file(&self) -> Option<File> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn look(&self) {
        let Some(file) = self.file() else { return };
        let mut watched = Arc::clone(&file.watched).lock_owned().await;
        let looked = tokio::task::spawn_blocking(move || watched.look(Instant::now())).await;
        let now = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // A reload may have chosen another file meanwhile. Whoever fails inside changes nothing.
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

/// Looks at the file between requests, as long as anybody may ask.
async fn watch(deny: Weak<Inner>) {
    loop {
        tokio::time::sleep(EVERY).await;
        let Some(deny) = deny.upgrade() else { return };
        deny.look().await;
    }
}
