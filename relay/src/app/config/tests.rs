use std::{ffi::OsString, fs};

use audiovault_common::settings::{Origins, Settings, SettingsError};
use tempfile::TempDir;

use super::{settings::LAYERS, *};
use crate::{
    cli::{Cli, Command},
    net::listen::CertificateSource,
};

/// The settings of `serve` from a command line and its file, without an environment.
fn read(line: &[&str]) -> Result<(ServeArgs, Origins), SettingsError> {
    let all = ["audiovault-relay", "serve"].iter().chain(line).map(OsString::from);
    let Settings { cli, origins } = LAYERS.read::<Cli>(all, |_| None, None)?;
    let Command::Serve(args) = cli.command else {
        panic!("{line:?} is not serve");
    };
    Ok((*args, origins))
}

fn args(line: &[&str]) -> ServeArgs {
    read(line).unwrap().0
}

const ENOUGH: [&str; 4] = ["--public-url", "https://relay.example.com/", "--database", "sqlite:relay.db"];

fn load(more: &[&str]) -> Result<ServeConfig, ConfigError> {
    ServeConfig::load(args(&[&ENOUGH, more].concat()))
}

/// The error that the program prints for this command line.
fn refusal(more: &[&str]) -> String {
    let message = match read(&[&ENOUGH, more].concat()) {
        Ok((args, origins)) => origins.locate(ServeConfig::load(args).unwrap_err()).to_string(),
        Err(error) => error.to_string(),
    };
    assert_eq!(message.lines().count(), 1, "{message}");
    message
}

#[test]
fn two_settings_are_enough() {
    let config = load(&[]).unwrap();
    assert_eq!(config.plain, Some(DEFAULT_BIND));
    assert!(config.tls.is_none());
    assert_eq!(config.admin.addr, DEFAULT_ADMIN_BIND);
    assert_eq!(config.public_url.as_str(), "https://relay.example.com");
    assert_eq!(config.allow_origin, AllowOrigin::Any);
    assert_eq!(config.drain_timeout, DEFAULT_DRAIN_TIMEOUT);
    assert!(config.trusted_proxies.is_empty());
}

#[test]
fn what_is_missing_is_named_with_all_its_spellings() {
    let error = ServeConfig::load(args(&ENOUGH[2..])).unwrap_err().to_string();
    for spelling in ["--public-url", "AUDIOVAULT_RELAY_PUBLIC_URL", "key public-url"] {
        assert!(error.contains(spelling), "{error}");
    }
    let error = ServeConfig::load(args(&ENOUGH[..2])).unwrap_err().to_string();
    assert!(error.contains("--database"), "{error}");
}

#[test]
fn every_setting_reaches_the_configuration() {
    let config = load(&[
        "--bind",
        "[::1]:0",
        "--admin-bind",
        "127.0.0.1:0",
        "--trusted-proxy",
        "10.0.0.0/8,192.0.2.7",
        "--trusted-proxy",
        "fd00::/8",
        "--allow-origin",
        "https://QM.example.com/",
        "--allow-origin",
        "http://localhost:3000",
        "--drain-timeout",
        "1m 30s",
        "--log-format",
        "json",
        "--log-level",
        "info,audiovault_relay=debug",
    ])
    .unwrap();
    assert_eq!(config.plain.unwrap().to_string(), "[::1]:0");
    assert_eq!(config.admin.addr.to_string(), "127.0.0.1:0");
    let proxies: Vec<_> = config.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(proxies, ["10.0.0.0/8", "192.0.2.7/32", "fd00::/8"]);
    assert_eq!(
        config.allow_origin,
        AllowOrigin::List(vec![
            HeaderValue::from_static("https://qm.example.com"),
            HeaderValue::from_static("http://localhost:3000"),
        ])
    );
    assert_eq!(config.drain_timeout, Duration::from_secs(90));
}

