//! Linked calls: a search for one leg of a conversation finds the recordings of all.

use std::{collections::BTreeSet, fs, sync::Arc};

use harness::{
    agent::{Agent, AgentOptions},
    authority::Authority,
    client::{client, names, search},
    mariadb::MariaDb,
    names::Names,
    postgres::FAR,
    recordings::{wav, write},
    relay::Relay,
};
use serde_json::Value;
use tempfile::TempDir;

const CALLER: &str = "1711444502.17";
const AGENT_LEG: &str = "1711444503.18";
const HANDED_ON: &str = "1711444620.25";

/// The recordings of a conversation: the caller's one in the queue, an agent's leg with its own id, and one without
/// an id in its name.
fn recordings() -> TempDir {
    let dir = TempDir::new().unwrap();
    for name in [
        format!("q-400-34911223344-20240326-101502-{CALLER}.wav"),
        format!("in-101-34911223344-{AGENT_LEG}.wav"),
        "handed-on-to-102.wav".to_owned(),
        "in-600-1711444800.99.wav".to_owned(),
    ] {
        write(dir.path(), name, &wav(0.1, 1));
    }
    dir
}

fn all() -> BTreeSet<String> {
    let queue = format!("q-400-34911223344-20240326-101502-{CALLER}.wav");
    [queue, format!("in-101-34911223344-{AGENT_LEG}.wav"), "handed-on-to-102.wav".to_owned()].into()
}

fn found(answer: &Value) -> BTreeSet<String> {
    names(answer).into_iter().collect()
}

async fn with_records() -> Option<MariaDb> {
    Some(filled(MariaDb::start().await?).await)
}

/// Writes the conversation into the call records.
async fn filled(records: MariaDb) -> MariaDb {
    records.leg(CALLER, CALLER, &format!("q-400-34911223344-20240326-101502-{CALLER}.wav")).await;
    records.leg(AGENT_LEG, CALLER, "").await;
    // Converted since then: the call record says .gsm.
    records.leg(HANDED_ON, CALLER, "/var/spool/asterisk/monitor/2024/03/26/handed-on-to-102.gsm").await;
    records.leg("1711444800.99", "1711444800.99", "in-600-1711444800.99.wav").await;
    records
}

#[tokio::test]
async fn any_leg_of_a_conversation_finds_all_of_it() {
    let Some(records) = with_records().await else { return };
    let relay = Relay::start().await;
    let site = relay.add_site("acme", &[]).await;
    let (dir, index) = (recordings(), TempDir::new().unwrap());
    let (url, password) = (records.url(), records.password_file().display().to_string());
    let flags = ["--cdr", &url, "--cdr-password-file", &password];
    let options =
        AgentOptions::new(dir.path()).with(&flags).with(&["--index", index.path().to_str().unwrap()]);
    let agent = Agent::start(&relay, &site, options).await;
    agent.process.wait_for_code("index.up_to_date").await;
    let client = client(&relay);
    for leg in [CALLER, AGENT_LEG, HANDED_ON] {
        let answer = search(&client, &site, leg, &[]).await;
        assert_eq!((found(&answer), &answer["complete"]), (all(), &true.into()), "{leg}");
    }
    let alone = search(&client, &site, "1711444800.99", &[]).await;
    assert_eq!(names(&alone), ["in-600-1711444800.99.wav"], "another conversation");
    let log = agent.process.log().concat();
    assert!(!log.contains("p@ss") && !log.contains("p%40ss"), "{log}");

    // Plain Asterisk has no column `recordingfile`.
    records.run("ALTER TABLE cdr DROP COLUMN recordingfile").await;
    let answer = search(&client, &site, AGENT_LEG, &[]).await;
    assert_eq!(found(&answer).len(), 2, "those with an id in their names");
}

