use audiovault_protocol::identity::{enrolment::EnrolmentCode, site::SiteKey};
use clap::Parser;
use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::{
    cli::{Cli, Command, DatabaseArgs},
    sites::directory::Directory,
    store,
};

/// An operator at a shell, with a database for one test.
struct Operator {
    directory: TempDir,
}

/// What a command printed.
struct Printed {
    out: String,
    warnings: String,
}

impl Operator {
    fn new() -> Self {
        Self { directory: TempDir::new().unwrap() }
    }

    fn database(&self) -> String {
        format!("sqlite:{}", self.directory.path().join("relay.db").display())
    }

    async fn types(&self, line: &str) -> Result<Printed, SiteCommandError> {
        let database = self.database();
        let words = ["audiovault-relay", "site"].into_iter().chain(line.split(' '));
        let cli = Cli::try_parse_from(words.chain(["--database", &database])).unwrap();
        let Command::Site(args) = cli.command else {
            panic!("{line} is no site command");
        };
        let mut out = Vec::new();
        let mut warnings = Vec::new();
        run(args, &mut out, &mut warnings).await?;
        Ok(Printed { out: String::from_utf8(out).unwrap(), warnings: String::from_utf8(warnings).unwrap() })
    }

    async fn json(&self, line: &str) -> Value {
        let printed = self.types(&format!("{line} --json")).await.unwrap();
        serde_json::from_str(&printed.out).unwrap()
    }

    async fn refused(&self, line: &str) -> String {
        let Err(error) = self.types(line).await else {
            panic!("{line} must be refused");
        };
        assert_eq!(error.exit().code(), 1);
        error.to_string()
    }

    async fn directory(&self) -> Directory {
        let url = self.database().parse().unwrap();
        Directory::new(store::open(&url, IfMissing::Refuse).await.unwrap().load().await.unwrap())
    }
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} in {value}"))
}

#[tokio::test]
async fn adding_a_site_hands_out_everything_once() {
    let operator = Operator::new();
    let added = operator
        .json("add acme --note Madrid --alias Shop --alias shop --public-url https://r.example.com")
        .await;
    assert_eq!(text(&added, "site"), "acme");
    assert_eq!(text(&added, "search_url"), "https://r.example.com/acme/search");
    let token = text(&added, "search_token");
    assert!(token.len() >= 32);
    let key = SiteKey::parse(text(&added, "site_key")).unwrap();
    operator.directory().await.verify_key(&key).unwrap();
    let command = text(&added, "agent_command");
    assert!(command.contains(&key.reveal()) && command.contains(token));
    assert!(command.contains("--relay 'wss://r.example.com'"), "{command}");
    assert!(text(&added, "queuemetrics").contains(&format!("audio.jsonlistener.searchtoken={token}\n")));

    let shown = operator.json("show acme").await;
    assert_eq!(shown["aliases"], serde_json::json!(["shop"]));
    let file = std::fs::read(operator.directory.path().join("relay.db")).unwrap();
    let written = String::from_utf8_lossy(&file);
    assert!(!written.contains(token) && !written.contains(&key.reveal()));
}

#[tokio::test]
async fn the_address_of_the_relay_is_remembered_or_asked_for() {
    let operator = Operator::new();
    let printed = operator.types("add early --json").await.unwrap();
    assert!(printed.out.contains("https://relay.invalid/early/search"));
    assert!(printed.warnings.contains("--public-url"), "{}", printed.warnings);

    let url = operator.database().parse().unwrap();
    let relay = store::open(&url, IfMissing::Refuse).await.unwrap();
    relay.set_public_url("http://10.0.0.1:8080").await.unwrap();
    let printed = operator.types("add late").await.unwrap();
    assert!(printed.out.contains("http://10.0.0.1:8080/late/search"), "{}", printed.out);
    assert!(printed.out.contains("--allow-plaintext"), "{}", printed.out);
    assert_eq!(printed.warnings, "");
}

#[tokio::test]
async fn a_key_is_rotated_and_the_old_one_revoked() {
    let operator = Operator::new();
    let first = SiteKey::parse(text(&operator.json("add acme").await, "site_key")).unwrap();
    let rotated = operator.json("rotate-key acme").await;
    let second = SiteKey::parse(text(&rotated, "site_key")).unwrap();
    let directory = operator.directory().await;
    directory.verify_key(&first).unwrap();
    directory.verify_key(&second).unwrap();

    let revoked = operator.json("revoke-key acme").await;
    assert_eq!(text(&revoked, "revoked"), first.digest().short());
    let directory = operator.directory().await;
    assert!(directory.verify_key(&first).is_err());
    directory.verify_key(&second).unwrap();

    operator.json(&format!("revoke-key acme --key {}", second.digest().short())).await;
    let shown = operator.types("show acme").await.unwrap().out;
    assert!(shown.contains("no key is valid"), "{shown}");
}