#[test]
fn a_mistake_is_one_line_that_names_the_setting() {
    for (more, about) in [
        (["--bind", "8080"], "--bind"),
        (["--bind", "relay.example.com:80"], "--bind"),
        (["--admin-bind", "127.0.0.1"], "--admin-bind"),
        (["--trusted-proxy", "10.0.0.0/33"], "--trusted-proxy"),
        (["--allow-origin", "https://a/b"], "--allow-origin"),
        (["--allow-origin", "null"], "--allow-origin"),
        (["--drain-timeout", "soon"], "--drain-timeout"),
        (["--log-format", "xml"], "--log-format"),
        (["--log-level", "audiovault=loud"], "--log-level"),
        (["--tls-bind", "127.0.0.1:0"], "--tls-cert"),
        (["--tls-cert", "a.pem"], "--tls-bind"),
    ] {
        let message = refusal(&more);
        assert!(message.contains(about), "{message}");
    }
    for (public_url, about) in [("ftp://a", "https://"), ("https://a/?q", "query")] {
        let error = ServeConfig::load(args(&["--public-url", public_url, "--database", "sqlite:a"]));
        let message = error.unwrap_err().to_string();
        assert!(message.contains("--public-url") && message.contains(about), "{message}");
    }
    let error = ServeConfig::load(args(&["--public-url", "https://a", "--database", "mysql://a"]));
    assert!(error.unwrap_err().to_string().contains("expected sqlite:FILE"));
}

#[test]
fn a_flag_wins_over_the_file_and_blanks_count_as_absent() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("relay.toml");
    fs::write(
        &file,
        "bind = \"127.0.0.1:1\"\nadmin-bind = \"127.0.0.1:2\"\npublic-url = \"https://file.example.com\"\n\
         trusted-proxy = [\"10.0.0.0/8\"]\nlog-format = \"\"\n",
    )
    .unwrap();
    let file = file.to_str().unwrap();
    let config = ServeConfig::load(args(&[
        "--config",
        file,
        "--database",
        "sqlite:a",
        "--bind",
        "127.0.0.1:3",
        "--admin-bind",
        "",
    ]))
    .unwrap();
    assert_eq!(config.plain.unwrap().port(), 3, "the flag");
    assert_eq!(config.admin.addr.port(), 2, "the file, for the flag is blank");
    assert_eq!(config.public_url.as_str(), "https://file.example.com");
    assert_eq!(config.trusted_proxies.len(), 1);
}

#[test]
fn a_file_that_is_not_understood_is_refused_with_its_line() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("relay.toml");
    for (content, line, about) in [
        ("bind = \"127.0.0.1:1\"\nbnd = \"127.0.0.1:2\"\n", 2, "unknown key"),
        ("\n\nbind = 8080\n", 3, "expected an address and a port"),
        ("bind = 1.5\n", 1, "bind must be text"),
        ("config = \"other.toml\"\n", 1, "unknown key"),
    ] {
        fs::write(&file, content).unwrap();
        let message = refusal(&["--config", file.to_str().unwrap()]);
        assert!(message.contains(&format!("line {line}:")), "{message}");
        assert!(message.contains(about), "{message}");
    }
    fs::write(&file, "bind = \n").unwrap();
    let message = refusal(&["--config", file.to_str().unwrap()]);
    assert!(message.contains("(line 1):"), "{message}");
    let message = refusal(&["--config", "/nowhere/relay.toml"]);
    assert!(message.contains("/nowhere/relay.toml"), "{message}");
}

