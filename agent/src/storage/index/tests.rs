//! A search with an index finds the same as one without, after any sequence of changes.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use audiovault_agent_core::query::Query;
use jiff::Timestamp;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::{
    storage::{
        driver::FileDriver,
        root_id::RootId,
        walk::{Budget, Pace},
    },
    testing::put,
};

struct Place {
    recordings: TempDir,
    indexes: TempDir,
    below: &'static str,
    indexed: FileDriver,
    plain: FileDriver,
    /// Whether the kernel reports changes. It does not for a disk across the network.
    watched: bool,
}

fn drivers(recordings: &TempDir, indexes: &TempDir, below: &str) -> (FileDriver, FileDriver) {
    let pattern = Pattern::parse(&format!("file:{}{below}", recordings.path().display())).unwrap();
    let plain = StorageSettings::new(vec![pattern.clone()]);
    let indexed = StorageSettings { index: Some(indexes.path().to_owned()), ..plain.clone() };
    (
        FileDriver::new(RootId::FIRST, pattern.clone(), Arc::new(indexed)),
        FileDriver::new(RootId::FIRST, pattern, Arc::new(plain)),
    )
}

impl Place {
    fn new(below: &'static str) -> Self {
        let recordings = TempDir::new().unwrap();
        let indexes = TempDir::new().unwrap();
        let (indexed, plain) = drivers(&recordings, &indexes, below);
        Self { recordings, indexes, below, indexed, plain, watched: true }
    }

    /// A driver without a watch, as for a disk across the network.
    fn unwatched(below: &'static str) -> Self {
        let mut place = Self { watched: false, ..Self::new(below) };
        place.restart();
        place
    }

    fn at(&self, path: &str) -> PathBuf {
        self.recordings.path().join(path)
    }

    fn put(&self, path: &str) {
        put(self.at(path), b"sound");
    }

    fn scan(&self) -> Scanned {
        let index = self.indexed.index().unwrap();
        self.indexed.refresh(index, &Arc::default(), Pace::hurried()).unwrap()
    }

    fn restart(&mut self) {
        (self.indexed, self.plain) = drivers(&self.recordings, &self.indexes, self.below);
        if !self.watched {
            drop(self.indexed.index().unwrap().watch.set(None));
        }
    }

    fn find(driver: &FileDriver, query: &Query) -> BTreeSet<PathBuf> {
        let budget = Budget { deadline: None, cancelled: Arc::new(AtomicBool::new(false)) };
        let report = driver.search(query, &budget);
        assert!(report.fault.is_none(), "{:?}", report.fault);
        report.recordings.into_iter().map(|found| found.path).collect()
    }

    /// What both drivers find; asserts that it is the same.
    fn found(&self, query: &Query) -> Vec<String> {
        let fresh = Self::find(&self.plain, query);
        let known = Self::find(&self.indexed, query);
        assert_eq!(fresh, known, "{query:?}");
        known.into_iter().map(|path| path.display().to_string()).collect()
    }

    /// Whether the index alone answers, without reading directories; `None` if it cannot answer.
    fn by_index_alone(&self, query: &Query) -> Option<bool> {
        let ways = expand::expand(
            self.indexed.pattern(),
            query,
            &jiff::tz::TimeZone::UTC,
            jiff::SignedDuration::from_hours(4),
        );
        self.indexed.index().unwrap().known(query, &ways).map(|known| !known.may_be_newer)
    }
}

fn query(id: &str) -> Query {
    Query::new(audiovault_agent_core::call_id::CallIdRules::default().parse(id).unwrap())
}

/// A call of years ago. Once everything is scanned, a search for it reads no directories.
const OLD: &str = "1511444502.17";

fn recent() -> String {
    format!("{}.17", Timestamp::now().as_second())
}

#[test]
fn old_calls_are_answered_from_the_index_and_a_call_that_ended_a_second_ago_is_found() {
    let place = Place::new("");
    place.put(&format!("flat/out-{OLD}.wav"));
    assert_eq!(place.by_index_alone(&query(OLD)), None, "nothing is known before the first scan");
    assert_eq!(place.found(&query(OLD)), [format!("flat/out-{OLD}.wav")]);
    assert_eq!(place.scan(), Scanned { directories: 2, read: 2, added: 1, removed: 0 });
    assert_eq!(place.by_index_alone(&query(OLD)), Some(true));
    assert_eq!(place.found(&query(OLD)).len(), 1);
    assert!(place.found(&query("1511444502.18")).is_empty(), "a miss");

    let call = recent();
    assert_eq!(place.by_index_alone(&query(&call)), Some(false));
    assert!(place.found(&query(&call)).is_empty());
    place.put(&format!("flat/out-{call}.wav"));
    place.put(&format!("new/in-{call}.wav"));
    assert_eq!(place.found(&query(&call)).len(), 2);
    let uuid = "3d5f2a52-2f4c-4f4e-8d59-1c2f6b8f8a11";
    place.put(&format!("flat/{uuid}.mp3"));
    assert_eq!(place.found(&query(uuid)).len(), 1, "its time is not known");
    assert_eq!(place.scan().added, 3);
}

