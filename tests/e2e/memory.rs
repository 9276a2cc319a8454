//! The memory of the programs is protected: no core is written, and no other process of the same user can read it.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
};

use harness::{
    client::{first_link, names},
    process::{Process, program, run_program, skip},
    recordings::{CALL, wav, write},
};
use reqwest::Client;
use serde_json::Value;
use tempfile::TempDir;

/// A user who owns nothing else on the machine.
const USER: u32 = 61_234;
const TOKEN: &str = "a-token-that-stays-in-memory";

/// The words to put before a command line to run it as a user other than root.
fn as_user() -> Vec<String> {
    let user = format!("--reuid={USER}");
    let group = format!("--regid={USER}");
    ["setpriv", &user, &group, "--clear-groups", "--"].map(str::to_owned).to_vec()
}

/// A directory of that user; `None`, recorded as skipped, if the test cannot change its owner.
fn directory() -> Option<TempDir> {
    let dir = TempDir::new().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    if chown(dir.path(), Some(USER), Some(USER)).is_err() {
        skip("tests of programs of other users: only root can start them");
        return None;
    }
    Some(dir)
}

fn start(words: &[String]) -> Process {
    Process::start_program(words[0].as_ref(), &words[1..], &[])
}

/// Whether the user may open the memory of a process.
async fn is_readable(process: u32) -> bool {
    let mut words = as_user();
    words.extend(["sh", "-c", &format!("exec < /proc/{process}/mem")].map(str::to_owned));
    let (code, _, _) = run_program(words[0].as_ref(), &words[1..], &[]).await;
    code == 0
}

async fn is_kept(process: &Process) {
    let limits = fs::read_to_string(format!("/proc/{}/limits", process.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    let figures: Vec<_> = core.split_whitespace().skip(4).take(2).collect();
    assert_eq!(figures, ["0", "0"], "{core}");
    assert!(!is_readable(process.id()).await);
    // Unprotected memory can be read, so the test can fail.
    let mut words = as_user();
    words.extend(["sleep", "600"].map(str::to_owned));
    let other = start(&words);
    while fs::read_to_string(format!("/proc/{}/comm", other.id())).unwrap().trim() != "sleep" {
        tokio::task::yield_now().await;
    }
    assert!(is_readable(other.id()).await, "this machine allows no process to read memory");
}

#[tokio::test]
async fn an_agent_keeps_its_memory_and_still_knows_where_files_lie() {
    let Some(dir) = directory() else { return };
    let root = dir.path().join("rec");
    write(&root, format!("private/in-{CALL}.wav"), &wav(1.0, 1));
    std::os::unix::fs::symlink("private", root.join("public")).unwrap();
    let deny = dir.path().join("deny");
    fs::write(&deny, "").unwrap();
    let mut words = as_user();
    let path = format!("file:{}/public", root.display());
    words.extend([
        program("audiovault-agent").display().to_string(),
        "serve".to_owned(),
        "--bind-to=127.0.0.1:0".to_owned(),
        format!("--token={TOKEN}"),
        format!("--path={path}"),
        format!("--deny={}", deny.display()),
    ]);
    let agent = start(&words);
    let line = agent.wait_for_code("listener.started").await;
    let address = line.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
    is_kept(&agent).await;
    let client = Client::new();
    let search = async || -> Value {
        let url = format!("http://{address}/search?token={TOKEN}&callid={CALL}");
        serde_json::from_str(&client.get(url).send().await.unwrap().text().await.unwrap()).unwrap()
    };
    let link = first_link(&search().await);
    assert_eq!(client.get(&link).send().await.unwrap().status(), 200);
    // With the path that the kernel reports, which has no symbolic link.
    fs::write(&deny, format!("{}/private/\n", real(&root))).unwrap();
    assert_eq!(client.get(&link).send().await.unwrap().status(), 410);
    assert!(names(&search().await).is_empty());
}

/// The path without symbolic links; the temporary directory itself may have some.
fn real(path: &Path) -> String {
    path.canonicalize().unwrap().display().to_string()
}

#[tokio::test]
async fn a_relay_keeps_its_memory() {
    let Some(dir) = directory() else { return };
    let mut words = as_user();
    words.extend([
        program("audiovault-relay").display().to_string(),
        "serve".to_owned(),
        "--bind=127.0.0.1:0".to_owned(),
        "--admin-bind=127.0.0.1:0".to_owned(),
        "--public-url=http://127.0.0.1".to_owned(),
        format!("--database=sqlite:{}", dir.path().join("relay.db").display()),
    ]);
    let relay = start(&words);
    relay.wait_for_code("operator_listener.started").await;
    is_kept(&relay).await;
}
