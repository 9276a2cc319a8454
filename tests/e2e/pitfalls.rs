//! Files on the disks of real sites that must not hide a recording and must not be taken for one.

use std::time::SystemTime;

use harness::{
    agent::{Agent, AgentOptions},
    client::{client, names, search, search_with},
    recordings::{wav, write, write_at},
    relay::{Relay, Site},
};
use reqwest::Client;
use serde_json::Value;
use tempfile::TempDir;

struct Place {
    dir: TempDir,
    relay: Relay,
    site: Site,
    client: Client,
}

impl Place {
    async fn new() -> Self {
        let relay = Relay::start().await;
        let site = relay.add_site("acme", &[]).await;
        let client = client(&relay);
        Self { dir: tempfile::tempdir().unwrap(), relay, site, client }
    }

    fn put(&self, path: &str) {
        write(self.dir.path(), path, &wav(0.5, 1));
    }

    fn options(&self, pattern: &str) -> AgentOptions {
        AgentOptions::new(self.dir.path().join(pattern))
    }

    async fn agent(&self, options: AgentOptions) -> Agent {
        Agent::start(&self.relay, &self.site, options).await
    }

    async fn search(&self, call: &str, more: &[(&str, &str)]) -> Value {
        search(&self.client, &self.site, call, more).await
    }

    async fn names(&self, call: &str) -> Vec<String> {
        names(&self.search(call, &[]).await)
    }
}

#[tokio::test]
async fn an_id_matches_whole_tokens_only() {
    let place = Place::new().await;
    for name in ["a-1629882000.1.wav", "b-1629882000.17.wav", "c-11629882000.1.wav", "d-1629882000_1-x.wav"] {
        place.put(name);
    }
    let _agent = place.agent(place.options("")).await;
    assert_eq!(place.names("1629882000.1").await, ["a-1629882000.1.wav", "d-1629882000_1-x.wav"]);
    assert_eq!(place.names("1629882000.17").await, ["b-1629882000.17.wav"]);
    assert!(place.names("1629882000.2").await.is_empty());
}

#[tokio::test]
async fn a_text_that_is_no_call_id_is_refused_and_finds_nothing() {
    let place = Place::new().await;
    place.put("q-400-100-20240326-093142-1711441902.17.wav");
    let _agent = place.agent(place.options("")).await;
    for wrong in ["400", "20240326", "100", "*", "../etc/passwd", "1711441902", ".wav", ""] {
        let response = search_with(&place.client, &place.site, wrong, &[]).await;
        assert_eq!(response.status(), 400, "{wrong:?}");
    }
}

#[tokio::test]
async fn the_look_back_reaches_over_midnight_and_over_the_hour() {
    let place = Place::new().await;
    // 2024-03-26 00:10:00 UTC: the PBX began to record the evening before.
    place.put("days/2024/03/25/in-1711411800.1.wav");
    place.put("hours/2024/03/25/23/in-1711411800.2.wav");
    place.put("hours/2024/03/25/12/in-1711411800.3.wav");
    let days = place.options("days/%YY/%MM/%DD");
    let hours = format!("file:{}", place.dir.path().join("hours/%YY/%MM/%DD/%HH").display());
    let _agent = place.agent(days.path(hours).with(&["--timezone", "UTC"])).await;
    assert_eq!(place.names("1711411800.1").await, ["in-1711411800.1.wav"]);
    assert_eq!(place.names("1711411800.2").await, ["in-1711411800.2.wav"]);
    assert!(place.names("1711411800.3").await.is_empty(), "half a day is too far back");
}

#[tokio::test]
async fn directories_are_named_in_the_zone_of_the_site() {
    let place = Place::new().await;
    // 2024-03-26 02:00:00 UTC is still the evening of the 25th in Los Angeles, by more than the look-back.
    place.put("2024/03/25/in-1711418400.1.wav");
    place.put("2024/03/26/in-1711418400.1.wav");
    let options =
        place.options("%YY/%MM/%DD").with(&["--timezone", "America/Los_Angeles", "--look-back", "1h"]);
    let _agent = place.agent(options).await;
    let found = place.search("1711418400.1", &[]).await;
    assert_eq!(found["files"].as_array().unwrap().len(), 1, "only the 25th is searched: {found}");
}