#[test]
fn what_is_renamed_or_gone_is_never_given_out() {
    let place = Place::unwatched("");
    place.put(&format!("a/{OLD}.wav"));
    place.put("a/1511444502.18.wav");
    place.scan();
    fs::rename(place.at(&format!("a/{OLD}.wav")), place.at(&format!("a/{OLD}.mp3"))).unwrap();
    fs::remove_file(place.at("a/1511444502.18.wav")).unwrap();
    assert_eq!(place.found(&query(OLD)), [format!("a/{OLD}.mp3")], "where it went is looked for");
    assert!(place.found(&query("1511444502.18")).is_empty());
    assert_eq!(place.scan(), Scanned { directories: 2, read: 2, added: 1, removed: 2 });
    fs::remove_dir_all(place.at("a")).unwrap();
    assert_eq!(place.scan().removed, 1);
}

#[test]
fn folders_that_are_quiet_are_not_read_again_also_after_a_restart() {
    let mut place = Place::new("/%YY/%MM/%DD");
    for day in ["2017/11/23", "2017/11/24"] {
        place.put(&format!("{day}/{OLD}.wav"));
        let directory = fs::File::open(place.at(day)).unwrap();
        directory.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
    }
    assert_eq!(place.scan().read, 2);
    assert_eq!(place.scan().read, 0);
    place.restart();
    assert_eq!(place.by_index_alone(&query(OLD)), None, "not opened yet");
    assert_eq!(place.scan(), Scanned { directories: 2, ..Scanned::default() });
    assert_eq!(place.found(&query(OLD)), [format!("2017/11/23/{OLD}.wav")], "only that day is asked for");
}

#[test]
fn a_directory_with_writes_all_day_is_not_read_again_and_again() {
    let place = Place::new("");
    place.put(&format!("flat/out-{OLD}.wav"));
    place.scan();
    for n in 0..3 {
        let call = format!("{}.{n}", Timestamp::now().as_second());
        place.put(&format!("flat/out-{call}.wav"));
        place.put(&format!("flat/new-{n}/in-{call}.wav"));
        assert_eq!(place.found(&query(&call)).len(), 2);
        assert_eq!(
            place.scan(),
            Scanned { directories: 3 + n, read: 1, added: 2, removed: 0 },
            "the new one alone"
        );
        assert_eq!(place.found(&query(&call)).len(), 2);
    }
    fs::remove_file(place.at(&format!("flat/out-{OLD}.wav"))).unwrap();
    assert_eq!(place.scan(), Scanned { directories: 5, read: 0, added: 0, removed: 1 });
}

#[test]
fn tenants_stay_apart() {
    let place = Place::new("/%TE/%YY");
    place.put(&format!("acme/2017/{OLD}.wav"));
    place.put(&format!("other/2017/{OLD}.wav"));
    place.scan();
    let of = |tenant: Option<&str>| place.found(&Query { tenant: tenant.map(str::to_owned), ..query(OLD) });
    assert_eq!(of(Some("acme")), [format!("acme/2017/{OLD}.wav")]);
    assert!(of(None).is_empty() && of(Some("third")).is_empty());
}

#[test]
fn a_damaged_file_is_built_anew_and_one_of_another_configuration_too() {
    let mut place = Place::new("");
    for n in 0..2000 {
        place.put(&format!("{}/1511444502.{n}.wav", n % 7));
    }
    place.scan();
    let file = place.indexed.index().unwrap().file().to_owned();
    place.restart();
    let whole = fs::read(&file).unwrap();
    let damage: [fn(&mut Vec<u8>); 4] = [
        |bytes| bytes.truncate(bytes.len() / 2),
        |bytes| bytes.iter_mut().skip(4096).step_by(97).for_each(|byte| *byte ^= 0x55),
        |bytes| bytes.fill(0),
        |bytes| *bytes = b"something else".to_vec(),
    ];
    for damage in damage {
        let mut bytes = whole.clone();
        damage(&mut bytes);
        fs::write(&file, bytes).unwrap();
        assert_eq!(place.scan().added, 2000);
        assert_eq!(place.found(&query("1511444502.1234")).len(), 1);
        place.restart();
    }
    let about = Index {
        about: "other".to_owned(),
        ..Index::new(place.indexes.path(), place.plain.pattern(), &StorageSettings::new(vec![]))
    };
    assert!(about.opened().unwrap().reading().unwrap().scanned().unwrap().is_none());
}

#[test]
fn an_index_that_another_process_keeps_is_left_to_it() {
    let place = Place::new("");
    place.scan();
    let file = place.indexed.index().unwrap().file();
    // Opens the same file a second time, as another process would.
    assert!(matches!(Store::open(file, "about"), Err(StoreError::Kept(_))));
}

