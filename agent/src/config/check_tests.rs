//! Tests of the checks: what a valid configuration becomes, and the error texts of invalid ones.

use std::{ffi::OsString, fs, os::unix::fs::PermissionsExt};

use audiovault_common::advice::with_advice;
use clap::Parser;
use tempfile::TempDir;

use super::*;
use crate::config::args::{Cli, Command};

const KEY: &str = "avk_acme_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn run_secret() -> LinkSecret {
    LinkSecret::from_bytes([7; 32])
}

fn command(words: &[&str]) -> Command {
    Cli::try_parse_from(["audiovault-agent"].iter().chain(words)).unwrap().command
}

fn tunnelled(extra: &[&str]) -> Result<Checked<AgentSettings>, ConfigError> {
    let mut words = vec!["tunnel", "--site-key", KEY, "--token", "master-token"];
    words.extend(extra);
    if !extra.contains(&"--path") {
        words.extend(["--path", "file:/rec"]);
    }
    if !extra.contains(&"--relay") {
        words.extend(["--relay", "wss://relay.example"]);
    }
    let Command::Tunnel(args) = command(&words) else { panic!("not a tunnel") };
    tunnel(args, &run_secret())
}

fn served(extra: &[&str]) -> Result<Checked<ServeSettings>, ConfigError> {
    let words = [&["serve", "--path", "/rec", "--token", "master-token"], extra].concat();
    let Command::Serve(args) = command(&words) else { panic!("not a serve") };
    serve(args, &run_secret())
}

#[test]
fn uniloaders_flags_are_understood() {
    let uniloader =
        ["--bind-to", ":4040", "--public-url", "https://a.example/av/", "--path", "file:/a,file:/b/%YY-%MM"];
    let checked = served(&uniloader).unwrap();
    assert_eq!(checked.settings.bind_to, "0.0.0.0:4040");
    assert_eq!(checked.settings.public_url.as_deref(), Some("https://a.example/av"));
    assert_eq!(checked.settings.service.storage.roots.len(), 3);
    assert_eq!(checked.settings.service.links.site.as_str(), "classic");
    let same = tunnelled(&["--path", "file:/a,file:/b/%YY-%MM"]).unwrap();
    assert_eq!(same.settings.service.links.site.as_str(), "acme", "the site is the key's");
}

#[test]
fn unencrypted_relays_are_for_this_machine_or_on_purpose() {
    for near in
        ["ws://127.0.0.1:8080", "ws://localhost", "ws://[::1]:1", "http://localhost:1", "wss://far.example"]
    {
        assert!(tunnelled(&["--relay", near]).is_ok(), "{near}");
    }
    for far in ["ws://relay.example", "http://10.0.0.1", "ws://localhost.example"] {
        assert!(matches!(tunnelled(&["--relay", far]), Err(ConfigError::Plaintext(_))), "{far}");
        assert!(tunnelled(&["--relay", far, "--allow-plaintext"]).is_ok(), "{far}");
    }
    for wrong in ["relay.example", "ftp://relay.example", ""] {
        assert!(matches!(tunnelled(&["--relay", wrong]), Err(ConfigError::Relay(_))), "{wrong:?}");
    }
    let error = tunnelled(&["--relay", "wss://u:hunter22@relay.example"]).unwrap_err();
    assert!(!with_advice(&error).contains("hunter22"));
}

