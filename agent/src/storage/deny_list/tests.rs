//! A deny list that changes while it is in use.

use std::{fs, time::SystemTime};

use tempfile::TempDir;

use super::*;

/// Shorter than the time for which a file must stay unchanged.
const STEP: Duration = Duration::from_millis(100);
const CALL: &str = "1711444502.17";

struct Case {
    dir: TempDir,
    problems: Problems,
    now: Instant,
    watched: Watched,
}

impl Case {
    fn new(text: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("deny");
        fs::write(&path, text).unwrap();
        let settings = settings(&path);
        let problems = Problems::default();
        let watched = Watched::new(&settings, problems.clone());
        let mut case = Self { dir, problems, now: Instant::now(), watched };
        case.denies();
        case.later(2);
        case
    }

    fn write(&self, text: &str) {
        fs::write(self.path(), text).unwrap();
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("deny")
    }

    fn later(&mut self, seconds: u64) -> bool {
        self.now += Duration::from_secs(seconds);
        self.denies()
    }

    /// Whether the call of the test is denied now.
    fn denies(&mut self) -> bool {
        self.watched.look(self.now).deny_call(CALL)
    }

    fn problem(&self) -> Option<String> {
        self.problems.follow().borrow().values().next().cloned()
    }
}

fn settings(path: &Path) -> DenySettings {
    let call_ids = CallIdRules::default();
    let rules = Arc::new(read(path, &call_ids).unwrap());
    DenySettings { path: path.to_owned(), call_ids, rules }
}

#[test]
fn a_rule_holds_at_once_and_goes_when_the_file_has_stood_still() {
    let mut case = Case::new("");
    assert!(!case.denies());
    case.write(CALL);
    assert!(case.denies());
    assert!(case.later(5));
    case.write("# nothing\n");
    assert!(case.denies(), "a file that is being written may be empty for a moment");
    assert!(!case.later(1));
    case.write(CALL);
    assert!(case.denies());
    (0..20).for_each(|n| {
        case.write(&format!("1711444502.{}", n + 18));
        case.now += STEP;
        case.denies();
    });
    assert!(!case.denies(), "old rules of a file that changes all the time are dropped");
}

#[test]
fn changes_within_one_tick_of_the_clock_are_seen() {
    let mut case = Case::new("1711444502.18");
    for text in [CALL, "1711444502.19", CALL] {
        let before = fs::metadata(case.path()).unwrap().modified().unwrap();
        case.write(text);
        let file = File::options().write(true).open(case.path()).unwrap();
        file.set_modified(before).unwrap();
        case.denies();
        assert_eq!(case.later(2), text == CALL, "{text}");
    }
    // An old modification time must not make a new file pass for the old one.
    let file = File::create(case.dir.path().join("draft")).unwrap();
    fs::write(case.dir.path().join("draft"), "1711444502.20").unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    fs::rename(case.dir.path().join("draft"), case.path()).unwrap();
    case.denies();
    assert!(!case.later(2));
}

#[test]
fn an_unusable_list_keeps_the_rules_before_and_is_reported() {
    let mut case = Case::new(CALL);
    for (broken, said) in [
        (&|case: &Case| case.write("1711444502.18\nnonsense") as _, "line 2"),
        (&|case: &Case| fs::remove_file(case.path()).unwrap(), "No such file"),
        (&|case: &Case| fs::write(case.path(), b"\xff").unwrap(), "UTF-8"),
        (&|case: &Case| fs::write(case.path(), vec![b'#'; 5 << 20]).unwrap(), "large"),
    ] as [(&dyn Fn(&Case), &str); 4]
    {
        broken(&case);
        assert!(case.later(5), "{said}");
        let problem = case.problem().unwrap();
        assert!(problem.contains(said) && problem.contains("stay active"), "{problem}");
    }
    case.write(CALL);
    assert!(case.denies());
    assert_eq!(case.problem(), None);
}

#[tokio::test]
async fn a_delivery_is_taken_back_and_others_are_not() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("deny");
    fs::write(&path, "").unwrap();
    let deny = Deny::new(Problems::default());
    let place =
        |name: &str| Place { root: "/rec".into(), path: name.into(), resolved: None, call_id: String::new() };
    let before = deny.revocation(place("a-1711444502.17.wav"));
    let other = deny.revocation(place("a-1711444502.18.wav"));
    deny.configure(Some(settings(&path)));
    assert!(!deny.rules().await.deny_call(CALL));
    fs::write(&path, CALL).unwrap();
    tokio::time::timeout(Duration::from_secs(10), before.clone()).await.unwrap();
    assert!(before.has_happened() && !other.has_happened());
    assert!(deny.rules().await.deny_call(CALL));
    deny.configure(None);
    assert!(!deny.rules().await.deny_call(CALL));
    drop(deny);
    assert!(tokio::time::timeout(Duration::from_millis(20), other).await.is_err());
}
