//! A machine with a real systemd: a copy of this machine in memory, booted in namespaces of its own.

use std::{path::Path, process::Stdio, time::Duration};

use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::{
    address::free_address,
    process::{PATIENCE, skip},
};

const BOOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/harness/boot.sh");
/// How often a booting machine is asked whether it is up.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// A machine that is not up after this time cannot be booted here.
const BOOT_PATIENCE: Duration = Duration::from_secs(20);

/// The machine. It ends when this is dropped.
#[derive(Debug)]
pub struct Machine {
    /// `unshare`. When it dies, every process inside is killed.
    boot: Child,
    /// The init process of the machine, by its process id on this machine.
    init: u32,
    group: String,
    _work: TempDir,
}

impl Machine {
    /// Boots a machine with a program in `/root`. `None`, recorded as skipped, if that is not possible here.
    pub async fn boot(program: &Path) -> Option<Self> {
        let not_here = |why: &str| {
            skip(&format!("tests under a real systemd: {why}"));
            None
        };
        if !rustix::process::geteuid().is_root() {
            return not_here("only root may boot one");
        }
        if !Path::new("/lib/systemd/systemd").exists() {
            return not_here("it is not installed; tests/run installs it");
        }
        let work = tempfile::tempdir().expect("a temporary directory");
        let group = format!("audiovault-story-{}", free_address().port());
        let mut boot = Command::new("sh");
        boot.arg(BOOT).arg(work.path()).arg(program).arg(&group);
        boot.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let boot = boot.spawn().expect("a shell");
        let parent = boot.id().expect("it runs");
        let mut machine = Self { boot, init: 0, group, _work: work };
        let up = async {
            while !machine.is_up(parent).await {
                tokio::time::sleep(ASK_EVERY).await;
            }
        };
        if tokio::time::timeout(BOOT_PATIENCE, up).await.is_err() {
            return not_here("overlays, namespaces or control groups cannot be had in this container");
        }
        Some(machine)
    }

    async fn is_up(&mut self, parent: u32) -> bool {
        let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
        let init = children.unwrap_or_default().split_whitespace().find_map(|child| child.parse().ok());
        let Some(init) = init else { return false };
        self.init = init;
        let name = std::fs::read_to_string(format!("/proc/{init}/comm")).unwrap_or_default();
        name.trim() == "systemd" && self.run("systemctl is-system-running").await.1.trim() == "running"
    }

    /// Runs a shell command inside. Returns exit code, standard output and standard error.
    pub async fn run(&self, line: &str) -> (i32, String, String) {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.init.to_string(), "-m", "-p", "-u", "-i", "-C", "-r", "-w"]);
        command.args(["env", "-i", "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "sh", "-c", line]);
        let output = tokio::time::timeout(PATIENCE, command.stdin(Stdio::null()).output());
        let output = output.await.expect("it ends").expect("nsenter");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    }

    /// Runs a shell command inside, which must succeed. Returns its standard output.
    pub async fn sh(&self, line: &str) -> String {
        let (code, out, err) = self.run(line).await;
        if code != 0 {
            let (_, status, _) = self.run("systemctl status --no-pager 'audiovault*'").await;
            panic!("{line}: {out}{err}{status}");
        }
        out
    }

    /// Repeats a shell command until its output is as wanted. Returns the output.
    pub async fn wait_for(&self, line: &str, wanted: impl Fn(&str) -> bool) -> String {
        let asked = async {
            loop {
                let (_, out, _) = self.run(line).await;
                if wanted(out.trim()) {
                    return out.trim().to_owned();
                }
                tokio::time::sleep(ASK_EVERY).await;
            }
        };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(out) => out,
            Err(_) => panic!("{line} never had the wanted output: {:?}", self.run(line).await),
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // When init dies, every process inside dies too.
        if let Some(init) = i32::try_from(self.init).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(init, rustix::process::Signal::KILL);
        }
        let _ = self.boot.start_kill();
        for hierarchy in ["/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"] {
            remove_groups(&Path::new(hierarchy).join(&self.group));
        }
    }
}

/// Removes the control groups one by one, the innermost first, when their last process has ended.
fn remove_groups(group: &Path) {
    let children = std::fs::read_dir(group).into_iter().flatten().flatten();
    children.filter(|entry| entry.path().is_dir()).for_each(|entry| remove_groups(&entry.path()));
    for _ in 0..20 {
        if std::fs::remove_dir(group).is_ok() || !group.exists() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