#[test]
fn tls_alone_needs_no_plain_listener_but_a_certificate_that_works() {
    let directory = TempDir::new().unwrap();
    let cert = directory.path().join("cert.pem");
    let key = directory.path().join("key.pem");
    let cert = cert.to_str().unwrap();
    let key = key.to_str().unwrap();
    let tls = ["--tls-bind", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key];
    assert!(refusal(&tls).contains("certificate"));

    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(cert, made.cert.pem()).unwrap();
    fs::write(key, made.signing_key.serialize_pem()).unwrap();
    let config = load(&tls).unwrap();
    assert_eq!(config.plain, None);
    assert!(config.tls.is_some());

    let admin = ["--admin-tls-cert", cert, "--admin-tls-key", key, "--admin-host", "Admin.example.com"];
    let config = load(&admin).unwrap();
    assert!(config.admin.certificate.is_some());
    assert_eq!(config.admin.hosts, ["admin.example.com"]);
    assert_eq!(config.admin.url("0.0.0.0:8443".parse().unwrap()), "https://admin.example.com:8443");
    assert!(load(&[&admin[..4], &["--admin-bind", "0.0.0.0:8443"]].concat()).is_ok());
    let plain = |addr: &str| load(&[]).unwrap().admin.url(addr.parse().unwrap());
    assert_eq!([plain("[::1]:1"), plain("0.0.0.0:2")], ["http://[::1]:1", "http://localhost:2"]);
    assert!(refusal(&admin[..2]).contains("--admin-tls-key is missing"));
    assert!(refusal(&["--admin-host", "https://admin.example.com"]).contains("--admin-host"));
    fs::write(cert, "nothing").unwrap();
    assert!(refusal(&admin).contains("--admin-tls-cert"));
}

#[test]
fn operators_are_not_served_in_the_clear_from_afar_unless_that_is_permitted() {
    for far in ["0.0.0.0:8090", "10.0.0.5:8090", "[::]:8090", "[::ffff:10.0.0.5]:8090"] {
        let message = refusal(&["--admin-bind", far]);
        for advice in [far, "--admin-tls-cert", "127.0.0.1", "--admin-allow-plaintext"] {
            assert!(message.contains(advice), "{message}");
        }
        assert!(load(&["--admin-bind", far, "--admin-allow-plaintext"]).is_ok(), "{far}");
    }
    for near in ["127.0.0.1:8090", "127.9.9.9:0", "[::1]:8090"] {
        assert!(load(&["--admin-bind", near]).is_ok(), "{near}");
    }
}

#[test]
fn the_operators_side_may_have_several_names() {
    let hosts = |more: &[&str]| load(more).unwrap().admin.hosts;
    assert!(hosts(&[]).is_empty());
    assert_eq!(hosts(&["--admin-host", "Relay1,admin.example.com"]), ["relay1", "admin.example.com"]);
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("relay.toml");
    for (text, names) in [("\"relay1\"", vec!["relay1"]), ("[\"relay1\", \"b\"]", vec!["relay1", "b"])] {
        fs::write(&file, format!("admin-host = {text}\n")).unwrap();
        assert_eq!(hosts(&["--config", file.to_str().unwrap()]), names);
    }
}

#[test]
fn browsers_are_kept_to_tls_where_it_is_meant_to_be() {
    let hsts = |line: &[&str]| {
        let hsts = ServeConfig::load(args(line)).unwrap().hsts;
        let text = |value: Option<HeaderValue>| value.map(|value| value.to_str().unwrap().to_owned());
        [text(hsts.public), text(hsts.admin)]
    };
    let year = || Some("max-age=31536000".to_owned());
    let plain = ["--database", "sqlite:a", "--public-url", "http://relay.example.com"];
    let acme = ["--tls-bind", "127.0.0.1:0", "--acme-cache", "/nowhere"];
    let acme = [&acme[..], &["--acme-domain", "relay.example.com", "--acme-email", "a@example.com"]].concat();
    assert_eq!(hsts(&ENOUGH), [year(), year()]);
    assert_eq!(hsts(&plain), [None, year()]);
    assert_eq!(hsts(&[&plain[..], &acme].concat()), [year(), year()]);
    let hour = Some("max-age=3600".to_owned());
    assert_eq!(hsts(&[&plain[..], &["--hsts-max-age", "1h"]].concat()), [hour.clone(), hour]);
    assert_eq!(hsts(&[&ENOUGH[..], &["--hsts-max-age", "off"]].concat()), [None, None]);
    assert!(refusal(&["--hsts-max-age", "long"]).contains("365days, or off"));
}

