//! The build script of both programs: sets from which commit they are built, when, and whether with optimization.
//!
//! The variables `AUDIOVAULT_COMMIT` and `SOURCE_DATE_EPOCH` (seconds,
//! <https://reproducible-builds.org/specs/source-date-epoch/>) set commit and time: the same sources and the same values
//! make the same program. Without them a release takes the commit from git and the time from the clock. A build for
//! development has neither, because it is made many times a day.

#![expect(clippy::print_stdout, reason = "a build script talks to cargo this way")]

use std::{
    env,
    path::PathBuf,
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

fn main() {
    println!("cargo::rerun-if-env-changed=AUDIOVAULT_COMMIT");
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    println!("cargo::rerun-if-changed=../protocol/common/build/about.rs");
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let commit = given("AUDIOVAULT_COMMIT").or_else(|| is_release.then(commit_of_git).flatten());
    let built = given("SOURCE_DATE_EPOCH").or_else(|| is_release.then(now).flatten());
    println!("cargo::rustc-env=AUDIOVAULT_BUILD_COMMIT={}", commit.unwrap_or_default());
    println!("cargo::rustc-env=AUDIOVAULT_BUILD_TIME={}", built.unwrap_or_default());
    println!("cargo::rustc-env=AUDIOVAULT_OPT_LEVEL={}", env::var("OPT_LEVEL").unwrap_or_default());
}

fn given(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn commit_of_git() -> Option<String> {
    // It changes with every commit and every checkout.
    if let Some(log) =
        git(&["rev-parse", "--git-path", "logs/HEAD"]).map(PathBuf::from).filter(|log| log.exists())
    {
        println!("cargo::rerun-if-changed={}", log.display());
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output =
        Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn now() -> Option<String> {
    SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|now| now.as_secs().to_string())
}
