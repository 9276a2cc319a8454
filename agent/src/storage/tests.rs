//! Searches in every known layout, among other files that real disks contain.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::symlink},
    path::Path,
    time::SystemTime,
};

use audiovault_agent_core::testing::wav_header;
use tempfile::TempDir;

use super::*;
use crate::{
    storage::open::VALIDATOR_AGE,
    testing::{put, put_aged, wav},
};

const CALL: &str = "1711444502.17";
const UUID: &str = "3d5f2a52-2f4c-4f4e-8d59-1c2f6b8f8a11";

fn settings(patterns: &[String]) -> StorageSettings {
    let roots = patterns.iter().map(|pattern| Pattern::parse(pattern).unwrap()).collect();
    StorageSettings { zone: TimeZone::get("Europe/Madrid").unwrap(), ..StorageSettings::new(roots) }
}

fn storage(dir: &TempDir, below: &str) -> RecordingStorage {
    RecordingStorage::new(settings(&[format!("file:{}{below}", dir.path().display())]))
}

fn query(id: &str) -> Query {
    Query::new(CallIdRules::default().parse(id).unwrap())
}

async fn names(storage: &RecordingStorage, query: Query) -> Vec<String> {
    let findings = storage.find(query, Scope::Everything).await;
    assert!(findings.complete, "{:?}", storage.health());
    findings.recordings.iter().map(|found| found.name().to_string_lossy().into_owned()).collect()
}

#[tokio::test]
async fn freepbx_keeps_calls_by_day() {
    let dir = TempDir::new().unwrap();
    let day = dir.path().join("2024/03/26");
    put(day.join("in-600-34911223344-20240326-101502-1711444502.17.wav"), &wav(1));
    put(day.join("q-400-34911223344-20240326-101502-1711444502.170.wav"), &wav(1));
    put(day.join("out-11711444502.17.wav"), &wav(1));
    put(day.join("internal-100-101-20240326-101502-1711444502.18.WAV"), &wav(1));
    let storage = storage(&dir, "/%YY/%MM/%DD");
    assert_eq!(names(&storage, query(CALL)).await, ["in-600-34911223344-20240326-101502-1711444502.17.wav"]);
    assert_eq!(names(&storage, query("1711444502_18")).await.len(), 1, "wav49 is stored as .WAV");
    assert_eq!(names(&storage, query("pbx1-1711444502.17")).await.len(), 1, "a server is not searched for");
}

#[tokio::test]
async fn fusionpbx_keeps_tenants_apart() {
    let dir = TempDir::new().unwrap();
    put(dir.path().join(format!("a.example/archive/2024/Mar/26/{UUID}.mp3")), b"mp3");
    put(dir.path().join(format!("b.example/archive/2024/Mar/26/agent_{UUID}.wav")), &wav(1));
    let storage = storage(&dir, "/%TE/archive/%YY/%ME/%DD");
    let mut asked = query(UUID);
    assert!(names(&storage, asked.clone()).await.is_empty(), "a search without a tenant finds nothing");
    asked.tenant = Some("a.example".to_owned());
    assert_eq!(
        names(&storage, asked.clone()).await,
        [format!("{UUID}.mp3")],
        "without a start any date matches"
    );
    asked.tenant = Some("b.example".to_owned());
    assert_eq!(names(&storage, asked).await.len(), 1);
}

#[tokio::test]
async fn mikopbx_keeps_hours_and_the_hour_before_is_looked_at() {
    let dir = TempDir::new().unwrap();
    // The call began at 10:15; its recording was stored in the directory of the hour in which it was written.
    put(dir.path().join("2024/03/26/11/mikopbx-1711444502.17_aB3dE.webm"), b"webm");
    put(dir.path().join("2024/03/26/15/mikopbx-1711444502.17_late.webm"), b"webm");
    let found = names(&storage(&dir, "/%YY/%MM/%DD/%HH"), query(CALL)).await;
    assert_eq!(found, ["mikopbx-1711444502.17_aB3dE.webm"]);
}

#[tokio::test]
async fn other_layouts_are_searched_all_the_way_down() {
    let dir = TempDir::new().unwrap();
    put(dir.path().join("yeastar/20240326101502-1711444502_17-100-200-Inbound.wav"), &wav(1));
    put(dir.path().join("magnus/user7/1711444502.17.wav"), &wav(1));
    put(dir.path().join("plain/PRE-1711444502.17-in.wav"), &wav(1));
    put(dir.path().join("plain/PRE-1711444502.17-out.wav"), &wav(1));
    let found = names(&storage(&dir, ""), query(CALL)).await;
    assert_eq!(found.len(), 4, "the two sides of a call are two: {found:?}");
}

