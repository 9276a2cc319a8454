//! Recordings that no browser can play, through the tunnel: compared with libgsm (through sox), and in Chromium.

use std::{path::Path, process::Command};

use harness::{
    agent::{Agent, AgentOptions},
    browser::Browser,
    client::{body, client, first_link, search, send},
    process::installed,
    recordings::{CALL, noise, wav, write},
    relay::{Relay, Site},
};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The name of headerless 16-bit samples in `sox`.
const PCM: [&str; 9] = ["-t", "raw", "-e", "signed-integer", "-b", "16", "-L", "-c", "1"];
/// Bytes before the sound in a delivered file.
const HEADER: usize = 44;

/// A file name with its format, and the options with which sox makes it.
const FORMATS: [(&str, &[&str]); 4] = [
    ("gsm", &["-t", "gsm"]),
    ("WAV", &["-t", "wav", "-e", "gsm-full-rate"]),
    ("wav", &["-t", "wav", "-e", "mu-law"]),
    ("alaw", &["-t", "raw", "-e", "a-law"]),
];

/// A site with a directory for recordings.
struct Stage {
    relay: Relay,
    _agent: Agent,
    site: Site,
    client: Client,
    dir: TempDir,
}

impl Stage {
    async fn new() -> Self {
        let relay = Relay::start().await;
        let site = relay.add_site("acme", &[]).await;
        let dir = tempfile::tempdir().unwrap();
        let agent = Agent::start(&relay, &site, AgentOptions::new(dir.path())).await;
        Self { client: client(&relay), relay, _agent: agent, site, dir }
    }

    /// Writes a recording as the only one of its call, and searches for it.
    async fn found(&self, call: &str, extension: &str, content: &[u8]) -> Value {
        write(self.dir.path(), format!("in-{call}.{extension}"), content);
        let found = search(&self.client, &self.site, call, &[]).await;
        found["files"][0].clone()
    }

    async fn range(&self, link: &str, range: &str) -> (u16, Vec<u8>) {
        body(send(self.client.get(link).header("range", range)).await).await
    }
}

