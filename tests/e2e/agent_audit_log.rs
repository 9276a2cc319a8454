//! The audit log of the agent: searches and deliveries that the agent writes down, independent of the relay.

use std::{fs, os::unix::fs::PermissionsExt};

use harness::{
    agent::{Agent, AgentOptions},
    agent_audit_log::AgentAuditLog,
    client::{body, client, first_link, search, search_with, send},
    process::{Process, run},
    recordings::{noise, wav, write},
    relay::{Relay, Site},
    small_disk::SmallDisk,
};
use reqwest::{Client, Response, header::RANGE};
use serde_json::Value;
use tempfile::TempDir;

const CALL: &str = "1711441902.17";
const LONG_CALL: &str = "1711441902.99";
/// More than all socket buffers on the way can hold.
const LONG: usize = 64 * 1024 * 1024;
const MASKED: &str = "in-*********44-********02.17.wav";

/// A site with two calls, whose agent writes an audit log.
struct Place {
    relay: Relay,
    site: Site,
    client: Client,
    agent: Agent,
    record: AgentAuditLog,
    dir: TempDir,
}

impl Place {
    async fn new(more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let record = AgentAuditLog::in_directory(dir.path());
        Self::with(dir, record, more).await
    }

    async fn with(dir: TempDir, record: AgentAuditLog, more: &[&str]) -> Self {
        let relay = Relay::start().await;
        let site = relay.add_site("acme", &[]).await;
        write(dir.path(), format!("rec/in-34911223344-{CALL}.wav"), &wav(1.0, 1));
        write(dir.path(), format!("rec/in-34911223344-{LONG_CALL}.wav"), &noise(LONG, 1));
        let options = AgentOptions::new(dir.path().join("rec")).with(&record.flag()).with(more);
        let agent = Agent::start(&relay, &site, options).await;
        let client = Client::builder().http1_only().user_agent("story/1").build().unwrap();
        Self { relay, site, client, agent, record, dir }
    }

    async fn search(&self, call: &str) -> Value {
        search(&self.client, &self.site, call, &[("user", "robin")]).await
    }

    async fn link(&self, call: &str) -> String {
        first_link(&self.search(call).await)
    }

    /// A listener in the middle of a long recording.
    async fn listening(&self) -> Response {
        let mut response = send(self.client.get(self.link(LONG_CALL).await)).await;
        response.chunk().await.unwrap().unwrap();
        response
    }

    /// Waits until the first delivery is in the audit log.
    async fn first_delivery(&self) -> Value {
        let lines = self.record.wait_until(|lines| lines.iter().any(|line| line["kind"] == "delivery")).await;
        lines.into_iter().find(|line| line["kind"] == "delivery").unwrap()
    }
}