#[tokio::test]
async fn servers_queues_and_agents_choose_directories() {
    let dir = TempDir::new().unwrap();
    put(dir.path().join("pbx1/sales/101/1711444502.17.wav"), &wav(1));
    put(dir.path().join("pbx2/sales/102/1711444502.17.wav"), &wav(2));
    let storage = storage(&dir, "/%SE/%QU/%AG");
    assert_eq!(names(&storage, query(CALL)).await.len(), 2);
    let one = storage.find(query("pbx2-1711444502.17"), Scope::Everything).await;
    assert_eq!(one.recordings[0].path, Path::new("pbx2/sales/102/1711444502.17.wav"));
    let mut asked = query(CALL);
    asked.agent = Some("Agent/101".to_owned());
    assert_eq!(names(&storage, asked).await.len(), 1);
}

#[tokio::test]
async fn debris_of_appliances_is_no_recording() {
    let dir = TempDir::new().unwrap();
    for junk in [
        "._x-1711444502.17.wav",
        ".x-1711444502.17.wav",
        "#recycle/1711444502.17.wav",
        "@Recycle/1711444502.17.wav",
        "@eaDir/1711444502.17.wav",
        "@Recently-Snapshot/1711444502.17.wav",
        ".snapshot/1711444502.17.wav",
        "lost+found/1711444502.17.wav",
        "a-1711444502.17.wav/1711444502.17.wav",
        "1711444502.17.txt",
        "1711444502.17",
    ] {
        put(dir.path().join(junk), &wav(1));
    }
    assert!(names(&storage(&dir, ""), query(CALL)).await.is_empty());
    assert!(names(&storage(&dir, "/%QU"), query(CALL)).await.is_empty(), "nor when a level is guessed");
}

#[tokio::test]
async fn twins_are_one_and_the_better_one() {
    let dir = TempDir::new().unwrap();
    put(dir.path().join("a-1711444502.17.wav"), &wav(1));
    put(dir.path().join("a-1711444502.17.mp3"), b"mp3");
    put(dir.path().join("b-1711444502.17.WAV"), &wav(1));
    put(dir.path().join("b-1711444502.17.mp3"), b"");
    let found = names(&storage(&dir, ""), query(CALL)).await;
    assert_eq!(found, ["a-1711444502.17.mp3", "b-1711444502.17.WAV"], "an empty twin never wins");
}

#[tokio::test]
async fn parts_are_ordered_by_time_then_name() {
    let dir = TempDir::new().unwrap();
    let age = Duration::from_secs;
    put_aged(dir.path().join("z-1711444502.17.wav"), &wav(1), age(900));
    let same = SystemTime::now() - age(600);
    for part in ["b-1711444502.17.wav", "a-1711444502.17.wav"] {
        put(dir.path().join(part), &wav(1));
        fs::File::options().write(true).open(dir.path().join(part)).unwrap().set_modified(same).unwrap();
    }
    let found = names(&storage(&dir, ""), query(CALL)).await;
    assert_eq!(found, ["z-1711444502.17.wav", "a-1711444502.17.wav", "b-1711444502.17.wav"]);
}

#[tokio::test]
async fn a_header_shows_duration_emptiness_and_growth() {
    let dir = TempDir::new().unwrap();
    put(dir.path().join("1711444502.1.wav"), &wav(3));
    put(dir.path().join("1711444502.2.wav"), &wav_header(0));
    put_aged(dir.path().join("1711444502.3.wav"), &wav(1), Duration::ZERO);
    let storage = storage(&dir, "");
    let one = async |id: &str| storage.find(query(id), Scope::Everything).await.recordings.remove(0);
    let whole = one("1711444502.1").await;
    assert_eq!(whole.duration, Some(Duration::from_secs(3)));
    assert!(!whole.empty && !whole.growing);
    assert!(one("1711444502.2").await.empty);
    assert!(one("1711444502.3").await.growing);
}

#[tokio::test]
async fn names_need_not_be_text() {
    let dir = TempDir::new().unwrap();
    let name = OsStr::from_bytes(b"in-\xff\xfe-1711444502.17.wav");
    put(dir.path().join(OsStr::from_bytes(b"q\xe9")).join(name), &wav(1));
    let storage = storage(&dir, "");
    let found = storage.find(query(CALL), Scope::Everything).await.recordings.remove(0);
    assert_eq!(found.name(), name);
    assert_eq!(storage.open(found.root, &found.path).unwrap().size, 44 + 16_000);
}

