//! A path in a root that is changed to lead elsewhere, or that is not a file.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use harness::{
    agent::{Agent, AgentOptions},
    client::{body, first_link, names, search, search_with, send},
    matrix,
    recordings::{noise, write},
    relay::Relay,
    stalling::Stalling,
};
use rustix::fs::{CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};

use crate::setting::Setting;

/// Downloads and searches while their files are swapped.
const TRIES: usize = 300;

/// Swaps a directory with a link that leads out of the root, and back, without end.
fn keep_swapping(root: &Path, stop: &AtomicBool) {
    let (calls, spare) = (root.join("calls"), root.join(".spare"));
    while !stop.load(Ordering::Relaxed) {
        renameat_with(CWD, &calls, CWD, &spare, RenameFlags::EXCHANGE).unwrap();
    }
}

#[tokio::test]
async fn a_link_that_is_swapped_under_load_never_leads_out_of_the_root() {
    let setting = Setting::new(Relay::start().await).await;
    let place = setting.recordings.path();
    let (file, call) = ("in-1711441902.30.mp3", "1711441902.30");
    let (right, wrong) = (noise(20_000, 1), noise(20_000, 2));
    write(&place.join("root/calls"), file, &right);
    write(&place.join("outside"), file, &wrong);
    let root = place.join("root");
    symlink("../outside", root.join(".spare")).unwrap();
    let options = AgentOptions::new(&root);
    let _agent = Agent::start(&setting.relay, &setting.site, options).await;
    let stop = Arc::new(AtomicBool::new(false));
    let swapper = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || keep_swapping(&root, &stop)
    });
    let (mut served, mut refused) = (0, 0);
    for _ in 0..TRIES {
        let found = search(&setting.client, &setting.site, call, &[]).await;
        if found["files"][0]["url"].is_null() {
            refused += 1;
            continue;
        }
        let (status, bytes) = body(send(setting.client.get(first_link(&found))).await).await;
        if status == 200 {
            assert!(bytes == right, "a file outside of the root was delivered");
            served += 1;
        } else {
            assert!(matches!(status, 404 | 410), "{status}");
            refused += 1;
        }
    }
    stop.store(true, Ordering::Relaxed);
    swapper.join().unwrap();
    assert!(served > 0, "{refused} refused");
    let promise = "a file outside of the root is never found and never delivered";
    matrix::row(
        "agent",
        "symbolic link swapped under load",
        promise,
        format!("{served} right, {refused} refused, 0 wrong"),
    );
}

#[tokio::test]
async fn things_that_are_not_files_are_no_recordings_and_delay_no_search() {
    let setting = Setting::new(Relay::start().await).await;
    let root = setting.recordings.path();
    let make = |name: &str, kind: FileType, device: u64| {
        mknodat(CWD, root.join(name), kind, Mode::from_raw_mode(0o666), device).is_ok()
    };
    assert!(make("in-1711441902.31.wav", FileType::Fifo, 0));
    assert!(make("in-1711441902.32.wav", FileType::Socket, 0));
    fs::create_dir(root.join("in-1711441902.33.wav")).unwrap();
    // /dev/zero; only root can make another one.
    let device = make("in-1711441902.34.wav", FileType::CharacterDevice, rustix::fs::makedev(1, 5));
    symlink("/dev/zero", root.join("in-1711441902.35.wav")).unwrap();
    symlink("in-1711441902.36.wav", root.join("in-1711441902.36.wav")).unwrap();
    let longest = format!("in-1711441902.37-{}.wav", "x".repeat(255 - 21));
    assert_eq!(longest.len(), 255);
    write(root, &longest, &noise(1_000, 1));
    write(root, "in-1711441902.38-a\r\nset-cookie: b=\"c\".wav", &noise(1_000, 2));
    let _agent = setting.agent().await;
    for number in 31..=36 {
        let found = search(&setting.client, &setting.site, &format!("1711441902.{number}"), &[]).await;
        assert!(names(&found).is_empty(), "{number}: {found}");
        setting.search().await;
    }
    for number in [37, 38] {
        let found = search(&setting.client, &setting.site, &format!("1711441902.{number}"), &[]).await;
        let answer = send(setting.client.get(first_link(&found))).await;
        assert_eq!((answer.status().as_u16(), answer.headers().contains_key("set-cookie")), (200, false));
        assert_eq!(answer.bytes().await.unwrap().len(), 1_000);
    }
    for call in [
        "../../etc/passwd",
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e/%2e%2e/etc/passwd",
        "1711441902.1/../x",
        "\0",
        "*",
    ] {
        let status = search_with(&setting.client, &setting.site, call, &[]).await.status().as_u16();
        assert_eq!(status, 400, "{call:?}");
    }
    let promise = "never found, no search waits; long names and line breaks in names do no harm";
    let kinds = if device {
        "FIFO, socket, directory, device, links to them"
    } else {
        "FIFO, socket, directory, links"
    };
    matrix::row(
        "agent",
        "names of recordings on things that are not files",
        promise,
        format!("none of {kinds} found"),
    );
}

#[tokio::test]
async fn a_mount_that_ignores_case_shows_every_recording_once_by_the_name_that_it_has() {
    let (call, bytes) = ("1711441902.40", noise(20_000, 4));
    let name = format!("IN-{call}.MP3");
    let Some(mount) = Stalling::mount(&[(name.clone(), bytes.clone())]) else { return };
    assert!(mount.place().join(name.to_lowercase()).exists(), "the mount ignores case");
    let setting = Setting::new(Relay::start().await).await;
    let options = setting.options().path(format!("file:{}", mount.place().display()));
    let _agent = Agent::start(&setting.relay, &setting.site, options).await;
    let found = search(&setting.client, &setting.site, call, &[]).await;
    assert_eq!(names(&found), [name]);
    assert_eq!(body(send(setting.client.get(first_link(&found))).await).await, (200, bytes));
    let promise = "each recording is found once, with its real name";
    matrix::row("agent", "mount that ignores upper and lower case", promise, "as promised");
}
