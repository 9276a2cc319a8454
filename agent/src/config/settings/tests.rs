use std::{ffi::OsString, fs, path::Path};

use audiovault_agent_core::secret::Secret;
use audiovault_common::settings::Setting;
use toml::Table;

use super::*;
use crate::config::{
    args::{Command as Chosen, TunnelArgs},
    ask_args::{ConfigArgs, ConfigCommand},
};

fn all() -> Vec<Setting> {
    LAYERS.settings::<Cli>()
}

/// A path at which no agent is installed.
const NOWHERE: &str = "/nowhere/agent.toml";

fn tunnel(
    typed: &[&str],
    environment: &[(&str, &str)],
    file: Option<&str>,
) -> Result<TunnelArgs, SettingsError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.toml");
    let mut argv: Vec<OsString> =
        ["agent", "tunnel"].into_iter().chain(typed.iter().copied()).map(Into::into).collect();
    if let Some(file) = file {
        fs::write(&path, file).unwrap();
        argv.extend(["--config".into(), path.into()]);
    }
    let find =
        |name: &str| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
    let Chosen::Tunnel(args) = read(argv, find, Path::new(NOWHERE))?.cli.command else {
        panic!("not a tunnel")
    };
    Ok(args)
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let file =
        Some("relay = 'wss://file'\nlink-ttl = '3h'\npath = ['file:/a', 'file:/b']\nallow-plaintext = true");
    let environment = [("AUDIOVAULT_RELAY", "wss://environment"), ("AUDIOVAULT_LOOK_BACK", "1h")];
    let args = tunnel(&["--relay", "wss://flag"], &environment, file).unwrap();
    assert_eq!(args.relay, ["wss://flag"]);
    assert_eq!((&*args.storage.look_back, &*args.access.link_ttl), ("1h", "3h"));
    assert_eq!(args.storage.path, ["file:/a", "file:/b"]);
    assert!(args.allow_plaintext);
    assert_eq!(tunnel(&[], &environment, file).unwrap().relay, ["wss://environment"]);
    assert_eq!(tunnel(&[], &[], file).unwrap().relay, ["wss://file"]);
    let off = [("AUDIOVAULT_ALLOW_PLAINTEXT", "false")];
    assert!(!tunnel(&[], &off, None).unwrap().allow_plaintext);
}

#[test]
fn variables_have_the_prefix_of_the_agent_and_the_older_one_is_an_alias() {
    let relay = |environment: &[(&str, &str)]| tunnel(&[], environment, None).unwrap().relay;
    let own = ("AUDIOVAULT_AGENT_RELAY", "wss://own");
    let older = ("AUDIOVAULT_RELAY", "wss://older");
    assert_eq!(relay(&[own]), ["wss://own"]);
    assert_eq!(relay(&[older, own]), ["wss://own"]);
    assert_eq!(relay(&[older]), ["wss://older"]);
    assert_eq!(relay(&[("AUDIOVAULT_AGENT_RELAY", ""), older]), ["wss://older"], "an empty one is not set");
}

#[test]
fn a_token_in_one_form_outranks_the_other_form_in_a_weaker_layer() {
    let environment = [("AUDIOVAULT_TOKEN", "from-environment")];
    let file = Some("token-file = '/file'");
    let args = tunnel(&["--token-file", "/flag"], &environment, file).unwrap();
    assert_eq!((args.access.token, args.access.token_file), (None, Some("/flag".into())));
    let args = tunnel(&[], &environment, file).unwrap();
    assert_eq!((args.access.token, args.access.token_file), (Some(Secret::new("from-environment")), None));
}

#[test]
fn mistakes_are_named() {
    let error = |typed: &[&str], file| tunnel(typed, &[], file).unwrap_err().to_string();
    assert!(error(&[], Some("relai = 'x'")).contains("unknown key \"relai\""));
    assert!(error(&[], Some("a = 1\nb = [")).contains("line 2"));
    assert!(error(&[], Some("relay = 1.5")).contains("relay must be text"));
    assert!(error(&[], Some("allow-plaintext = 'x'")).contains("true or false"));
    assert!(error(&["--search", "some"], None).contains("invalid value 'some'"));
    assert!(error(&[], Some("search = 'some'")).contains("invalid value 'some'"));
    let odd = [("AUDIOVAULT_ALLOW_PLAINTEXT", "perhaps")];
    assert!(tunnel(&[], &odd, None).unwrap_err().to_string().contains("AUDIOVAULT_ALLOW_PLAINTEXT"));
}

