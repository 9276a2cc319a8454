//! Coverage: the share of answered calls in a queue_log for which a search finds a recording, and the reasons for the
//! others. The calls are counted by day and by queue.
//!
//! Every root is walked once, completely, for all calls together. This distinguishes a recording that is outside the
//! pattern from one that was never made.

pub mod picture;
pub mod queue_log;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::PathBuf,
    sync::Arc,
};

use audiovault_agent_core::{
    call_id::CallId,
    expand::{self, Step},
    query::Query,
    tokens::{self, Rules},
};
use jiff::tz::TimeZone;
use serde::Serialize;

use self::queue_log::Answered;
use crate::storage::{
    StorageSettings,
    driver::{DriverFault, FileDriver},
    root_id::RootId,
};

/// The result of the search for one call's recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// A search finds it, with sound.
    Found,
    /// A search finds only files without sound.
    Empty,
    /// It is below a root, but in a directory to which the pattern does not lead for this call.
    OutsidePattern,
    /// It is not below any root.
    NotRecorded,
    /// It is not found, but a root is missing or could not be read completely.
    RootMissing,
    /// The id in the queue_log is not a call id.
    NoId,
}

impl Fate {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Found, Self::Empty, Self::OutsidePattern, Self::NotRecorded, Self::RootMissing, Self::NoId];

    /// Its name for people, in a column.
    pub fn title(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Empty => "empty file",
            Self::OutsidePattern => "outside the pattern",
            Self::NotRecorded => "not recorded",
            Self::RootMissing => "root missing",
            Self::NoId => "no call id",
        }
    }

    /// What the result means, and what to do.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Found => "a search finds the recording",
            Self::Empty => "the file has no sound; check how the PBX mixes and converts recordings",
            Self::OutsidePattern => {
                "the recording is in a directory that does not match --path for this call: compare the \
                 directory with the path pattern, --timezone and --look-back"
            }
            Self::NotRecorded => {
                "no file below the storage roots has the call id in its name: the call was not recorded, its \
                 file is elsewhere, or the file was deleted"
            }
            Self::RootMissing => {
                "a storage root is missing or not fully readable, so the recording may exist there; mount \
                 it, and try again"
            }
            Self::NoId => "the id in the queue_log is not a known form of call id; see --call-id",
        }
    }
}

/// A call and the result of its search.
#[derive(Debug, Clone)]
pub struct SearchResult {
    /// The call.
    pub call: Answered,
    /// The result of the search for its recording.
    pub fate: Fate,
    /// A file of the call, if there is one: its root, and the path below it.
    pub file: Option<(RootId, PathBuf)>,
}

/// Searches for the recordings of these calls. Blocks, as long as it takes to walk through all roots. Also returns
/// the faults of roots that could not be read completely.
pub fn try_all(
    settings: &StorageSettings,
    calls: Vec<Answered>,
    tenant: Option<&str>,
) -> (Vec<SearchResult>, Vec<DriverFault>) {
    let ids: Vec<Option<CallId>> = calls.iter().map(|call| settings.call_ids.parse(&call.id).ok()).collect();
    let settings = Arc::new(settings.clone());
    let mut roots = Vec::new();
    let mut faults = Vec::new();
    for (root, pattern) in RootId::number(&settings.roots) {
        let driver = FileDriver::new(root, pattern.clone(), Arc::clone(&settings));
        let wanted = CallToFind::new(&settings, ids.iter().flatten());
        let (files, fault) = driver.everywhere(&|name| wanted.has(name));
        roots.push(Root { files: wanted.sort(files), driver });
        faults.extend(fault);
    }
    let tried = calls.into_iter().zip(ids).map(|(call, id)| {
        let Some(id) = id else { return SearchResult { call, fate: Fate::NoId, file: None } };
        let query = Query {
            start: Some(call.began),
            tenant: tenant.map(str::to_owned),
            queue: Some(call.queue.clone()),
            agent: Some(call.agent.clone()),
            ..Query::new(id)
        };
        let (fate, file) = evaluate(&settings, &roots, &query, !faults.is_empty());
        SearchResult { call, fate, file }
    });
    (tried.collect(), faults)
}

/// The number of calls for each result.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// All calls.
    pub calls: u64,
    /// Calls by the result of their search.
    #[serde(flatten)]
    pub fates: BTreeMap<Fate, u64>,
}

impl Tally {
    fn add(&mut self, fate: Fate) {
        self.calls += 1;
        *self.fates.entry(fate).or_default() += 1;
    }

