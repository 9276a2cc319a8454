//! The command line as people and scripts see it: exit codes, one line for each mistake, and which setting wins.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail it where an assumption does not hold")]

use std::{
    fs,
    process::{Command, Output},
};

use tempfile::TempDir;

fn relay(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_audiovault-relay"));
    command.args(arguments);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AUDIOVAULT_")) {
        command.env_remove(name);
    }
    command.envs(environment.iter().copied()).output().unwrap()
}

/// The one line on standard error of a run that failed with this exit code.
fn refusal(output: &Output, code: i32) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with("error: "), "{text}");
    assert!(output.stdout.is_empty());
    text
}

#[test]
fn help_and_version_are_no_mistakes() {
    for arguments in
        [&["--help"][..], &["--version"], &["serve", "--help"], &["site", "add", "--help"], &["help", "site"]]
    {
        let output = relay(arguments, &[]);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty());
    }
}

#[test]
fn a_mistake_is_one_line_and_exit_code_2() {
    for (arguments, about) in [
        (&["serve"][..], "--public-url"),
        (&["serve", "--nonsense"], "--nonsense"),
        (&["serve", "--public-url", "https://a", "--database", "oracle:a"], "sqlite:FILE"),
        (&["serve", "--public-url", "https://a", "--database", "sqlite:a", "--bind", "here"], "--bind"),
        (&["serve", "--config", "/nowhere/relay.toml"], "/nowhere/relay.toml"),
        (&["site", "list"], "--database"),
        (&["site", "add", "Not A Site", "--database", "sqlite:a"], "DNS label"),
    ] {
        let line = refusal(&relay(arguments, &[]), 2);
        assert!(line.contains(about), "{line}");
    }
}

#[test]
fn a_failure_is_one_line_with_its_cause_and_exit_code_1() {
    let nowhere = "sqlite:/nowhere/at/all/relay.db";
    let line = refusal(
        &relay(&["serve", "--public-url", "https://a", "--bind", "127.0.0.1:0", "--database", nowhere], &[]),
        1,
    );
    assert!(line.contains("/nowhere/at/all") && line.contains("No such file"), "{line}");
    refusal(&relay(&["site", "list", "--database", nowhere], &[]), 1);
    refusal(&relay(&["health", "--url", "http://127.0.0.1:1/readyz"], &[]), 1);
}

#[test]
fn a_flag_wins_over_the_environment_and_the_environment_over_the_file() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("relay.toml");
    fs::write(&file, "public-url = \"https://a\"\ndatabase = \"sqlite:a\"\nbind = \"from the file\"\n")
        .unwrap();
    let file = file.to_str().unwrap();
    let environment = ("AUDIOVAULT_RELAY_BIND", "from the environment");
    for (arguments, environment, winner) in [
        (&["--bind", "from the flag"][..], &[environment][..], "from the flag"),
        (&[], &[environment], "from the environment"),
        (&[], &[("AUDIOVAULT_RELAY_BIND", "")], "from the file"),
        (&[], &[], "from the file"),
    ] {
        let arguments = [&["serve", "--config", file], arguments].concat();
        let line = refusal(&relay(&arguments, environment), 2);
        assert!(line.contains(winner), "{line}");
    }
}

#[test]
fn sites_are_kept_from_one_process_to_the_next() {
    let directory = TempDir::new().unwrap();
    let database = format!("sqlite:{}", directory.path().join("relay.db").display());
    let environment = [("AUDIOVAULT_RELAY_DATABASE", database.as_str())];
    let added = relay(&["site", "add", "acme", "--public-url", "https://a", "--json"], &environment);
    assert!(added.status.success());
    let added: serde_json::Value = serde_json::from_slice(&added.stdout).unwrap();
    assert_eq!(added["search_url"], "https://a/acme/search");

    let line = refusal(&relay(&["site", "add", "acme", "--public-url", "https://a"], &environment), 1);
    assert!(line.contains("cannot be used here"), "{line}");
    let list = relay(&["site", "list"], &environment);
    assert!(String::from_utf8(list.stdout).unwrap().starts_with("acme "));
}