#[tokio::test]
async fn links_that_stay_within_are_followed_and_loops_end() {
    let dir = TempDir::new().unwrap();
    put(dir.path().join("real/1711444502.17.wav"), &wav(1));
    symlink("real", dir.path().join("by-name")).unwrap();
    symlink("..", dir.path().join("real/up")).unwrap();
    symlink("loop", dir.path().join("loop")).unwrap();
    symlink("gone", dir.path().join("dangling-1711444502.17.wav")).unwrap();
    assert_eq!(names(&storage(&dir, ""), query(CALL)).await, ["1711444502.17.wav"]);
}

#[tokio::test]
async fn nothing_outside_the_root_is_found_or_opened() {
    let outside = TempDir::new().unwrap();
    put(outside.path().join("1711444502.17.wav"), &wav(1));
    let dir = TempDir::new().unwrap();
    symlink(outside.path(), dir.path().join("away")).unwrap();
    symlink(outside.path().join("1711444502.17.wav"), dir.path().join("x-1711444502.17.wav")).unwrap();
    let back = Path::new("..").join(outside.path().file_name().unwrap());
    symlink(&back, dir.path().join("sideways")).unwrap();
    assert!(names(&storage(&dir, ""), query(CALL)).await.is_empty());
    assert!(names(&storage(&dir, "/%QU"), query(CALL)).await.is_empty());
    let storage = storage(&dir, "");
    let absolute = outside.path().join("1711444502.17.wav");
    for path in [
        Path::new("x-1711444502.17.wav"),
        Path::new("away/1711444502.17.wav"),
        &back.join("1711444502.17.wav"),
        &absolute,
        Path::new(""),
        Path::new("."),
    ] {
        assert!(matches!(storage.open(RootId::FIRST, path), Err(OpenError::Gone(_))), "{}", path.display());
    }
    assert!(matches!(storage.open(RootId::at(9), Path::new("a.wav")), Err(OpenError::Gone(_))));
}

#[tokio::test]
async fn only_regular_files_are_opened_and_a_pipe_does_not_block() {
    let dir = TempDir::new().unwrap();
    let pipe = dir.path().join("1711444502.17.wav");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    fs::create_dir(dir.path().join("d.wav")).unwrap();
    let storage = storage(&dir, "");
    assert!(names(&storage, query(CALL)).await.is_empty());
    assert!(matches!(storage.open(RootId::FIRST, Path::new("1711444502.17.wav")), Err(OpenError::Gone(_))));
    assert!(matches!(storage.open(RootId::FIRST, Path::new("d.wav")), Err(OpenError::Gone(_))));
}

#[tokio::test]
async fn a_missing_root_is_not_an_empty_one() {
    let dir = TempDir::new().unwrap();
    let storage = storage(&dir, "/nas");
    let findings = storage.find(query(CALL), Scope::Everything).await;
    assert!(!findings.complete && findings.recordings.is_empty());
    assert_eq!(findings.looked_at, [LookedAt { directory: dir.path().join("nas"), exists: false }]);
    assert!(storage.health()[0].degraded.is_some());
    put(dir.path().join("nas/1711444502.17.wav"), &wav(1));
    assert_eq!(names(&storage, query(CALL)).await.len(), 1, "it recovers by itself");
    assert!(storage.health()[0].degraded.is_none());
}

#[tokio::test]
async fn storage_that_does_not_answer_is_not_asked() {
    let dead = TempDir::new().unwrap();
    let alive = TempDir::new().unwrap();
    put(dead.path().join("a-1711444502.17.wav"), &wav(1));
    put(alive.path().join("b-1711444502.18.wav"), &wav(1));
    let storage =
        RecordingStorage::new(settings(&[&dead, &alive].map(|dir| format!("file:{}", dir.path().display()))));
    storage.pool(RootId::FIRST).set_stalled(true);
    let findings = storage.find(query("1711444502.18"), Scope::Everything).await;
    assert!(findings.recordings.len() == 1 && !findings.complete, "{findings:?}");
    assert!(storage.health()[0].degraded.as_ref().unwrap().contains("does not answer"));
    let open = async || storage.with_open(RootId::FIRST, "a-1711444502.17.wav".into(), drop).await;
    assert!(matches!(open().await, Err(OpenError::Stalled)));
    storage.probe().await;
    assert!(storage.health()[0].degraded.is_none(), "it answers");
    assert_eq!(names(&storage, query(CALL)).await, ["a-1711444502.17.wav"]);
    open().await.unwrap();
}

