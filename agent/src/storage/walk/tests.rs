//! The bounds of a walk, and what a visitor gets.

use std::collections::BTreeSet;

use cap_std::ambient_authority;
use tempfile::TempDir;

use super::*;
use crate::testing::put;

/// Writes down what it meets.
#[derive(Default)]
struct Notes {
    entered: Vec<(PathBuf, usize)>,
    recordings: BTreeSet<PathBuf>,
    left: Vec<(PathBuf, bool)>,
    /// The subdirectories of this directory need not be read.
    known: Option<(PathBuf, Vec<OsString>)>,
    /// Is set at the first recording.
    cancels: Option<Arc<AtomicBool>>,
}

impl Visitor for Notes {
    type Reading = ();
    type Error = Infallible;

    fn enter(
        &mut self,
        directory: &OpenDirectory<'_>,
        depth: usize,
    ) -> Result<Entered<()>, VisitError<Infallible>> {
        self.entered.push((directory.path.to_owned(), depth));
        let known = self.known.take_if(|(path, _)| path == directory.path);
        Ok(known.map_or(Entered::Read(()), |(_, below)| Entered::Known(below)))
    }

    fn recording(
        &mut self,
        directory: &OpenDirectory<'_>,
        (): &mut (),
        name: OsString,
    ) -> Result<(), VisitError<Infallible>> {
        self.recordings.insert(directory.path.join(name));
        if let Some(cancelled) = &self.cancels {
            cancelled.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn leave(
        &mut self,
        directory: &OpenDirectory<'_>,
        (): (),
        _below: &[OsString],
        whole: bool,
    ) -> Result<(), Infallible> {
        self.left.push((directory.path.to_owned(), whole));
        Ok(())
    }
}

/// Fails at the first directory below the start.
struct Failing(u32);

impl Visitor for Failing {
    type Reading = ();
    type Error = &'static str;

    fn enter(
        &mut self,
        _directory: &OpenDirectory<'_>,
        depth: usize,
    ) -> Result<Entered<()>, VisitError<&'static str>> {
        self.0 += 1;
        if depth == 0 { Ok(Entered::Read(())) } else { Err(VisitError::Fatal("broken")) }
    }

    fn recording(
        &mut self,
        _directory: &OpenDirectory<'_>,
        (): &mut (),
        _name: OsString,
    ) -> Result<(), VisitError<&'static str>> {
        Ok(())
    }
}

fn with_walker<T>(dir: &TempDir, budget: &Budget, then: impl FnOnce(Walker<'_>) -> T) -> T {
    let root = Dir::open_ambient_dir(dir.path(), ambient_authority()).unwrap();
    let is_wav = |name: &[u8]| name.ends_with(b".wav");
    let names = Names { recording: &is_wav, skipped: &is_wav };
    then(Walker { root: &root, budget, names, pace: Pace::hurried() })
}

fn walk(dir: &TempDir, starts: &[&str], budget: &Budget, notes: &mut Notes) -> Walked {
    let starts = starts.iter().map(PathBuf::from).collect();
    let Ok(walked) = with_walker(dir, budget, |walker| walker.walk(starts, notes));
    walked
}

#[test]
fn a_walk_goes_as_deep_as_the_bound_says() {
    let dir = TempDir::new().unwrap();
    put(dir.path().join("a/".repeat(MAX_DEPTH + 3)).join("a.wav"), b"");
    let mut notes = Notes::default();
    let walked = walk(&dir, &[""], &Budget::until(&Arc::default()), &mut notes);
    assert_eq!(notes.entered.last().unwrap().1, MAX_DEPTH);
    assert_eq!((walked.seen.len(), notes.recordings.len()), (MAX_DEPTH + 1, 0));
    assert!(!walked.shortfall.out_of_time && walked.shortfall.unreadable.is_none());
}

#[test]
fn a_path_is_entered_once_and_one_that_does_not_exist_is_not_seen() {
    let dir = TempDir::new().unwrap();
    put(dir.path().join("a/b/c.wav"), b"");
    let known = vec!["b".into(), "gone".into(), "b".into()];
    let mut notes = Notes { known: Some(("a".into(), known)), ..Notes::default() };
    let budget = Budget::until(&Arc::default());
    let walked = walk(&dir, &["a", "none", "a"], &budget, &mut notes);
    assert_eq!(notes.entered, [("a".into(), 0), ("a/b".into(), 1)]);
    assert_eq!(notes.left, [("a/b".into(), true)], "what is known is not read");
    assert_eq!(walked.seen, HashSet::from(["a".into(), "a/b".into()]));
    assert!(walked.shortfall.unreadable.is_none());
}

#[test]
fn a_cancelled_walk_ends_within_a_directory_and_says_so() {
    let dir = TempDir::new().unwrap();
    for name in ["a.wav", "b.wav", "c/d.wav"] {
        put(dir.path().join(name), b"");
    }
    let cancelled = Arc::default();
    let mut notes = Notes { cancels: Some(Arc::clone(&cancelled)), ..Notes::default() };
    let walked = walk(&dir, &["", "none"], &Budget::until(&cancelled), &mut notes);
    assert!(walked.shortfall.out_of_time);
    assert_eq!((notes.recordings.len(), notes.left.len()), (1, 1));
    assert!(!notes.left[0].1, "not read to its end");
    let late = Budget { deadline: Some(Instant::now()), cancelled: Arc::default() };
    let mut notes = Notes::default();
    assert!(walk(&dir, &[""], &late, &mut notes).shortfall.out_of_time);
    assert_eq!(notes.entered, []);
}

#[test]
fn several_readers_find_what_one_finds() {
    let dir = TempDir::new().unwrap();
    for n in 0..60 {
        put(dir.path().join(format!("{}/{}/{n}.wav", n % 3, n % 5)), b"");
    }
    let budget = Budget::until(&Arc::default());
    let mut alone = Notes::default();
    let walked = walk(&dir, &["0", "1", "2"], &budget, &mut alone);
    let starts = ["0", "1", "2"].map(PathBuf::from).to_vec();
    let (readers, together): (Vec<Notes>, _) =
        with_walker(&dir, &budget, |walker| walker.walk_in_parallel(starts));
    assert!(readers.len() <= READERS);
    let found: BTreeSet<PathBuf> = readers.into_iter().flat_map(|notes| notes.recordings).collect();
    assert_eq!((found.len(), &found), (60, &alone.recordings));
    assert_eq!(together.seen, walked.seen);
}

#[test]
fn an_error_of_the_visitor_ends_the_walk() {
    let dir = TempDir::new().unwrap();
    put(dir.path().join("a/a.wav"), b"");
    put(dir.path().join("b/b.wav"), b"");
    let mut failing = Failing(0);
    let budget = Budget::until(&Arc::default());
    let ended = with_walker(&dir, &budget, |walker| walker.walk(vec![PathBuf::new()], &mut failing));
    assert_eq!((ended.err(), failing.0), (Some("broken"), 2));
}