#[tokio::test]
async fn a_code_is_printed_once_with_its_end_and_the_command_for_the_agent() {
    let operator = Operator::new();
    operator.json("add acme --public-url https://r.example.com").await;
    let made = operator.json("enroll acme --public-url https://r.example.com").await;
    let code: EnrolmentCode = text(&made, "code").parse().unwrap();
    assert_eq!(
        text(&made, "install_command"),
        format!("audiovault-agent install --relay 'wss://r.example.com' --enroll {code}")
    );
    let expires: jiff::Timestamp = text(&made, "expires").parse().unwrap();
    let left = expires.duration_since(jiff::Timestamp::now());
    assert!((890..=900).contains(&left.as_secs()), "{left}");
    let printed = operator.types("enroll acme --public-url http://10.0.0.1").await.unwrap().out;
    assert!(printed.contains("valid until  20") && printed.contains("--allow-plaintext"), "{printed}");
    let file = std::fs::read(operator.directory.path().join("relay.db")).unwrap();
    assert!(!String::from_utf8_lossy(&file).contains(&code.to_string().replace('-', "")));

    operator.json("rotate-key acme").await;
    assert!(operator.refused("enroll acme").await.contains("two valid keys already: revoke"));
    operator.json("revoke-key acme").await;
    operator.json("disable acme").await;
    assert!(operator.refused("enroll acme").await.contains("enable it"));
}

#[tokio::test]
async fn a_third_key_drops_the_first() {
    let operator = Operator::new();
    let first = SiteKey::parse(text(&operator.json("add acme").await, "site_key")).unwrap();
    operator.json("rotate-key acme").await;
    let rotated = operator.json("rotate-key acme").await;
    assert_eq!(rotated["dropped"], serde_json::json!([first.digest().short()]));
}

#[tokio::test]
async fn sites_are_listed_disabled_enabled_and_removed() {
    let operator = Operator::new();
    operator.json("add zeta").await;
    operator.json("add acme --alias shop").await;
    let list = operator.json("list").await;
    let names: Vec<_> = list.as_array().unwrap().iter().map(|site| text(site, "site")).collect();
    assert_eq!(names, ["acme", "zeta"]);

    assert_eq!(operator.json("disable acme").await["disabled"], true);
    assert!(operator.types("list").await.unwrap().out.contains("disabled"));
    assert_eq!(operator.json("enable acme").await["disabled"], false);
    assert_eq!(operator.json("alias add acme shop2").await["aliases"], serde_json::json!(["shop", "shop2"]));
    assert_eq!(operator.json("alias remove acme shop").await["aliases"], serde_json::json!(["shop2"]));
    assert_eq!(operator.json("remove acme").await["removed"], true);
    operator.json("remove zeta").await;
    assert_eq!(operator.types("list").await.unwrap().out, "There are no sites.\n");
}

#[tokio::test]
async fn what_cannot_be_done_is_said_in_one_line() {
    let operator = Operator::new();
    assert!(operator.refused("list").await.contains("there is no database"));
    operator.json("add acme --alias shop").await;
    for (line, about) in [
        ("add acme", "cannot be used here"),
        ("add shop", "the name shop cannot be used here"),
        ("show nobody", "no site nobody"),
        ("rotate-key nobody", "no site nobody"),
        ("enroll nobody", "no site nobody"),
        ("revoke-key acme --key 01234567", "no valid key 01234567"),
        ("alias remove acme other", "not an alias"),
    ] {
        let message = operator.refused(line).await;
        assert!(message.contains(about) && message.lines().count() == 1, "{message}");
    }
}

#[tokio::test]
async fn without_a_database_nothing_can_be_done() {
    let args = SiteArgs {
        database: DatabaseArgs { url: None },
        json: false,
        name_rest: None,
        command: SiteCommand::List,
    };
    let error = run(args, &mut Vec::new(), &mut Vec::new()).await.unwrap_err();
    assert_eq!(error.exit().code(), 2);
    assert!(error.to_string().contains("--database"));
}

#[tokio::test]
async fn hundreds_of_sites_come_in_a_file_and_their_secrets_go_into_one() {
    let operator = Operator::new();
    let (file, secrets) =
        (operator.directory.path().join("in.csv"), operator.directory.path().join("out.csv"));
    std::fs::write(&file, "site,note,aliases\nacme,\"Acme, Madrid\",t1 t2\nbeta,,\n").unwrap();
    let line = format!("import {} --secrets {}", file.display(), secrets.display());
    let printed = operator.types(&line).await.unwrap();
    assert!(printed.out.starts_with("Added 2 sites"), "{}", printed.out);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&secrets).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let written = std::fs::read_to_string(&secrets).unwrap();
    let key = written.lines().nth(1).unwrap().split(',').nth(1).unwrap();
    let key = SiteKey::parse(key).unwrap();
    operator.directory().await.verify_key(&key).unwrap();
    let exported = operator.types("export").await.unwrap().out;
    assert!(exported.contains("\nacme,\"Acme, Madrid\",t1 t2,"), "{exported}");

    // One name is taken, so no site is added and no file of secrets is left behind.
    std::fs::write(&file, "site,aliases\ngamma,\ndelta,T1\n").unwrap();
    std::fs::remove_file(&secrets).unwrap();
    let refused = operator.refused(&line).await;
    assert!(refused.contains("the name t1 cannot be used here"), "{refused}");
    assert!(!secrets.exists());
    assert_eq!(operator.json("list").await.as_array().unwrap().len(), 2);
}