#[test]
fn each_mistake_has_its_sentence() {
    for (words, said) in [
        (vec!["--look-back", "soon"], "--look-back \"soon\" must be a duration from"),
        (vec!["--look-back", "1y"], "--look-back"),
        (vec!["--link-ttl", "0s"], "--link-ttl"),
        (vec!["--timezone", "Madrid"], "time zone database"),
        (vec!["--path", "s3:/x"], "not a file: pattern"),
        (vec!["--call-id", "("], "--call-id is not a regular expression"),
        (vec!["--extension", "a/b"], "not a file extension"),
        (vec!["--sentinel", "../x"], "--sentinel"),
        (vec!["--token-file", "/none"], "set only one of them"),
        (vec!["--tenants", "/none"], "cannot be read"),
    ] {
        let error = with_advice(&tunnelled(&words).unwrap_err());
        assert!(error.contains(said) && !error.contains('\n'), "{words:?}: {error}");
    }
    for (words, missing) in [
        (vec!["tunnel"], "--relay"),
        (vec!["tunnel", "--relay", "wss://a"], "--site-key-file"),
        (vec!["tunnel", "--relay", "wss://a", "--site-key", KEY], "--path"),
    ] {
        let Command::Tunnel(args) = command(&words) else { panic!("not a tunnel") };
        assert!(tunnel(args, &run_secret()).unwrap_err().to_string().contains(missing), "{words:?}");
    }
    assert!(matches!(served(&["--certificate", "/c"]), Err(ConfigError::Missing("--certificate-key"))));
    assert!(matches!(served(&["--public-url", "a.example"]), Err(ConfigError::PublicUrl(_))));
    assert!(matches!(served(&["--allow-origin", "nobody"]), Err(ConfigError::Origin(_))));
}

#[test]
fn serve_does_not_start_without_a_token() {
    let Command::Serve(args) = command(&["serve", "--path", "/rec"]) else { panic!("not a serve") };
    assert!(with_advice(&serve(args, &run_secret()).unwrap_err()).contains("--token-file"));
}

#[test]
fn the_operator_is_warned_of_what_will_surprise() {
    let dir = TempDir::new().unwrap();
    let tenants = dir.path().join("tenants.json");
    fs::write(&tenants, r#"[{"tenant":"a","secret":"secret-of-a"},{"tenant":"b","secret":"N0b0dyKn0ws"}]"#)
        .unwrap();
    fs::set_permissions(&tenants, fs::Permissions::from_mode(0o644)).unwrap();
    let warned = |words: &[&str]| {
        let warnings = served(words).unwrap().warnings;
        warnings.iter().map(Warning::to_string).collect::<Vec<_>>().join("\n")
    };
    let warnings = warned(&["--tenants", tenants.to_str().unwrap()]);
    for part in ["is public", "chmod", "%TE", "--public-url"] {
        assert!(warnings.contains(part), "{part}: {warnings}");
    }
    assert!(is_utc(&TimeZone::UTC) && !is_utc(&TimeZone::get("Europe/London").unwrap()));
    assert!(!warned(&["--path", "/a/%DD", "--timezone", "UTC"]).contains("--timezone"));
}

#[test]
fn with_tenants_the_tenant_is_a_directory_of_its_own() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("tenants.json");
    fs::write(&file, r#"[{"tenant":"acme","secret":"secret-of-acme"}]"#).unwrap();
    let tenants = ["--tenants", file.to_str().unwrap()];
    for (path, whole) in [
        ("file:/rec/%TE-%QU", false),
        ("file:/rec/%TE.d", false),
        ("file:/rec/%YY/x%TE/%QU", false),
        ("file:/rec/%TE/%QU", true),
        ("file:/rec/%QU/%TE/%TE-%AG", true),
        ("file:/rec/%QU", true),
    ] {
        let words = [&tenants[..], &["--path", path]].concat();
        for error in [tunnelled(&words).err(), served(&words).err()] {
            let said = error.map(|error| with_advice(&error));
            assert_eq!(said.is_none(), whole, "{path}: {said:?}");
            assert!(said.is_none_or(|said| said.contains(path) && said.contains("/%TE/%QU")), "{path}");
        }
        assert!(tunnelled(&["--path", path]).is_ok(), "{path}: without tenants any pattern will do");
    }
}

#[test]
fn with_tenants_no_directory_of_one_lies_within_that_of_another() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("tenants.json");
    fs::write(&file, r#"[{"tenant":"acme","secret":"secret-of-acme"}]"#).unwrap();
    let tenants = ["--tenants", file.to_str().unwrap()];
    for (paths, apart) in [
        ("file:/rec/%TE,file:/rec/old/%TE", false),
        ("file:/rec/old/%TE,file:/rec/%TE/%YY", false),
        ("file:/rec/%TE,file:/archive/%TE", true),
        ("file:/rec/%TE/%YY,file:/rec/%TE/archive", true),
    ] {
        let words = [&tenants[..], &["--path", paths]].concat();
        for error in [tunnelled(&words).err(), served(&words).err()] {
            let said = error.map(|error| with_advice(&error));
            assert_eq!(said.is_none(), apart, "{paths}: {said:?}");
            assert!(said.is_none_or(|said| said.contains("/rec/old/%TE")), "{paths}");
        }
        assert!(tunnelled(&["--path", paths]).is_ok(), "{paths}: without tenants any pattern will do");
    }
}

#[test]
fn a_record_that_could_not_be_written_is_refused_and_nothing_is_made_yet() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("audit.jsonl");
    let log = ["--audit-log", path.to_str().unwrap()];
    let audit_log = tunnelled(&log).unwrap().settings.service.audit_log.unwrap();
    assert_eq!((&audit_log.path, audit_log.limit, audit_log.keep), (&path, Some(16 << 20), 20));
    assert!(!path.exists());
    let unlimited = served(&[log.as_slice(), &["--audit-log-size", "0"]].concat()).unwrap();
    assert_eq!(unlimited.settings.service.audit_log.unwrap().limit, None);
    assert!(tunnelled(&[]).unwrap().settings.service.audit_log.is_none());
    for (words, said) in [
        (["--audit-log", "/none/audit.jsonl"], "the directory of /none/audit.jsonl does not exist"),
        (["--audit-log", "/tmp"], "/tmp is not a file"),
        (["--audit-log-size", "1KB"], "at least 4.0 KiB"),
    ] {
        let error = served(&words).unwrap_err().to_string();
        assert!(error.contains(said), "{words:?}: {error}");
    }
}