    /// The number of calls with one result.
    pub fn of(&self, fate: Fate) -> u64 {
        self.fates.get(&fate).copied().unwrap_or_default()
    }

    /// Calls whose recording was found, in percent of all calls.
    pub fn percent(&self) -> f64 {
        if self.calls == 0 { 0.0 } else { self.of(Fate::Found) as f64 * 100.0 / self.calls as f64 }
    }
}

/// The counts of all calls.
#[derive(Debug, Default, Serialize)]
pub struct Coverage {
    /// The counts of all days and queues together.
    #[serde(flatten)]
    pub all: Tally,
    /// By the day on which they were answered, in the site's time zone.
    pub days: BTreeMap<String, Tally>,
    /// By queue.
    pub queues: BTreeMap<String, Tally>,
}

impl Coverage {
    /// Counts these calls.
    pub fn count(tried: &[SearchResult], zone: &TimeZone) -> Self {
        let mut coverage = Self::default();
        for one in tried {
            let day = one.call.at.to_zoned(zone.clone()).date().to_string();
            coverage.all.add(one.fate);
            coverage.days.entry(day).or_default().add(one.fate);
            coverage.queues.entry(one.call.queue.clone()).or_default().add(one.fate);
        }
        coverage
    }
}

struct Root {
    driver: FileDriver,
    files: Sorted,
}

fn evaluate(
    settings: &StorageSettings,
    roots: &[Root],
    query: &Query,
    doubtful: bool,
) -> (Fate, Option<(RootId, PathBuf)>) {
    let mut empty = None;
    let mut outside = None;
    for root in roots {
        let id = root.driver.root();
        let pattern = root.driver.pattern();
        let ways: Vec<Vec<Step>> = expand::expand(pattern, query, &settings.zone, settings.look_back);
        for path in root.files.of(&query.call_id) {
            if !ways.iter().any(|way| expand::leads_to(way, &path)) {
                outside.get_or_insert((id, path));
            } else if root.driver.has_sound(&path) {
                return (Fate::Found, Some((id, path)));
            } else {
                empty.get_or_insert((id, path));
            }
        }
    }
    match (empty, outside) {
        (Some(file), _) => (Fate::Empty, Some(file)),
        (None, Some(file)) => (Fate::OutsidePattern, Some(file)),
        (None, None) if doubtful => (Fate::RootMissing, None),
        (None, None) => (Fate::NotRecorded, None),
    }
}

/// Which file names belong to the calls.
struct CallToFind {
    rules: Rules,
    keys: HashSet<Vec<u8>>,
    /// Ids without a token.
    others: Vec<CallId>,
}

impl CallToFind {
    fn new<'a>(settings: &StorageSettings, ids: impl Iterator<Item = &'a CallId>) -> Self {
        let rules = Rules::for_ids(&settings.call_ids);
        let mut keys = HashSet::new();
        let mut others = Vec::new();
        for id in ids {
            match tokens::key(id.needle(), rules) {
                Some(key) => drop(keys.insert(key)),
                None => others.push(id.clone()),
            }
        }
        Self { rules, keys, others }
    }

    fn has(&self, name: &[u8]) -> bool {
        tokens::tokens(name, self.rules).iter().any(|token| self.keys.contains(token))
            || self.others.iter().any(|id| id.stands_in(name))
    }

    fn sort(self, files: Vec<PathBuf>) -> Sorted {
        let mut sorted = Sorted { rules: self.rules, by_token: HashMap::new(), others: Vec::new() };
        for path in files {
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            for token in tokens::tokens(name, self.rules) {
                if self.keys.contains(&token) {
                    sorted.by_token.entry(token).or_default().push(path.clone());
                }
            }
            if self.others.iter().any(|id| id.stands_in(name)) {
                sorted.others.push(path);
            }
        }
        sorted
    }
}

/// The files of one root, by the tokens of their names.
struct Sorted {
    rules: Rules,
    by_token: HashMap<Vec<u8>, Vec<PathBuf>>,
    others: Vec<PathBuf>,
}

impl Sorted {
    fn of(&self, id: &CallId) -> Vec<PathBuf> {
        let key = tokens::key(id.needle(), self.rules);
        let filed = key.map_or(Some(&self.others), |key| self.by_token.get(&key));
        let stands_in =
            |path: &&PathBuf| id.stands_in(path.file_name().unwrap_or_default().as_encoded_bytes());
        filed.into_iter().flatten().filter(stands_in).cloned().collect()
    }
}
