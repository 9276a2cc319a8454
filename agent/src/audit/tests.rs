//! Tests of events on their way to the disk, and of what happens when the disk cannot be written.

use std::{
    fs,
    path::{Path, PathBuf},
};

use audiovault_protocol::http::context::Client;
use serde_json::Value;
use tempfile::TempDir;

use super::*;

struct Place {
    dir: TempDir,
    problems: Problems,
    recorder: Recorder,
}

impl Place {
    fn new() -> Self {
        let problems = Problems::default();
        let recorder = Recorder::new(problems.clone());
        Self { dir: TempDir::new().unwrap(), problems, recorder }
    }

    fn settings(&self, name: &str) -> AuditLogSettings {
        AuditLogSettings::new(self.path(name))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn push(&self, id: impl Into<String>, unauthenticated: bool) {
        let id = id.into();
        let mut event = Event::new(Kind::Search, "GET", &id);
        event.status = Some(200);
        event.found = Some(1);
        event.call_id = Some(id);
        let asker = if unauthenticated { Asker::Unauthenticated } else { Asker::Known };
        self.recorder.push(event, asker);
    }

    /// Waits until the writer does, or does not, report a problem, and returns the problem.
    async fn trouble(&self, wanted: bool) -> Option<String> {
        let mut board = self.problems.follow();
        let standing = board.wait_for(|standing| standing.is_empty() != wanted).await.unwrap();
        standing.values().next().cloned()
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn ids(path: &Path) -> Vec<String> {
    lines(path).iter().filter_map(|line| line["request_id"].as_str().map(str::to_owned)).collect()
}

/// Polls the condition, since the writer does not report single lines.
async fn until(condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(30), "it never came to that");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn nothing_is_written_without_a_configured_file() {
    let place = Place::new();
    place.push("unseen", false);
    assert!(place.recorder.begin(Kind::Search, &Method::GET, &context()).is_none());
    place.recorder.configure(Some(place.settings("a")));
    place.push("seen", false);
    place.recorder.configure(None);
    place.push("unseen", false);
    place.recorder.finish().await;
    assert_eq!(ids(&place.path("a")), ["seen"]);
}

#[tokio::test]
async fn another_path_takes_effect_and_the_same_one_again_changes_nothing() {
    let place = Place::new();
    for (name, id) in [("a", "1"), ("a", "2"), ("b", "3"), ("a", "4")] {
        place.recorder.configure(Some(place.settings(name)));
        place.push(id, false);
        until(|| ids(&place.path(name)).contains(&id.to_owned())).await;
    }
    assert_eq!(ids(&place.path("a")), ["1", "2", "4"]);
    assert_eq!(ids(&place.path("b")), ["3"]);
}

#[tokio::test]
async fn a_file_that_was_moved_away_is_begun_anew_at_the_next_event_or_reload() {
    let place = Place::new();
    let path = place.path("a");
    place.recorder.configure(Some(place.settings("a")));
    place.push("1", false);
    until(|| ids(&path) == ["1"]).await;
    fs::rename(&path, place.path("moved")).unwrap();
    place.push("2", false);
    until(|| ids(&path) == ["2"]).await;
    fs::rename(&path, place.path("moved again")).unwrap();
    place.recorder.configure(Some(place.settings("a")));
    until(|| path.exists()).await;
}

#[tokio::test]
async fn what_cannot_be_written_waits_and_what_cannot_wait_is_counted() {
    let place = Place::new();
    // Even root cannot open a file in a directory that does not exist.
    let settings = AuditLogSettings::new(place.path("none/a"));
    place.recorder.configure(Some(settings.clone()));
    let said = place.trouble(true).await.unwrap();
    assert!(said.contains("none/a") && said.contains("No such file"), "{said}");
    let many = queue::CAPACITY + 7;
    (0..many).for_each(|n| place.push(n.to_string(), false));
    fs::create_dir(place.path("none")).unwrap();
    place.trouble(false).await;
    until(|| lines(&settings.path).len() == queue::CAPACITY + 1).await;
    let written = lines(&settings.path);
    assert_eq!(written[queue::CAPACITY - 1]["request_id"], (queue::CAPACITY - 1).to_string());
    assert_eq!(
        (&written[queue::CAPACITY]["kind"], &written[queue::CAPACITY]["count"]),
        (&"lost".into(), &7.into())
    );
}

#[tokio::test]
async fn unauthenticated_clients_get_a_few_lines_and_a_count_and_others_all_of_theirs() {
    let place = Place::new();
    place.recorder.configure(Some(place.settings("a")));
    (0..500).for_each(|n| place.push(format!("unauthenticated-{n}"), true));
    (0..500).for_each(|n| place.push(format!("friend-{n}"), false));
    place.recorder.finish().await;
    let written = lines(&place.path("a"));
    assert_eq!(written.len(), 10 + 500 + 1);
    let last = written.last().unwrap();
    assert_eq!((&last["kind"], &last["count"]), (&"suppressed".into(), &490.into()));
}

#[tokio::test]
async fn what_is_under_way_at_the_end_is_written_too() {
    let place = Place::new();
    place.recorder.configure(Some(place.settings("a")));
    let mut entry = place.recorder.begin(Kind::Delivery, &Method::GET, &context()).unwrap();
    let ending = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        entry.end(Outcome::Cut);
    });
    place.recorder.finish().await;
    ending.await.unwrap();
    assert_eq!(lines(&place.path("a"))[0]["outcome"], "cut");
}

fn context() -> RequestContext {
    RequestContext {
        id: String::new(),
        client: Client::default(),
        base: "".into(),
        deadline: Duration::from_secs(1),
        lifeline: Lifeline::default(),
    }
}

/// A running delivery, of which nothing was read yet.
fn delivery(recorder: &Recorder) -> Follow {
    let entry = recorder.begin(Kind::Delivery, &Method::GET, &context()).unwrap();
    let said = Said { known: true, ..Said::default() };
    entry.answered(StatusCode::OK, &HeaderMap::new(), said).unwrap()
}

fn kinds_and_outcomes(path: &Path) -> Vec<String> {
    let word = |line: &Value, name: &str| line[name].as_str().unwrap_or("-").to_owned();
    lines(path).iter().map(|line| format!("{} {}", word(line, "kind"), word(line, "outcome"))).collect()
}

#[tokio::test]
async fn a_delivery_stands_there_from_its_beginning_and_is_closed_by_the_next_run() {
    let place = Place::new();
    let path = place.path("a");
    place.recorder.configure(Some(place.settings("a")));
    drop(delivery(&place.recorder));
    until(|| lines(&path).len() == 2).await;
    let under_way = delivery(&place.recorder);
    until(|| lines(&path).len() == 3).await;
    assert_eq!(kinds_and_outcomes(&path), ["begun -", "delivery left", "begun -"]);
    let begun = lines(&path).remove(2);
    assert_eq!((&begun["status"], &begun["octets"]), (&200.into(), &Value::Null));
    // What a killed agent leaves: the file as it is now, with the rotated files, and a torn line.
    let left = place.path("left");
    fs::copy(&path, PathBuf::from(format!("{}.1", left.display()))).unwrap();
    fs::write(&left, "{\"kind\":\"begun\",\"delivery\":\"0").unwrap();
    let next = Recorder::new(Problems::default());
    next.configure(Some(place.settings("left")));
    let cut = || lines(&left).into_iter().find(|line| line["outcome"] == "cut");
    let whole = |text: String| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    until(|| whole(fs::read_to_string(&left).unwrap()).len() == 1).await;
    fs::write(&left, format!("{}\n", whole(fs::read_to_string(&left).unwrap())[0])).unwrap();
    let closed = cut().unwrap();
    assert_eq!((&closed["kind"], &closed["delivery"]), (&"delivery".into(), &begun["delivery"]));
    assert!(closed["problem"].as_str().unwrap().contains("no end is on record"), "{closed}");
    next.finish().await;
    let last = Recorder::new(Problems::default());
    last.configure(Some(place.settings("left")));
    last.finish().await;
    assert_eq!(lines(&left).len(), 1, "closed once");
    // A run does not close its own deliveries.
    place.recorder.configure(Some(place.settings("b")));
    place.recorder.configure(Some(place.settings("a")));
    drop(under_way);
    place.recorder.finish().await;
    assert_eq!(kinds_and_outcomes(&path)[3..], ["delivery left"]);
}

#[tokio::test]
async fn a_dead_disk_does_not_keep_the_agent_from_ending() {
    let place = Place::new();
    place.recorder.configure(Some(AuditLogSettings::new(place.path("none/a"))));
    place.push("1", false);
    place.trouble(true).await;
    let began = Instant::now();
    place.recorder.finish().await;
    assert!(began.elapsed() < Duration::from_secs(1));
}