#[test]
fn a_scan_that_is_ended_leaves_what_it_saw_and_the_next_one_ends_it() {
    let place = Place::new("");
    place.put(&format!("a/{OLD}.wav"));
    let index = place.indexed.index().unwrap();
    let ended = place.indexed.refresh(index, &Arc::new(AtomicBool::new(true)), Pace::hurried());
    assert!(ended.is_err());
    assert_eq!(place.by_index_alone(&query(OLD)), None, "it is not finished");
    assert_eq!(place.found(&query(OLD)).len(), 1);
    assert_eq!(place.scan().added, 1);
}

#[derive(Debug, Clone)]
enum Event {
    Create(usize, usize),
    Rename(usize, usize, usize),
    Delete(usize, usize),
    RemoveFolder(usize),
    MoveFolder(usize),
    /// Time passes: the directory was last changed long ago.
    Age(usize),
    Scan,
    Restart,
}

const DIRECTORIES: [&str; 4] = ["", "a", "a/b", "c"];

fn event() -> impl Strategy<Value = Event> {
    let directory = 0..DIRECTORIES.len();
    let name = 0..6_usize;
    prop_oneof![
        4 => (directory.clone(), name.clone()).prop_map(|(directory, name)| Event::Create(directory, name)),
        2 => (directory.clone(), name.clone(), directory.clone()).prop_map(|(from, name, to)| Event::Rename(from, name, to)),
        2 => (directory.clone(), name).prop_map(|(directory, name)| Event::Delete(directory, name)),
        1 => (1..DIRECTORIES.len()).prop_map(Event::RemoveFolder),
        1 => (1..DIRECTORIES.len()).prop_map(Event::MoveFolder),
        3 => directory.prop_map(Event::Age),
        2 => Just(Event::Scan),
        1 => Just(Event::Restart),
    ]
}

/// Even numbers are calls of years ago, odd numbers are calls of now.
fn name(n: usize, now: i64) -> String {
    if n.is_multiple_of(2) { format!("1511444502.{n}") } else { format!("{now}.{n}") }
}

fn happen(place: &mut Place, event: &Event, (now, step): (i64, u64)) {
    let path =
        |directory: usize, n: usize| place.at(DIRECTORIES[directory]).join(format!("x-{}.wav", name(n, now)));
    match *event {
        Event::Create(directory, n) => put(path(directory, n), b"sound"),
        Event::Rename(from, n, to) => {
            fs::create_dir_all(place.at(DIRECTORIES[to])).unwrap();
            fs::rename(path(from, n), path(to, n)).unwrap_or_default();
        }
        Event::Delete(directory, n) => fs::remove_file(path(directory, n)).unwrap_or_default(),
        Event::RemoveFolder(directory) => {
            fs::remove_dir_all(place.at(DIRECTORIES[directory])).unwrap_or_default()
        }
        Event::MoveFolder(directory) => {
            fs::rename(place.at(DIRECTORIES[directory]), place.at(&format!("moved-{step}")))
                .unwrap_or_default();
        }
        Event::Age(directory) => {
            if let Ok(directory) = fs::File::open(place.at(DIRECTORIES[directory])) {
                let long_ago = UNIX_EPOCH + Duration::from_secs(now.unsigned_abs() - 100_000 + step);
                directory.set_modified(long_ago).unwrap();
            }
        }
        Event::Scan => drop(place.scan()),
        Event::Restart => place.restart(),
    }
}

/// Makes a modification time as coarse as a file system's clock that ticks every two seconds.
fn coarsen(directory: &Path) {
    if let Ok(directory) = fs::File::open(directory) {
        let modified = directory.metadata().unwrap().modified().unwrap().duration_since(UNIX_EPOCH).unwrap();
        directory.set_modified(UNIX_EPOCH + Duration::from_secs(modified.as_secs() / 2 * 2)).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_index_always_answers_like_a_fresh_search(
        events in prop::collection::vec(event(), 1..40),
        coarse: bool,
        watched: bool,
    ) {
        let mut place = if watched { Place::new("") } else { Place::unwatched("") };
        let now = Timestamp::now().as_second();
        for (step, event) in events.iter().enumerate() {
            happen(&mut place, event, (now, step as u64));
            if coarse {
                DIRECTORIES.iter().for_each(|directory| coarsen(&place.at(directory)));
            }
            for n in [1, 3, 5] {
                place.found(&query(&name(n, now)));
            }
        }
        place.scan();
        for n in 0..6 {
            place.found(&query(&name(n, now)));
        }
        let listed = place.indexed.index().unwrap().opened().unwrap().reading().unwrap().listed();
        prop_assert!(listed.iter().all(|path| place.at(path.to_str().unwrap()).exists()), "{:?}", listed);
    }
}