#[tokio::test]
async fn call_records_that_do_not_answer_make_the_result_incomplete() {
    let Some(records) = with_records().await else { return };
    let relay = Relay::start().await;
    let site = relay.add_site("acme", &[]).await;
    let dir = recordings();
    let (url, password) = (records.url(), records.password_file().display().to_string());
    let options = AgentOptions::new(dir.path()).with(&["--cdr", &url, "--cdr-password-file", &password]);
    let agent = Agent::start(&relay, &site, options).await;
    let client = client(&relay);
    records.pause(true);
    let answer = search(&client, &site, AGENT_LEG, &[]).await;
    assert_eq!((names(&answer).len(), &answer["complete"]), (1, &false.into()), "{answer}");
    agent.process.wait_for_code("search.legs_unknown").await;
    records.pause(false);
    let answer = search(&client, &site, AGENT_LEG, &[]).await;
    assert_eq!(found(&answer), all());
}

#[tokio::test]
async fn call_records_on_another_machine_must_prove_their_identity_by_tls() {
    const NAME: &str = "records.example.test";
    let relay = Relay::start().await;
    let site = relay.add_site("acme", &[]).await;
    let (dir, client) = (recordings(), client(&relay));
    let far = FAR.to_string();
    let authority = Authority::new("Acme Databases");
    let trusted = format!("?ssl-ca={}", authority.file().display());
    let Some(bare) = MariaDb::start().await else { return };
    let (Some(by_address), Some(by_name)) =
        (MariaDb::start_tls(&authority, &far).await, MariaDb::start_tls(&authority, NAME).await)
    else {
        return;
    };
    let [bare, by_address, by_name] = [filled(bare).await, filled(by_address).await, filled(by_name).await];
    let Some(names) = Names::new(&format!("{FAR} {NAME}\n"), None) else { return };
    let names = Arc::new(names);
    for (url, proven) in [
        (bare.url_at(&far), false),
        (format!("{}?ssl-mode=DISABLED", bare.url_at(&far)), true),
        (by_address.url_at(&far), false),
        (format!("{}{trusted}", by_address.url_at(&far)), true),
        (format!("{}{trusted}", by_address.url_at(NAME)), false),
        (format!("{}{trusted}", by_name.url_at(NAME)), true),
    ] {
        let options = AgentOptions::new(dir.path()).with(&["--cdr", &url]).believing(&names);
        let agent = Agent::start(&relay, &site, options).await;
        let answer = search(&client, &site, CALLER, &[]).await;
        assert_eq!(answer["complete"], proven, "{url}: {:#?}", agent.process.log());
        if !proven {
            agent.process.wait_for("does not prove its identity by TLS").await;
        }
        agent.process.kill().await;
        relay.wait_for_status("acme", |status| status["state"] == "down").await;
    }
}

#[tokio::test]
async fn a_master_csv_has_the_legs_too() {
    let relay = Relay::start().await;
    let site = relay.add_site("acme", &[]).await;
    let (dir, files) = (recordings(), TempDir::new().unwrap());
    let row = |id: &str, userfield: &str| {
        let first = "\"\",\"34911223344\",\"400\",\"ctx\",\"\"\"M\"\" <34911223344>\",\"SIP/a\",\"SIP/b\",\"Queue\",\"400\"";
        let times = "\"2024-03-26 10:15:02\",\"2024-03-26 10:15:05\",\"2024-03-26 10:16:02\",60,57,\"ANSWERED\",\"3\"";
        format!("{first},{times},\"{id}\",\"{userfield}\",\"\",\"{CALLER}\",\"1\"\n")
    };
    let csv = files.path().join("Master.csv");
    fs::write(
        &csv,
        [row(CALLER, ""), row(AGENT_LEG, ""), row(HANDED_ON, "audio:handed-on-to-102.wav")].concat(),
    )
    .unwrap();
    let options = AgentOptions::new(dir.path()).with(&["--cdr", csv.to_str().unwrap()]);
    let _agent = Agent::start(&relay, &site, options).await;
    let answer = search(&client(&relay), &site, AGENT_LEG, &[]).await;
    assert_eq!(found(&answer), all());
}