#[test]
fn a_file_serves_all_commands() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.toml");
    fs::write(&path, "relay = 'wss://x'\nbind-to = ':1'\npath = 'file:/a'\ntoken = 'x'").unwrap();
    let argv = ["agent", "search", "1711444502.17", "--config"].map(OsString::from);
    let read = read(argv.into_iter().chain([path.into_os_string()]), |_| None, Path::new(NOWHERE)).unwrap();
    let Chosen::Search(args) = read.cli.command else { panic!("not a search") };
    assert_eq!((args.storage.path, args.call.id), (vec!["file:/a".to_owned()], "1711444502.17".to_owned()));
}
#[test]
fn questions_about_an_agent_go_to_the_installed_one_by_default() {
    let dir = tempfile::tempdir().unwrap();
    let installed = dir.path().join("installed.toml");
    let other = dir.path().join("other.toml");
    fs::write(&installed, "state-file = '/installed'").unwrap();
    fs::write(&other, "state-file = '/other'").unwrap();
    let read = |words: &[&str], environment: Option<&Path>| {
        let argv = ["agent"].iter().chain(words).map(OsString::from);
        let find = |name: &str| {
            environment.filter(|_| name == "AUDIOVAULT_CONFIG").map(|path| path.as_os_str().to_owned())
        };
        read(argv, find, &installed).unwrap().cli.command
    };
    let state_file = |words: &[&str], environment| {
        let command = read(words, environment);
        if let Chosen::Config(ConfigArgs { command: ConfigCommand::Check(args) }) = command {
            args.tunnel.state_file
        } else if let Chosen::Status(args) = command {
            args.state_file
        } else {
            command.into_tunnel().unwrap().state_file
        }
    };
    assert_eq!(state_file(&["status"], None), Some("/installed".into()));
    assert_eq!(state_file(&["config", "check"], None), Some("/installed".into()));
    assert_eq!(state_file(&["status"], Some(&other)), Some("/other".into()));
    assert_eq!(
        state_file(&["config", "check", "--config", other.to_str().unwrap()], None),
        Some("/other".into())
    );
    assert_eq!(state_file(&["tunnel"], None), None);
}

/// The example file with every key uncommented.
fn everything() -> String {
    let key = |line: &str| {
        let (key, _) = line.strip_prefix('#')?.split_once(" = ")?;
        (!key.contains(' ')).then(|| line.trim_start_matches('#').to_owned())
    };
    example().lines().map(|line| key(line).unwrap_or_else(|| line.to_owned()) + "\n").collect()
}

#[test]
fn the_example_is_a_configuration_file_of_a_tunnel() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.toml");
    fs::write(&path, example()).unwrap();
    let argv = ["agent", "tunnel", "--config"].map(OsString::from);
    let read = read(argv.into_iter().chain([path.into()]), |_| None, Path::new(NOWHERE)).unwrap();
    let Chosen::Tunnel(args) = read.cli.command else { panic!("not a tunnel") };
    assert_eq!(args.relay, ["wss://relay.example.com"]);
    assert_eq!(args.storage.path, ["file:/var/spool/asterisk/monitor/%YY/%MM/%DD"]);
}

#[test]
fn the_example_has_every_key_once_with_its_default() {
    let table: Table = toml::from_str(&everything()).unwrap();
    let keys: Vec<String> =
        all().iter().map(|setting| setting.key().to_owned()).filter(|key| key != "config").collect();
    assert_eq!(table.len(), keys.len());
    assert!(keys.iter().all(|key| table.contains_key(key)), "{table}");
    assert_eq!(table["max-streams"].as_integer(), Some(256));
    assert_eq!(table["link-ttl"].as_str(), Some("2h"));
    assert_eq!(table["allow-plaintext"].as_bool(), Some(false));
    assert!(table["max-rate"].is_array());
    assert!(!example().contains("\n#relay"));
}

#[test]
fn the_page_of_settings_is_true() {
    let page = include_str!("../../../SETTINGS.md");
    assert!(page == reference(), "run: audiovault-agent config reference > agent/SETTINGS.md");
    assert!(
        page.contains(
            "| `bind-to` | `--bind-to HOST:PORT` | `AUDIOVAULT_AGENT_BIND_TO` | `127.0.0.1:4040` |"
        )
    );
    assert!(page.contains("## Listener (only `serve`)") && page.contains("## Recordings\n"));
    for one in all() {
        assert!(
            all().iter().all(|other| other.heading() != one.heading() || other.only() == one.only()),
            "{}",
            one.key()
        );
    }
}