#[tokio::test]
async fn a_root_without_its_sentinel_is_not_mounted() {
    let dir = TempDir::new().unwrap();
    put(dir.path().join("1711444502.17.wav"), &wav(1));
    let pattern = format!("file:{}", dir.path().display());
    let guarded = RecordingStorage::new(StorageSettings {
        sentinel: Some(".mounted".to_owned()),
        ..settings(&[pattern])
    });
    assert!(!guarded.find(query(CALL), Scope::Everything).await.complete);
    assert!(matches!(
        guarded.open(RootId::FIRST, Path::new("1711444502.17.wav")),
        Err(OpenError::Unreadable(_))
    ));
    put(dir.path().join(".mounted"), b"");
    assert_eq!(names(&guarded, query(CALL)).await.len(), 1);
}

#[tokio::test]
async fn drivers_are_asked_in_order_or_all() {
    let first = TempDir::new().unwrap();
    let second = TempDir::new().unwrap();
    put(first.path().join("a-1711444502.17.wav"), &wav(1));
    put(second.path().join("b-1711444502.17.wav"), &wav(1));
    put(second.path().join("b-1711444502.18.wav"), &wav(1));
    let patterns = [first.path(), second.path()].map(|path| format!("file:{}", path.display()));
    let in_order = RecordingStorage::new(settings(&patterns));
    assert_eq!(names(&in_order, query(CALL)).await, ["a-1711444502.17.wav"]);
    assert_eq!(names(&in_order, query("1711444502.18")).await, ["b-1711444502.18.wav"]);
    let all = RecordingStorage::new(StorageSettings { mode: SearchMode::All, ..settings(&patterns) });
    assert_eq!(names(&all, query(CALL)).await, ["a-1711444502.17.wav", "b-1711444502.17.wav"]);
}

#[tokio::test]
async fn a_tenants_view_has_only_drivers_that_keep_tenants_apart() {
    let dir = TempDir::new().unwrap();
    put(dir.path().join("flat/1711444502.17.wav"), &wav(1));
    put(dir.path().join("by/acme/1711444502.17.wav"), &wav(1));
    let root = dir.path().display();
    let both = settings(&[format!("file:{root}/flat"), format!("file:{root}/by/%TE")]);
    let storage = RecordingStorage::new(StorageSettings { mode: SearchMode::All, ..both });
    let mut asked = query(CALL);
    asked.tenant = Some("acme".to_owned());
    assert_eq!(storage.find(asked.clone(), Scope::Everything).await.recordings.len(), 2);
    let own = storage.find(asked, Scope::OneTenant).await;
    assert_eq!(own.recordings.len(), 1);
    assert_eq!(own.recordings[0].path, Path::new("acme/1711444502.17.wav"));
}

#[tokio::test]
async fn a_search_ends_with_its_deadline_and_says_so() {
    let dir = TempDir::new().unwrap();
    put(dir.path().join("1711444502.17.wav"), &wav(1));
    let pattern = format!("file:{}", dir.path().display());
    let hasty = RecordingStorage::new(StorageSettings { deadline: Duration::ZERO, ..settings(&[pattern]) });
    let findings = hasty.find(query(CALL), Scope::Everything).await;
    assert!(!findings.complete);
    assert!(hasty.health()[0].degraded.as_ref().unwrap().contains("too long"));
}

#[test]
fn validators_are_withheld_while_a_file_is_young() {
    let dir = TempDir::new().unwrap();
    put_aged(dir.path().join("a.wav"), &wav(1), Duration::from_secs(10));
    let open = RecordingStorage::new(settings(&[format!("file:{}", dir.path().display())]))
        .open(RootId::FIRST, Path::new("a.wav"))
        .unwrap();
    let after = |age| open.modified + age;
    assert_eq!(open.etag(after(VALIDATOR_AGE)), open.etag(after(VALIDATOR_AGE * 2)));
    assert!(open.etag(after(VALIDATOR_AGE)).is_some());
    assert_eq!(open.etag(after(VALIDATOR_AGE - Duration::from_nanos(1))), None);
    assert_eq!(open.etag(open.modified - Duration::from_secs(60)), None, "nor for a file from the future");
}
