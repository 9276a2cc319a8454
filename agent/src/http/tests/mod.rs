//! Tests of the service from the client's side: searching.

mod decoded;
mod denied;
mod playing;
mod recorded;

use std::{fs, time::Duration};

use audiovault_agent_core::{pattern::Pattern, secret::Secret, tenants::Tenant};
use audiovault_common::request_id::new_id;
use audiovault_protocol::{
    http::{
        context::{Client, Lifeline, RequestContext},
        parameters::Field,
    },
    identity::site::SiteId,
    limits::AGENT_DEADLINE,
    link::AgentAnswer,
};
use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::testing::{put, put_aged, set_age, settings, wav};

const TOKEN: &str = "master-token";
const CALL: &str = "1711444502.17";
const NAME: &str = "in-600-34911223344-20240326-101502-1711444502.17.wav";

struct Site {
    dir: TempDir,
    service: Current,
}

impl Site {
    /// A site whose recordings lie in `<temporary>/<layout>`.
    fn new(layout: &str) -> Self {
        Self::with(layout, |_| {})
    }

    fn with(layout: &str, change: impl FnOnce(&mut ServiceSettings)) -> Self {
        let dir = TempDir::new().unwrap();
        let pattern = Pattern::parse(&format!("file:{}{layout}", dir.path().display())).unwrap();
        let tenants = ["acme", "other"]
            .map(|name| Tenant { name: name.to_owned(), secret: Secret::new(format!("secret-of-{name}")) });
        let site = SiteId::parse("acme-madrid").unwrap();
        let mut settings = settings(pattern);
        settings.access = Access::new(Some(&Secret::new(TOKEN)), &tenants, Some(site.as_str())).unwrap();
        change(&mut settings);
        Self { dir, service: Current::new(settings) }
    }

    fn put(&self, path: &str, content: &[u8]) {
        put(self.dir.path().join(path), content);
    }

    async fn answer(&self, context: RequestContext, request: Request<Body>) -> AgentAnswer<ServiceBody> {
        self.service.answer(context, request).await
    }

    async fn ask(&self, request: Request<Body>) -> Response<ServiceBody> {
        self.answer(context(), request).await.response
    }

    async fn search(&self, query: &str) -> (StatusCode, Value) {
        let response = self.ask(get(&format!("/search?{query}"))).await;
        (response.status(), json(response).await)
    }

    /// The path of the first recording that a search finds.
    async fn link(&self, query: &str) -> String {
        let (_, found) = self.search(query).await;
        let url = found["files"][0]["url"].as_str().unwrap();
        url.strip_prefix("https://relay.example/acme-madrid").unwrap().to_owned()
    }

    async fn fetch(&self, path: &str, headers: &[(&str, &str)]) -> Response<ServiceBody> {
        self.fetch_all(path, headers).await.response
    }

    /// As [`Site::fetch`], with what belongs to the response beside HTTP.
    async fn fetch_all(&self, path: &str, headers: &[(&str, &str)]) -> AgentAnswer<ServiceBody> {
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.answer(context(), request.body(Body::empty()).unwrap()).await
    }
}

fn context() -> RequestContext {
    RequestContext {
        id: new_id(),
        client: Client::default(),
        base: "https://relay.example/acme-madrid".into(),
        deadline: AGENT_DEADLINE,
        lifeline: Lifeline::default(),
    }
}

fn get(uri: &str) -> Request<Body> {
    Request::get(uri).body(Body::empty()).unwrap()
}

fn ours(rest: &str) -> String {
    format!("token={TOKEN}&callid={CALL}{rest}")
}