#[tokio::test]
async fn a_tenant_never_sees_another_ones_recordings() {
    let place = Place::new().await;
    place.put("blue/in-1711441902.1.wav");
    place.put("red/in-1711441902.1.wav");
    let tenants = place.dir.path().join("tenants.json");
    let entries = r#"[{"tenant":"blue","secret":"blue-secret-1","note":""},
        {"tenant":"red","secret":"red-secret-2","note":""},
        {"tenant":"nobody","secret":"N0b0dyKn0ws","note":"a dummy"}]"#;
    std::fs::write(&tenants, entries).unwrap();
    let options = place.options("%TE").with(&["--tenants", tenants.to_str().unwrap()]);
    let _agent = place.agent(options).await;
    let ask = async |token: &str, tenant: &str| {
        let mut site = place.site.clone();
        site.search_token = token.to_owned();
        let response = search_with(&place.client, &site, "1711441902.1", &[("tenant", tenant)]).await;
        let status = response.status().as_u16();
        let answer: Value = response.json().await.unwrap();
        (status, answer["files"].as_array().map(Vec::len))
    };
    assert_eq!(ask("blue-secret-1", "blue").await, (200, Some(1)));
    assert_eq!(ask("blue-secret-1", "red").await, (401, None));
    assert_eq!(ask("red-secret-2", "blue").await, (401, None));
    assert_eq!(ask("N0b0dyKn0ws", "nobody").await, (401, None), "that secret is publicly known");
    assert_eq!(ask("wrong", "blue").await, (401, None));
    assert_eq!(
        ask(&place.site.search_token, "red").await,
        (200, Some(1)),
        "the site's own token is for all tenants"
    );
    assert_eq!(
        ask(&place.site.search_token, "").await,
        (200, Some(0)),
        "a search without a tenant finds nothing"
    );
}

#[tokio::test]
async fn debris_of_storage_devices_is_no_recording() {
    let place = Place::new().await;
    for debris in [
        "._in-1711441902.1.wav",
        ".in-1711441902.1.wav",
        "#recycle/in-1711441902.1.wav",
        "@Recycle/in-1711441902.1.wav",
        "@eaDir/in-1711441902.1.wav/SYNO.wav",
        "@Recently-Snapshot/in-1711441902.1.wav",
        ".snapshot/in-1711441902.1.wav",
        "lost+found/in-1711441902.1.wav",
        "in-1711441902.1.wav.d/notes.txt",
        "in-1711441902.1.txt",
        "dir-1711441902.1.wav/other.wav",
    ] {
        place.put(debris);
    }
    place.put("kept/in-1711441902.1.wav");
    let _agent = place.agent(place.options("")).await;
    assert_eq!(place.names("1711441902.1").await, ["in-1711441902.1.wav"]);
}

#[tokio::test]
async fn twins_are_one_and_the_two_sides_are_two() {
    let place = Place::new().await;
    for name in
        ["a-1711441902.1.wav", "a-1711441902.1.mp3", "b-1711441902.2-in.wav", "b-1711441902.2-out.wav"]
    {
        place.put(name);
    }
    let _agent = place.agent(place.options("")).await;
    assert_eq!(place.names("1711441902.1").await.len(), 1);
    assert_eq!(place.names("1711441902.2").await, ["b-1711441902.2-in.wav", "b-1711441902.2-out.wav"]);
}