/// Runs sox.
fn sox(arguments: &[&str]) {
    let output = Command::new("sox").args(["-V1", "-D", "-R"]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Samples of a voice, of noise, of silence, and of the loudest sound, as bytes.
fn contents() -> Vec<(&'static str, Vec<u8>)> {
    let bytes = |samples: Vec<i16>| samples.into_iter().flat_map(i16::to_le_bytes).collect::<Vec<u8>>();
    let square = (0..48_000u32).map(|n| if n / 37 % 2 == 0 { i16::MAX } else { i16::MIN });
    vec![
        ("voice", wav(6.0, 3)[HEADER..].to_vec()),
        ("noise", noise(2 * 48_000, 7)),
        ("silence", bytes(vec![0; 48_000])),
        ("full scale", bytes(square.collect())),
    ]
}

/// A recording of these samples in a format, and the samples that sox reads from it.
fn coded(directory: &Path, samples: &[u8], format: &[&str]) -> (Vec<u8>, Vec<u8>) {
    let path = |name: &str| directory.join(name).display().to_string();
    let (from, file, to) = (path("from.raw"), path("coded"), path("to.raw"));
    std::fs::write(&from, samples).unwrap();
    let raw = [&PCM[..], &["-r", "8000"]].concat();
    let eight = [format, &["-r", "8000", "-c", "1"]].concat();
    sox(&[&raw[..], &[&from], &eight, &[&file]].concat());
    // The coding is needed for reading only if there is no header.
    let known: &[&str] = if format.contains(&"wav") { &["-t", "wav"] } else { &eight };
    sox(&[known, &[&file], &PCM, &[&to]].concat());
    (std::fs::read(&file).unwrap(), std::fs::read(&to).unwrap())
}

#[tokio::test]
async fn recordings_have_the_same_samples_as_from_libgsm() {
    if !installed("sox") {
        return;
    }
    let stage = Stage::new().await;
    let room = tempfile::tempdir().unwrap();
    for (number, (content, samples)) in contents().into_iter().enumerate() {
        for (extension, format) in FORMATS {
            let call = format!("1711441902.{number}");
            let (file, expected) = coded(room.path(), &samples, format);
            let found = stage.found(&call, extension, &file).await;
            let (status, bytes) = body(send(stage.client.get(found["url"].as_str().unwrap())).await).await;
            assert_eq!(status, 200);
            assert_eq!(bytes.len() as u64, found["size"].as_u64().unwrap());
            assert_eq!(found["duration"], 6.0, "{content} as {extension}");
            assert!(bytes[HEADER..] == expected, "{content} as {extension} sounds different");
            std::fs::remove_file(stage.dir.path().join(format!("in-{call}.{extension}"))).unwrap();
        }
    }
}

#[tokio::test]
async fn every_range_is_a_slice_and_the_original_is_untouched() {
    if !installed("sox") {
        return;
    }
    let stage = Stage::new().await;
    let room = tempfile::tempdir().unwrap();
    for (number, (extension, format)) in FORMATS.into_iter().enumerate() {
        let (file, _) = coded(room.path(), &wav(40.0, 5)[HEADER..], format);
        let found = stage.found(&format!("1711441902.{number}"), extension, &file).await;
        assert_eq!((&found["content_type"], &found["duration"]), (&json!("audio/wav"), &json!(40.0)));
        let link = found["url"].as_str().unwrap();
        assert!(link.ends_with("/recording.wav"), "{link}");
        let (_, whole) = body(send(stage.client.get(link)).await).await;
        let size = whole.len();
        assert_eq!(size, HEADER + 40 * 16_000);
        let cases = [
            ("bytes=0-1".to_owned(), 0..2),
            ("bytes=40-60".to_owned(), 40..61),
            ("bytes=300000-300000".to_owned(), 300_000..300_001),
            ("bytes=123457-".to_owned(), 123_457..size),
            ("bytes=-4097".to_owned(), size - 4097..size),
            (format!("bytes={}-", size - 1), size - 1..size),
        ];
        for (range, expected) in cases {
            let (status, bytes) = stage.range(link, &range).await;
            assert!(status == 206 && bytes == whole[expected], "{range} of {extension}");
        }
        assert_eq!(stage.range(link, &format!("bytes={size}-")).await.0, 416);
        let head = send(stage.client.request(Method::HEAD, link)).await;
        assert_eq!(head.headers()["content-length"], size.to_string().as_str());
        let disposition = head.headers()["content-disposition"].to_str().unwrap();
        assert!(disposition.ends_with(".wav\""), "{disposition}");
        let original = send(stage.client.get(format!("{link}?original=1"))).await;
        assert_ne!(original.headers()["etag"], head.headers()["etag"]);
        assert_eq!(body(original).await, (200, file), "{extension}");
    }
}

#[tokio::test]
async fn the_audit_counts_what_was_delivered_in_seconds_of_sound() {
    if !installed("sox") {
        return;
    }
    let stage = Stage::new().await;
    let room = tempfile::tempdir().unwrap();
    let (file, _) = coded(room.path(), &wav(4.0, 5)[HEADER..], FORMATS[0].1);
    let found = stage.found(CALL, "gsm", &file).await;
    let link = found["url"].as_str().unwrap();
    for address in [link.to_owned(), format!("{link}?original=1")] {
        assert_eq!(body(send(stage.client.get(&address)).await).await.0, 200);
    }
    let record = stage.relay.audit(3).await;
    for (bytes, seconds) in [(64_044, "4.0"), (6_600, "4.0")] {
        let columns = format!(",200,complete,,0,{bytes},{bytes},{seconds},");
        assert!(record.iter().any(|line| line.contains(&columns)), "{columns}: {record:#?}");
    }
}

#[tokio::test]
async fn a_browser_plays_and_seeks_what_it_could_not() {
    if !installed("sox") {
        return;
    }
    let stage = Stage::new().await;
    let room = tempfile::tempdir().unwrap();
    let browser = Browser::start().await;
    // A page that may play the recordings of the relay, like the operators' own pages.
    stage.relay.add_user("maria", &["--role", "admin"]).await;
    browser.open(&format!("{}/login", stage.relay.admin_url())).await;
    // Much longer than a browser loads ahead, so that it has to request the position to which it seeks.
    let samples = wav(300.0, 9)[HEADER..].to_vec();
    for (number, (extension, format)) in FORMATS.into_iter().enumerate() {
        let (file, _) = coded(room.path(), &samples, format);
        let found = stage.found(&format!("1711441902.{number}"), extension, &file).await;
        let link = first_link(&json!({ "files": [found] }));
        let begin = "window.player = new Audio(arguments[0]); player.muted = true; player.play();";
        browser.run(begin, vec![json!(link)]).await;
        browser.wait_until("player.error || player.currentTime > 0.2").await;
        let state = browser.run("return [player.error?.message ?? null, player.duration]", vec![]).await;
        assert_eq!(state, json!([null, 300]), "{extension}");
        let mark = stage.relay.process().mark();
        browser.run("player.currentTime = 280", vec![]).await;
        browser.wait_until("player.currentTime > 280.3 && !player.seeking").await;
        stage.relay.process().wait_for_after(mark, "status=206").await;
        browser.run("player.pause(); player.removeAttribute('src'); player.load();", vec![]).await;
    }
    browser.close().await;
}
