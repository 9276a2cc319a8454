//! The clock of a machine jumps, as it does when it is set after a long time.

use std::path::{Path, PathBuf};

use harness::{
    agent::{Agent, AgentOptions},
    client::send,
    matrix,
    process::installed,
    relay::Relay,
};
use tempfile::TempDir;

use crate::setting::Setting;

/// A clock that a story sets, by libfaketime. Its steady sibling, by which times are measured, goes on as ever.
struct Clock {
    directory: TempDir,
}

impl Clock {
    fn right() -> Self {
        let clock = Self { directory: tempfile::tempdir().unwrap() };
        clock.set("+0");
        clock
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("time")
    }

    /// Sets it so far from the right time.
    fn set(&self, offset: &str) {
        let fresh = self.directory.path().join("fresh");
        std::fs::write(&fresh, offset).unwrap();
        std::fs::rename(fresh, self.file()).unwrap();
    }

    fn of(&self, options: AgentOptions) -> AgentOptions {
        options
            .variable("LD_PRELOAD", library().display().to_string())
            .variable("FAKETIME_TIMESTAMP_FILE", self.file().display().to_string())
            .variable("FAKETIME_NO_CACHE", "1")
            .variable("DONT_FAKE_MONOTONIC", "1")
    }
}

/// Where Debian puts the library.
fn library() -> PathBuf {
    let directories = ["x86_64-linux-gnu", "aarch64-linux-gnu"].map(|arch| Path::new("/usr/lib").join(arch));
    let mut files = directories.map(|directory| directory.join("faketime/libfaketimeMT.so.1")).into_iter();
    files.find(|file| file.exists()).unwrap()
}

#[tokio::test]
async fn a_clock_that_jumps_costs_no_tunnel_and_no_search() {
    if !installed("faketime") {
        return;
    }
    let setting = Setting::new(Relay::start().await).await;
    let clock = Clock::right();
    let agent = Agent::start(&setting.relay, &setting.site, clock.of(setting.options())).await;
    setting.search().await;
    let mark = agent.process.mark();
    for offset in ["+1d", "-1d", "+400d", "+0"] {
        clock.set(offset);
        for _ in 0..3 {
            setting.search().await;
        }
    }
    let link = setting.short_link().await;
    assert_eq!(send(setting.client.get(&link)).await.status(), 200);
    clock.set("+3h");
    assert_eq!(send(setting.client.get(&link)).await.status(), 410, "links live for two hours");
    clock.set("+0");
    assert_eq!(send(setting.client.get(&link)).await.status(), 200);
    let log = agent.process.log().split_off(mark);
    assert!(!log.iter().any(|line| line.contains("the tunnel ended")), "{log:?}");
    let promise = "no tunnel ends, no search fails; links end by the agent's clock";
    matrix::row("agent", "clock jumps by a day, back, and by 400 days", promise, "0 of 12 searches failed");
}
