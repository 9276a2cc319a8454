//! The relay's database is damaged.

use std::{
    fs::OpenOptions,
    io::{Seek, SeekFrom, Write},
    path::Path,
};

use harness::{matrix, process::run, recordings::noise, relay::Relay};

use crate::setting::Setting;

/// Overwrites a part of a file with nonsense.
fn damage(file: &Path, from: u64, len: usize) {
    let mut file = OpenOptions::new().write(true).open(file).unwrap();
    file.seek(SeekFrom::Start(from)).unwrap();
    file.write_all(&noise(len, 3)).unwrap();
}

/// Starts a relay on a database. Returns what it prints when it exits.
async fn refused(database: &str) -> String {
    let arguments = ["serve", "--bind", "127.0.0.1:0", "--admin-bind", "127.0.0.1:0"];
    let place = ["--public-url", "http://127.0.0.1:1", "--database", database];
    let (code, _, said) = run("audiovault-relay", &[&arguments[..], &place].concat(), &[]).await;
    assert_eq!(code, 1, "{said}");
    said
}

#[tokio::test]
async fn a_relay_on_a_damaged_database_says_so_and_a_backup_brings_everything_back() {
    let mut setting = Setting::new(Relay::start().await).await;
    let agent = setting.agent().await;
    setting.search().await;
    let backups = tempfile::tempdir().unwrap();
    let backup = backups.path().join("backup.db").display().to_string();
    let database = setting.relay.database();
    let (code, _, said) = run("audiovault-relay", &["backup", &backup, "--database", &database], &[]).await;
    assert_eq!(code, 0, "{said}");
    setting.relay.kill().await;
    let file = database.strip_prefix("sqlite:").unwrap();
    for (from, len) in [(0, 100), (4096, 80_000)] {
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{file}{suffix}"));
        }
        std::fs::copy(&backup, file).unwrap();
        damage(file.as_ref(), from, len);
        let said = refused(&database).await;
        assert!(said.contains("damaged") && said.contains("backup") && said.lines().count() == 1, "{said}");
    }
    std::fs::copy(&backup, file).unwrap();
    let mark = agent.process.mark();
    setting.relay.restart().await;
    agent.process.wait_for_code_after(mark, harness::agent::CONNECTED).await;
    setting.search().await;
    let promise = "one line says so and what to do; a restored backup brings the sites back";
    matrix::row("relay", "database damaged", promise, "as promised");
}

#[tokio::test]
async fn a_database_that_is_damaged_under_a_running_relay_stops_no_search() {
    let setting = Setting::new(Relay::start().await).await;
    let agent = setting.agent().await;
    setting.search().await;
    let database = setting.relay.database();
    damage(database.strip_prefix("sqlite:").unwrap().as_ref(), 0, 200_000);
    for _ in 0..20 {
        setting.search().await;
    }
    let link = setting.client.get(setting.short_link().await).send().await.unwrap();
    assert_eq!(link.status(), 200);
    drop(agent);
    let promise = "searches and playback continue from memory";
    matrix::row("relay", "database damaged while it runs", promise, "0 of 20 searches failed");
}
