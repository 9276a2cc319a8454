//! Watches one deny list and reads it again when it changes.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use audiovault_common::{error_chain::causes_in_one_line, file_watch::Stamp};

use super::{
    DenySettings, InForce,
    rules::{DenyRules, RulesError},
};
use crate::{status::problems::Problems, storage::call_id::CallIdRules};

/// The subject under which problems of the deny list are reported.
pub(super) const SUBJECT: &str = "deny file";
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

/// Reads a deny list. Blocks.
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

/// The state of a watched deny list.
#[derive(Debug)]
pub(super) struct Watched {
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

    /// The rules in force at `now`. Blocks.
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
        let problem = format!("{error}, and the old rules stay active: {cause}");
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
