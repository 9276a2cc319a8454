//! Tests of what the service writes to the customer's audit log.

use std::path::PathBuf;

use super::*;
use crate::audit::AuditLogSettings;

struct Recorded {
    site: Site,
    path: PathBuf,
    _dir: TempDir,
}

impl Recorded {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("audit.jsonl");
        let audit_log = Some(AuditLogSettings::new(path.clone()));
        let site = Site::with("", |settings| settings.audit_log = audit_log);
        site.put(NAME, &wav(20));
        Self { site, path, _dir: dir }
    }

    /// All lines of the audit log at the end.
    async fn lines(self) -> Vec<Value> {
        self.site.service.finish().await;
        let text = fs::read_to_string(&self.path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

#[tokio::test]
async fn a_search_and_a_part_of_a_recording_are_on_record_with_masked_numbers() {
    let place = Recorded::new();
    let request = get(&format!("/search?{}", ours("&user=robin&tenant=acme")));
    let client = Client { address: Some("192.0.2.7".to_owned()), user_agent: Some("QM/1".to_owned()) };
    let context = RequestContext { id: "r-1".to_owned(), client, ..context() };
    let found = json(place.site.answer(context, request).await.response).await;
    let link = found["files"][0]["url"].as_str().unwrap();
    let link = link.strip_prefix("https://relay.example/acme-madrid").unwrap();
    assert_eq!(body(place.site.fetch(link, &[("range", "bytes=100-299")]).await).await.len(), 200);
    let lines = place.lines().await;
    let [search, begun, delivery] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!((&begun["kind"], &begun["delivery"]), (&"begun".into(), &delivery["delivery"]));
    for (field, value) in [
        ("kind", "search"),
        ("request_id", "r-1"),
        ("call_id", CALL),
        ("tenant", "acme"),
        ("user", "robin"),
        ("client", "192.0.2.7"),
        ("user_agent", "QM/1"),
        ("method", "GET"),
        ("outcome", "complete"),
    ] {
        assert_eq!(search[field], value, "{search}");
    }
    assert_eq!(
        (&search["status"], &search["found"], &search["octets"]),
        (&200.into(), &1.into(), &Value::Null)
    );
    for (field, value) in [
        ("kind", "delivery"),
        ("call_id", CALL),
        ("user", "robin"),
        ("recording", "in-*00-*********44-******26-****02-********02.17.wav"),
        ("outcome", "complete"),
    ] {
        assert_eq!(delivery[field], value, "{delivery}");
    }
    for (field, value) in [("status", 206), ("range_start", 100), ("octets", 200), ("size", 44 + 320_000)] {
        assert_eq!(delivery[field], value, "{delivery}");
    }
    assert!(delivery["time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
}

#[tokio::test]
async fn who_gives_up_a_body_shows_in_how_it_ended() {
    let place = Recorded::new();
    let link = place.site.link(&ours("")).await;
    let mut sent = Vec::new();
    for broken in [false, true] {
        let lifeline = Lifeline::default();
        let context = RequestContext { lifeline: lifeline.clone(), ..context() };
        let mut response = place.site.answer(context, get(&link)).await.response;
        let first = response.body_mut().frame().await.unwrap().unwrap();
        sent.push(first.into_data().unwrap().len());
        if broken {
            lifeline.cut();
        }
    }
    let shrinking = place.site.fetch(&link, &[]).await;
    fs::File::options().write(true).open(place.site.dir.path().join(NAME)).unwrap().set_len(10).unwrap();
    assert!(shrinking.into_body().collect().await.is_err());
    let lines = place.lines().await;
    let deliveries: Vec<_> = lines.iter().filter(|line| line["kind"] == "delivery").collect();
    let ends: Vec<_> = deliveries.iter().map(|line| line["outcome"].as_str().unwrap()).collect();
    assert_eq!(ends, ["left", "cut", "cut"]);
    // The last download had its first chunk when the file shrank.
    let bytes: Vec<usize> =
        deliveries.iter().map(|line| line["octets"].as_u64().unwrap().try_into().unwrap()).collect();
    assert!(bytes[..2] == sent && (1..=body::CHUNK_LEN).contains(&bytes[2]), "{bytes:?} {sent:?}");
}

#[tokio::test]
async fn refusals_are_on_record_with_what_was_said() {
    let place = Recorded::new();
    let link = place.site.link(&ours("")).await;
    fs::remove_file(place.site.dir.path().join(NAME)).unwrap();
    for path in [
        format!("/search?token=wrong-token&callid={CALL}"),
        format!("/search?token={TOKEN}&callid=34911223344"),
        "/recordings/forged/recording.wav".to_owned(),
        link,
        "/elsewhere".to_owned(),
    ] {
        place.site.fetch(&path, &[]).await;
    }
    let lines = place.lines().await;
    let content_info =
        lines[1..].iter().map(|line| (line["status"].as_u64().unwrap(), line["call_id"].as_str()));
    assert_eq!(
        content_info.collect::<Vec<_>>(),
        [(401, Some(CALL)), (400, None), (403, None), (404, Some(CALL))],
        "what is no call id may be a telephone number"
    );
    for line in &lines[1..] {
        assert_eq!(line["outcome"], "refused");
        assert!(line["problem"].as_str().unwrap().len() > 20, "{line}");
        assert!(!line.to_string().contains("3491") && !line.to_string().contains("wrong-token"), "{line}");
    }
}

#[tokio::test]
async fn unauthenticated_clients_cannot_fill_the_disk() {
    let place = Recorded::new();
    place.site.link(&ours("")).await;
    for n in 0..300 {
        place.site.fetch(&format!("/search?token=guess-{n}&callid={CALL}"), &[]).await;
        place.site.fetch("/recordings/forged/recording.wav", &[]).await;
    }
    place.site.link(&ours("")).await;
    let lines = place.lines().await;
    let own = lines.iter().filter(|line| line["outcome"] == "refused").count();
    let counted = lines.iter().find(|line| line["kind"] == "suppressed").unwrap();
    assert_eq!((own, &counted["count"]), (10, &590.into()));
    let found = lines.iter().filter(|line| line["found"] == 1).count();
    assert_eq!(found, 2, "who has the token always stands on record");
}