#[test]
fn limits_have_defaults_and_are_checked() {
    assert_eq!(load(&[]).unwrap().limits, LimitsConfig::default());
    let limits = load(&["--max-connections", "50", "--memory-budget", "512MiB", "--accept-rate", "7"]);
    let limits = limits.unwrap().limits;
    assert_eq!((limits.max_connections, limits.memory_budget, limits.accept_rate), (50, 512 << 20, 7));
    for (more, about) in [
        (["--max-connections", "0"], "--max-connections"),
        (["--max-client-connections", "-1"], "--max-client-connections"),
        (["--max-client-requests", "many"], "--max-client-requests"),
        (["--max-site-requests", "1.5"], "--max-site-requests"),
        (["--memory-budget", "1MiB"], "one tunnel alone needs 128.0 MiB"),
        (["--memory-budget", "much"], "512MiB"),
        (["--accept-rate", "0"], "--accept-rate"),
    ] {
        let flag = format!("{}={}", more[0], more[1]);
        let message = refusal(&[&flag]);
        assert!(message.contains(about), "{message}");
    }
}

#[test]
fn a_number_in_the_file_may_be_written_as_one() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("relay.toml");
    fs::write(&file, "max-connections = 70\nmax-site-requests = \"80\"\n").unwrap();
    let limits = load(&["--config", file.to_str().unwrap()]).unwrap().limits;
    assert_eq!((limits.max_connections, limits.max_site_requests), (70, 80));
    fs::write(&file, "\nmax-connections = true\n").unwrap();
    assert!(refusal(&["--config", file.to_str().unwrap()]).contains("line 2: max-connections must be"));
}

#[test]
fn alerts_need_a_secret_and_errors_do_not_repeat_the_address() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secret");
    fs::write(&file, "short").unwrap();
    let args = |url: Option<&str>, file: Option<&std::path::Path>| ServeArgs {
        alert_webhook: url.map(str::to_owned),
        alert_secret_file: file.map(std::path::Path::to_owned),
        ..ServeArgs::default()
    };
    let hook = Some("https://hooks.example.com/T0K3N");
    let refused = |args: ServeArgs| RecordsConfig::check(&args).unwrap_err().to_string();
    assert!(refused(args(hook, None)).contains("--alert-secret-file is missing"));
    assert!(refused(args(None, Some(&file))).contains("--alert-webhook is missing"));
    let weak = refused(args(hook, Some(&file)));
    assert!(weak.contains("16 bytes") && !weak.contains("T0K3N"), "{weak}");
    fs::write(&file, "long enough for an alert").unwrap();
    let alerts = RecordsConfig::check(&args(hook, Some(&file))).unwrap().alerts.unwrap();
    assert_eq!(alerts.hold, crate::monitoring::alerts::DEFAULT_HOLD);
}

#[test]
fn a_certificate_comes_from_files_or_from_an_acme_server() {
    let acme = ["--acme-domain", "Relay.example.com,b.example.com", "--acme-email", "a@example.com"];
    let rest = ["--acme-cache", "/nowhere", "--tls-bind", "127.0.0.1:0"];
    let config = load(&[&acme[..], &rest].concat()).unwrap();
    let CertificateSource::Acme(order) = config.tls.unwrap().certificate else { panic!("files") };
    assert_eq!(order.domains, ["relay.example.com", "b.example.com"]);
    assert!(order.directory.starts_with("https://acme-v02.api.letsencrypt.org/"));
    for (more, about) in [
        (&rest[..], "--acme-domain is missing"),
        (&acme, "--acme-cache is missing"),
        (&[&acme[..], &rest[..2]].concat(), "--tls-bind is missing"),
        (&[&acme[..], &rest, &["--tls-cert", "a", "--tls-key", "b"]].concat(), "exclude each other"),
        (&[&acme[..], &rest, &["--acme-domain", "*.example.com"]].concat(), "--tls-cert"),
        (&[&acme[..], &rest, &["--acme-domain", "192.0.2.1"]].concat(), "--acme-domain"),
        (&[&acme[..], &rest, &["--acme-directory", "http://a"]].concat(), "--acme-directory"),
        (&[&acme[..2], &rest, &["--acme-email", "nobody"]].concat(), "--acme-email"),
    ] {
        let message = refusal(more);
        assert!(message.contains(about), "{message}");
    }
}

