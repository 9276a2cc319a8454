//! The agent is installed, upgraded and removed.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use harness::{
    client::{body, client, first_link, search, send},
    machine::Machine,
    process::{Process, installed, program, run},
    recordings::{CALL, one_recording},
    relay::Relay,
};
use tempfile::TempDir;
use tokio::process::Command;

/// The greatest exposure that `systemd-analyze security` may find, in tenths; without any setting a unit has 96.
const MAX_EXPOSURE_TENTHS: u32 = 20;
const UNIT: &str = "etc/systemd/system/audiovault-agent.service";

/// The root directory of a machine that is being set up.
fn machine() -> Option<TempDir> {
    if !rustix::process::geteuid().is_root() {
        harness::process::skip("tests that install the agent: they need root");
        return None;
    }
    (installed("systemctl") && installed("useradd")).then(|| {
        let machine = tempfile::tempdir().unwrap();
        fs::create_dir(machine.path().join("etc")).unwrap();
        fs::write(machine.path().join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
        fs::write(machine.path().join("etc/group"), "root:x:0:\n").unwrap();
        machine
    })
}

async fn install(machine: &Path, more: &[&str]) -> (i32, String, String) {
    let root = machine.display().to_string();
    run("audiovault-agent", &[&["install", "--root", &root], more].concat(), &[]).await
}

/// Installs with a key without asking a relay about it.
async fn install_with_key(machine: &Path) -> (i32, String, String) {
    let secrets = tempfile::tempdir().unwrap();
    let key = secrets.path().join("key");
    fs::write(&key, format!("avk_acme_{}", "a".repeat(52))).unwrap();
    let key = key.to_str().unwrap();
    install(machine, &["--relay", "wss://relay.example", "--site-key-file", key, "--path", "file:/rec"]).await
}

fn read(machine: &Path, path: &str) -> String {
    fs::read_to_string(machine.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn mode(machine: &Path, path: &str) -> u32 {
    fs::metadata(machine.join(path)).unwrap().permissions().mode() & 0o7777
}

async fn code(relay: &Relay) -> String {
    let made = relay.site_command(&["enroll", "acme"]).await;
    made["code"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_code_becomes_an_installed_agent_that_serves() {
    let Some(machine) = machine() else { return };
    let relay = Relay::start().await;
    let mut site = relay.add_site("acme", &[]).await;
    let (dir, code) = (one_recording(), code(&relay).await);
    let path = format!("file:{}", dir.path().display());
    let url = relay.tunnel_url();
    let flags = ["--relay", &url, "--enroll", &code, "--path", &path];
    let (exit, out, err) = install(machine.path(), &flags).await;
    assert_eq!(exit, 0, "{err}");
    assert!(out.contains("key of the site acme"), "{out}");

    let key = read(machine.path(), "etc/audiovault-agent/site-key");
    site.search_token = read(machine.path(), "etc/audiovault-agent/search-token").trim().to_owned();
    for secret in [key.trim(), &site.search_token, &code] {
        assert!(!format!("{out}{err}").contains(secret), "no secret is shown");
    }
    assert_eq!(mode(machine.path(), "etc/audiovault-agent/site-key"), 0o600);
    assert_eq!(mode(machine.path(), "etc/audiovault-agent"), 0o750);
    let enabled = machine.path().join("etc/systemd/system/multi-user.target.wants/audiovault-agent.service");
    assert!(enabled.is_symlink(), "it starts with the machine");

    // The same configuration, read in its place here.
    let here = format!("{}/etc/", machine.path().display());
    let config = read(machine.path(), "etc/audiovault-agent/agent.toml").replace("/etc/", &here);
    let config = config.replace("/run/audiovault-agent", &machine.path().display().to_string());
    let config = config.replace("/var/log/", &format!("{}/var/log/", machine.path().display()));
    let moved = machine.path().join("agent.toml");
    fs::write(&moved, config).unwrap();
    let agent = Process::start(
        "audiovault-agent",
        &["tunnel".to_owned(), "--config".to_owned(), moved.display().to_string()],
        &[("TZ", "UTC".to_owned())],
    );
    agent.wait_for_code(harness::agent::CONNECTED).await;
    search(&client(&relay), &site, CALL, &[]).await;
    let deny = machine.path().join("etc/audiovault-agent/deny");
    fs::write(&deny, format!("{}{CALL}\n", read(machine.path(), "etc/audiovault-agent/deny"))).unwrap();
    let found = search(&client(&relay), &site, CALL, &[]).await;
    assert!(found["files"].as_array().unwrap().is_empty(), "{found}");
    assert_eq!(mode(machine.path(), "var/log/audiovault-agent/audit.jsonl"), 0o600);
}

#[tokio::test]
async fn a_dry_run_shows_every_step_and_no_secret_and_does_nothing() {
    let Some(machine) = machine() else { return };
    let relay = Relay::start().await;
    relay.add_site("acme", &[]).await;
    let code = code(&relay).await;
    let flags = ["--dry-run", "--relay", &relay.tunnel_url(), "--enroll", &code, "--path", "file:/rec/%YY"];
    let (exit, out, err) = install(machine.path(), &flags).await;
    assert_eq!(exit, 0, "{err}");
    for step in [
        "create the system user",
        "trade the enrolment code",
        "site-key (0600",
        "path = \"file:/rec/%YY\"",
        "ProtectSystem=strict",
        "systemctl",
    ] {
        assert!(out.contains(step), "{step} is not in {out}");
    }
    assert!(!out.contains(&code));
    assert_eq!(fs::read_dir(machine.path().join("etc")).unwrap().count(), 2, "nothing was written");
    let (exit, _, err) = install(machine.path(), &flags[1..]).await;
    assert_eq!(exit, 0, "the code was not used by the dry run: {err}");
}

#[tokio::test]
async fn a_wrong_code_leaves_no_half_installation_that_would_start() {
    let Some(machine) = machine() else { return };
    let relay = Relay::start().await;
    relay.add_site("acme", &[]).await;
    let url = relay.tunnel_url();
    let flags = ["--relay", &url, "--enroll", "0000-0000-0000", "--path", "file:/rec"];
    let (exit, _, err) = install(machine.path(), &flags).await;
    assert!(exit == 1 && err.contains("403") && err.contains("ask the relay's operator"), "{exit} {err}");
    assert!(
        !machine.path().join(UNIT).exists()
            && !machine.path().join("etc/audiovault-agent/agent.toml").exists()
    );
    let code = code(&relay).await;
    let flags = ["--relay", &url, "--enroll", &code, "--path", "file:/rec"];
    let (exit, _, err) = install(machine.path(), &flags).await;
    assert_eq!(exit, 0, "the next attempt succeeds: {err}");
}

#[tokio::test]
async fn an_upgrade_keeps_the_configuration_and_a_removal_keeps_it_until_purged() {
    let Some(machine) = machine() else { return };
    assert_eq!(install_with_key(machine.path()).await.0, 0);
    let (exit, _, err) = install_with_key(machine.path()).await;
    assert!(exit == 2 && err.contains("exists already"), "{exit} {err}");

    let config = machine.path().join("etc/audiovault-agent/agent.toml");
    let edited = format!("{}max-streams = 16\n", fs::read_to_string(&config).unwrap());
    fs::write(&config, &edited).unwrap();
    let program_there = machine.path().join("usr/local/bin/audiovault-agent");
    fs::write(&program_there, "an older version").unwrap();
    let (exit, out, err) = install(machine.path(), &[]).await;
    assert!(exit == 0 && out.contains("is unchanged"), "{out}{err}");
    assert_eq!(fs::read_to_string(&config).unwrap(), edited);
    assert_eq!(fs::read(&program_there).unwrap(), fs::read(program("audiovault-agent")).unwrap());
    assert!(read(machine.path(), UNIT).contains("MemoryMax=144M"), "the unit follows the configuration");

    let root = machine.path().display().to_string();
    let uninstall = async |more: &[&str]| {
        run("audiovault-agent", &[&["uninstall", "--root", &root], more].concat(), &[]).await
    };
    let (exit, out, err) = uninstall(&[]).await;
    assert!(exit == 0 && out.contains("--purge"), "{out}{err}");
    assert!(config.exists() && !program_there.exists() && !machine.path().join(UNIT).exists());
    assert_eq!(uninstall(&["--purge"]).await.0, 0);
    assert!(!machine.path().join("etc/audiovault-agent").exists());
    for accounts in ["etc/passwd", "etc/group"] {
        assert!(!read(machine.path(), accounts).contains("audiovault-agent"), "{accounts}");
    }
}

#[tokio::test]
async fn systemd_finds_the_unit_right_and_hardly_exposed() {
    let Some(machine) = machine() else { return };
    if !installed("systemd-analyze") {
        return;
    }
    assert_eq!(install_with_key(machine.path()).await.0, 0);
    let unit = machine.path().join(UNIT);
    // `verify` expects the program at the path in the unit.
    let local = fs::read_to_string(&unit)
        .unwrap()
        .replace("/usr/local/", &format!("{}/usr/local/", machine.path().display()));
    fs::write(&unit, local).unwrap();
    let verified =
        Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output().await.unwrap();
    let said = String::from_utf8(verified.stderr).unwrap();
    assert!(verified.status.success() && !said.contains("audiovault-agent.service"), "{said}");
    is_hardly_exposed(&unit).await;
}

#[tokio::test]
async fn systemd_finds_the_unit_of_the_relay_hardly_exposed() {
    if !installed("systemd-analyze") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let unit = dir.path().join("audiovault-relay@8090.service");
    fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/../docker/systemd/audiovault-relay@.service"), &unit)
        .unwrap();
    is_hardly_exposed(&unit).await;
}

/// Checks that a unit has at most this exposure, and that it leaves no image of its memory.
async fn is_hardly_exposed(unit: &Path) {
    let threshold = format!("--threshold={MAX_EXPOSURE_TENTHS}");
    let judge = ["security", "--offline=yes", &threshold];
    let judged = Command::new("systemd-analyze").args(judge).arg(unit).output().await.unwrap();
    let said = String::from_utf8(judged.stdout).unwrap();
    assert!(judged.status.success(), "{said}");
    let text = fs::read_to_string(unit).unwrap();
    assert!(text.contains("\nLimitCORE=0\n") && text.contains("\nUMask=0077\n"), "{text}");
}

const STATUS: &str = "systemctl show -p StatusText --value audiovault-agent";
const ACTIVE: &str = "systemctl is-active audiovault-agent";
const PID: &str = "systemctl show -p MainPID --value audiovault-agent";

#[tokio::test]
async fn a_real_systemd_starts_reloads_watches_upgrades_and_removes_the_agent() {
    let Some(machine) = Machine::boot(&program("audiovault-agent")).await else { return };
    let relay = Relay::start().await;
    let mut site = relay.add_site("acme", &[]).await;
    let code = code(&relay).await;
    machine
        .sh("groupadd recorders && mkdir -p /srv/rec && chgrp recorders /srv/rec && chmod 750 /srv/rec")
        .await;
    machine.sh(&format!("printf sound > /srv/rec/in-{CALL}.mp3")).await;
    let url = relay.tunnel_url();
    machine
        .sh(&format!("/root/audiovault-agent install --relay {url} --enroll {code} --path file:/srv/rec"))
        .await;

    let host = relay.address.to_string();
    machine.wait_for(STATUS, |status| status == format!("connected to {host}, 0 streams")).await;
    let user = machine.sh(&format!("ps -o user:32= -p $({PID})")).await;
    assert_eq!(user.trim(), "audiovault-agent");
    site.search_token = machine.sh("cat /etc/audiovault-agent/search-token").await.trim().to_owned();
    let client = client(&relay);
    let link = first_link(&search(&client, &site, CALL, &[]).await);
    assert_eq!(body(send(client.get(link)).await).await, (200, b"sound".to_vec()));
    // The user need not know where the installation keeps its files.
    let status = machine.sh("audiovault-agent status").await;
    assert!(status.starts_with("Site acme: connected to ") && status.contains("file:/srv/rec"), "{status}");
    assert_eq!(machine.run("audiovault-agent health").await.0, 0);
    let (code, checked, _) = machine.run("audiovault-agent check").await;
    assert!(code == 0 && checked.contains("through the connected agent"), "{code} {checked}");
    let record = machine.sh("cat /var/log/audiovault-agent/audit.jsonl").await;
    assert!(record.lines().count() >= 2 && record.contains(CALL), "{record}");

    let before = machine.sh(PID).await;
    machine
        .sh("echo relai = 1 >> /etc/audiovault-agent/agent.toml && systemctl reload audiovault-agent")
        .await;
    machine.wait_for(STATUS, |status| status.contains("cannot be used") && status.contains("relai")).await;
    let (code, checked, _) = machine.run("audiovault-agent config check").await;
    assert!(code == 2 && checked.contains("unknown key \"relai\""), "{code} {checked}");
    machine.sh("sed -i /relai/d /etc/audiovault-agent/agent.toml && systemctl reload audiovault-agent").await;
    machine.wait_for(STATUS, |status| status == format!("connected to {host}, 0 streams")).await;
    assert_eq!(machine.sh(PID).await, before, "a reload is no restart");

    machine.sh("cp /root/audiovault-agent /root/newer && /root/newer install").await;
    let upgraded = machine.sh(PID).await;
    assert_ne!(upgraded, before);
    machine.wait_for(STATUS, |status| status.starts_with("connected to")).await;

    // A program that hangs is detected and started again.
    let unit = "/etc/systemd/system/audiovault-agent.service";
    machine.sh(&format!("sed -i 's/^WatchdogSec=.*/WatchdogSec=2/' {unit} && systemctl daemon-reload")).await;
    machine.sh("systemctl restart audiovault-agent").await;
    let hung = machine.sh(PID).await;
    machine.sh(&format!("kill -STOP {}", hung.trim())).await;
    machine.wait_for(PID, |pid| pid != hung.trim() && pid != "0").await;
    machine.wait_for(STATUS, |status| status.starts_with("connected to")).await;

    machine.sh("/root/audiovault-agent uninstall --purge").await;
    assert_eq!(machine.run(ACTIVE).await.1.trim(), "inactive");
    let left = "ls -d /etc/audiovault-agent /usr/local/bin/audiovault-agent /var/lib/audiovault-agent; id audiovault-agent";
    assert_eq!(machine.run(left).await.1, "", "nothing is left");
}
