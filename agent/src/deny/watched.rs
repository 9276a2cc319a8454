//! One deny file, looked at again and again.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use super::{
    DenySettings, InForce,
    rules::{DenyRules, RulesError},
};
use crate::{problems::Problems, stamp::Stamp, vault::call_id::CallIdRules};

/// What the problems of this part are filed under.
pub(super) const SUBJECT: &str = "deny file";
/// Largest file: far more than the most rules need.
const MAX_LEN: u64 = 4 * 1024 * 1024;
/// A rule that was taken out holds for so long after the last change: whoever writes the file anew may leave it empty
/// for a moment, and nothing may get out then.
const STOOD_STILL: Duration = Duration::from_secs(1);
/// Most versions of a file that never stands still: what was in one of them is denied.
const MAX_RECENT: usize = 8;
/// A file younger than this may change again without a sign: two seconds are a tick of FAT's clock.
const TICK: Duration = Duration::from_secs(2);

/// Why a deny file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DenyError {
    /// It cannot be read.
    #[error("the deny file {} cannot be read", .0.display())]
    Unreadable(PathBuf, #[source] io::Error),
    /// It holds something else than rules.
    #[error("the deny file {} cannot be used", .0.display())]
    Rules(PathBuf, #[source] RulesError),
}

/// Reads a deny file. Blocks.
///
/// # Errors
/// [`DenyError`].
pub fn read(path: &Path, call_ids: &CallIdRules) -> Result<DenyRules, DenyError> {
    parse(path, &text(path)?, call_ids)
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

/// What is known of the file.
#[derive(Debug)]
pub(super) struct Watched {
    path: PathBuf,
    call_ids: CallIdRules,
    problems: Problems,
    /// How the file looked when it was last read, unless it must be read again anyway.
    known: Option<Stamp>,
    text: Option<String>,
    /// The last rules that stood still, and all after them.
    rules: Vec<Arc<DenyRules>>,
    /// When the latest came, unless they stand still.
    changed: Option<Instant>,
    problem: Option<String>,
}

impl Watched {
    pub(super) fn new(settings: &DenySettings, problems: Problems) -> Self {
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

    /// What holds at `now`. Blocks.
    pub(super) fn look(&mut self, now: Instant) -> InForce {
        let stamp = Stamp::of(&self.path);
        if self.known != Some(stamp) {
            match self.read_again(now) {
                Ok(()) => {
                    self.known = Some(stamp).filter(|stamp| stamp.is_older_than(TICK, SystemTime::now()));
                    self.well();
                }
                Err(error) => {
                    self.known = None;
                    self.tell(&error);
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
            tracing::info!(file = %self.path.display(), rules = rules.count(), "the deny file has changed");
        }
        self.text = Some(text);
        self.rules.push(Arc::new(rules));
        if self.rules.len() > MAX_RECENT {
            // Not the first, which are the ones to trust.
            self.rules.remove(1);
        }
        self.changed = Some(now);
        Ok(())
    }

    fn tell(&mut self, error: &DenyError) {
        let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        let problem = format!("{error}, and the rules before stay in force: {cause}");
        if self.problem.as_ref() != Some(&problem) {
            tracing::error!("{problem}");
            self.problems.note(SUBJECT, Some(problem.clone()));
            self.problem = Some(problem);
        }
    }

    fn well(&mut self) {
        if self.problem.take().is_some() {
            tracing::info!(file = %self.path.display(), "the deny file can be used again");
            self.problems.note(SUBJECT, None);
        }
    }
}