#[test]
fn a_deny_file_that_cannot_be_used_is_refused() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("deny");
    let deny = ["--deny", path.to_str().unwrap()];
    let refused = || -> String {
        let error = tunnelled(&deny).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap();
        format!("{error}: {cause}")
    };
    assert!(refused().contains("cannot be read: No such file"));
    fs::write(&path, "1711444502.17\n34911223344").unwrap();
    assert!(refused().contains("line 2 is neither") && !refused().contains("349"));
    fs::write(&path, "CALL17").unwrap();
    let custom = tunnelled(&[deny.as_slice(), &["--call-id", "CALL[0-9]+"]].concat()).unwrap();
    assert!(custom.settings.service.deny.unwrap().rules.deny_call("call17"));
}

#[test]
fn the_secret_of_links_is_made_once_and_kept() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("links");
    let grown = link_secret(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let kept = link_secret(&path).unwrap();
    let id =
        |secret: &LinkSecret| audiovault_protocol::identity::signed_link::LinkSigner::new(secret).key_id();
    assert_eq!(id(&grown), id(&kept));
    fs::write(&path, "short").unwrap();
    assert!(matches!(link_secret(&path), Err(ConfigError::ShortLinkSecret(_))));
}

const PROXY: &str = "http://maria:s3cr3t@proxy.example";

#[test]
fn debug_of_everything_typed_and_checked_shows_no_secret() {
    let words: Vec<OsString> =
        ["a", "tunnel", "--site-key", KEY, "--token", "master-token", "--proxy", PROXY]
            .map(Into::into)
            .to_vec();
    let typed = format!("{:?}", Cli::try_parse_from(words).unwrap());
    let checked = format!("{:?}", tunnelled(&["--proxy", PROXY]).unwrap());
    for shown in [typed, checked] {
        for secret in ["master-token", "aaaaaaaa", "s3cr3t"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}