async fn body(response: Response<ServiceBody>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

async fn json(response: Response<ServiceBody>) -> Value {
    serde_json::from_slice(&body(response).await).unwrap()
}

fn header<'a>(response: &'a Response<ServiceBody>, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn a_call_is_found_and_its_link_plays() {
    let site = Site::new("/%YY/%MM/%DD");
    site.put(&format!("2024/03/26/{NAME}"), &wav(2));
    let AgentAnswer { response, audit, .. } =
        site.answer(context(), get(&format!("/search?{}", ours("&user=robin")))).await;
    let audit = audit.unwrap();
    assert_eq!((audit.call_id.as_deref(), audit.found), (Some(CALL), Some(1)));
    assert_eq!(audit.user.as_deref(), Some("robin"));
    assert_eq!(header(&response, "content-type"), "application/json");
    let found = json(response).await;
    assert_eq!((&found["status"], &found["complete"]), (&Value::from("ok"), &Value::from(true)));
    let file = &found["files"][0];
    assert_eq!(file["filename"], NAME);
    assert_eq!(file["size"], 44 + 32_000);
    assert_eq!(file["content_type"], "audio/wav");
    assert_eq!(file["duration"], 2.0);
    assert!(file.get("empty").is_none() && file.get("growing").is_none());
    for time in ["modified", "expires"] {
        let text = file[time].as_str().unwrap();
        assert!(text.parse::<jiff::Timestamp>().is_ok() && text.ends_with('Z') && text.len() == 20, "{text}");
    }
    let link = site.link(&ours("")).await;
    assert!(link.ends_with("/recording.wav") && !link.contains("349"), "no number stands in an address");
    let AgentAnswer { response: played, audit, .. } = site.fetch_all(&link, &[]).await;
    assert_eq!(played.status(), 200);
    let audit = audit.unwrap();
    assert_eq!(audit.recording.as_deref(), Some("in-*00-*********44-******26-****02-********02.17.wav"));
    assert_eq!(audit.bytes_per_second, Some(16_000));
    assert!(body(played).await == wav(2));
}

#[tokio::test]
async fn parameters_may_come_in_every_way() {
    let site = Site::new("");
    site.put(NAME, &wav(1));
    let form = "application/x-www-form-urlencoded";
    for (uri, kind, content) in [
        ("/search", form, ours("&start=1711444502000")),
        ("/search/", form, ours("&start=2024-03-26+10:15:02")),
        (
            "/search?tenant=acme-madrid",
            "application/json",
            format!(r#"{{"token":"{TOKEN}","uniqueid":{CALL}}}"#),
        ),
        ("/search?callid=400", form, ours("")),
    ] {
        let request = Request::post(uri).header("content-type", kind).body(Body::from(content)).unwrap();
        let response = site.ask(request).await;
        assert_eq!(response.status(), 200, "{uri}");
        assert_eq!(json(response).await["files"].as_array().unwrap().len(), 1, "{uri}");
    }
}

#[tokio::test]
async fn a_call_without_recording_is_an_answer_and_a_missing_disk_is_another() {
    let site = Site::new("/nas");
    site.put("nas/other.wav", &wav(1));
    let (status, found) = site.search(&ours("")).await;
    assert_eq!(
        (status.as_u16(), &found["complete"], &found["files"]),
        (200, &true.into(), &Value::Array(vec![]))
    );
    fs::remove_dir_all(site.dir.path().join("nas")).unwrap();
    let (status, found) = site.search(&ours("")).await;
    assert_eq!((status.as_u16(), &found["complete"]), (200, &false.into()));
}

#[tokio::test]
async fn every_refusal_is_a_problem_with_a_request_id() {
    let site = Site::new("");
    let long = format!("{}&x={}", ours(""), "x".repeat(64 * 1024));
    let post = |content: &str| Request::post("/search").body(Body::from(content.to_owned())).unwrap();
    let method =
        |method: Method, uri: &str| Request::builder().method(method).uri(uri).body(Body::empty()).unwrap();
    for (expected, request) in [
        (401, get("/search")),
        (401, get(&format!("/search?callid={CALL}"))),
        (401, get(&format!("/search?token=wrong-token&callid={CALL}"))),
        (400, get(&format!("/search?token={TOKEN}"))),
        (400, get(&format!("/search?token={TOKEN}&callid=400"))),
        (400, get(&format!("/search?{}", ours("&start=yesterday")))),
        (400, post("{")),
        (413, post(&long)),
        (405, method(Method::DELETE, "/search")),
        (405, method(Method::PUT, "/search/")),
        (405, method(Method::POST, "/recordings/a/recording.wav")),
        (403, get("/recordings/a/recording.wav")),
        (404, get("/")),
        (404, get("/recordings/a")),
    ] {
        let name = format!("{} {}", request.method(), request.uri());
        let response = site.ask(request).await;
        assert_eq!(response.status(), expected, "{name}");
        assert_eq!(header(&response, "content-type"), "application/problem+json", "{name}");
        assert_eq!(response.headers().contains_key("allow"), expected == 405, "{name}");
        assert_eq!(response.headers().contains_key("www-authenticate"), expected == 401, "{name}");
        let id = header(&response, "x-request-id").to_owned();
        let status = u64::from(response.status().as_u16());
        let problem = json(response).await;
        assert_eq!((problem["request_id"].as_str(), problem["status"].as_u64()), (Some(&*id), Some(status)));
        assert!(!problem.to_string().contains(TOKEN));
    }
}

#[tokio::test]
async fn tenants_see_their_own_and_nothing_else() {
    let site = Site::new("/%TE");
    for tenant in ["acme", "other", "third"] {
        site.put(&format!("{tenant}/{tenant}-{CALL}.wav"), &wav(1));
    }
    let found = async |query: &str| {
        let (status, found) = site.search(&format!("callid={CALL}&{query}")).await;
        let files = found["files"].as_array().cloned().unwrap_or_default();
        (
            status.as_u16(),
            files.iter().map(|file| file["filename"].as_str().unwrap().to_owned()).collect::<Vec<_>>(),
        )
    };
    let acme = (200, vec![format!("acme-{CALL}.wav")]);
    assert_eq!(found("token=secret-of-acme").await, acme, "the secret implies the tenant");
    assert_eq!(found("token=secret-of-acme&tenant=ACME").await, acme);
    assert_eq!(found("token=secret-of-acme&tenant=other").await.0, 401);
    assert_eq!(found("token=master-token&tenant=third").await, (200, vec![format!("third-{CALL}.wav")]));
    assert_eq!(found("token=master-token").await, (200, vec![]), "a search without a tenant finds nothing");
    assert_eq!(found("token=master-token&tenant=..").await, (200, vec![]));
}

#[tokio::test]
async fn empty_and_growing_recordings_are_marked() {
    let site = Site::new("");
    site.put("a-1711444502.17.wav", &audiovault_agent_core::testing::wav_header(0));
    put_aged(site.dir.path().join("b-1711444502.17.wav"), &wav(1), Duration::ZERO);
    let (_, found) = site.search(&ours("")).await;
    assert_eq!((&found["files"][0]["empty"], &found["files"][1]["growing"]), (&true.into(), &true.into()));
}

#[tokio::test]
async fn the_deadline_of_the_asker_counts() {
    let site = Site::new("");
    let endless = Body::new(http_body_util::StreamBody::new(futures_util::stream::pending::<
        Result<http_body::Frame<Bytes>, std::io::Error>,
    >()));
    let request = Request::post("/search").body(endless).unwrap();
    let context = RequestContext { deadline: Duration::from_millis(10), ..context() };
    assert_eq!(site.answer(context, request).await.response.status(), 504);
}

#[tokio::test]
async fn wrong_tokens_are_throttled_by_the_client_that_the_request_names() {
    let site = Site::with("", |settings| {
        settings.dialect.names = vec![("apikey".to_owned(), Field::Token)];
    });
    let ask = async |address: &str, query: &str| {
        let client = Client { address: Some(address.to_owned()), user_agent: None };
        let request = get(&format!("/search?callid={CALL}&{query}"));
        site.answer(RequestContext { client, ..context() }, request).await.response
    };
    for n in 0..10 {
        assert_eq!(ask("192.0.2.1", &format!("apikey=guess-{n}")).await.status(), 401);
    }
    let throttled = ask("192.0.2.1", &format!("apikey={TOKEN}")).await;
    assert_eq!(
        (throttled.status(), &throttled.headers()["retry-after"]),
        (StatusCode::TOO_MANY_REQUESTS, &"6".parse().unwrap())
    );
    assert_eq!(ask("192.0.2.2", &format!("apikey={TOKEN}")).await.status(), 200);
}