#[test]
fn a_relay_among_others_needs_an_address_a_key_and_a_shared_database() {
    const SHARED: [&str; 4] =
        ["--public-url", "https://relay.example.com/", "--database", "postgres://relay@db/audiovault"];
    let load = |line: &[&str], key: Option<&str>| {
        let mut args = args(line);
        args.cluster_key = key.map(|key| key.parse().unwrap());
        ServeConfig::load(args).map(|config| config.cluster)
    };
    let key = Some("5f1c7d1e0b8a4c6f9e2d3a4b5c6d7e8f");
    let node = ["--node-url", "http://10.0.0.5:8091"];
    let cluster = load(&[&SHARED[..], &node].concat(), key).unwrap().unwrap();
    assert_eq!(
        (cluster.url.as_str(), cluster.bind),
        ("http://10.0.0.5:8091/", "10.0.0.5:8091".parse().unwrap())
    );
    let named = load(&[&SHARED[..], &["--node-url", "http://relay-1:8091"]].concat(), key).unwrap().unwrap();
    assert_eq!(named.bind, "0.0.0.0:8091".parse().unwrap());
    let bind = ["--node-bind", "10.0.0.6:1"];
    let bound = load(&[&SHARED[..], &node, &bind].concat(), key).unwrap().unwrap();
    assert_eq!(bound.bind, "10.0.0.6:1".parse().unwrap());
    assert!(load(&SHARED, None).unwrap().is_none());
    for (line, key, about) in [
        ([&SHARED[..], &node].concat(), None, "AUDIOVAULT_RELAY_CLUSTER_KEY is missing"),
        (SHARED.to_vec(), key, "--node-url is missing"),
        ([&SHARED[..], &bind].concat(), None, "--node-url is missing"),
        ([&ENOUGH[..], &node].concat(), key, "share a database"),
        ([&SHARED[..], &["--node-url", "https://relay-1:8091"]].concat(), key, "--node-tls-cert is missing"),
        ([&SHARED[..], &node, &["--node-tls-ca", "a"]].concat(), key, "https:// in --node-url is missing"),
        ([&SHARED[..], &["--node-tls-ca", "a"]].concat(), None, "--node-url is missing"),
        ([&SHARED[..], &["--node-url", "ftp://relay-1:8091"]].concat(), key, "http://10.0.0.5:8091"),
        ([&SHARED[..], &["--node-url", "http://relay-1:8091/x"]].concat(), key, "http://10.0.0.5:8091"),
        ([&SHARED[..], &["--node-url", "relay-1:8091"]].concat(), key, "http://10.0.0.5:8091"),
    ] {
        let error = load(&line, key).unwrap_err().to_string();
        assert!(error.contains(about) && error.lines().count() == 1, "{error}");
    }
}

#[test]
fn the_page_of_settings_is_true() {
    let page = include_str!("../../../SETTINGS.md");
    assert!(
        page == settings::reference::<Cli>(),
        "run: audiovault-relay config reference > relay/SETTINGS.md"
    );
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("relay.toml");
    fs::write(&file, settings::example::<Cli>()).unwrap();
    let (args, _) = read(&["--config", file.to_str().unwrap()]).unwrap();
    assert_eq!(ServeConfig::load(args).unwrap().public_url.as_str(), "https://relay.example.com");
}