#[tokio::test]
async fn a_missing_root_is_not_the_same_as_no_recording() {
    let place = Place::new().await;
    place.put("here/in-1711441902.1.wav");
    let missing = format!("file:{}", place.dir.path().join("not-mounted").display());
    let _agent = place.agent(place.options("here").path(missing)).await;
    let nothing = place.search("1711441902.9", &[]).await;
    assert_eq!((names(&nothing).len(), &nothing["complete"]), (0, &Value::Bool(false)));
    assert_eq!(place.names("1711441902.1").await, ["in-1711441902.1.wav"]);
    place.relay.wait_for_status("acme", |status| status["state"] == "degraded").await;
}

#[tokio::test]
async fn growing_and_empty_files_say_so() {
    let place = Place::new().await;
    write_at(place.dir.path(), "in-1711441902.1.wav", &wav(1.0, 1), SystemTime::now());
    write(place.dir.path(), "in-1711441902.2.wav", &wav(0.0, 1));
    let _agent = place.agent(place.options("")).await;
    let growing = place.search("1711441902.1", &[]).await;
    assert_eq!(growing["files"][0]["growing"], true, "{growing}");
    let empty = place.search("1711441902.2", &[]).await;
    assert_eq!(empty["files"][0]["empty"], true, "{empty}");
}

#[tokio::test]
async fn drivers_are_asked_in_order_until_one_matches_or_all_if_wanted() {
    let place = Place::new().await;
    place.put("pbx/in-1711441902.1.wav");
    place.put("nas/in-1711441902.1-part2.wav");
    place.put("nas/in-1711441902.2.wav");
    let nas = format!("file:{}", place.dir.path().join("nas").display());
    let first = place.agent(place.options("pbx").path(nas.clone())).await;
    assert_eq!(place.names("1711441902.1").await, ["in-1711441902.1.wav"]);
    assert_eq!(place.names("1711441902.2").await, ["in-1711441902.2.wav"]);
    first.process.kill().await;
    place.relay.wait_for_status("acme", |status| status["state"] == "down").await;
    let _all = place.agent(place.options("pbx").path(nas).with(&["--search", "all"])).await;
    assert_eq!(place.names("1711441902.1").await.len(), 2);
}

#[tokio::test]
async fn nothing_outside_the_root_is_ever_found() {
    let place = Place::new().await;
    place.put("outside/in-1711441902.1.wav");
    place.put("root/in-1711441902.2.wav");
    let root = place.dir.path().join("root");
    std::os::unix::fs::symlink("../outside", root.join("link")).unwrap();
    std::os::unix::fs::symlink("../outside/in-1711441902.1.wav", root.join("x-1711441902.1.wav")).unwrap();
    let _agent = place.agent(place.options("root")).await;
    assert!(place.names("1711441902.1").await.is_empty());
    assert_eq!(place.names("1711441902.2").await, ["in-1711441902.2.wav"]);
    for tenant in ["../outside", "..", "/", "a/../../outside"] {
        let found = place.search("1711441902.1", &[("tenant", tenant), ("server", tenant)]).await;
        assert!(names(&found).is_empty());
    }
}

#[tokio::test]
async fn difficult_names_are_found_and_returned_correctly() {
    use std::os::unix::ffi::OsStrExt;

    let place = Place::new().await;
    place.put("señor \"Ñ\" <b>-1711441902.1.wav");
    let broken = std::ffi::OsStr::from_bytes(b"caf\xe9-1711441902.2.wav");
    write(place.dir.path(), broken, &wav(0.5, 2));
    let _agent = place.agent(place.options("")).await;
    let found = place.search("1711441902.1", &[]).await;
    let response = harness::client::send(place.client.get(harness::client::first_link(&found))).await;
    let disposition = response.headers()["content-disposition"].to_str().unwrap().to_owned();
    assert!(disposition.starts_with("inline"), "{disposition}");
    assert!(disposition.contains("filename*=UTF-8''se%C3%B1or"), "{disposition}");
    let found = place.search("1711441902.2", &[]).await;
    let response = harness::client::send(place.client.get(harness::client::first_link(&found))).await;
    assert_eq!(response.bytes().await.unwrap(), wav(0.5, 2));
}