#[tokio::test]
async fn a_search_a_delivery_and_a_seek_are_in_the_audit_log() {
    let place = Place::new(&[]).await;
    let link = place.link(CALL).await;
    let whole = wav(1.0, 1);
    assert_eq!(body(send(place.client.get(&link)).await).await, (200, whole.clone()));
    let part = send(place.client.get(&link).header(RANGE, "bytes=100-299")).await;
    assert_eq!(body(part).await, (206, whole[100..300].to_vec()));
    let lines = place.record.wait_for(3).await;
    let summary = |line: &Value| {
        let text = |name: &str| line[name].as_str().unwrap_or("-").to_owned();
        let number = |name: &str| line[name].as_u64().map_or("-".to_owned(), |number| number.to_string());
        let texts = ["kind", "call_id", "user", "recording", "user_agent", "outcome"].map(text);
        let numbers = ["status", "found", "range_start", "octets", "size"].map(number);
        [texts.join(" "), numbers.join(" ")].join(" ")
    };
    let len = whole.len();
    let delivery = format!("delivery {CALL} robin {MASKED} story/1 complete");
    assert_eq!(summary(&lines[0]), format!("search {CALL} robin - story/1 complete 200 1 - - -"));
    assert_eq!(summary(&lines[1]), format!("{delivery} 200 - 0 {len} {len}"));
    assert_eq!(summary(&lines[2]), format!("{delivery} 206 - 100 200 {len}"));
    assert!(lines.iter().all(|line| line["client"] == "127.0.0.1"), "{lines:?}");
    let text = fs::read_to_string(place.record.path()).unwrap();
    assert!(!text.contains("34911223344") && !text.contains(&place.site.search_token), "{text}");
    assert_eq!(fs::metadata(place.record.path()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn full_names_are_an_option_and_without_the_flag_there_is_no_file() {
    let place = Place::new(&["--audit-names", "full"]).await;
    body(send(place.client.get(place.link(CALL).await)).await).await;
    assert_eq!(place.record.wait_for(2).await[1]["recording"], format!("in-34911223344-{CALL}.wav"));
    let dir = tempfile::tempdir().unwrap();
    let site = place.relay.add_site("other", &[]).await;
    let mut agent = Agent::start(&place.relay, &site, AgentOptions::new(dir.path())).await;
    search(&place.client, &site, CALL, &[]).await;
    agent.process.terminate();
    agent.process.wait().await;
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_listener_who_leaves_is_distinguished_from_one_who_is_cut_off() {
    let mut place = Place::new(&[]).await;
    drop(place.listening().await);
    let left = place.first_delivery().await;
    assert_eq!((&left["outcome"], &left["status"]), (&"left".into(), &200.into()));
    let sent = left["octets"].as_u64().unwrap();
    assert!(sent > 0 && sent < LONG as u64, "{left}");
    let listener = place.listening().await;
    place.relay.kill().await;
    let lines = place.record.wait_for(4).await;
    assert_eq!((&lines[3]["outcome"], &lines[3]["kind"]), (&"cut".into(), &"delivery".into()));
    drop(listener);
}

/// Flags of an audit log that is full soon.
const SMALL: [&str; 4] = ["--audit-log-size", "4KiB", "--audit-log-keep", "3"];

/// Searches for this many calls; the last one is written last.
async fn ask_for_calls(place: &Place, count: u32) {
    for number in 0..count {
        place.search(&format!("1711441999.{number}")).await;
    }
    body(send(place.client.get(place.link(CALL).await)).await).await;
    place.first_delivery().await;
}

#[tokio::test]
async fn the_audit_log_is_rotated_and_keeps_a_limited_number_of_files() {
    let mut place = Place::new(&[&SMALL[..], &["--audit-log-min-age", "0s"]].concat()).await;
    ask_for_calls(&place, 55).await;
    ask_for_calls(&place, 55).await;
    // The log's thread may be about to begin a new file. At its end, the agent has written everything.
    place.agent.process.terminate();
    place.agent.process.wait().await;
    let aside = place.record.aside();
    assert_eq!(aside.len(), 3, "{aside:?}");
    for file in aside {
        let file = fs::metadata(file).unwrap();
        assert!(file.len() <= 4096 && file.len() > 3000, "{}", file.len());
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
    }
    let kept = place.record.all_lines();
    assert!(
        kept.len() > 30 && kept.windows(2).all(|pair| pair[0]["time"].as_str() <= pair[1]["time"].as_str())
    );
}

#[tokio::test]
async fn a_client_with_the_token_cannot_push_lines_out_of_the_audit_log() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state.json");
    let record = AgentAuditLog::in_directory(dir.path());
    let flags = [&SMALL[..], &["--state-file", state.to_str().unwrap()]].concat();
    let mut place = Place::with(dir, record, &flags).await;
    let first = place.link(CALL).await;
    body(send(place.client.get(&first)).await).await;
    // Each search is for another existing call, so that none is a repetition.
    for number in 0..100 {
        let call = format!("1711450000.{number}");
        write(place.dir.path(), format!("rec/in-{call}.wav"), &wav(0.1, 1));
        place.link(&call).await;
    }
    place.agent.process.wait_for_code("audit_log.alarm").await;
    let alarm = |status: &Value| status.to_string().contains("grows too fast");
    place.relay.wait_for_status("acme", alarm).await;
    assert!(fs::read_to_string(&state).unwrap().contains("grows too fast"));
    place.agent.process.terminate();
    place.agent.process.wait().await;
    let lines = place.record.all_lines();
    assert_eq!((&lines[0]["call_id"], &lines[0]["user"]), (&CALL.into(), &"robin".into()));
    assert!(place.record.aside().len() > 3);
    assert_eq!(lines.iter().filter(|line| line["kind"] == "search").count(), 101);
    harness::matrix::row(
        "agent",
        "a client with the search token fills the audit log many times",
        "no line younger than 90 days is deleted; a warning in the log, in `status` and at the relay",
        format!("all {} lines kept, in {} files", lines.len(), place.record.aside().len() + 1),
    );
}

#[tokio::test]
async fn repeated_requests_of_one_client_are_counted() {
    let mut place = Place::new(&[]).await;
    let link = place.link(CALL).await;
    for _ in 0..100 {
        place.link(CALL).await;
        // Searches without a result are counted together, for all calls.
        place.search(&format!("1711460000.{}", rand::random::<u32>())).await;
        let part = send(place.client.get(&link).header(RANGE, "bytes=0-9")).await;
        assert_eq!(body(part).await.0, 206);
    }
    place.agent.process.terminate();
    place.agent.process.wait().await;
    let lines = place.record.lines();
    let suppressed: Vec<_> = lines.iter().filter(|line| line["kind"] == "suppressed").collect();
    let count = |line: &Value| line["count"].as_u64().unwrap();
    assert_eq!(lines.len() - suppressed.len(), 180);
    assert_eq!(suppressed.iter().map(|line| count(line)).sum::<u64>(), 121);
    let delivery = suppressed.iter().find(|line| line["of"] == "delivery").unwrap();
    assert_eq!(
        (&delivery["recording"], &delivery["client"], &delivery["octets"]),
        (&MASKED.into(), &"127.0.0.1".into(), &400.into())
    );
    assert!(
        suppressed.iter().any(|line| line["of"] == "search" && line["call_id"] == CALL && count(line) == 41)
    );
}

#[tokio::test]
async fn logrotate_may_move_the_file_away() {
    let place = Place::new(&["--audit-log-size", "0"]).await;
    place.search(CALL).await;
    place.record.wait_for(1).await;
    let moved = place.record.path().with_extension("moved");
    fs::rename(place.record.path(), &moved).unwrap();
    place.agent.process.signal("HUP");
    place.agent.process.wait_for_code("config.reloaded").await;
    // A new file is started on SIGHUP, before there is anything to write.
    let begun = async {
        while !place.record.path().exists() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(harness::process::PATIENCE, begun).await.unwrap();
    place.search(CALL).await;
    assert_eq!(place.record.wait_for(1).await.len(), 1);
    fs::remove_file(place.record.path()).unwrap();
    place.search(CALL).await;
    assert_eq!(place.record.wait_for(1).await.len(), 1, "also without a signal");
    assert_eq!(fs::read_to_string(moved).unwrap().lines().count(), 1);
}

#[tokio::test]
async fn another_path_takes_effect_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("agent.toml");
    let (first, second) =
        (AgentAuditLog::in_directory(dir.path()), AgentAuditLog::in_directory(&dir.path().join("second")));
    fs::create_dir(dir.path().join("second")).unwrap();
    let recorded =
        |record: &AgentAuditLog| fs::write(&config, format!("audit-log = '{}'", record.path().display()));
    recorded(&first).unwrap();
    let relay = Relay::start().await;
    let site = relay.add_site("acme", &[]).await;
    write(dir.path(), format!("rec/in-{CALL}.wav"), &wav(1.0, 1));
    let options = AgentOptions::new(dir.path().join("rec")).with(&["--config", config.to_str().unwrap()]);
    let agent = Agent::start(&relay, &site, options).await;
    let client = client(&relay);
    search(&client, &site, CALL, &[]).await;
    first.wait_for(1).await;
    recorded(&second).unwrap();
    agent.process.wait_for_code("config.reloaded").await;
    search(&client, &site, CALL, &[]).await;
    second.wait_for(1).await;
    assert_eq!((first.lines().len(), second.lines().len()), (1, 1));
}

#[tokio::test]
async fn a_full_disk_stops_no_playback_and_loses_nothing_but_lines() {
    let Some(disk) = SmallDisk::mount() else { return };
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state.json");
    let record = AgentAuditLog::in_directory(disk.path());
    let place = Place::with(dir, record, &["--state-file", state.to_str().unwrap()]).await;
    place.search(CALL).await;
    place.record.wait_for(1).await;
    disk.fill();
    let link = place.link(CALL).await;
    let mark = place.agent.process.mark();
    // The page that is in use has room for a few lines.
    let mut asked = 2;
    while !place.agent.process.log().iter().any(|line| line.contains("cannot be written")) {
        place.search(CALL).await;
        asked += 1;
    }
    for number in 0..1100 {
        // Calls that exist, so that none is a repetition.
        let call = format!("1711450000.{number}");
        write(place.dir.path(), format!("rec/in-{call}.wav"), &wav(0.01, 1));
        place.link(&call).await;
        asked += 1;
    }
    let part = send(place.client.get(&link).header(RANGE, "bytes=0-9")).await;
    assert_eq!(body(part).await.0, 206, "no request waits for the disk");
    asked += 1;
    let said = fs::read_to_string(&state).unwrap();
    assert!(said.contains("cannot be written") && said.contains("No space left"), "{said}");
    disk.free();
    place.agent.process.wait_for_code_after(mark, "audit_log.recovered").await;
    place.search(CALL).await;
    let lost = |line: &Value| line["kind"] == "lost";
    let lines =
        place.record.wait_until(|lines| lines.iter().any(lost) && !lost(&lines[lines.len() - 1])).await;
    let count = lines.iter().find(|line| lost(line)).unwrap()["count"].as_u64().unwrap();
    assert!(count > 0);
    assert_eq!(lines.len() as u64 - 1 + count, asked + 1, "every line is there or counted");
    let log = place.agent.process.log();
    assert_eq!(log.iter().filter(|line| line.contains("cannot be written")).count(), 1, "said once");
}

#[tokio::test]
async fn an_agent_that_ends_writes_everything_down_first() {
    let mut place = Place::new(&[]).await;
    let listener = place.listening().await;
    place.agent.process.terminate();
    place.agent.process.wait_for_code("tunnel.draining").await;
    assert!(listener.bytes().await.unwrap().len() > LONG / 2);
    assert_eq!(place.agent.process.wait().await.code(), Some(0));
    let lines = place.record.lines();
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[1]["outcome"], &lines[1]["octets"]), (&"complete".into(), &LONG.into()));
}

#[tokio::test]
async fn a_delivery_that_the_end_cuts_is_written_down_too() {
    let mut place = Place::new(&[]).await;
    let listener = place.listening().await;
    place.agent.process.terminate();
    place.agent.process.wait_for_code("tunnel.draining").await;
    place.relay.kill().await;
    assert_eq!(place.agent.process.wait().await.code(), Some(0));
    assert_eq!(place.first_delivery().await["outcome"], "cut");
    drop(listener);
}

#[tokio::test]
async fn a_delivery_of_a_killed_agent_is_in_the_audit_log_and_is_closed_at_the_next_start() {
    let mut place = Place::new(&[]).await;
    let listener = place.listening().await;
    let begun = place.record.wait_for_begun(1).await;
    place.agent.process.signal("KILL");
    place.agent.process.wait().await;
    assert_eq!(place.record.lines().len(), 1, "the search alone has ended");
    assert_eq!(
        (begun.len(), &begun[0]["call_id"], &begun[0]["user"]),
        (1, &LONG_CALL.into(), &"robin".into())
    );
    let options = AgentOptions::new(place.dir.path().join("rec")).with(&place.record.flag());
    let _agent = Agent::start(&place.relay, &place.site, options).await;
    let closed = place.first_delivery().await;
    assert_eq!((&closed["outcome"], &closed["delivery"]), (&"cut".into(), &begun[0]["delivery"]));
    drop(listener);
}

#[tokio::test]
async fn a_call_is_erased_from_every_file_while_the_agent_continues_to_write() {
    let place = Place::new(&SMALL).await;
    ask_for_calls(&place, 30).await;
    let before = place.record.all_lines();
    let about = |line: &&Value| line["call_id"] == CALL;
    let gone = before.iter().filter(about).count();
    assert!(gone >= 3, "the search and both lines of the delivery");
    let asking = async {
        for number in 0..100 {
            place.search(&format!("pbx2-1711441800.{number}")).await;
        }
    };
    let path = place.record.path().to_str().unwrap();
    let arguments = ["audit", "erase", CALL, "--audit-log", path, "--reason", "request 4711"];
    let ((), (code, said, errors)) = tokio::join!(asking, run("audiovault-agent", &arguments, &[]));
    assert_eq!(code, 0, "{errors}");
    assert!(
        said.contains(&format!("{gone} lines from")) && said.contains("audiovault-relay audit erase"),
        "{said}"
    );
    let all = || place.record.all_lines();
    let mut after = all();
    while after
        .iter()
        .filter(|line| line["call_id"].as_str().is_some_and(|id| id.starts_with("pbx2")))
        .count()
        < 20
    {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        after = all();
    }
    assert_eq!(after.iter().filter(about).count(), 0);
    let erased: Vec<_> = after.iter().filter(|line| line["kind"] == "erased").collect();
    assert_eq!(
        (erased.len(), &erased[0]["count"], &erased[0]["reason"]),
        (1, &gone.into(), &"request 4711".into())
    );
    let kept = |lines: &[Value]| {
        lines
            .iter()
            .filter(|line| line["call_id"].as_str().is_some_and(|id| id.starts_with("1711441999")))
            .count()
    };
    assert_eq!(kept(&after), kept(&before));
    let log = place.agent.process.log().concat();
    assert!(!log.contains("1711441999.") && (log.contains("call=\"~") || log.contains("call=~")), "{log}");
}

#[tokio::test]
async fn the_classic_audiovault_records_who_is_at_the_other_end() {
    let dir = tempfile::tempdir().unwrap();
    let record = AgentAuditLog::in_directory(dir.path());
    write(dir.path(), format!("rec/in-34911223344-{CALL}.wav"), &wav(1.0, 1));
    let path = format!("file:{}/rec", dir.path().display());
    let mut arguments = vec!["serve", "--bind-to", "127.0.0.1:0", "--token", "master-token", "--path", &path];
    arguments.extend(record.flag());
    let arguments: Vec<_> = arguments.into_iter().map(str::to_owned).collect();
    let mut agent = Process::start("audiovault-agent", &arguments, &[]);
    let line = agent.wait_for_code("listener.started").await;
    let address = line.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
    let client = Client::builder().user_agent("story/1").build().unwrap();
    let url = format!("http://{address}/search?token=master-token&callid={CALL}&user=robin");
    let found: Value = serde_json::from_str(&send(client.get(url)).await.text().await.unwrap()).unwrap();
    body(send(client.get(first_link(&found))).await).await;
    agent.terminate();
    assert_eq!(agent.wait().await.code(), Some(0));
    let lines = record.lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    for line in &lines {
        assert_eq!((&line["client"], &line["user_agent"]), (&"127.0.0.1".into(), &"story/1".into()));
        assert_eq!((&line["user"], &line["outcome"]), (&"robin".into(), &"complete".into()));
    }
    assert_eq!(lines[1]["recording"], MASKED);
}

/// One of many requests, each of its own kind.
async fn ask(place: &Place, number: usize, link: &str) {
    let get = || place.client.get(link);
    let response = match number % 10 {
        0 => search_with(&place.client, &place.site, CALL, &[("user", "robin"), ("tenant", "shop")]).await,
        1 => search_with(&place.client, &place.site, "1711441902.1", &[]).await,
        2 => search_with(&place.client, &place.site, "400", &[]).await,
        // The relay itself refuses a client that guesses more often.
        3 if number < 80 => {
            let guesser = Site { search_token: "guessed-token".to_owned(), ..place.site.clone() };
            search_with(&place.client, &guesser, CALL, &[]).await
        }
        4 => send(get().header(RANGE, format!("bytes={number}-"))).await,
        5 => send(get().header(RANGE, "bytes=99999999-")).await,
        6 => send(place.client.head(link)).await,
        7 => send(get().header("if-none-match", "*")).await,
        8 => send(get().header("if-match", "\"other\"")).await,
        _ => send(get()).await,
    };
    body(response).await;
}

#[tokio::test]
async fn the_audit_logs_of_relay_and_agent_agree_on_a_hundred_mixed_requests() {
    let place = Place::new(&[]).await;
    let link = place.link(CALL).await;
    for batch in (0..98usize).collect::<Vec<_>>().chunks(7) {
        futures_util::future::join_all(batch.iter().map(|number| ask(&place, *number, &link))).await;
    }
    // The search for the link, and a long download whose listener leaves, make a hundred and one.
    drop(place.listening().await);
    let own = place.record.wait_for(101).await;
    let relays = place.relay.audit(101).await;
    for line in relays {
        let columns: Vec<&str> = line.split(',').collect();
        let [
            _,
            _,
            kind,
            _,
            tenant,
            call_id,
            recording,
            user,
            client,
            agent,
            status,
            outcome,
            found,
            start,
            bytes,
            size,
            _,
            id,
        ] = columns.as_slice()
        else {
            panic!("{line}")
        };
        let ours =
            own.iter().find(|ours| ours["request_id"] == *id).unwrap_or_else(|| panic!("{line} is missing"));
        let text = |name: &str| {
            let number = || ours[name].as_u64().map_or(String::new(), |number| number.to_string());
            ours[name].as_str().map_or_else(number, str::to_owned)
        };
        // A text that is not a call id may be a telephone number; the audit log of the agent leaves it out.
        let call_id = if *status == "400" { &"" } else { call_id };
        for (name, theirs) in [
            ("kind", kind),
            ("tenant", tenant),
            ("call_id", call_id),
            ("recording", recording),
            ("user", user),
            ("client", client),
            ("user_agent", agent),
            ("status", status),
            ("outcome", outcome),
            ("found", found),
            ("range_start", start),
            ("size", size),
        ] {
            assert_eq!(text(name), **theirs, "{name}: {ours} {line}");
        }
        let (sent, theirs) = (ours["octets"].as_u64().unwrap_or(0), bytes.parse::<u64>().unwrap());
        assert!(sent == theirs || (*outcome == "left" && sent > theirs), "{ours} {line}");
    }
}
